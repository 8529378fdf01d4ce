#!/bin/sh
# Makes a file system on the disk `data`, unless it has one, and mounts it at $1, also after a restart.
set -eu
mount_point=$1
disk=/dev/disk/by-id/virtio-data

blkid "$disk" >/dev/null || mkfs.ext4 -q -L data "$disk"
mkdir -p "$mount_point"
grep -q '^LABEL=data ' /etc/fstab || echo "LABEL=data $mount_point ext4 defaults,nofail 0 2" >>/etc/fstab
mountpoint -q "$mount_point" || mount "$mount_point"
