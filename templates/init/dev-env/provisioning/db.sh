#!/bin/sh
# MariaDB on the disk `data`, with a user `dev` that has the password $PASSWORD.
set -eu
disk=/dev/disk/by-id/virtio-data
blkid "$disk" >/dev/null || mkfs.ext4 -q -L data "$disk"
mkdir -p /var/lib/mysql
grep -q '^LABEL=data ' /etc/fstab || echo 'LABEL=data /var/lib/mysql ext4 defaults,nofail 0 2' >>/etc/fstab
mountpoint -q /var/lib/mysql || mount /var/lib/mysql

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends mariadb-server

printf '[mysqld]\nbind-address = 0.0.0.0\n' >/etc/mysql/mariadb.conf.d/90-dev.cnf
systemctl restart mariadb

# The password is data: quotes and backslashes in it are escaped for SQL.
password=$(printf %s "$PASSWORD" | sed 's/[\\'"'"']/\\&/g')
mysql <<SQL
CREATE DATABASE IF NOT EXISTS dev;
CREATE USER IF NOT EXISTS 'dev'@'%';
ALTER USER 'dev'@'%' IDENTIFIED BY '$password';
GRANT ALL ON dev.* TO 'dev'@'%';
SQL
