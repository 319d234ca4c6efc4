#!/bin/sh
# configure.sh ROOT DATA: installs the package in the root file system, chooses what starts, and removes what must differ from
# card to card. Runs in a user namespace (tools/namespace.sh), in which arm64 programs are emulated.
set -e
root=$1
data=$2
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
in_root() { chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }

chmod 440 "$root/etc/sudoers.d/pi"
in_root dpkg --install /tmp/medulla.deb
# gpio, i2c, spi and pwm come with the package
in_root useradd --home-dir /data/home/pi --no-create-home --shell /bin/bash --groups gpio,i2c,spi,pwm,dialout,systemd-journal pi
in_root systemctl --quiet enable systemd-networkd systemd-resolved systemd-timesyncd ssh medulla-card medulla.socket medulla
# nothing waits for a network; nothing updates a read-only system; no questions on the console
in_root systemctl --quiet disable systemd-networkd-wait-online wpa_supplicant
in_root systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap systemd-firstboot sshd-keygen

# ssh over AF_VSOCK is for virtual machines
mkdir -p "$root/etc/systemd/system-generators"
ln -sf /dev/null "$root/etc/systemd/system-generators/systemd-ssh-generator"

ln -sf /run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
ln -sf /data/etc/wpa_supplicant.conf "$root/etc/wpa_supplicant/wpa_supplicant-wlan0.conf"
echo medulla >"$root/etc/hostname"
# written at each start, with the name of this robot
ln -sf /run/medulla-card/hosts "$root/etc/hosts"
# empty: systemd makes one for each start, and does not take the start for the first one
: >"$root/etc/machine-id"
mkdir -p "$root/data"

# keys and seeds that Debian's packages made: each card makes its own
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/credential.secret"
rm -rf "$root"/tmp/* "$root"/var/tmp/* "$root"/var/log/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
rm -f "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/cache/ldconfig/aux-cache

# the kernel and its initial RAM disk are on the FAT partition
rm -f "$root"/boot/vmlinuz-* "$root"/boot/initrd.img-*

install -d -m 700 "$data/medulla"
install -d -m 755 "$data/etc" "$data/home"
install -d -m 700 -o 1000 -g 1000 "$data/home/pi"
cp -a "$root/var/lib/systemd" "$data/systemd"
# what Debian's packages remember of their units stays with the packages
rm -rf "$data"/systemd/deb-systemd-*
mkdir -p "$root/var/lib/medulla"
chmod 700 "$root/var/lib/medulla"
umount -l "$root/proc" "$root/dev"
