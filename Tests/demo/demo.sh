#!/bin/bash
# The demo, small: it ends well, went through shared memory (it checks that itself), and leaves nothing behind.
cd "$(dirname "$0")/../.." || exit 1
bad=0
say() {
    if [ "$1" = 0 ]; then echo "ok - $2"; else echo "not ok - $2: $3"; bad=1; fi
}
found() { find /dev/shm build -maxdepth 1 -name 'skein-demo-*' 2>/dev/null; pgrep -f 'http[.]server.*skein-demo-' || true; }

before=$(found)
output=$(SKEIN_DEMO_MEBIBYTES=64 scripts/demo.sh 2>&1)
status=$?
echo "$output" | sed 's/^/   /'
say $status 'the demo moves its file through shared memory and over TCP' "it ended with $status"
grep -q 'times TCP$' <<<"$output"
say $? 'the demo prints both speeds and their ratio' 'no such line'
after=$(found)
[ "$before" = "$after" ]
say $? 'the demo leaves no file and no process behind' "$after"
exit $bad
