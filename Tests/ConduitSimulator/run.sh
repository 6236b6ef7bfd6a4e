#!/bin/sh
# run.sh [--short | --count N]: 800 seeds of two conduits on two cores, always the same ones; --short, 200; --count, N
# others each time. Then each planted bug must be found within 200 seeds.
set -u
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/tests/conduit-simulator || exit 1
log=$(mktemp) || exit 1
trap 'rm -f "$log" "$log.2"' EXIT
first=1
case ${1:-} in
--short) count=100 ;;
--count) count=$((($2 + 1) / 2)) first=$(date +%s) ;;
*) count=400 ;;
esac
simulator=build/tests/conduit-simulator
$simulator --from $((first + 500000)) --count "$count" >"$log.2" 2>&1 &
$simulator --from "$first" --count "$count" >"$log" 2>&1 ||
    echo "not ok - the first half of the seeds ends well" >>"$log"
wait $! || echo "not ok - the second half of the seeds ends well" >>"$log"
cat "$log.2" >>"$log"
if [ "${1:-}" != --short ]; then
    for bug in early-acknowledgement doubled-data swapped-data lost-credit lost-end lost-reset false-pool no-priority; do
        found=$($simulator --count 200 --planted $bug | head -1)
        case $found in
        "not ok - seed "*) echo "ok - the planted bug $bug is found: ${found#not ok - }" ;;
        *) echo "not ok - the planted bug $bug is found" ;;
        esac >>"$log"
    done
fi
cat "$log"
passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
