package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

// qemuBridge is the bridge that QEMU names when its command line gives none
// (include/net/net.h, DEFAULT_BRIDGE_INTERFACE).
const qemuBridge = "br0"

// forQEMU is how tap-helper is meant to be run.
const forQEMU = "let QEMU run it: -netdev 'tap,id=n0,helper=vmnetd tap-helper VM'"

// helperCall is what QEMU appends to a helper's command (net/tap.c,
// net_bridge_run_helper).
type helperCall struct {
	vnet   bool
	fd     int
	bridge string
}

func (a *app) tapHelperCommand() *cobra.Command {
	var (
		req  vmnetd.Request
		call helperCall
	)
	cmd := &cobra.Command{
		Use:   "tap-helper VM [NETWORK]",
		Short: "Be the helper of QEMU's -netdev tap,helper=…",
		Long: `QEMU runs this to get a NIC's queue: one queue, no vhost, with any launcher. The
NIC goes when that QEMU ends. QEMU itself appends --use-vnet, --fd and --br; a
bridge named by br= is the network when NETWORK is not given. The guest's card
must have the NIC's MAC, so name one here and in -device.`,
		Example: `  qemu-system-x86_64 … \
    -netdev tap,id=n0,helper='vmnetd tap-helper vm1 --mac 52:54:00:00:00:01' \
    -device virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01`,
		Args:              takes([]string{"the name of a VM"}, "NETWORK"),
		ValidArgsFunction: a.completeVMNetwork,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := setVM(&req, args[0]); err != nil {
				return err
			}
			req.Network = call.network(args[1:])
			req.Queues = 1 // the helper's protocol carries one fd
			return a.tapHelper(cmd.Context(), req, call)
		},
	}
	addRequestFlags(cmd.Flags(), &req, "network", "queues", "via", "name", "route", "bus", "addr", "handover")
	fs := cmd.Flags()
	fs.BoolVar(&call.vnet, "use-vnet", false, "given by QEMU")
	fs.IntVar(&call.fd, "fd", -1, "given by QEMU: the `SOCKET` that takes the queue")
	fs.Lookup("fd").DefValue = "0" // there is no default to show
	fs.StringVar(&call.bridge, "br", qemuBridge, "given by QEMU: the `NETWORK` by another way")
	a.completeRequestFlags(cmd)
	return cmd
}

// network is the one asked for, "" when the policy shall choose.
func (h helperCall) network(args []string) string {
	switch {
	case len(args) > 0:
		return args[0]
	case h.bridge != qemuBridge:
		return h.bridge
	}
	return ""
}

// owner is the QEMU at the other end of the socket: who made the socket pair
// (net/unix/af_unix.c, init_peercred).
func (h helperCall) owner() (pid int, err error) {
	if !h.vnet || h.fd < 0 {
		return 0, vmnetd.Errorf(vmnetd.ErrInvalid, "tap-helper is for QEMU to run: --use-vnet and --fd are missing").
			WithNext(forQEMU)
	}
	cred, err := unix.GetsockoptUcred(h.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, vmnetd.Errorf(vmnetd.ErrInvalid, "--fd %d is not QEMU's socket: %w", h.fd, err).WithNext(forQEMU)
	}
	if cred.Pid <= 0 {
		return 0, vmnetd.Errorf(vmnetd.ErrUnsupported, "QEMU runs in another pid namespace, so its end cannot be seen").
			WithNext("run the helper in QEMU's pid namespace")
	}
	return int(cred.Pid), nil
}

func (a *app) tapHelper(ctx context.Context, req vmnetd.Request, call helperCall) error {
	pid, err := call.owner()
	if err != nil {
		return err
	}
	req.NoVHost = true // the helper's protocol carries one fd
	return a.with(ctx, func(c client) error {
		got, fds, err := c.OpenTap(ctx, req, pid)
		if err != nil {
			return err
		}
		defer fds.Close()
		if err := sendQueue(call.fd, fds.Queues); err != nil {
			// QEMU goes on living when this was netdev_add, and the NIC with it
			_, undo := c.Detach(ctx, got.VM, agent.Selector{ID: got.ID})
			return errors.Join(err, undo)
		}
		return nil
	})
}

// sendQueue gives the queue to QEMU as its own helper does: one byte that
// carries the fd (qemu-bridge-helper.c, send_fd).
func sendQueue(socket int, queues []int) error {
	if len(queues) != 1 {
		return vmnetd.Errorf(vmnetd.ErrFailed, "the daemon gave %d queues, and QEMU's helper takes one", len(queues))
	}
	for {
		err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(queues[0]), nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot hand the queue to QEMU: %w", err)
		}
		return nil
	}
}
