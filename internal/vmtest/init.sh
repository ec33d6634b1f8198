#!/bin/busybox sh
# The first program of the VM: it puts the machine's file system together and
# goes on with start.sh in it. /vm is what this run is about.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /mods/*; do
	insmod "$module"
done

# share TAG OPTIONS DIR mounts a directory of the machine.
share() {
	mkdir -p "$3"
	mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$2" "$1" "$3"
}

share root ro,cache=loose /lower
mkdir -p /upper /newroot
mount -t tmpfs upper /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work root /newroot

mount -t proc proc /newroot/proc
mount -t sysfs sysfs /newroot/sys
mount -t cgroup2 cgroup2 /newroot/sys/fs/cgroup
mount -t devtmpfs devtmpfs /newroot/dev
mkdir -p /newroot/dev/pts /newroot/dev/shm
for stream in fd:fd fd/0:stdin fd/1:stdout fd/2:stderr; do
	ln -s "/proc/self/${stream%:*}" "/newroot/dev/${stream#*:}"
done
mount -t devpts -o mode=620,ptmxmode=666 devpts /newroot/dev/pts
mount -t tmpfs shm /newroot/dev/shm
mount -t tmpfs run /newroot/run
mkdir -p /newroot/var/lib/vmnetd
mount -t tmpfs lib /newroot/var/lib/vmnetd
. /vm/shares.sh

cp -r /vm /newroot/run/vm
next=start.sh
[ ! -e /vm/systemd.sh ] || next=systemd.sh
exec switch_root /newroot /bin/sh "/run/vm/$next"
