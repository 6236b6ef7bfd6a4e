#!/bin/bash
# What the two libraries want of the system: prints the newest glibc symbol version that each needs, and
# fails where a program on an older system would be killed by it, or where more is exported or needed
# than should be.
set -u
newest_allowed=2.34
bad=0

say() { # verdict sentence
    echo "$1 - $2"
    [ "$1" = ok ] || bad=1
}

for library in "$@"; do
    name=${library##*/}
    [ -e "$library" ] || { say 'not ok' "$name is built: there is no $library"; continue; }
    newest=$(objdump -T "$library" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
    newest=${newest#GLIBC_}
    sentence="$name needs glibc ${newest:-of any age}, not newer than $newest_allowed"
    if [ "$(printf '%s\n' "${newest:-0}" $newest_allowed | sort -V | tail -1)" = $newest_allowed ]; then
        say ok "$sentence"
    else
        say 'not ok' "$sentence: $(objdump -T "$library" | grep -F "GLIBC_$newest" | awk '{print $NF}' | tr '\n' ' ')"
    fi

    needed=$(objdump -p "$library" | awk '$1 == "NEEDED" && $2 != "libc.so.6" {print $2}' | tr '\n' ' ')
    if [ -z "$needed" ]; then say ok "$name needs libc alone"; else say 'not ok' "$name needs libc alone: also $needed"; fi

    runtime=$(nm -D --defined-only "$library" | awk '$3 ~ /^_?swift_|^\$s/ {print $3}' | head -3 | tr '\n' ' ')
    sentence="$name exports nothing of the Swift runtime"
    if [ -z "$runtime" ]; then say ok "$sentence"; else say 'not ok' "$sentence: $runtime"; fi

    protected=$(readelf --dyn-syms -W "$library" | awk '$6 == "PROTECTED" {print $8}' | head -3 | tr '\n' ' ')
    sentence="$name exports no protected symbol, of which the loader would warn in some programs"
    if [ -z "$protected" ]; then say ok "$sentence"; else say 'not ok' "$sentence: $protected"; fi
done
exit $bad
