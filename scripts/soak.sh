#!/bin/bash
# soak.sh MINUTES: a million short connections, then the contract under the preload, real programs, kills, crashes and
# hostile peers, again and again with other seeds, beside the fuzzers and the models that take long. Stops at the first round that fails, with its
# output. Nothing may be left behind by a round: no process and no name of ours.
cd "$(dirname "$0")/.." || exit 1
# In namespaces of its own, where it can have them, whatever is left behind is ours.
if [ -z "${SKEIN_SOAK:-}" ] && [ "$(id -u)" = 0 ]; then
    SKEIN_SOAK=1 exec unshare --net --pid --fork --kill-child --mount-proc scripts/soak.sh "$@"
fi
[ -z "${SKEIN_SOAK:-}" ] || ip link set lo up
minutes=${1:-60}
end=$(($(date +%s) + minutes * 60))
mkdir -p build/test
log=build/test/soak.log
round=0
export SKEIN_DIR
SKEIN_DIR=$(mktemp -d /tmp/skein-soak-XXXXXX)

# Ten minutes for each of five targets in an hour.
nice -n 10 python3 Tests/Fuzz/fuzz.py --seconds $((minutes * 10)) >build/test/soak-fuzz.log 2>&1 &
fuzzers=$!
SLOW=1 nice -n 15 Tests/Models/check.sh >build/test/soak-models.log 2>&1 &
models=$!
trap 'kill $fuzzers $models 2>/dev/null; wait; rm -rf "$SKEIN_DIR"' EXIT

fail() {
    grep -v '^ok - ' "$log" | tail -60
    echo "$1; its whole output is in $log"
    exit 1
}

# Names of hidden listeners, and processes of ours that outlive their makers.
leftovers() { echo "$(grep -c '@skein/' /proc/net/unix) names, $(pgrep -cx skein-relay) relays, $(pgrep -cx skein-holder) holders"; }

python3 Tests/Scale/scale.py --short 1000000 --forked 50000 >"$log" 2>&1 || fail "the many connections failed"
grep '^ok - ' "$log"
before=$(leftovers)
while [ "$(date +%s)" -lt $end ]; do
    round=$((round + 1))
    start=$(date +%s)
    scripts/test.py contract-preload programs >"$log" 2>&1 || fail "round $round failed"
    {
        Tests/Kill/run.sh --rounds 500 --seed $((start + round)) &&
            python3 Tests/Crash/crash.py &&
            python3 Tests/Stress/stress.py --seeds 1 --seed $round &&
            python3 Tests/Hostile/hostile.py --seconds 60 --seed $start
    } >>"$log" 2>&1 || fail "round $round failed"
    after=$(leftovers)
    [ "$before" = "$after" ] || fail "round $round left something behind: $before before it, $after now"
    echo "round $round: no failure, $(($(date +%s) - start)) s"
done
wait $fuzzers || { cat build/test/soak-fuzz.log; exit 1; }
cat build/test/soak-fuzz.log
# They may take longer than the rounds.
wait $models || { cat build/test/soak-models.log; exit 1; }
cat build/test/soak-models.log
echo "$round rounds in $minutes minutes, none failed"
