#!/bin/sh
# The tests of module Skein, against build/lib/libskein.so: its sentences, and their number at the end.
set -u
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/tests/swift || exit 1
work=$(mktemp -d /tmp/skein-swift.XXXXXX) || exit 1
trap 'rm -rf "$work"' EXIT
mkdir -m 1777 "$work/run"
unset SKEIN_GROUP SKEIN_HOST SKEIN_OFF LD_PRELOAD
SKEIN_DIR=$work/run timeout -k 5 120 build/tests/swift >"$work/log" 2>&1
status=$?
cat "$work/log"
[ $status -le 1 ] || echo "not ok - the program ends well (status $status)" | tee -a "$work/log"
passed=$(grep -c '^ok' "$work/log")
failed=$(grep -c '^not ok' "$work/log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
