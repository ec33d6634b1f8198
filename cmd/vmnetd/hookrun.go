package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/dbusapi"
)

// How long the hook may keep libvirt, which holds the domain's lock meanwhile.
const (
	reachStart = 3 * time.Second        // until a daemon that is there has answered: a busy host is no reason to refuse a VM its start
	reachStop  = 200 * time.Millisecond // the daemon hears of it by itself
	hookStart  = 10 * time.Second       // until the devices of a VM that starts are made
	hookStop   = time.Second            // until those of one that stopped are gone; the daemon goes on by itself
)

func (a *app) hookRunCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run qemu VM OPERATION SUB-OPERATION [EXTRA]",
		Short: "Be libvirt's hook: what install has libvirt run",
		Long: `libvirt's hook runs this, with the domain's XML on standard input. It speaks to
vmnetd and never to libvirt. Only at prepare begin can it fail, which keeps the
VM from starting; the sentence that it writes is shown by virsh start.`,
		Example: `  virsh dumpxml vm1 | vmnetd hook run qemu vm1 prepare begin -`,
		Args:    takes([]string{"the driver, qemu", "the name of a VM", "an operation", "a sub-operation"}, "EXTRA"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] != "qemu" {
				return usage(cmd, "%q is not a driver that has NICs of vmnetd: qemu", args[0])
			}
			if code := a.hookRun(cmd.Context(), hookCall{vm: args[1], op: args[2], sub: args[3]}); code != vmnetd.ExitOK {
				return &exitError{code: code}
			}
			return nil
		},
	}
}

// hookCall is what libvirt told its hook.
type hookCall struct{ vm, op, sub, xml string }

// hookArguments recognises the command line of the installed hook, for which the
// tree of commands need not be made.
func hookArguments(args []string) (hookCall, bool) {
	if len(args) < 6 || len(args) > 7 || args[0] != "hook" || args[1] != "run" || args[2] != "qemu" {
		return hookCall{}, false
	}
	return hookCall{vm: args[3], op: args[4], sub: args[5]}, true
}

// starts says that an error keeps the VM from starting.
func (h hookCall) starts() bool { return h.op == "prepare" && h.sub == "begin" }

// hookRun answers libvirt: nothing on standard output, which would replace the
// domain's XML at some operations, and one sentence on standard error.
func (a *app) hookRun(ctx context.Context, h hookCall) (code int) {
	if !h.starts() {
		defer func() {
			if p := recover(); p != nil {
				fmt.Fprintln(a.io.err, "vmnetd: a mistake of vmnetd's own:", p)
				code = vmnetd.ExitOK // at reconnect a failure would kill the VM
			}
		}()
	}
	err := a.askForHook(ctx, h)
	if err == nil {
		return vmnetd.ExitOK
	}
	fmt.Fprintln(a.io.err, "vmnetd: "+hookSentence(err))
	if !h.starts() {
		return vmnetd.ExitOK
	}
	return vmnetd.ClassOf(err).Exit
}

// hookSentence is an error with what to do in one line: libvirt shows it within
// a line of its own.
func hookSentence(err error) string {
	text := err.Error()
	if next := vmnetd.NextOf(err); next != "" {
		text += "; next: " + next
	}
	return vmnetd.Printable(strings.Join(strings.Fields(text), " "))
}

func (a *app) askForHook(ctx context.Context, h hookCall) error {
	xml, err := io.ReadAll(io.LimitReader(a.io.in, dbusapi.LongestXML+1))
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot read the XML of VM %s: %w", h.vm, err)
	}
	if h.xml = string(xml); !hasOurNIC(h.xml) {
		return nil
	}
	if len(xml) > dbusapi.LongestXML {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "the XML of VM %s is longer than %d MiB", h.vm, dbusapi.LongestXML>>20)
	}
	c, err := a.reachForHook(ctx, h)
	if err != nil {
		return err
	}
	defer c.Close()
	limit := hookStop
	if h.starts() {
		limit = hookStart
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.DomainHook(ctx, h.vm, h.op, h.sub, h.xml)
}

// reachForHook finds a daemon that answers. Where none is on the bus it says so at
// once, and where one is frozen it does after a while.
func (a *app) reachForHook(ctx context.Context, h hookCall) (client, error) {
	limit := reachStop
	if h.starts() {
		limit = reachStart
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := a.dial(ctx)
	if err == nil {
		if err = c.Ping(ctx); err != nil {
			_ = c.Close()
		}
	}
	if err == nil {
		return c, nil
	}
	what := "starts"
	if !h.starts() {
		what = "stops"
	}
	return nil, vmnetd.Errorf(vmnetd.ErrUnreachable, "VM %s %s with a NIC of vmnetd, and vmnetd does not answer: %w", h.vm, what, err).
		WithNext("systemctl start vmnetd")
}

// hasOurNIC says whether a domain's XML, as libvirt writes it, has an interface
// whose device is ours: a <target> with a dev that begins with our prefix. Only
// interfaces can: the names of disks begin with what their bus prescribes.
func hasOurNIC(xml string) bool {
	for {
		_, rest, found := strings.Cut(xml, "<target ")
		if !found {
			return false
		}
		tag, after, _ := strings.Cut(rest, ">")
		for _, quote := range []string{"'", `"`} {
			if strings.Contains(" "+tag, " dev="+quote+vmnetd.IfnamePrefix) {
				return true
			}
		}
		xml = after
	}
}
