package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
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
	skipIndexes(s, h.Netns)
	return h
}

// skipIndexes makes the namespace give out ifindexes that no other one on this
// machine is likely to: /dev/tapINDEX is one name for all of them, and neither
// libvirt nor the floor looks whose it opens.
func skipIndexes(s *scope, ns *testkit.Netns) {
	n := 500 + rand.IntN(500)
	for _, used := range tapNodes() {
		n = max(n, used+100)
	}
	fill(s, ns, "macvlan", "skip", ns.Link(s, "u0").Index, n)
	s.must(ns.Conn().DeleteGroup(s.ctx, fillGroup))
}

func tapNodes() (indexes []int) {
	paths, _ := filepath.Glob("/dev/tap*")
	for _, p := range paths {
		if n, err := strconv.Atoi(filepath.Base(p)[len("tap"):]); err == nil {
			indexes = append(indexes, n)
		}
	}
	return indexes
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
