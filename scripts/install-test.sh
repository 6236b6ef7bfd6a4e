#!/bin/bash
# `make install` into a folder of its own: every file in its place, and a C program builds with them.
cd "$(dirname "$0")/.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
bad=0
check() { # sentence command...
    local sentence=$1 said
    shift
    if said=$("$@" 2>&1); then echo "ok - $sentence"; else echo "not ok - $sentence: $(tail -3 <<<"$said")"; bad=1; fi
}
to=$folder/prefix
check 'make install ends well' make --no-print-directory install PREFIX="$to"
check 'the preload library is installed' test -x "$to/lib/libskein-preload.so"
if [ -e Package.swift ]; then
    check 'the installed command finds its library and runs a program' "$to/bin/skein" run -- /bin/true
    for shell in bash-completion/completions/skein zsh/site-functions/_skein fish/vendor_completions.d/skein.fish; do
        check "completions: share/$shell is installed" test -s "$to/share/$shell"
    done
fi
for page in man/*.scd; do
    page=$(basename "$page" .scd)
    check "the man page $page is installed" test -s "$to/share/man/man${page##*.}/$page"
done
if [ -e Sources/SkeinLibrary ]; then
    printf '#include <skein.h>\nint main(void) { return STPsocket(PF_STP, SOCK_STREAM, PF_STP) < 0; }\n' >"$folder/first.c"
    cp "$folder/first.c" "$folder/first.cc"
    check 'skein.h is installed' test -s "$to/include/skein.h"
    check 'the pkg-config file is installed' test -s "$to/lib/pkgconfig/skein.pc"
    check 'a C program builds with the installed library' \
        gcc -Wall -Wextra -Werror "$folder/first.c" -I"$to/include" -L"$to/lib" -lskein -o "$folder/first"
    check 'it finds the library by its soname and opens a socket' env LD_LIBRARY_PATH="$to/lib" "$folder/first"
    if command -v g++ >/dev/null; then
        check 'C++ takes the header too' g++ -Wall -Wextra -Werror -I"$to/include" -c "$folder/first.cc" -o "$folder/first.o"
    fi
fi

# The example of docs/SWIFT.md, as it stands there: a package of its own, with the installed library.
block() { # number of a code block in the page
    awk -v wanted="$1" '/^```/ { if (inside) inside = 0; else { inside = 1; number++; next } } inside && number == wanted' docs/SWIFT.md
}
mkdir -p "$folder/echo/Sources/echo" "$folder/echo/Sources/hello"
ln -s "$PWD" "$folder/skein"
block 1 >"$folder/echo/Package.swift"
block 2 >"$folder/echo/Sources/echo/main.swift"
block 3 >"$folder/echo/Sources/hello/main.swift"
check 'the Swift example builds as a package of its own, with the installed library' \
    env PKG_CONFIG_PATH="$to/lib/pkgconfig" swift build --package-path "$folder/echo"
mkdir -m 1777 "$folder/run"
export SKEIN_DIR=$folder/run LD_LIBRARY_PATH=$to/lib SWIFT_BACKTRACE=enable=no
built=$folder/echo/.build/debug
server=
answered() {
    for _ in 1 2 3; do
        port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
        "$built/echo" ":$port" 2>"$folder/said" &
        server=$!
        # It may need a moment to listen.
        for _ in $(seq 50); do
            [ "$(timeout 10 "$built/hello" ":$port" 2>/dev/null)" = hello ] && return
            kill -0 "$server" 2>/dev/null || break
            sleep 0.1
        done
        # Somebody else may have taken the port meanwhile.
        grep -q 'Address already in use' "$folder/said" || break
    done
    cat "$folder/said"
    return 1
}
# Not through check: the server has to be this shell's child.
if answered >"$folder/answer" 2>&1; then
    echo "ok - its client gets its server's echo"
else
    echo "not ok - its client gets its server's echo: $(tail -3 "$folder/answer")"
    bad=1
fi
kill "$server" 2>/dev/null
wait "$server" 2>/dev/null
exit $bad
