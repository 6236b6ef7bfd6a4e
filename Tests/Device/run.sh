#!/bin/sh
# The contract of devices: its sentences for every kind, and their number at the end.
set -u
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/tests/device || exit 1
log=$(mktemp) || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$log" "$folder"' EXIT
timeout -k 5 120 build/tests/device "$folder" >"$log" 2>&1
status=$?
cat "$log"
[ $status -le 1 ] || echo "not ok - the program ends well (status $status)" | tee -a "$log"
passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
