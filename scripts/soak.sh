#!/bin/bash
# soak.sh MINUTES: the contract under the preload, the real programs and the kills, again and again.
# Stops at the first round that fails, with its output.
cd "$(dirname "$0")/.." || exit 1
minutes=${1:-60}
end=$(($(date +%s) + minutes * 60))
round=0
stages="contract-preload programs"
[ ! -e Tests/Kill/run.sh ] || stages="$stages kill"
mkdir -p build/test
while [ "$(date +%s)" -lt $end ]; do
    round=$((round + 1))
    start=$(date +%s)
    if ! scripts/test.py $stages >build/test/soak.log 2>&1; then
        grep -v '^ok - ' build/test/soak.log
        echo "round $round failed; its whole output is in build/test/soak.log"
        exit 1
    fi
    echo "round $round: $(tail -1 build/test/soak.log), $(($(date +%s) - start)) s"
done
echo "$round rounds in $minutes minutes, none failed"
