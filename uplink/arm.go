package uplink

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/vmnetd/vmnetd"
)

// arm starts the guard of an apply: a process that outlives this one. The
// first change is made only when it runs.
//
// Under systemd it is a unit of its own, because everything in the daemon's own
// unit ends with it (KillMode=control-group); elsewhere a session of its own is
// enough.
func (m *Manager) arm(ctx context.Context, c checkpoint) error {
	argv := append([]string{m.o.Program}, m.guardArgs(c)...)
	if m.o.Units != nil {
		err := m.o.Units.StartService(ctx, "vmnetd-rollback-"+c.ID+".service", "undo uplink apply "+c.ID+" unless it is confirmed", argv)
		if err == nil {
			return nil
		}
		m.log.Warn("systemd does not run the guard of this apply: it runs beside the daemon instead", "err", err)
	}
	return m.armChild(argv)
}

// guardArgs is the guard's command line. Until is still that of an apply that
// takes as long as it may.
func (m *Manager) guardArgs(c checkpoint) []string {
	return []string{
		"uplink", "rollback", "--at", c.Until.Add(-stepsLimit).Format(time.RFC3339), "--checkpoint", m.store.checkpoint(), "--id", c.ID,
		"--lib-dir", m.o.LibDir, "--state-dir", m.o.RunDir,
	}
}

// armChild runs the guard as a session of its own, in the network namespace in
// which the uplinks are.
func (m *Manager) armChild(argv []string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	err := m.o.Conn.Do(cmd.Start) // a child begins where the thread that forks is
	if errors.Is(err, os.ErrNotExist) {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot start the process that would undo the apply: %s is not there", argv[0]).
			WithNext("restart vmnetd: its program was replaced or removed")
	}
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot start the process that would undo the apply: %w", err)
	}
	go func() { _ = cmd.Wait() }() // no zombie; it ends when the checkpoint goes, or with us
	return nil
}
