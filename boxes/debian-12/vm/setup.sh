#!/bin/sh
# Runs as root of a user namespace when the packages are installed and files/ is copied.
# $1: the root file system; $2: where `kernel` and `initrd` go; $3: this folder.
set -eu
out=$2 recipe=$3
cd "$1"

chroot . systemctl --quiet enable ssh.service systemd-networkd.service tsv-coldplug.service tsv-started.service
chroot . systemctl --quiet disable \
  e2scrub_reap.service getty@tty1.service remote-fs.target systemd-networkd-wait-online.service systemd-pstore.service
# What a small, short-lived virtual machine without a screen does not need; each costs time at boot.
chroot . systemctl --quiet mask \
  apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  getty-static.service modprobe@.service \
  systemd-ask-password-console.path systemd-ask-password-wall.path systemd-binfmt.service systemd-firstboot.service \
  systemd-journal-flush.service systemd-machine-id-commit.service systemd-network-generator.service \
  systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-random-seed.service systemd-repart.service \
  systemd-sysusers.service \
  systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-initctl.socket \
  dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount \
  sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
# The way in comes first: what only others need gets the CPU behind it.
for unit in kmod-static-nodes systemd-journald systemd-remount-fs systemd-sysctl systemd-tmpfiles-setup-dev systemd-udev-trigger \
  systemd-udevd; do
  mkdir -p "etc/systemd/system/$unit.service.d"
  printf '[Unit]\nAfter=ssh.service\n' > "etc/systemd/system/$unit.service.d/tsv-later.conf"
done
mkdir -p etc/systemd/system-generators
for generator in cryptsetup gpt-auto hibernate-resume integritysetup rc-local system-update sysv veritysetup; do
  ln -sf /dev/null "etc/systemd/system-generators/systemd-$generator-generator"
done
# Its name servers come with its identity.
rm -f etc/resolv.conf
: > etc/resolv.conf
# Units with nothing to do are skipped when these are not there.
rm -f etc/fstab etc/modules-load.d/modules.conf etc/modules

# A login shell starts no programs of its own to learn what it knows, and has no terminal to guard when it has one command.
sed -i 's/\[ "$(id -u)" -eq 0 \]/[ "${EUID:-$(id -u)}" -eq 0 ]/' etc/profile
sed -i 's/^mesg n .*/[ -z "$PS1" ] || &/' root/.profile

# Identity comes at the first boot.
rm -f etc/ssh/ssh_host_*
: > etc/machine-id

# The kernel, and an initrd that holds nothing but the way to the disk.
version=$(ls lib/modules)
cp "boot/vmlinuz-$version" "$out/kernel"
mkdir initrd initrd/dev initrd/root
cp "$recipe/initrd/init" bin/busybox initrd/
chmod 0755 initrd/init
for program in sh find insmod ip mount rm switch_root; do ln -s busybox "initrd/$program"; done
drivers=lib/modules/$version/kernel/drivers
for module in virtio/virtio virtio/virtio_ring virtio/virtio_pci_legacy_dev virtio/virtio_pci_modern_dev virtio/virtio_pci \
  block/virtio_blk net/net_failover net/virtio_net; do
  cp "$drivers/$module.ko" initrd/
done
cp "lib/modules/$version/kernel/net/core/failover.ko" initrd/
chroot . sh -c 'cd initrd && find . | sort | cpio --quiet --create --format=newc' > "$out/initrd"
rm -r initrd
