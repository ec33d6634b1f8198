package failpoint

import "slices"

// Every point, in the order an attach, a detach and a store meet them.
const (
	AttachLookup    Point = "attach.lookup"    // the VM is known, nothing decided
	AttachDecided   Point = "attach.decided"   // policy has spoken, nothing stored
	AttachStored    Point = "attach.stored"    // the intent is on disk
	ConvergeMAC     Point = "converge.mac"     // before a passthru changes its uplink's MAC
	ConvergeDevice  Point = "converge.device"  // the device is made, down, not handed over
	TapCreated      Point = "tapdev.created"   // created, not marked yet
	TapMarked       Point = "tapdev.marked"    // marked, not verified
	HandoverOpened  Point = "handover.opened"  // the queues are open here
	HandoverGetfd   Point = "handover.getfd"   // QEMU has the fds, no netdev
	HandoverNetdev  Point = "handover.netdev"  // netdev_add done, no device
	HandoverDevice  Point = "handover.device"  // device_add done
	ConvergeMoved   Point = "converge.moved"   // handed over and in its own namespace, without addresses
	ConvergeGuarded Point = "converge.guarded" // filtered, device still down
	ConvergeUp      Point = "converge.up"      // handed over, device still down
	ConvergeStored  Point = "converge.stored"  // up; about to write it down
	AttachReply     Point = "attach.reply"     // all done, the caller not told
	DetachStored    Point = "detach.stored"    // the wish to detach is on disk
	DetachDown      Point = "detach.down"      // the device is down
	DetachUnplug    Point = "detach.unplug"    // device_del sent
	DetachNetdev    Point = "detach.netdev"    // the guest let go; netdev_del is next
	DetachDevice    Point = "detach.device"    // QEMU is clean; the device is next
	DetachMAC       Point = "detach.mac"       // device gone, uplink's MAC not restored
	DetachForget    Point = "detach.forget"    // all gone but the entry in the state file
	StoreWrite      Point = "store.write"      // before the state file is replaced
	StoreWritten    Point = "store.written"    // after it was replaced

	UplinkCheckpoint Point = "uplink.checkpoint"  // what was there is on disk, nothing else happened
	UplinkArmed      Point = "uplink.armed"       // the guard waits, nothing is changed
	UplinkStep       Point = "uplink.step"        // before each step of an apply
	UplinkChanged    Point = "uplink.changed"     // every step is done, nothing verified
	UplinkVerified   Point = "uplink.verified"    // verified, not said to wait for its confirmation
	UplinkConfirm    Point = "uplink.confirm"     // before what was applied is kept
	UplinkConfirmed  Point = "uplink.confirmed"   // kept, the checkpoint still there
	UplinkRollback   Point = "uplink.rollback"    // before the first step back
	UplinkRolledBack Point = "uplink.rolled-back" // every step back is done, the checkpoint still there
)

// Points is all of them: a driver runs each with error and with kill.
var Points = []Point{
	AttachLookup, AttachDecided, AttachStored, ConvergeMAC, ConvergeDevice, TapCreated, TapMarked,
	HandoverOpened, HandoverGetfd, HandoverNetdev, HandoverDevice, ConvergeGuarded, ConvergeUp, ConvergeStored, AttachReply,
	DetachStored, DetachDown, DetachUnplug, DetachNetdev, DetachDevice, DetachMAC, DetachForget,
	StoreWrite, StoreWritten,
}

// UplinkPoints is those of an apply: they have a driver of their own.
var UplinkPoints = []Point{
	UplinkCheckpoint, UplinkArmed, UplinkStep, UplinkChanged, UplinkVerified,
	UplinkConfirm, UplinkConfirmed, UplinkRollback, UplinkRolledBack,
}

// RoomPoints is those that only a device meets which goes to a namespace of its own.
var RoomPoints = []Point{ConvergeMoved}

func known(p Point) bool {
	return slices.Contains(Points, p) || slices.Contains(UplinkPoints, p) || slices.Contains(RoomPoints, p)
}
