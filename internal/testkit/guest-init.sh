#!/bin/busybox sh
# The first and only program of a test guest. It runs what comes over ttyS1,
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

exec </dev/ttyS1 >/dev/ttyS1
# raw: a tty would turn our line ends into two characters and echo the input.
stty raw -echo
echo "vmnetd-guest ready"
while read -r id seconds script; do
	echo "$script" | base64 -d >/tmp/script
	timeout -s KILL "$seconds" sh /tmp/script </dev/null >/tmp/out 2>&1
	echo "vmnetd-guest $id $? $(wc -c </tmp/out)"
	cat /tmp/out
done
