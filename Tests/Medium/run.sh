#!/bin/sh
# run.sh [medium | seal]: the format of a medium and the machines on it, or its sealed blocks: sentences, golden vectors
# both ways, and the number at the end.
set -u
part=${1:-medium}
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory "build/tests/$part" || exit 1
log=$(mktemp) || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$log" "$folder"' EXIT
python3 Tests/Medium/golden.py write "$folder" || exit 1
timeout -k 5 200 "build/tests/$part" "$folder" >"$log" 2>&1
status=$?
[ $status -le 1 ] || echo "not ok - the program ends well (status $status)" >>"$log"
python3 Tests/Medium/golden.py compare "$folder" "$part" >>"$log" 2>&1
cat "$log"
passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
