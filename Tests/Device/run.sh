#!/bin/sh
# The contract of devices: its sentences for every kind, and their number at the end.
set -u
PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/tests/device || exit 1
log=$(mktemp) || exit 1
folder=$(mktemp -d) || exit 1
# A block device where this machine has one to give: it takes root, and the loop driver.
truncate -s 4M "$folder/loop.img"
loop=$(losetup --find --show "$folder/loop.img" 2>/dev/null) || loop=
trap '[ -z "$loop" ] || losetup --detach "$loop"; rm -rf "$log" "$folder"' EXIT
[ -n "$loop" ] || echo "skip - a block device: no loop device is to be had"
timeout -k 5 120 build/tests/device "$folder" $loop >"$log" 2>&1
status=$?
cat "$log"
[ $status -le 1 ] || echo "not ok - the program ends well (status $status)" | tee -a "$log"
passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
