#!/bin/bash
# An unmodified `python3 -m http.server` hands an unmodified curl 1 GiB, over TCP loopback and, under
# `skein run`, over shared memory. Compares checksums and prints both speeds. Leaves nothing behind.
set -eu
cd "$(dirname "$0")/.."
skein=${SKEIN_BIN:-$PWD/build/bin/skein}
[ -x "$skein" ] || { echo "$skein is missing: run 'make'" >&2; exit 1; }
# The first python3 in PATH may be a shell script that starts another.
python=/usr/bin/python3
[ -x $python ] || python=$(command -v python3)
mebibytes=${SKEIN_DEMO_MEBIBYTES:-1024}
rounds=5

# In memory where there is room, so that no disk is measured.
above=$PWD/build
free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1) || free=0
if [ "${free:-0}" -gt $((mebibytes * 2048)) ]; then above=/dev/shm; fi
folder=$(mktemp -d "$above/skein-demo-XXXXXX")
servers=
finish() {
    for server in $servers; do kill "$server" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# A runtime folder of its own: what the demo counts is the demo's alone.
export SKEIN_DIR=$folder/runtime
mkdir -m 700 "$SKEIN_DIR" "$folder/www"

echo "making a file of $mebibytes MiB"
head -c 1048576 /dev/urandom >"$folder/block"
for _ in $(seq "$mebibytes"); do cat "$folder/block"; done >"$folder/www/file"
wanted=$(sha256sum <"$folder/www/file")
size=$(stat -c %s "$folder/www/file")

# serve NAME [PREFIX ...]: starts the server on a free port, which it prints.
serve() {
    local name=$1 port= _
    shift
    # There before it is looked at: the server's own shell may start late.
    : >"$folder/$name.out"
    "$@" "$python" -u -m http.server --bind 127.0.0.1 --directory "$folder/www" 0 >"$folder/$name.out" 2>"$folder/$name.err" &
    servers="$servers $!"
    for _ in $(seq 200); do
        port=$(sed -n 's/^Serving HTTP on .* port \([0-9]*\) .*/\1/p' "$folder/$name.out")
        [ -z "$port" ] || break
        sleep 0.05
    done
    [ -n "$port" ] || { echo "the server did not start:" >&2; cat "$folder/$name.err" >&2; exit 1; }
    url=http://127.0.0.1:$port/file
}

# checked NAME URL [PREFIX ...]: one transfer into sha256sum. It also warms up what is timed later.
checked() {
    local name=$1 url=$2
    shift 2
    local got
    got=$("$@" curl -sS --fail --noproxy '*' "$url" | sha256sum)
    [ "$got" = "$wanted" ] || { echo "$name: the checksum differs" >&2; exit 1; }
    echo "$name: the checksum is that of the file"
}

# timed FILE URL [PREFIX ...]: appends the bytes a second of one transfer to the file.
timed() {
    local file=$1 url=$2
    shift 2
    "$@" curl -sS --fail --noproxy '*' -o /dev/null -w '%{size_download} %{speed_download}\n' "$url" >"$folder/last"
    local got speed
    read -r got speed <"$folder/last"
    [ "$got" = "$size" ] || { echo "$got of $size bytes arrived" >&2; exit 1; }
    echo "${speed%%.*}" >>"$folder/$file"
}

median() { sort -n "$folder/$1" | sed -n $((rounds / 2 + 1))p; }

serve tcp
tcp=$url
serve memory "$skein" run --
memory=$url

checked 'TCP loopback ' "$tcp"
checked 'shared memory' "$memory" "$skein" run --
for _ in $(seq $rounds); do
    timed tcp.speeds "$tcp"
    timed memory.speeds "$memory" "$skein" run --
done

"$skein" ls --json | "$python" -c '
import json, sys
size, transfers = int(sys.argv[1]), int(sys.argv[2])
totals = json.load(sys.stdin)["totals"]
if totals["memory_connections"] < transfers or totals["tcp_connections"] or \
        min(totals["memory_bytes_in"], totals["memory_bytes_out"]) < size * transfers:
    sys.exit(f"not everything went through shared memory: {totals}")
print("skein ls: %.1f GiB in %d transfers through shared memory, no connection over TCP" %
      (totals["memory_bytes_in"] / 2**30, transfers))
' "$size" $((rounds + 1))

"$python" -c '
import sys
tcp, memory, mebibytes, rounds = map(int, sys.argv[1:])
print(f"{mebibytes} MiB from python3 -m http.server to curl, medians of {rounds} rounds:")
print(f"    TCP loopback   {tcp / 1e9:6.2f} GB/s")
print(f"    shared memory  {memory / 1e9:6.2f} GB/s    {memory / tcp:.2f} times TCP")
' "$(median tcp.speeds)" "$(median memory.speeds)" "$mebibytes" $rounds
