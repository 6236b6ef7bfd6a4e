#!/bin/sh
# container.sh ROOT RUNTIME-FOLDER RULES-FOLDER LIBRARIES PROC COMMAND…: runs a command as in a container, in
# fresh mount and other namespaces that the caller has made (unshare): a root folder of its own, of which
# only these folders are the host's. "-" is a folder that is not mounted. PROC: own or host.
set -e
root=$1 runtime=$2 rules=$3 libraries=$4 proc=$5
shift 5
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir usr proc dev tmp run run/skein etc etc/skein opt opt/skein
chmod 1777 tmp run/skein
mount --rbind /usr usr
for folder in bin lib lib64 sbin; do [ -e /usr/$folder ] && ln -s usr/$folder $folder; done
echo 'root:x:0:0::/:/bin/sh' >etc/passwd
if [ "$proc" = own ]; then mount -t proc proc proc; else mount --rbind /proc proc; fi
for device in null urandom; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
done
mount --bind "$libraries" opt/skein
[ "$runtime" = - ] || mount --bind "$runtime" run/skein
[ "$rules" = - ] || mount --bind "$rules" etc/skein
exec chroot . "$@"
