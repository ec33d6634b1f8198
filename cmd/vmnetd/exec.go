package main

import (
	"context"
	"os"
	"os/exec"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
)

func (a *app) execCommand() *cobra.Command {
	var req vmnetd.Request
	cmd := &cobra.Command{
		Use:   "exec VM [flags] -- QEMU ARGUMENTS… {netdev}",
		Short: "Become QEMU, with a NIC's queues open",
		Long: `Makes a NIC for a VM that is about to start and becomes QEMU: process id,
signals and exit code are QEMU's. The word {netdev} of its command line is
replaced by the -netdev and -device options that use the queues. The NIC goes
when that QEMU ends. Exit code 125: it failed before QEMU ran.`,
		Example: `  vmnetd exec vm1 -- qemu-system-x86_64 -m 1G -drive file=vm1.img {netdev}
  vmnetd exec vm1 --network lan --queues 4 -- qemu-system-x86_64 -smp 4 {netdev}`,
		ValidArgsFunction: a.completeVM,
		RunE: func(cmd *cobra.Command, args []string) error {
			argv, err := execArguments(cmd, &req, args)
			if err != nil {
				return err
			}
			return beforeQEMU(a.execQEMU(cmd.Context(), req, argv))
		},
	}
	addRequestFlags(cmd.Flags(), &req, "via", "name", "route", "handover")
	a.completeRequestFlags(cmd)
	return cmd
}

// execArguments takes "VM -- QEMU …" apart.
func execArguments(cmd *cobra.Command, req *vmnetd.Request, args []string) ([]string, error) {
	dash := cmd.ArgsLenAtDash()
	switch {
	case len(args) == 0 || dash == 0:
		return nil, usage(cmd, "%s needs the name of a VM", cmd.CommandPath())
	case dash < 0 || dash == len(args):
		return nil, usage(cmd, "%s needs QEMU's command line after --", cmd.CommandPath())
	case dash > 1:
		return nil, usage(cmd, "%s does not know what to do with %q: QEMU's command line comes after --", cmd.CommandPath(), args[1])
	}
	if err := setVM(req, args[0]); err != nil {
		return nil, err
	}
	return args[1:], checkPlaceholder(args[1:])
}

// beforeQEMU marks failures that must not be taken for QEMU's own exit code.
func beforeQEMU(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: vmnetd.ExitExecFailed, err: err}
}

// execQEMU returns only when it failed; the process's end then takes the NIC
// with it, because the process is its owner.
func (a *app) execQEMU(ctx context.Context, req vmnetd.Request, argv []string) error {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "cannot run %s: %w", argv[0], err).WithNext("name QEMU by its path, or see that it is in PATH")
	}
	req.Via = "exec"
	return a.with(ctx, func(c client) error {
		got, fds, err := c.OpenTap(ctx, req, os.Getpid())
		if err != nil {
			return err
		}
		defer fds.Close()
		if err := inherit(fds); err != nil {
			return err
		}
		argv = substitute(argv, netdevWords(got, fds, req.Bus, req.Addr))
		if err := a.exec(path, argv, os.Environ()); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot run %s: %w", path, err).WithNext("see that it is a program for this host: file " + path)
		}
		return nil
	})
}

// inherit lets the fds through exec under the numbers they have: the kernel
// chose them free, so none stands for a descriptor that QEMU's command line
// inherits from our caller, which a number of our choice could.
func inherit(fds *queuefd.Set) error {
	for _, fd := range fds.All() {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot hand fd %d to QEMU: %w", fd, err)
		}
	}
	return nil
}
