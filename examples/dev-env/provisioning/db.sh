#!/bin/sh
# Redis with the password $PASSWORD, on the disk `data`.
set -eu
disk=/dev/disk/by-id/virtio-data
blkid "$disk" >/dev/null || mkfs.ext4 -q -L data "$disk"
mkdir -p /var/lib/redis
grep -q '^LABEL=data ' /etc/fstab || echo 'LABEL=data /var/lib/redis ext4 defaults,nofail 0 2' >>/etc/fstab
mountpoint -q /var/lib/redis || mount /var/lib/redis

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qqy --no-install-recommends redis-server >/dev/null
chown redis:redis /var/lib/redis

# The password is data: quotes and backslashes in it are escaped. The last line that sets something counts.
password=$(printf %s "$PASSWORD" | sed 's/[\\"]/\\&/g')
sed -i '/^# from here on: provisioning/,$d' /etc/redis/redis.conf
cat >>/etc/redis/redis.conf <<CONF
# from here on: provisioning
bind 0.0.0.0
requirepass "$password"
appendonly yes
CONF
systemctl restart redis-server
