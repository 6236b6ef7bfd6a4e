#!/bin/bash
# Installs what building (`setup.sh build`), testing (`setup.sh test`, `vm`, `next`) or packaging (`setup.sh deb`) needs and this
# machine lacks, by package name through apt-get. Says nothing when all is there. Swift itself it only asks for.
set -eu

# What must be there, and the Debian package that has it: a file, a shared library, or a command.
build="
/usr/include/stdio.h:libc6-dev
/usr/include/xxhash.h:libxxhash-dev
/usr/include/gnutls/gnutls.h:libgnutls28-dev
/usr/include/libnbd.h:libnbd-dev
/usr/include/liburing.h:liburing-dev
/etc/ssl/certs/ca-certificates.crt:ca-certificates
gcc:gcc
g++:g++
ld:binutils
git:git
make:make
python3:python3
curl:curl
scdoc:scdoc"
# Swift as an archive brings no packages; its tools are linked with these.
swift="
libcurl.so.4:libcurl4
libncurses.so.6:libncurses6
libsqlite3.so.0:libsqlite3-0
libxml2.so.2:libxml2"
test="
pgrep:procps
spin:spin
ip:iproute2
unshare:util-linux
losetup:mount
certtool:gnutls-bin"
# The virtual machine, and what goes into it.
vm="
qemu-system-x86_64:qemu-system-x86
busybox:busybox-static
nbd-client:nbd-client
mkfs.ext4:e2fsprogs
cpio:cpio"
next="
debootstrap:debootstrap"
deb="
dpkg-shlibdeps:dpkg-dev"

case ${1:-build} in
test) wanted=$build$swift$test ;;
vm) wanted=$build$swift$test$vm ;;
next) wanted=$build$swift$test$next ;;
deb) wanted=$build$swift$deb ;;
*) wanted=$build$swift ;;
esac
PATH=$PATH:/usr/sbin:/sbin

# present NEED: whether it is there
present() {
    case $1 in
    /*) [ -e "$1" ] ;;
    lib*.so.*) ldconfig -p | grep -qF "	$1 " ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# install PACKAGE ...: through apt-get, as root
install() {
    local as_root= log
    if ! command -v apt-get >/dev/null; then
        echo "Missing here: $* (names of Debian's packages). Install them with your system's tools." >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            printf '%s\n' "Missing here: $*" 'There is no sudo, so root must install them:' \
                "    apt-get update && apt-get install --no-install-recommends $*" >&2
            exit 1
        fi
        as_root=sudo
        echo "Installing $* takes root: sudo may ask for your password."
    fi
    echo "installing $*"
    log=$(mktemp)
    if ! { $as_root apt-get update &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1
    then
        tail -20 "$log" >&2
        echo "apt-get failed; its messages are in $log" >&2
        exit 1
    fi
    rm -f "$log"
}

# Before anything is installed: without Swift all of it would be for nothing.
if ! command -v swiftc >/dev/null; then
    cat >&2 <<'TEXT'
Swift 6.3 or newer is missing (no swiftc in PATH). Get it from https://www.swift.org/install/linux/ :
either with swiftly ("swiftly install 6.3"), or as an archive for your system whose usr/bin you put into PATH.
TEXT
    exit 1
fi

missing=
for need in $wanted; do
    present "${need%%:*}" || missing="$missing ${need#*:}"
done
[ -z "$missing" ] || install $missing

if ! said=$(swiftc --version 2>&1); then
    printf '%s\n' "$said" "$(command -v swiftc) doesn't start: see above; is it made for this system?" \
        'Others are at https://www.swift.org/install/linux/' >&2
    exit 1
fi
version=$(sed -n 's/.*Swift version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p' <<<"$said" | head -1)
set -- ${version:-0 0}
if [ "$1" -lt 6 ] || { [ "$1" -eq 6 ] && [ "$2" -lt 3 ]; }; then
    echo "Swift $1.$2 is too old: Skein needs 6.3 or newer, from https://www.swift.org/install/linux/" >&2
    exit 1
fi
