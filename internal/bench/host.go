package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// host is a network namespace with an uplink u0, and the outside it leads to.
// Each of those that are compared has one of its own: nobody is told of the
// others' devices.
type host struct {
	*testkit.Netns
}

func newHost(s *scope) *host {
	h := &host{testkit.NewNetns(s)}
	outside := testkit.NewNetns(s)
	testkit.NewVeth(s, h.Netns, "u0", outside, "o0")
	h.SkipIndexes(s, "u0")
	return h
}

// fillGroup is the link group of devices that are only there to be many.
const fillGroup = 0x62656e

// fill makes n devices.
func fill(s *scope, ns *testkit.Netns, kind, stem string, lower, n int) {
	for i := range n {
		link := rtnl.NewLink{Name: fmt.Sprintf("%s%d", stem, i), Kind: kind, Lower: lower, Group: fillGroup}
		if kind == "macvtap" {
			link.Data = rtnl.MacvlanMode("bridge")
		}
		s.must(ns.Conn().Create(s.ctx, link))
	}
}

// ejectsPaused makes a q35 machine let go of NICs while its CPUs stand still,
// so that no guest's time is measured: with native PCIe hot-plug a slot that
// was never powered is unplugged at once (QEMU hw/pci/pcie.c,
// pcie_cap_slot_unplug_request_cb).
const ejectsPaused = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"

// startVM starts a paused QEMU.
func startVM(s *scope, h *host, name, qmpDir string, ports int) *testkit.QEMU {
	return testkit.StartQEMU(s, testkit.QEMUOptions{
		Name: name, QMPDir: qmpDir, RootPorts: ports, Netns: h.Do, Args: []string{"-global", ejectsPaused},
	})
}

// stateDir is a folder where state-dir is in real life: in memory. /run is on
// a disk in some containers, and fsync would be measured.
func stateDir(s *scope) string {
	dir, err := os.MkdirTemp("/dev/shm", "vmnetd-bench-")
	if err != nil {
		return s.TempDir()
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
