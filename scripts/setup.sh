#!/bin/bash
# Installs what building (`setup.sh build`), testing (`setup.sh test`) or measuring (`setup.sh bench`)
# needs and this machine lacks, by package name through apt-get. Says nothing when all is there. Swift itself it only asks for.
set -eu

# what must be there: the Debian package that has it
build="
/usr/include/stdio.h:libc6-dev
/usr/include/xxhash.h:libxxhash-dev
gcc:gcc
ld:binutils
git:git
make:make
python3:python3
curl:curl
scdoc:scdoc"
test="
spin:spin
ip:iproute2
unshare:util-linux"

bench="
strace:strace
taskset:util-linux"

case ${1:-build} in
test) wanted=$build$test ;;
bench) wanted=$build$test$bench ;;
*) wanted=$build ;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing=
for need in $wanted; do
    case $need in
    /*) [ -e "${need%%:*}" ] || missing="$missing ${need#*:}" ;;
    *) command -v "${need%%:*}" >/dev/null || missing="$missing ${need#*:}" ;;
    esac
done

if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "Missing here:$missing (names of Debian's packages). Install them with your system's tools." >&2
        exit 1
    fi
    as_root=
    if [ "$(id -u)" != 0 ]; then
        as_root=sudo
        if ! command -v sudo >/dev/null; then
            echo "Missing here:$missing. As root: apt-get install$missing" >&2
            exit 1
        fi
        echo "Installing$missing takes root: sudo may ask for your password."
    fi
    echo "installing$missing"
    log=$(mktemp)
    if ! { $as_root apt-get update &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1
    then
        tail -20 "$log" >&2
        echo "apt-get failed; its messages are in $log" >&2
        exit 1
    fi
    rm -f "$log"
fi

if ! command -v swiftc >/dev/null; then
    cat >&2 <<'TEXT'
Swift 6.3 or newer is missing (no swiftc in PATH). Get it from https://www.swift.org/install/linux/ :
either with swiftly ("swiftly install 6.3"), or as an archive for your system whose usr/bin you put into PATH.
TEXT
    exit 1
fi
version=$(swiftc --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' | head -1)
set -- ${version:-0 0}
if [ "$1" -lt 6 ] || { [ "$1" -eq 6 ] && [ "$2" -lt 3 ]; }; then
    echo "Swift $1.$2 is too old: Skein needs 6.3 or newer, from https://www.swift.org/install/linux/" >&2
    exit 1
fi
