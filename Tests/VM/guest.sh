#!/bin/busybox sh
# The first process of the virtual machine: uses the disks 'plain' and 'cached' of the server, and says on the
# console what came of it. The machine ends with it.
set -eu
/bin/busybox mkdir -p /proc /sys /dev /mnt
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev

finish() {
    echo "guest: ended with $?"
    sync
    poweroff -f
}
trap finish EXIT

for module in $(cat /modules/order); do insmod "/modules/$module"; done
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
server=10.0.2.2
port=$(sed -n 's/.*skein_port=\([0-9]*\).*/\1/p' /proc/cmdline)

say() { echo "guest: $*"; }

# Each disk by two connections.
nbd-client -C 2 -b 4096 -N plain $server "$port" /dev/nbd0
nbd-client -C 2 -b 4096 -N cached $server "$port" /dev/nbd1
say connections "$(netstat -tn | grep -c ":$port .*ESTABLISHED")"

say checksum "$(dd if=/dev/nbd0 bs=1M count=64 2>/dev/null | sha256sum | cut -d' ' -f1)"
say discards "$(cat /sys/block/nbd0/queue/discard_max_bytes)"
blkdiscard -o 67108864 -l 16777216 /dev/nbd0
say discarded
dd if=/dev/zero bs=1M count=4 2>/dev/null | tr '\0' z | dd of=/dev/nbd0 bs=1M seek=96 conv=notrunc,fsync 2>/dev/null
say flushed

mkfs.ext4 -q /dev/nbd1
mount /dev/nbd1 /mnt
dd if=/dev/nbd0 of=/mnt/copy bs=1M count=16 2>/dev/null
for number in $(seq 100); do echo "file $number" >"/mnt/file$number"; done
before=$(cat /mnt/copy /mnt/file* | sha256sum)
umount /mnt
echo 3 >/proc/sys/vm/drop_caches
mount /dev/nbd1 /mnt
[ "$(cat /mnt/copy /mnt/file* | sha256sum)" = "$before" ]
say remounted
umount /mnt
e2fsck -fn /dev/nbd1
say clean
mount /dev/nbd1 /mnt
echo 'written last' >/mnt/last
sync
say synced
read -r word
say "$word"
