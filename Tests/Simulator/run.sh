#!/bin/sh
# run.sh [--short | --count N]: 16,000 seeds of the simulator on two cores, always the same ones, which take about two
# minutes; --short, 1,200; --count, N others each time. Then each planted bug must be found within 2,000 seeds.
set -u
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/tests/simulator || exit 1
log=$(mktemp) || exit 1
trap 'rm -f "$log" "$log.2"' EXIT
first=1
case ${1:-} in
--short) count=600 ;;
--count) count=$((($2 + 1) / 2)) first=$(date +%s) ;;
*) count=8000 ;;
esac
simulator=build/tests/simulator
# Those that once found a fault of the machines.
for seed in 1712 2495 2712 5428 510136; do
    $simulator --seed $seed || echo "not ok - seed $seed ends well"
done >"$log" 2>&1
$simulator --from $((first + 500000)) --count "$count" >"$log.2" 2>&1 &
$simulator --from "$first" --count "$count" >>"$log" 2>&1 ||
    echo "not ok - the first half of the seeds ends well" >>"$log"
wait $! || echo "not ok - the second half of the seeds ends well" >>"$log"
cat "$log.2" >>"$log"
if [ "${1:-}" != --short ]; then
    for bug in hasty-verdict short-watch no-fence same-count forged-gone; do
        found=$($simulator --count 2000 --planted $bug | head -1)
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
