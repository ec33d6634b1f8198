package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// doctorsAtOnce bounds how many sockets are asked at a time.
const doctorsAtOnce = 16

// Doctor checks the patterns and asks each socket that is there.
func (q *QMP) Doctor(ctx context.Context) []vmnetd.Check {
	checks := q.patternChecks()
	sockets := q.Sockets()
	names := make([]string, 0, len(sockets))
	for name := range sockets {
		names = append(names, name)
	}
	slices.Sort(names)
	answers := make([]vmnetd.Check, len(names))
	var g errgroup.Group
	g.SetLimit(doctorsAtOnce)
	for i, name := range names {
		g.Go(func() error {
			answers[i] = q.socketCheck(ctx, name, sockets[name])
			return nil
		})
	}
	_ = g.Wait()
	return append(checks, answers...)
}

func (q *QMP) patternChecks() []vmnetd.Check {
	patterns := q.config()
	if len(patterns) == 0 {
		return []vmnetd.Check{{
			Level: vmnetd.LevelWarn, Name: "QMP sockets", Text: "no socket patterns are configured: VMs are found only by --via qmp:SOCKET",
			Do: "add to the configuration: hypervisors: {qmp: {sockets: [/run/vmnetd/qmp/{vm}.sock]}}",
		}}
	}
	var checks []vmnetd.Check
	for _, p := range patterns {
		c := vmnetd.Check{Level: vmnetd.LevelOK, Name: "QMP sockets " + p.text, Text: fmt.Sprintf("%d found", len(p.scan()))}
		if _, err := os.Stat(p.dir); err != nil {
			c.Text = p.dir + " is not there yet; VMs are seen when it is made"
		}
		checks = append(checks, c)
	}
	return append(checks, q.earChecks()...)
}

// earChecks says which events sockets are listened to.
func (q *QMP) earChecks() []vmnetd.Check {
	patterns, _ := q.listened()
	var checks []vmnetd.Check
	for _, p := range patterns {
		there, deaf := q.eventSockets([]pattern{p}), []string{}
		for path, name := range there {
			if !q.hearsAt(name, path) {
				deaf = append(deaf, path)
			}
		}
		slices.Sort(deaf)
		c := vmnetd.Check{Level: vmnetd.LevelOK, Name: "QMP events " + p.text, Text: fmt.Sprintf("%d listened to", len(there)-len(deaf))}
		if len(deaf) > 0 {
			c.Level = vmnetd.LevelWarn
			c.Text += fmt.Sprintf("; not %s: another program holds it, or no QEMU is there", strings.Join(deaf, ", "))
			c.Do = "see the log of vmnetd for why: journalctl -u vmnetd; a socket of a VM that has ended can be removed"
		}
		checks = append(checks, c)
	}
	return checks
}

// socketCheck asks one socket, once: a doctor does not wait for 10 s.
func (q *QMP) socketCheck(ctx context.Context, name, path string) vmnetd.Check {
	c := vmnetd.Check{Level: vmnetd.LevelOK, Name: "VM " + vmnetd.Printable(name)}
	vm, version, err := q.askOnce(ctx, name, path)
	switch {
	case err == nil:
		c.Text = fmt.Sprintf("%s answers: QEMU %s%s", path, version, ofPID(vm.PID))
	case errors.Is(err, unix.ECONNREFUSED): // nobody has it open, so no VM loses it
		c.Level, c.Text, c.Do = vmnetd.LevelWarn, err.Error(), "if the VM has ended, remove the socket: rm "+path
	case errors.Is(err, vmnetd.ErrNotFound):
		c.Level, c.Text, c.Do = vmnetd.LevelWarn, err.Error(), vmnetd.NextOf(err)
	default:
		c.Level, c.Text, c.Do = vmnetd.LevelFail, strings.TrimSuffix(err.Error(), "."), vmnetd.NextOf(err)
	}
	return c
}

func ofPID(pid int) string {
	if pid == 0 {
		return "; which process it is could not be told, so its end is seen by its socket only"
	}
	return fmt.Sprintf(", process %d", pid)
}

func (q *QMP) askOnce(ctx context.Context, name, path string) (vm VM, version string, err error) {
	l, err := q.connectFor(ctx, name, path, patience{})
	if err != nil {
		return VM{}, "", notHere(path, err)
	}
	defer l.close()
	vm, err = l.describe(ctx)
	if err != nil {
		return VM{}, "", q.explain(l, err)
	}
	return vm, l.conn.Version.String(), nil
}
