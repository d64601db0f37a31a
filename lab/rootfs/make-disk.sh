# Turns $1/root.tar into the disk image $1/root.raw of size $2, and copies out what is needed to boot it.
# Runs as root, or as root of a user namespace, so that owners in the image are right.
set -eu
cd "$1"
# In a user namespace only its own root can remove what was unpacked, also after a failure.
trap 'rm -rf root' EXIT
mkdir root boot boot/modules
tar --extract --file=root.tar --directory=root --numeric-owner --xattrs --xattrs-include='*' --exclude='./dev/*'
rm root.tar
cp root/boot/vmlinuz-* vmlinuz
cp root/usr/bin/busybox boot/busybox
release=$(ls root/usr/lib/modules)
cp root/usr/lib/modules/"$release"/modules.dep root/usr/lib/modules/"$release"/modules.builtin boot/modules/
(cd "root/usr/lib/modules/$release" && find kernel/fs kernel/lib kernel/crypto kernel/arch kernel/drivers/block \
    kernel/drivers/virtio kernel/drivers/firmware -name '*.ko*' -exec cp --parents -t "$1/boot/modules" {} +)
truncate -s "$2" root.raw
mke2fs -q -F -t ext4 -E lazy_itable_init=0 -m 0 -L lab-root -d root root.raw
