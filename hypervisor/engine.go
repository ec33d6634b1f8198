package hypervisor

import (
	"context"
	"errors"
	"time"

	"github.com/vmnetd/vmnetd/internal/failpoint"
)

// monitor carries QMP commands to one QEMU, whatever lies between: its own
// socket (Conn) or libvirt.
type monitor interface {
	// Do runs a command and decodes what it returns into out (nil: not wanted).
	// An error reply of QEMU is an *Error; ErrClosed: QEMU has gone.
	Do(ctx context.Context, command string, args, out any) error
	// SendFD gives QEMU a copy of fd under a name (getfd).
	SendFD(ctx context.Context, name string, fd int) error
	// awaitDeleted waits until a device that was asked to go has gone.
	// errKept: the guest said that it keeps it.
	awaitDeleted(ctx context.Context, device string) error
}

var errKept = errors.New("the guest refused to let go")

// engine is the steps of a handover, on one VM, for as long as one operation
// takes. It does not know how the commands travel.
type engine struct {
	monitor
	known  *known
	vm     string
	since  time.Time // when the operation reached QEMU
	limits Limits
	hit    func(failpoint.Point) error

	fromEnd bool // places are taken from the last one on: somebody else, who does not see what we plug, takes them from the first
}
