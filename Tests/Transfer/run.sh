#!/bin/sh
# The protocol of `skein send` and `skein receive`: its sentences, and their number at the end.
set -u
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/tests/transfer || exit 1
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
timeout -k 5 120 build/tests/transfer >"$log" 2>&1
status=$?
cat "$log"
[ $status -le 1 ] || echo "not ok - the program ends well (status $status)" | tee -a "$log"
passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
