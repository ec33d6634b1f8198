#!/bin/sh
# Makes systemd process 1: it does what every boot needs (sysinit.target), has
# the system bus ready, and runs start.sh. Sockets, timers and services that
# this machine has enabled are not wanted by the target, and so not started.
mkdir -p /run/systemd/system
cd /run/systemd/system
cat >vmtest.service <<'UNIT'
[Unit]
Description=the command of the VM
After=dbus.socket
[Service]
ExecStart=/bin/sh /run/vm/start.sh
UNIT
cat >vmtest.target <<'UNIT'
[Unit]
Requires=sysinit.target dbus.socket vmtest.service
UNIT
# Disks, clock and console are not this machine's.
: >/etc/fstab
for unit in systemd-timesyncd systemd-pstore systemd-remount-fs systemd-random-seed keyboard-setup console-setup; do
	ln -s /dev/null "$unit.service"
done
# Its /tmp may hold the programs that are to run, and would be emptied.
mkdir -p /etc/tmpfiles.d
: >/etc/tmpfiles.d/tmp.conf
# systemd does this on every host, but not where it takes it for a container, as
# by a /.dockerenv of this machine's: without it no service sees new mounts.
mount --make-rshared /
cd /
exec /lib/systemd/systemd --unit=vmtest.target
