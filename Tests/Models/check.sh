#!/bin/bash
# Checks doorbell.pml with spin: one line a property; exit 1 on a failure. Needs spin and gcc.
# A run that meets its time box, many times what it takes, is printed as 'not ok ... not exhausted': it is no proof.
here=$(cd "$(dirname "$0")" && pwd); tmp=$(mktemp -d) || exit 1; trap 'rm -rf "$tmp"' EXIT
count=0
check() { # safety|live flags...: sets r
  m=$1; shift; mkdir "$tmp/$count" && cd "$tmp/$count" && cp "$here/doorbell.pml" . || return
  spin -a "$@" doorbell.pml >spin.out 2>&1 || { cat spin.out; return; }
  if [ "$m" = live ]; then f="-DNP -DNFAIR=3"; a="-l -f"; else f=-DSAFETY; a=; fi
  gcc ${OPT:--O2} -w $f -DMEMLIM=6000 -o pan pan.c || return
  timeout "${BOX:-300}" ./pan $a -m1000000 >out 2>&1
  if grep -qE 'max search depth too small|out of memory|memory limit' out; then return
  elif grep -qE 'errors: [1-9]' out; then r=found
  elif grep -q 'errors: 0' out; then r=clean; fi
}
# Runs a judge beside others, as many as there are processors; what it says is printed at the end, in order.
beside() {
  while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
  count=$((count + 1)); r=unfinished
  "$@" >"$tmp/$count.said" 2>&1 &
}
judge_holds() { d=$1; shift; check "$@"; case $r in clean) echo "ok - $d";; found) echo "not ok - $d: counterexample";; *) echo "not ok - $d: not exhausted";; esac; }
judge_mutant() { d=$1; shift; OPT=-O0; check "$@"; if [ $r = found ]; then echo "ok - mutant refuted: $d"; else echo "not ok - mutant survived: $d ($r)"; fi; }
holds() { beside judge_holds "$@"; }
mutant() { beside judge_mutant "$@"; }
F="-DCFG=2 -DN=2 -DCAP=1"
holds 'two readers, one writer, one reader may be killed: no lost wake-up, no byte lost or doubled, close' safety -DCFG=0 -DN=2 -DCAP=1 -DKILL
holds 'two writers, one reader: the same' safety -DCFG=1 -DN=2 -DCAP=1
holds 'one writer, one reader, half free rule' safety -DCFG=3 -DCAP=6 -DN=7
holds 'full duplex (ring never full)' safety -DCFG=2 -DN=1 -DCAP=1
holds 'one writer, one reader: no livelock' live -DCFG=3 -DN=3
[ -n "$SLOW" ] && { BOX=3600
holds 'two readers, ring of two' safety -DCFG=0 -DN=3
holds 'the same, strict, with the timer' safety -DCFG=0 -DN=2 -DCAP=1 -DKILL -DSTRICT -DBACKSTOP
holds 'full duplex, ring fills' safety $F
holds 'full duplex, a queue a kind' safety $F -DTWOQ
holds 'two readers: no livelock' live -DCFG=0 -DN=2 -DCAP=1; BOX=300; }
mutant 'the first design, two readers' safety -DDESCRIBED
mutant 'the first design, full duplex' safety -DDESCRIBED $F
mutant 'armed is a flag' safety -DFLAG
mutant 'drained before the look' safety -DDRAINFIRST
mutant 'no second look after arming' safety -DNOLOOK
mutant 'sleepers checked before the cursor is stored' safety -DEARLY
mutant 'one bell for two sleepers' safety -DONEBELL
mutant 'drained without peeking first' safety -DNOPEEK
mutant 'drainer looks at its own ring only' safety -DOWNONLY $F
mutant 'writers wait exclusively on the shared queue' safety -DWEXCL $F
mutant 'fullness decided by a stale tail' safety -DSTALEFULL -DCFG=3 -DCAP=6 -DN=7
mutant 'a queue of one bell' safety -DSHORTQ
mutant 'a sleeper in company takes its bell without a look' safety -DTAKEALL $F
mutant 'killed between store and bell, no timer' safety -DCFG=0 -DN=2 -DCAP=1 -DKILL -DSTRICT
wait
for number in $(seq $count); do cat "$tmp/$number.said"; done | tee "$tmp/said"
[ "$(grep -c '^ok' "$tmp/said")" = $count ]
