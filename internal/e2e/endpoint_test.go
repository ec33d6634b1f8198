package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// links names the devices of a namespace, without lo.
func (b *bed) links(ns *testkit.Netns) []string {
	b.t.Helper()
	var names []string
	for line := range strings.Lines(b.inside(ns, "ip", "-brief", "link")) {
		name, _, _ := strings.Cut(strings.Fields(line)[0], "@")
		if name != "lo" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// endpointKind is a way to give a namespace a device here.
type endpointKind struct {
	name, network string
	kind          vmnetd.Kind
	hostEnd       bool // something of it stays on the host
}

// Only a namespace that is trusted gets a macvlan; modesConfig trusts infra*.
var endpointKinds = []endpointKind{
	{"infra1", "lan", vmnetd.Macvlan, false},
	{"web1", "sw", vmnetd.Veth, true},
}

func TestANamespaceGetsADeviceWithNameMACAddressesAndRoutes(t *testing.T) {
	t.Parallel()
	for _, k := range endpointKinds {
		t.Run(string(k.kind), func(t *testing.T) {
			t.Parallel()
			b := newModesBed(t, modesConfig)
			c := b.container(k.name)
			b.start()
			args := []string{k.name, "--via", "netns:" + c.path, "--network", k.network, "--name", "wan0", "--mac", "52:54:00:0e:00:01",
				"--ip", "10.99.0.7/24,fd99::7/64", "--route", "default via 10.99.0.99", "--route", "fd77::/64 via fd99::99"}
			att := b.attach(args...)
			if att.Kind != k.kind || att.Name != "wan0" || att.MAC != "52:54:00:0e:00:01" || att.Phase != vmnetd.Attached || att.Link != "up" || att.Queues != 0 || att.VHostReason != "" {
				t.Errorf("attached as %+v", att)
			}
			dev := c.Link(t, "wan0")
			if !dev.Up || dev.MAC.String() != att.MAC || dev.MTU != 1500 || dev.Alias != "vmnetd:"+k.name+"/net0" {
				t.Errorf("the device is %+v", dev)
			}
			addrs := b.inside(c.Netns, "ip", "-o", "address", "show", "dev", "wan0")
			for _, want := range []string{"10.99.0.7/24", "fd99::7/64", "fe80::"} {
				if !strings.Contains(addrs, want) {
					t.Errorf("%s is not on it:\n%s", want, addrs)
				}
			}
			routes := b.inside(c.Netns, "ip", "route") + b.inside(c.Netns, "ip", "-6", "route")
			for _, want := range []string{"default via 10.99.0.99 dev wan0", "fd77::/64 via fd99::99 dev wan0"} {
				if !strings.Contains(routes, want) {
					t.Errorf("no route %q:\n%s", want, routes)
				}
			}
			for _, ip := range []string{outside4, outside6} {
				b.inside(c.Netns, "ping", "-q", "-c", "1", "-W", "10", ip)
			}
			b.inside(b.outside, "ping", "-q", "-c", "1", "-W", "10", "10.99.0.7")
			if onHost := b.devices(); (len(onHost) > 0) != k.hostEnd {
				t.Errorf("on the host: %v", onHost)
			}

			if again := b.attach(args...); again.Changed || again.FullName() != att.FullName() {
				t.Errorf("the second time: %+v", again)
			}
			for _, other := range [][]string{{"--name", "wan1"}, {"--ip", "10.99.0.8/24"}, {"--mac", "52:54:00:0e:00:02"}, {"--via", "netns:" + b.container("infra-other").path}} {
				bad := append([]string{"attach", k.name, "--via", "netns:" + c.path, "--network", k.network, "--id", "net0"}, other...)
				if r := b.must(5, bad...); !strings.Contains(r.err, "other properties") {
					t.Errorf("%v: %s", other, r.err)
				}
			}
			if list := b.list(); len(list) != 1 || list[0].FullName() != k.name+"/net0" || list[0].Via != "netns:"+c.path {
				t.Errorf("list: %+v", list)
			}
			for _, name := range []string{k.name + "/net0", att.Ifname, att.MAC, "10.99.0.7"} {
				r := b.must(0, "show", name)
				for _, want := range []string{"wan0 in " + c.path, "10.99.0.7/24, fd99::7/64", "default via 10.99.0.99", string(k.kind)} {
					if !strings.Contains(r.out, want) {
						t.Errorf("show %s lacks %q:\n%s", name, want, r.out)
					}
				}
			}
			b.must(0, "detach", k.name)
			b.nothing()
			if left := b.links(c.Netns); len(left) != 0 {
				t.Errorf("in the namespace there is still %v", left)
			}
			b.stop()
		})
	}
}

func TestANamespaceThatEndsTakesItsAttachmentAlong(t *testing.T) {
	t.Parallel()
	for _, k := range endpointKinds {
		t.Run(string(k.kind), func(t *testing.T) {
			t.Parallel()
			b := newModesBed(t, modesConfig)
			c := b.container(k.name)
			b.start()
			for range 2 { // also one that comes again
				b.attach(k.name, "--via", "netns:"+c.path, "--network", k.network, "--ip", "10.99.0.7/24")
				c.end(t)
				b.nothing()
				if left := b.links(c.Netns); len(left) != 0 { // this process keeps it, without a path
					t.Errorf("in the namespace there is still %v", left)
				}
				c = b.container(k.name)
			}
			if r := b.ruleset(b.host); strings.Contains(r, "vmn") && strings.Contains(r, "chain vmn") {
				t.Errorf("a filter is left:\n%s", r)
			}
			b.stop()
		})
	}
}

// What the processes of a namespace do to their device is theirs; the daemon that
// is killed and started again finds all as it was.
func TestEndpointsOutliveTheDaemonAndALostState(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	b.start()
	made := map[string]*container{}
	for _, k := range endpointKinds {
		made[k.name] = b.container(k.name)
		b.attach(k.name, "--via", "netns:"+made[k.name].path, "--network", k.network, "--ip", map[string]string{"lan": "10.99.0.7/24", "sw": "10.99.0.8/24"}[k.network])
	}
	index := func() map[string]int {
		all := map[string]int{}
		for name, c := range made {
			all[name] = c.Link(t, "eth0").Index
		}
		return all
	}
	before := index()
	works := func() error {
		var bad []error
		for _, att := range b.list() {
			if att.Phase != vmnetd.Attached || att.Link != "up" || att.Problem != "" {
				bad = append(bad, fmt.Errorf("%+v", att))
			}
		}
		if len(b.list()) != len(made) {
			bad = append(bad, fmt.Errorf("listed %+v", b.list()))
		}
		return errors.Join(bad...)
	}
	b.kill()
	b.start()
	b.eventually("after kill -9", 10*time.Second, works)
	for name, c := range made {
		b.inside(c.Netns, "ping", "-q", "-c", "1", "-W", "10", outside4)
		if now := index()[name]; now != before[name] {
			t.Errorf("%s has another device: %d, it was %d", name, now, before[name])
		}
	}
	b.kill()
	made["web1"].end(t) // while nobody watches
	b.start()
	b.eventually("the end that nobody saw", 10*time.Second, func() error {
		if list := b.list(); len(list) != 1 || list[0].VM != "infra1" || len(b.devices()) != 0 {
			return fmt.Errorf("%+v, %v", list, b.devices())
		}
		return nil
	})
	b.must(0, "detach", "infra1")
	b.nothing()
	b.stop()
}

func TestTwoEndpointsInOneNamespace(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	c := b.container("infra1")
	b.start()
	via := "netns:" + c.path
	b.attach("infra1", "--via", via, "--network", "lan", "--ip", "10.99.0.7/24")
	if second := b.attach("infra1", "--via", via, "--network", "sw", "--id", "net1", "--ip", "10.99.0.8/24"); second.Name != "eth1" {
		t.Errorf("%+v", second)
	}
	before := b.asItIs(c.Netns)
	if r := b.must(5, "attach", "infra1", "--via", via, "--network", "sw", "--id", "net2", "--name", "eth0"); !strings.Contains(r.err, "eth0") {
		t.Errorf("a name that is taken: %s", r.err)
	}
	if r := b.must(5, "attach", "other", "--via", via, "--network", "lan", "--name", "eth1"); !strings.Contains(r.err, "eth1") {
		t.Errorf("a name that is taken, by another VM: %s", r.err)
	}
	b.same(before, c.Netns)
	b.must(2, "detach", "infra1")
	b.must(0, "detach", "infra1", "--id", "net0")
	if left := b.links(c.Netns); !slices.Equal(left, []string{"eth1"}) {
		t.Errorf("after net0 was detached: %v", left)
	}
	b.must(0, "detach", "infra1", "--all")
	b.nothing()
	b.stop()
}

// ip netns names namespaces in /run/netns, for the whole machine: this one has a
// name that nobody else takes.
func TestNamespacesOfIPNetnsAreServedByName(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	name := "vmnetd" + strings.ToLower(filepath.Base(b.dir))
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	b.start()
	att := b.attach("c1", "--via", "netns:"+name, "--network", "sw", "--ip", "10.99.0.7/24")
	if att.Via != "netns:/run/netns/"+name || att.Name != "eth0" {
		t.Errorf("%+v", att)
	}
	out, err := exec.Command("ip", "netns", "exec", name, "ping", "-q", "-c", "1", "-W", "10", outside4).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.nothing()
	b.stop()
}

// The end of a veth that is deleted in the namespace takes the host's along, and
// is made again; what root does to a macvlan in there is his.
func TestAVethThatIsDeletedIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	c := b.container("web1")
	b.start()
	att := b.attach("web1", "--via", "netns:"+c.path, "--network", "sw", "--ip", "10.99.0.7/24", "--route", "default via 10.99.0.99")
	for _, where := range []struct {
		ns   *testkit.Netns
		name string
	}{{c.Netns, "eth0"}, {b.host, att.Ifname}} {
		deleted := time.Now()
		where.ns.Delete(t, where.name)
		b.told(deleted, "broken", "web1", "net0")
		b.eventually("made again", 5*time.Second, func() error {
			list := b.list()
			if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Problem != "" {
				return fmt.Errorf("%+v", list)
			}
			return nil
		})
		if dev := c.Link(t, "eth0"); !dev.Up || dev.MAC.String() != att.MAC {
			t.Errorf("the device is %+v", dev)
		}
		b.inside(c.Netns, "ping", "-q", "-c", "1", "-W", "10", outside4)
		if r := b.ruleset(b.host); !strings.Contains(r, att.Ifname) {
			t.Errorf("the new one has no filter:\n%s", r)
		}
	}
	b.must(0, "detach", "web1")
	b.nothing()
	b.stop()
}

// endpointPoints are the points that an endpoint meets; only one that leaves the
// host meets converge.moved.
func endpointPoints(k endpointKind) []failpoint.Point {
	points := []failpoint.Point{
		failpoint.AttachStored, failpoint.TapCreated, failpoint.TapMarked, failpoint.ConvergeDevice, failpoint.ConvergeUp, failpoint.ConvergeStored, failpoint.AttachReply,
	}
	if k.hostEnd {
		return append(points, failpoint.ConvergeGuarded)
	}
	return append(points, failpoint.ConvergeMoved)
}

// failingEndpoint is a bed with a namespace and what is asked for it.
type failingEndpoint struct {
	*bed
	c    *container
	args []string
}

func eachEndpointPoint(t *testing.T, points func(endpointKind) []failpoint.Point, run func(t *testing.T, f *failingEndpoint, p failpoint.Point)) {
	for _, k := range endpointKinds {
		for _, p := range points(k) {
			t.Run(string(k.kind)+"/"+string(p), func(t *testing.T) {
				t.Parallel()
				f := &failingEndpoint{bed: newModesBed(t, modesConfig)}
				f.c = f.container(k.name)
				f.args = []string{k.name, "--via", "netns:" + f.c.path, "--network", k.network, "--id", "net0", "--ip", "10.99.0.7/24"}
				run(t, f, p)
			})
		}
	}
}

func (f *failingEndpoint) clean() error {
	if list, devices, there := f.list(), f.devices(), f.links(f.c.Netns); len(list) > 0 || len(devices) > 0 || len(there) > 0 {
		return fmt.Errorf("listed %+v, devices %v, in the namespace %v", list, devices, there)
	}
	if r := f.ruleset(f.host); strings.Contains(r, "chain") {
		return fmt.Errorf("a filter is left:\n%s", r)
	}
	return nil
}

func (f *failingEndpoint) works() error {
	list := f.list()
	if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Problem != "" || list[0].Link != "up" {
		return fmt.Errorf("listed %+v", list)
	}
	if there := f.links(f.c.Netns); !slices.Equal(there, []string{"eth0"}) {
		return fmt.Errorf("in the namespace %v", there)
	}
	if r := f.ruleset(f.host); strings.Contains(r, "chain") != (list[0].Kind == vmnetd.Veth) {
		return fmt.Errorf("the filter:\n%s", r)
	}
	return nil
}

func TestEndpointThatFailsAtAnyPointLeavesNothing(t *testing.T) {
	eachEndpointPoint(t, endpointPoints, func(t *testing.T, f *failingEndpoint, p failpoint.Point) {
		f.start(failpoint.Env + "=" + string(p) + "=1*error")
		if r := f.run(append([]string{"attach"}, f.args...)...); r.code == 0 {
			t.Errorf("the attach ended well: %s", r.out)
		}
		f.eventually("after the failure", 10*time.Second, f.clean)
		f.attach(f.args...)
		f.eventually("attached after all", 10*time.Second, f.works)
		f.stop()
	})
}

func TestDaemonKilledAtAnyPointOfAnEndpointsAttachCompletesOrUndoesIt(t *testing.T) {
	eachEndpointPoint(t, endpointPoints, func(_ *testing.T, f *failingEndpoint, p failpoint.Point) {
		f.start(failpoint.Env + "=" + string(p) + "=kill")
		f.run(append([]string{"attach"}, f.args...)...)
		f.ended(10 * time.Second)
		f.start()
		f.eventually("after the restart", 10*time.Second, func() error {
			if werr := f.works(); werr != nil {
				return errors.Join(werr, f.clean())
			}
			return nil
		})
		f.attach(f.args...)
		f.eventually("attached after all", 10*time.Second, f.works)
		f.must(0, "detach", f.args[0])
		f.eventually("detached", 10*time.Second, f.clean)
		f.stop()
	})
}

func TestDaemonKilledAtAnyPointOfAnEndpointsDetachCompletesIt(t *testing.T) {
	points := func(endpointKind) []failpoint.Point {
		return []failpoint.Point{failpoint.DetachStored, failpoint.DetachDown, failpoint.DetachDevice, failpoint.DetachForget}
	}
	eachEndpointPoint(t, points, func(_ *testing.T, f *failingEndpoint, p failpoint.Point) {
		f.start(failpoint.Env + "=" + string(p) + "=kill")
		f.attach(f.args...)
		f.run("detach", f.args[0])
		f.ended(10 * time.Second)
		f.start()
		f.eventually("after the restart", 10*time.Second, f.clean)
		f.stop()
	})
}

// A file that is left where a namespace was is none.
func TestPathsThatAreNoNamespace(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, modesConfig)
	b.container("web1")
	for name, text := range map[string]string{"left": "", "text": "no namespace"} {
		if err := os.WriteFile(b.path("netns/"+name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	before := b.asItIs(b.host)
	for _, c := range []struct {
		code int
		says string
		path string
	}{
		{4, "no such file", b.path("netns/nosuch")},
		{4, "empty file", b.path("netns/left")},
		{4, "not a directory", b.path("netns/text/more")},
		{2, "no network namespace", b.path("netns/text")},
		{2, "no network namespace", b.path("netns")},
		{2, "no network namespace", "/proc/self/ns/mnt"},
		{2, "host's own", fmt.Sprintf("/proc/%d/ns/net", b.daemon.cmd.Process.Pid)},
	} {
		r := b.must(c.code, "attach", "c1", "--via", "netns:"+c.path, "--network", "sw")
		b.oneSentence(r, c.says)
	}
	b.same(before, b.host)
	b.stop()
}
