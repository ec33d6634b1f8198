package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// inMountsOfItsOwn is a command that becomes the one after it, as a service with
// PrivateMounts= is started: new mounts of the host come in, none goes out.
var inMountsOfItsOwn = []string{"unshare", "--mount", "--propagation", "slave", "sh", "-ec", `mount -t tmpfs private /mnt; exec "$@"`, "sh"}

func TestVMADaemonThatIsKilledWithItsMountNamespaceLeavesIpvtapsAndTheirTraffic(t *testing.T) {
	testkit.Require(t, "vm")
	h := newPortHost(t, withLimits(""))
	h.wrap = inMountsOfItsOwn
	h.start()
	two := []*guestOf{h.guest("vm1", "one", false, "192.0.2.11"), h.guest("vm2", "one", false, "192.0.2.12")}
	room := listenerOf(t, filepath.Join(h.dir, "state", "room.sock"))
	before, ours := h.now("vm1"), namespace(t, room, "net")
	pings := testkit.StartPings(t, h.net.Peer, 20*time.Millisecond, netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("192.0.2.12"))
	if !pings.Answered(3, testkit.Patience) {
		t.Fatalf("nobody answers: %+v", pings.Counts())
	}
	pings.Begin()
	for i, wrap := range [][]string{inMountsOfItsOwn, nil} {
		mounts := namespace(t, h.daemon.PID, "mnt")
		if mounts == namespace(t, os.Getpid(), "mnt") {
			t.Fatal("the daemon has no mount namespace of its own")
		}
		h.kill()
		if in := inNamespace("mnt", mounts); len(in) > 0 {
			t.Errorf("%s outlives the daemon, in processes %v", mounts, in)
		}
		h.client, h.wrap = nil, wrap
		h.start()
		if now := listenerOf(t, filepath.Join(h.dir, "state", "room.sock")); now != room || namespace(t, now, "net") != ours {
			t.Errorf("restart %d: process %d with %s, which was %d with %s", i, now, namespace(t, now, "net"), room, ours)
		}
		if now := h.now("vm1"); now.Ifindex != before.Ifindex || now.Phase != vmnetd.Attached || now.Problem != "" {
			t.Errorf("restart %d: the NIC was %+v and is %+v", i, before, now)
		}
	}
	reach(t, "vm1", two[0].Netns, peerAddress, "192.0.2.12")
	if !pings.Answered(3, testkit.Patience) {
		t.Error("somebody does not answer any more")
	}
	for _, c := range pings.Counts() {
		if c.Lost > 0 || c.Sent == 0 {
			t.Errorf("%d of %d pings are lost", c.Lost, c.Sent)
		}
	}
}

// namespace is which one of a kind a process is in.
func namespace(t *testing.T, pid int, kind string) string {
	t.Helper()
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// inNamespace is every process that is in a namespace.
func inNamespace(kind, name string) (processes []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/" + kind)
	return slices.DeleteFunc(links, func(link string) bool {
		is, err := os.Readlink(link)
		return err != nil || is != name
	})
}
