# Turns the unpacked Debian packages into the lab's machine. Run by mmdebstrap with the root directory as $1.
set -eu
root=$1

chroot "$root" useradd --create-home --shell /bin/bash dockyard
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/hostname "$root"/etc/machine-id
: >"$root/etc/machine-id"
echo "/dev/vda / ext4 defaults,noatime 0 1" >"$root/etc/fstab"
rm -f "$root/etc/resolv.conf"
: >"$root/etc/resolv.conf"

mkdir -p "$root/etc/ssh/sshd_config.d" "$root/etc/systemd/journald.conf.d" "$root/var/log/journal"
cat >"$root/etc/ssh/sshd_config.d/lab.conf" <<'CONF'
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
# Every connection comes from one address (QEMU's gateway): a test with a wrong key must not lock out the next one.
PerSourcePenalties no
MaxStartups 100
MaxSessions 100
CONF
cat >"$root/etc/systemd/journald.conf.d/lab.conf" <<'CONF'
[Journal]
Storage=persistent
SystemMaxUse=32M
RuntimeMaxUse=8M
CONF

mkdir -p "$root/usr/local/lib/dockyard-lab"
cat >"$root/usr/local/lib/dockyard-lab/clock" <<'CONF'
#!/bin/bash
# Answers the lab on a virtio port: "ID get" and "ID step SECONDS" (moves the clock) with "ID TIME".
exec 3<>/dev/virtio-ports/dockyard.clock
while read -r id verb seconds <&3; do
    [ "$verb" = step ] && date --utc --set="@$seconds" >/dev/null
    echo "$id $EPOCHREALTIME" >&3
done
CONF
chmod 755 "$root/usr/local/lib/dockyard-lab/clock"
cat >"$root/etc/systemd/system/dockyard-lab-clock.service" <<'CONF'
[Unit]
Description=Clock of the lab machine, set by the lab through a virtio port
BindsTo=dev-virtio\x2dports-dockyard.clock.device
After=dev-virtio\x2dports-dockyard.clock.device

[Service]
ExecStart=/usr/local/lib/dockyard-lab/clock
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
CONF
chroot "$root" systemctl enable dockyard-lab-clock.service ssh.service

# What later phases switch on is installed but off: memory is small, and a runbook must find it as on a fresh host.
for unit in chrony corosync pacemaker pacemaker_remote sbd sbd_remote drbd dnsmasq nftables prometheus prometheus-alertmanager \
    prometheus-node-exporter lvm2-monitor blk-availability dm-event.socket lvm2-lvmpolld.socket e2scrub_reap conntrackd \
    logd logrotate.timer fstrim.timer; do
    chroot "$root" systemctl disable "$unit" 2>/dev/null || true
done
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer xfs_scrub_all.timer man-db.timer \
    getty@tty1.service serial-getty@ttyS0.service modprobe@drm.service modprobe@efi_pstore.service modprobe@fuse.service \
    systemd-pstore.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/system-generators"
ln -s /dev/null "$root/etc/systemd/system-generators/systemd-ssh-generator"

# Under emulation each of these costs a second at boot, and none drives anything here; iTCO_wdt would take /dev/watchdog from i6300esb.
for module in iTCO_wdt kvm kvm_amd kvm_intel ccp psmouse pcspkr evdev serio_raw i2c_piix4 i2c_i801 lpc_ich ata_piix pata_acpi ata_generic ahci \
    floppy drm bochs vsock_loopback vmw_vsock_vmci_transport efi_pstore; do
    echo "blacklist $module"
done >"$root/etc/modprobe.d/dockyard-lab.conf"
touch "$root/etc/.updated" "$root/var/.updated"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old "$root"/boot/initrd.img-* \
    "$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/usr/share/doc/* "$root"/var/log/*.log "$root"/var/log/apt
