#!/bin/sh
# What the VM does once it has the machine's file system: modules, then the
# command, then the word to the machine outside that it is done. That one ends
# the VM; a power-off would take seconds and could lose the end of the output.
. /run/vm/env.sh
mkdir -p -m 1777 "$TMPDIR"
if [ ! -d /run/systemd/system ]; then
	ip link set lo up
	mkdir -p -m 755 /run/dbus /run/lock /run/teamd
	# max_bonds: the module makes a bond0 of its own otherwise.
	modprobe bonding max_bonds=0
	modprobe -a $vm_modules
fi

# finish CODE says that the command has ended, on standard output.
finish() {
	printf '%s end %d\n' "$vm_mark" "$1"
}

# The terminal stays open from here on: what is typed between two openings is
# lost, and the size forgotten (drivers/char/virtio_console.c).
with_terminal() {
	until [ -c /dev/hvc0 ]; do sleep 0.05; done
	exec 3<>/dev/hvc0
	stty sane rows "$vm_rows" cols "$vm_cols" <&3
	printf '%s start\n' "$vm_mark" >&3
	setsid --ctty --wait sh /run/vm/command.sh <&3 >&3 2>&3 3>&-
	# The end of the session has hung the terminal up.
	finish $? >/dev/hvc0
}

# A port can be opened once only, but /dev/stdout and /dev/stderr by anybody:
# so the command writes to pipes.
with_pipes() {
	until [ -c /dev/vport0p1 ] && [ -c /dev/vport0p2 ]; do sleep 0.05; done
	exec 3>/dev/vport0p1 4>/dev/vport0p2
	printf '%s start\n' "$vm_mark" >&3
	mkfifo /run/vm/out /run/vm/err
	cat /run/vm/out >&3 &
	out=$!
	cat /run/vm/err >&4 &
	err=$!
	sh /run/vm/command.sh </dev/null >/run/vm/out 2>/run/vm/err 3>&- 4>&-
	code=$?
	# What the command left running may hold the pipes open for ever.
	{ sleep 2; kill "$out" "$err"; } 2>/dev/null &
	wait "$out" "$err"
	printf '%s end\n' "$vm_mark" >&4
	finish "$code" >&3
}

if [ -n "$vm_rows" ]; then
	with_terminal
else
	with_pipes
fi
sleep 60
echo o >/proc/sysrq-trigger
sleep 60
