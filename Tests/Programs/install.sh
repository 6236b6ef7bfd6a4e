#!/bin/sh
# Installs the real programs that the tests in this folder use, where missing; says nothing when all is there.
# No service is started: a policy-rc.d that forbids it stands in place during the installation, no longer.
set -eu

packages="redis-server nginx-light wrk curl iperf3 socat strace apache2-utils inetutils-telnetd inetutils-inetd telnet
    postgresql memcached haproxy openssh-server openssh-client vsftpd lftp nodejs
    libpython3.11-testsuite iproute2 util-linux debootstrap dpkg-dev
    libnbd-bin python3-libnbd nbdkit qemu-utils nbd-client nbd-server fio e2fsprogs"

missing=
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Missing here:$missing. There is no sudo: run $0 as root. It keeps their services from starting." >&2
        exit 1
    fi
    exec sudo "$0"
fi

policy=/usr/sbin/policy-rc.d
kept=
put_back() {
    rm -f "$policy"
    [ -z "$kept" ] || mv "$kept" "$policy"
}
trap put_back EXIT
trap 'exit 1' HUP INT TERM
if [ -e "$policy" ] || [ -L "$policy" ]; then
    kept=$policy.before-skein-tests
    # After a run that was killed the machine's own one is there already.
    [ -e "$kept" ] || mv "$policy" "$kept"
fi
rm -f "$policy"
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

echo "installing$missing"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -20 "$log" >&2
    echo "apt-get failed; its messages are in $log" >&2
    exit 1
fi
rm -f "$log"
