package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

func TestHelpNamesWhatThereIsAndWrongArgumentsAreUsage(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	b.start()
	help := b.must(0, "--help").out
	for _, word := range []string{"attach", "detach", "show", "explain", "host-link", "metrics", "exec", "tap-helper"} {
		if !strings.Contains(help, word) {
			t.Errorf("help lacks %s:\n%s", word, help)
		}
	}
	if strings.Contains(help, "\n  room ") {
		t.Errorf("help has what is for the daemon alone:\n%s", help)
	}
	if r := b.must(0, "attach", "--help"); !strings.Contains(r.out, "--via") || !strings.Contains(r.out, "netns:") || !strings.Contains(r.out, "--route") {
		t.Errorf("attach --help:\n%s", r.out)
	}
	before := b.asItIs(b.host)
	for _, args := range [][]string{
		{"nosuch"}, {"attach"}, {"attach", "vm1", "vm2"}, {"attach", "vm1", "--nosuch"}, {"attach", "vm1", "--via", "netns:"}, {"attach", "vm1", "--via", "netns"},
		{"attach", "vm1", "--via", "ssh:x"}, {"host-link", "lan", "sw"}, {"host-link", "--remove"}, {"host-link", "--ip", "10.99.0.1/24"},
		{"host-link", "lan", "--remove", "--ip", "10.99.0.1/24"}, {"host-link", "lan", "--ip"}, {"metrics", "x"}, {"show"}, {"room"},
	} {
		r := b.must(2, args...)
		if !strings.HasPrefix(r.err, "vmnetd: ") || r.out != "" {
			t.Errorf("vmnetd %q says %q and %q", args, r.err, r.out)
		}
	}
	b.same(before, b.host)
	b.stop()
}

func TestInterruptedAttachToANamespaceGoesOn(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	c := b.container("web1")
	setting, letGo := b.held(failpoint.ConvergeGuarded)
	b.start(setting)
	p := b.spawnAtTerminal("attach", "web1", "--via", "netns:"+c.path, "--network", "sw", "--ip", "10.99.0.7/24")
	b.eventually("the attach is under way", 20*time.Second, func() error {
		if there := b.links(c.Netns); len(there) != 1 {
			return fmt.Errorf("%v %s", there, &p.out)
		}
		return nil
	})
	p.signal(unix.SIGINT)
	if code := p.wait(t); code != 130 || !strings.Contains(p.out.String(), "the daemon goes on with the attach") {
		t.Errorf("exit %d, %s", code, &p.out)
	}
	if list := b.list(); len(list) != 1 || list[0].Phase != vmnetd.Pending || b.host.Link(t, list[0].Ifname).Up {
		t.Errorf("when it was interrupted: %+v", list)
	}
	letGo()
	if att := b.attachedVM("web1"); att.Name != "eth0" {
		t.Errorf("%+v", att)
	}
	if there := b.links(c.Netns); !slices.Equal(there, []string{"eth0"}) {
		t.Errorf("in the namespace: %v", there)
	}
	b.must(0, "detach", "web1")
	b.nothing()
	b.stop()
}

// Each place costs a process, a socket and descriptors for as long as it is worked
// in, and no longer.
func TestNothingStaysOpenAfterEndpointsTapsAndHostLinks(t *testing.T) {
	t.Parallel()
	const rounds = 10
	b := newModesBed(t, modesConfig)
	vm := b.ejectingVM("vm1")
	web, infra := b.container("web1"), b.container("infra1")
	b.start()
	round := func() {
		b.attach("vm1", "--network", "sw", "--queues", "2", "--ip", "10.99.0.7")
		b.attach("web1", "--via", "netns:"+web.path, "--network", "sw", "--ip", "10.99.0.8/24")
		b.attach("infra1", "--via", "netns:"+infra.path, "--network", "lan", "--ip", "10.99.0.9/24")
		b.must(5, "attach", "other", "--via", "netns:"+infra.path, "--network", "lan", "--name", "eth0")
		b.must(0, "host-link", "lan", "--ip", hostIP+"/24")
		for _, args := range [][]string{{"host-link", "lan", "--remove"}, {"detach", "infra1"}, {"detach", "web1"}, {"detach", "vm1"}} {
			b.must(0, args...)
		}
	}
	round() // what is opened once and kept
	b.nothing()
	before, n := b.daemon.open()
	processes := b.children()
	for range rounds {
		round()
	}
	b.noMoreOpen("after the rounds", before, n)
	b.eventually("no process is left", 10*time.Second, func() error {
		if now := b.children(); len(now) > len(processes) {
			return fmt.Errorf("%v, before %v", now, processes)
		}
		return nil
	})
	if held := tapQueues(vm.PID); held != 0 {
		t.Errorf("QEMU holds %d queues", held)
	}
	if r := b.ruleset(b.host); strings.Contains(r, "chain") || strings.Contains(r, "set ") {
		t.Errorf("a filter is left:\n%s", r)
	}
	b.nothing()
	b.stop()
}

// children is the processes of ours that have this bed's folder on their command
// line, without the daemon.
func (b *bed) children() []string {
	b.t.Helper()
	var found []string
	for line := range strings.Lines(b.inside(b.host, "ps", "-eo", "pid,args")) {
		if strings.Contains(line, " room ") && strings.Contains(line, b.dir) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
