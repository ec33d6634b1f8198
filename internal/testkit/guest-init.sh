#!/bin/busybox sh
# The first and only program of a test guest. It runs what comes over a
# virtio-serial port,
# one line a command:  ID SECONDS BASE64-OF-A-SHELL-SCRIPT
# and answers           vmnetd-guest ID EXIT-CODE BYTES  and that many bytes.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /mods/*; do
	insmod "$module"
done
ip link set lo up

# Not a serial port of the PC's: with several CPUs that QEMU emulates its
# interrupt gets lost now and then, and the guest waits for ever.
until [ -c /dev/vport0p1 ]; do
	sleep 0.05
done
exec 3<>/dev/vport0p1 <&3 >&3
echo "vmnetd-guest ready"
while :; do
	# Without anybody at the other end it reads as one that has ended (Linux
	# drivers/char/virtio_console.c, port_fops_read): so does a guest that is
	# restored before somebody connects.
	if ! read -r id seconds script; then
		sleep 0.2
		continue
	fi
	echo "$script" | base64 -d >/tmp/script
	timeout -s KILL "$seconds" sh /tmp/script </dev/null >/tmp/out 2>&1
	echo "vmnetd-guest $id $? $(wc -c </tmp/out)"
	cat /tmp/out
done
