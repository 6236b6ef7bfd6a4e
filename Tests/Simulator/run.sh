#!/bin/sh
# run.sh [--short | --count N]: 6,400 seeds of the simulator on two cores, 1,400 of them with payloads, always the same
# ones, which take about two minutes; --short, 600; --count, N others each time, half of them with payloads. Then each
# planted bug must be found within 2,000 seeds.
set -u
cd "$(dirname "$0")/../.." || exit 1
make --no-print-directory build/tests/simulator || exit 1
log=$(mktemp) || exit 1
trap 'rm -f "$log" "$log.2"' EXIT
first=1
case ${1:-} in
--short) members=250 streams=50 ;;
--count) members=$((($2 + 3) / 4)) streams=$((($2 + 3) / 4)) first=$(date +%s) ;;
*) members=2500 streams=700 ;;
esac
simulator=build/tests/simulator
# seeds FIRST: half of all, without payloads and with them.
seeds() {
    $simulator --from "$1" --count $members || echo "not ok - the seeds from $1 on end well"
    $simulator --streams --from "$1" --count $streams || echo "not ok - the seeds from $1 on, with payloads, end well"
}
# Those that once found a fault of the machines.
for seed in 1712 2495 2712 5428 510136; do
    $simulator --seed $seed || echo "not ok - seed $seed ends well"
done >"$log" 2>&1
seeds $((first + 500000)) >"$log.2" 2>&1 &
seeds "$first" >>"$log" 2>&1
wait $!
cat "$log.2" >>"$log"
# planted OPTION NAME...: they are found.
planted() {
    option=$1
    shift
    for bug in "$@"; do
        found=$($simulator $option --count 2000 --planted "$bug" | head -1)
        case $found in
        "not ok - seed "*) echo "ok - the planted bug $bug is found: ${found#not ok - }" ;;
        *) echo "not ok - the planted bug $bug is found" ;;
        esac
    done
}
if [ "${1:-}" != --short ]; then
    planted "" hasty-verdict short-watch no-fence same-count forged-gone >>"$log" 2>&1
    planted --streams predecessors-ring any-position any-reader any-proof any-row eager-cursor same-nonce \
        read-order no-rewriting no-bell >>"$log" 2>&1
fi
cat "$log"
passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
