#!/bin/sh
# The contract of devices: its sentences for every kind, and their number at the end.
set -u
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/tests/device build/bin/skein build/libexec/skein/skein-export || exit 1
log=$(mktemp) || exit 1
folder=$(mktemp -d) || exit 1
# A block device where this machine has one to give: it takes root, and the loop driver.
truncate -s 4M "$folder/loop.img"
loop=$(losetup --find --show "$folder/loop.img" 2>/dev/null) || loop=
trap '[ -z "$loop" ] || losetup --detach "$loop"; rm -rf "$log" "$folder"' EXIT
[ -n "$loop" ] || echo "skip - a block device: no loop device is to be had"
# Another server, for the device that is one of its exports.
truncate -s 3149825 "$folder/remote.img"
SKEIN_DIR="$folder" build/bin/skein export "disk=$folder/remote.img" --listen "nbd+unix:///?socket=$folder/remote" >"$log" &
server=$!
timeout 30 sh -c 'until grep -q ready "$1"; do sleep 0.1; done' sh "$log"
timeout -k 5 120 build/tests/device "$folder" "nbd+unix:///disk?socket=$folder/remote" $loop >"$log" 2>&1
status=$?
kill "$server"
cat "$log"
[ $status -le 1 ] || echo "not ok - the program ends well (status $status)" | tee -a "$log"
passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
