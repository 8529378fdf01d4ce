#!/bin/sh
# Runs as root of a user namespace when the packages are installed and files/ is copied.
# $1: the root file system.
set -eu
cd "$1"

chmod 0440 etc/sudoers.d/tsv
chroot . useradd --create-home --user-group --uid 1000 --shell /bin/bash tsv
# `*`: no password fits, and sshd does not take the account for a locked one.
chroot . usermod --password '*' root
chroot . usermod --password '*' tsv
# Sockets for ping need no capability here (ping_group_range); a file with one that is not granted cannot even run.
chroot . sh -c 'if command -v setcap > /dev/null; then setcap -r "$(command -v ping)" 2> /dev/null || :; fi'
echo 'LANG=C.UTF-8' > etc/default/locale

# Identity belongs to the machine, never to the box.
: > etc/machine-id
echo localhost > etc/hostname
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > etc/hosts
