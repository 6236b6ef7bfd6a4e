#!/bin/sh
# Filaments on a conduit: sentences, golden vectors both ways, and their number at the end.
set -u
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/tests/conduit || exit 1
log=$(mktemp) || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$log" "$folder"' EXIT
python3 Tests/Conduit/golden.py write "$folder" || exit 1
timeout -k 5 200 build/tests/conduit "$folder" >"$log" 2>&1
status=$?
[ $status -le 1 ] || echo "not ok - the program ends well (status $status)" >>"$log"
python3 Tests/Conduit/golden.py compare "$folder" >>"$log" 2>&1
cat "$log"
passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
