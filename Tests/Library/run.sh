#!/bin/sh
# The tests of the STP library: builds the C programs here against build/lib/libskein.so and runs them.
# Sentences "ok - …" and "not ok - …"; the last line is "N passed, M failed". Needs a C compiler; what
# needs root or python3 is left out, with a word, where there is none.
set -u
cd "$(dirname "$0")/../.."
programs=build/tests
work=$(mktemp -d /tmp/skein-library.XXXXXX)
log=$work/log
mounted=
finish() {
    for place in $mounted; do umount "$place"; done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM
mkdir -p "$programs" "$work/run"
chmod 755 "$work"
chmod 1777 "$work/run"
export SKEIN_DIR="$work/run"
unset SKEIN_GROUP SKEIN_HOST SKEIN_OFF LD_PRELOAD

say() { echo "$@" | tee -a "$log"; }
holds() { # sentence, command…: ok when the command succeeds
    sentence=$1
    shift
    if "$@"; then say "ok - $sentence"; else say "not ok - $sentence"; fi
}
program() { # a test program and its arguments, with a watchdog
    name=$1
    shift
    timeout -k 5 120 "$programs/library-$name" "$@" >"$work/out" 2>&1
    status=$?
    cat "$work/out"
    cat "$work/out" >>"$log"
    [ $status = 0 ] || say "not ok - $name ends well (status $status)"
}

await_ready() { # a server's output: until it is ready to serve, ten seconds at most
    for _ in $(seq 100); do
        if grep -qs ready "$1"; then return; fi
        sleep 0.1
    done
}

compiler=${CC:-cc}
command -v "$compiler" >/dev/null || compiler=clang
for source in Tests/Library/*.c; do
    name=$(basename "$source" .c)
    $compiler -std=gnu11 -Wall -Wextra -Werror -Iinclude "$source" -o "$programs/library-$name" \
        -Lbuild/lib -lskein -pthread -Wl,-rpath,"$PWD/build/lib" || { say "not ok - $name.c compiles"; exit 1; }
done
echo '#include <skein.h>
int main() { return STPsocket(PF_STP, SOCK_STREAM, PF_STP) < 0; }' >"$work/plus.cc"
holds "skein.h is C++ too" $compiler -x c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only "$work/plus.cc"
holds "skein.h is C99" $compiler -x c -std=c99 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only include/skein.h

for name in names connections bytes waiting options memory gift; do
    echo "# $name"
    program $name
done

echo "# two programs"
head -c 50000000 /dev/urandom >"$work/sent"
rm -f "$work/ready"
"$programs/library-server" "$work/received" >"$work/ready" &
server=$!
await_ready "$work/ready"
port=$(cut -d' ' -f2 "$work/ready")
holds "a client program sends 50 MB to a server program" timeout 60 "$programs/library-client" "$port" "$work/sent"
wait $server
holds "and they arrive unchanged" cmp "$work/sent" "$work/received"
rm -f "$work/sent" "$work/received"

rm -f "$work/ready"
"$programs/library-server" "$work/received" >"$work/ready" &
server=$!
await_ready "$work/ready"
port=$(cut -d' ' -f2 "$work/ready")
mkdir -m 1777 "$work/other"
SKEIN_DIR="$work/other" timeout 10 "$programs/library-client" "$port" -e 2>/dev/null
holds "a process with another runtime folder is on another host" [ $? = 11 ]
SKEIN_GROUP=others timeout 10 "$programs/library-client" "$port" /dev/null
holds "an empty address means the own group, whatever its name" [ $? = 0 ]
wait $server

echo "# a TCP server under the translating header"
if command -v python3 >/dev/null && [ -e build/lib/libskein-preload.so ]; then
    cat >"$work/echo.py" <<'END'
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print("ready", listener.getsockname()[1], flush=True)
connection, peer = listener.accept()
print("peer", peer[0], flush=True)
connection.sendall(connection.recv(9, socket.MSG_WAITALL))
connection.recv(1)
END
    rm -f "$work/ready"
    LD_PRELOAD="$PWD/build/lib/libskein-preload.so" python3 "$work/echo.py" >"$work/ready" &
    server=$!
    await_ready "$work/ready"
    port=$(sed -n 's/ready //p' "$work/ready")
    answer=$(timeout 10 "$programs/library-client" "$port" -e)
    holds "an STP client and a TCP server under the header meet" [ "$answer" = question ]
    wait $server
    holds "which sees a client on loopback" grep -q "peer 127.0.0.1" "$work/ready"
    rm -f "$work/ready"
    python3 "$work/echo.py" >"$work/ready" &
    server=$!
    await_ready "$work/ready"
    timeout 10 "$programs/library-client" "$(sed -n 's/ready //p' "$work/ready")" -e 2>/dev/null
    holds "a TCP server without the header is no STP server" [ $? = 11 ]
    kill $server
    wait $server 2>/dev/null
    rm -f "$work/ready"
    "$programs/library-server" "$work/received" >"$work/ready" &
    server=$!
    await_ready "$work/ready"
    cat >"$work/connect.py" <<'END'
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10)
print(*connection.getpeername())
connection.sendall(b"from a TCP program")
END
    port=$(cut -d' ' -f2 "$work/ready")
    shown=$(LD_PRELOAD="$PWD/build/lib/libskein-preload.so" timeout 10 python3 "$work/connect.py" "$port")
    holds "a TCP client under the header reaches an STP server" [ "$shown" = "127.0.0.1 $port" ]
    wait $server
    holds "and its bytes arrive" [ "$(cat "$work/received")" = "from a TCP program" ]
    # The library and the header in one process: the library's hooks do both kinds.
    for name in bytes waiting; do
        timeout -k 5 120 env LD_PRELOAD="$PWD/build/lib/libskein-preload.so" "$programs/library-$name" >"$work/out" 2>&1
        holds "STP programs under the header too: $name" sh -c '[ $1 = 0 ] && ! grep "^not ok" "$2"' - $? "$work/out"
    done
else
    echo "# left out: no python3 or no libskein-preload.so"
fi

echo "# the runtime folder"
mkdir -m 777 "$work/open"
chmod 777 "$work/open"
SKEIN_DIR="$work/open" program folder 1 3 "writable by others without the sticky bit is EPERM"
SKEIN_DIR="$work/none" program folder 2 2 "a missing folder is ENOENT"
holds "and the advice is about that folder" grep -q "SKEIN_DIR names" "$work/out"
SKEIN_DIR="$work/log" program folder 20 2 "a folder that is a file is ENOTDIR"
SKEIN_OFF=1 program folder 1 1 "switched off is EPERM"
mkdir -p "$work/config/skein"
echo 'off = yes' >"$work/config/skein/skein.conf"
chmod 644 "$work/config/skein/skein.conf"
XDG_CONFIG_HOME="$work/config" program folder 1 1 "switched off in a file is EPERM too"
mkdir -m 700 "$work/private"
SKEIN_DIR="$work/private" program folder 0 0 "a folder of one's own will do"
SKEIN_DIR="$work/private" program folder keep "chmod 777 $work/private"
SKEIN_GROUP=sixteen-bytes-xx program folder 22 25 "a group of more than 15 bytes is EINVAL"
SKEIN_HOST=a-host-of-thirty-two-bytes-xxxxx program folder 22 25 "a host of more than 31 bytes is EINVAL"
SKEIN_GROUP=fifteen-bytes-x SKEIN_HOST=a-host-of-thirty-one-bytes-xxxx program folder 0 0 "names of 15 and 31 bytes will do"
totals=$work/run/$(id -u)/totals-1
: >"$totals"
program folder 0 0 "empty totals are begun anew"
head -c 100 /dev/urandom >"$totals"
program folder 0 0 "totals cut short, of noise, are begun anew"
head -c 1100000 /dev/urandom >"$totals"
program folder 0 0 "totals full of noise are begun anew"
program folder keep "head -c 100 /dev/urandom | dd of=$totals conv=notrunc 2>/dev/null"
program folder keep ": >$totals"
program folder keep "rm $totals"
program folder 0 0 "totals that were removed are made again"
rm "$totals"
mkdir "$totals"
program folder 0 0 "a folder in the place of totals keeps no socket from working"
rmdir "$totals"
ln -s /none "$totals"
program folder 0 0 "nor does a link"
rm "$totals"
mkfifo "$totals"
program folder 0 0 "nor does a FIFO"
rm "$totals"
mkdir "$work/full" "$work/read-only"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=64k,mode=1777 tmpfs "$work/full" 2>/dev/null; then
    mounted="$work/full"
    cat /dev/zero >"$work/full/filler" 2>/dev/null
    SKEIN_DIR="$work/full" program folder 28 4 "a full file system is ENOSPC"
    mount -t tmpfs -o ro,mode=1777 tmpfs "$work/read-only" && mounted="$mounted $work/read-only"
    SKEIN_DIR="$work/read-only" program folder 30 5 "a read-only file system is EROFS"
    rm "$work/full/filler"
    SKEIN_DIR="$work/full" program folder 0 0 "and works once there is room"
    mkdir "$work/grows" && mount -t tmpfs -o size=2m,mode=1777 tmpfs "$work/grows" && mounted="$mounted $work/grows"
    SKEIN_DIR="$work/grows" program folder keep "cat /dev/zero >$work/grows/filler 2>/dev/null || true"
    mkdir -m 755 "$work/foreign" && chown 12345 "$work/foreign"
    SKEIN_DIR="$work/foreign" program folder 1 3 "another user's folder is EPERM"
else
    echo "# left out: full and read-only file systems, another user's folder (root only)"
fi

passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
