#!/bin/sh
# Process 1 of the initramfs: brings up the nic and the iSCSI session which the firmware described in the iBFT
# (the iSCSI Boot Firmware Table, which iPXE fills in for `sanboot`), then hands over to the root file system.
export PATH=/bin

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1

say() { echo "m2-node: $*"; }

# A node without its disk can do nothing better than to ask the network again.
give_up() {
  say "FAILED: $*; rebooting"
  sleep 1
  reboot -f
}

say "initramfs started after $(cut -d ' ' -f 1 /proc/uptime) s"
# The builder wrote the modules in the order of their dependencies: insmod knows none.
while read -r module; do
  insmod "/modules/$module" || say "cannot load $module"
done </modules/order

[ -d /sys/firmware/ibft/target0 ] || give_up "the firmware left no iSCSI boot table (iBFT)"
iscsistart -N || give_up "iscsistart could not set up the nic of the iBFT"
iscsistart -b || give_up "iscsistart could not log in to the target of the iBFT"

# Disks are scanned in the background; 200 tries of 50 ms.
tries=200
until root=$(findfs LABEL=m2-root); do
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] || give_up "no disk with a file system named m2-root appeared"
  usleep 50000
done 2>/dev/null

# noinit_itable: the lazily initialised inode tables would be written over the network during the boot.
mount -t ext4 -o rw,noatime,noinit_itable "$root" /root || give_up "cannot mount $root"
say "root $root mounted after $(cut -d ' ' -f 1 /proc/uptime) s"
for dir in dev proc sys; do
  mount -o move "/$dir" "/root/$dir"
done
exec switch_root /root /sbin/init
