package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// Promises about what nobody sees by looking at a NIC that works.

// plugged is what QEMU has of a NIC.
type plugged struct{ bus, addr, mac, netdev string }

func pluggedIn(b *bed, vm *testkit.QEMU, id string) plugged {
	b.t.Helper()
	get := func(property string) string {
		raw := vm.QMP("qom-get", map[string]string{"path": "/machine/peripheral/vmn-" + id, "property": property})
		return strings.Trim(string(raw), `"`)
	}
	return plugged{bus: get("parent_bus"), addr: get("addr"), mac: strings.ToLower(get("mac")), netdev: get("netdev")}
}

// events is what the journal has of a VM's NIC, and of uplinks.
func (b *bed) events(vm, id string) []vmnetd.Event {
	b.t.Helper()
	watch := b.spawnAtTerminal("watch", "--json", "--since", "1h")
	b.eventually("watch tells what was", 10*time.Second, func() error {
		if !strings.HasSuffix(watch.out.String(), "\n") {
			return fmt.Errorf("so far: %s", &watch.out)
		}
		return nil
	})
	watch.signal(unix.SIGINT)
	if code := watch.wait(b.t); code != 0 {
		b.t.Errorf("stopped watch: exit %d, %s", code, &watch.out)
	}
	var found []vmnetd.Event
	for line := range strings.Lines(watch.out.String()) {
		var e vmnetd.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			b.t.Errorf("%v in %q", err, line)
		}
		if e.VM == vm && e.ID == id || e.VM == "" {
			found = append(found, e)
		}
	}
	return found
}

// told waits until an event has come after a moment.
func (b *bed) told(after time.Time, name, vm, id string) vmnetd.Event {
	b.t.Helper()
	var found vmnetd.Event
	b.eventually(name+" is told", 10*time.Second, func() error {
		events := b.events(vm, id)
		for _, e := range events {
			if e.Event == name && e.Time.After(after) {
				found = e
				return nil
			}
		}
		return fmt.Errorf("%+v", events)
	})
	return found
}

// twoNICs gives a VM a second NIC in the second place, and takes the first one
// away: the first free place is another than the NIC's own then.
func (b *bed) twoNICs(vm *testkit.QEMU) (vmnetd.Attachment, plugged) {
	b.t.Helper()
	b.attach(vm.Name)
	att := b.attach(vm.Name, "--id", "net1", "--queues", "2")
	first, own := pluggedIn(b, vm, "net0"), pluggedIn(b, vm, "net1")
	b.must(0, "detach", vm.Name, "--id", "net0")
	if own.bus == first.bus || own.mac != att.MAC {
		b.t.Fatalf("net0 %+v, net1 %+v", first, own)
	}
	return att, own
}

// samePlace checks a NIC that was plugged again on a new device.
func (b *bed) samePlace(vm *testkit.QEMU, was, now vmnetd.Attachment, before plugged) {
	b.t.Helper()
	after := pluggedIn(b, vm, was.ID)
	if after.netdev == before.netdev {
		b.t.Errorf("the NIC was not plugged again: %+v", after)
	}
	if after.netdev = before.netdev; after != before {
		b.t.Errorf("the NIC is %+v, it was %+v", after, before)
	}
	dev := b.host.Link(b.t, now.Ifname)
	if now.MAC != was.MAC || dev.MAC.String() != was.MAC || dev.Index != now.Ifindex || !dev.Up {
		b.t.Errorf("the device is %+v, listed %+v", dev, now)
	}
	if n := tapQueues(vm.PID); n != 2 {
		b.t.Errorf("QEMU holds %d queues", n)
	}
}

// TestWhatHappensIsSeenWithinASecond wants it once in five times: a busy machine
// holds up whoever sees it, and whoever looks.
func TestWhatHappensIsSeenWithinASecond(t *testing.T) {
	for what, happens := range map[string]func(b *bed, vm *testkit.QEMU) (seen func() error, told string){
		"a VM ends": func(b *bed, vm *testkit.QEMU) (func() error, string) {
			b.attach("vm1", "--network", "lan")
			b.attach("vm1", "--network", "sw", "--id", "net7", "--queues", "2")
			vm.Kill()
			return b.left, ""
		},
		"a QEMU of exec ends": func(b *bed, _ *testkit.QEMU) (func() error, string) {
			p := b.execVM("vm2", []string{"--network", "lan"})
			b.attachedVM("vm2")
			p.signal(unix.SIGKILL)
			return b.left, ""
		},
		"a namespace ends": func(b *bed, _ *testkit.QEMU) (func() error, string) {
			c := b.container("web1")
			b.attach("web1", "--via", "netns:"+c.path, "--network", "sw")
			c.end(b.t)
			return b.left, ""
		},
		"a device is deleted": func(b *bed, _ *testkit.QEMU) (func() error, string) {
			att := b.attach("vm1", "--network", "lan")
			b.host.Delete(b.t, att.Ifname)
			return func() error {
				if list := b.list(); len(list) != 1 || list[0].Phase == vmnetd.Attached && list[0].Ifindex == att.Ifindex {
					return fmt.Errorf("%+v", list)
				}
				return nil
			}, "broken"
		},
		"an uplink is deleted": func(b *bed, _ *testkit.QEMU) (func() error, string) {
			b.attach("vm1", "--network", "lan")
			b.host.Delete(b.t, "u0")
			return func() error {
				if list := b.list(); len(list) != 1 || list[0].Phase != vmnetd.Broken {
					return fmt.Errorf("%+v", list)
				}
				return nil
			}, "broken"
		},
		"the ruleset is flushed": func(b *bed, _ *testkit.QEMU) (func() error, string) {
			b.attach("vm1", "--network", "lan", "--ip", "10.99.0.7")
			before := b.ruleset(b.host)
			b.inside(b.host, "nft", "flush ruleset")
			return func() error {
				if now := b.ruleset(b.host); now != before {
					return fmt.Errorf("now:\n%s\nbefore:\n%s", now, before)
				}
				return nil
			}, "filter-restored"
		},
	} {
		t.Run(what, func(t *testing.T) {
			for range 5 {
				b := newModesBed(t, modesConfig)
				vm := b.ejectingVM("vm1")
				b.start()
				began := time.Now()
				seen, told := happens(b, vm)
				happened := time.Now()
				b.eventually("it is seen", testkit.Patience, seen)
				took := time.Since(happened)
				if told != "" {
					took = max(took, b.told(began, told, "vm1", "net0").Time.Sub(happened))
				}
				b.stop()
				t.Logf("seen after %s", took.Round(time.Millisecond))
				if took <= soon {
					return
				}
			}
			t.Errorf("never seen within %s", soon)
		})
	}
}

func TestDeletedDeviceIsSeenAndPluggedAgainInItsPlace(t *testing.T) {
	b := newBed(t, basicConfig)
	vm := b.ejectingVM("vm1")
	b.start()
	att, own := b.twoNICs(vm)
	deleted := time.Now()
	b.host.Delete(t, att.Ifname)
	b.eventually("the end of the device is seen", testkit.Patience, func() error {
		list := b.list()
		if len(list) != 1 || list[0].Phase == vmnetd.Attached && list[0].Ifindex == att.Ifindex {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	broken := b.told(deleted, "broken", "vm1", "net1")
	again := b.told(deleted, "attached", "vm1", "net1")
	t.Logf("the device was deleted: told after %s, repaired after %s: %s", broken.Time.Sub(deleted).Round(time.Millisecond), again.Time.Sub(deleted).Round(time.Millisecond), broken.Text)
	if again.Time.Before(broken.Time) {
		t.Errorf("broken %+v, attached %+v", broken, again)
	}
	b.samePlace(vm, att, b.attachedVM("vm1"), own)
	b.stop()
}

func TestUplinkDeletedAndMadeAgainPutsTheNICBackInItsPlace(t *testing.T) {
	b := newBed(t, basicConfig)
	vm := b.ejectingVM("vm1")
	b.start()
	att, own := b.twoNICs(vm)
	deleted := time.Now()
	b.host.Delete(t, "u0")
	b.eventually("the end of the uplink is seen", testkit.Patience, func() error {
		list := b.list()
		if len(list) != 1 || list[0].Phase != vmnetd.Broken || list[0].Ifindex != 0 || !strings.Contains(list[0].Problem, "u0") {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
	e := b.told(deleted, "broken", "vm1", "net1")
	t.Logf("told %s after the uplink was deleted: %s", e.Time.Sub(deleted).Round(time.Millisecond), e.Text)
	b.told(deleted, "uplink-absent", "vm1", "net1")
	back := time.Now()
	b.newUplink()
	now := b.attachedVM("vm1")
	b.samePlace(vm, att, now, own)
	b.told(back, "attached", "vm1", "net1")
	b.stop()
}

// open counts what the daemon has open, by kind: the numbers of sockets and
// pipes differ from one to the next. Sockets to ask the kernel about links are
// kept for the next question, as many as there ever were questions at a time
// (internal/rtnl, Conn): they are not in total.
func (d *daemon) open() (kinds map[string]int, total int) {
	pid := d.cmd.Process.Pid
	table, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/netlink", pid)) // those of its network namespace
	netlink := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "0" { // NETLINK_ROUTE
			netlink["socket:["+f[len(f)-1]+"]"] = true
		}
	}
	kinds = map[string]int{}
	for _, target := range openFiles(pid) {
		if netlink[target] {
			kinds["netlink"]++
			continue
		}
		kind, _, _ := strings.Cut(target, ":[")
		kinds[kind]++
		total++
	}
	return kinds, total
}

// noMoreOpen waits until the daemon has no more open than before. What is on its
// way out when a command has its answer may take a moment.
func (b *bed) noMoreOpen(what string, before map[string]int, limit int) {
	b.t.Helper()
	const questions = 16 // at a time, far more than these tests have the daemon ask
	b.eventually(what, 10*time.Second, func() error {
		if now, n := b.daemon.open(); n > limit || now["netlink"] > questions {
			return fmt.Errorf("%d files are open, %d were: now %v, before %v", n, limit, now, before)
		}
		return nil
	})
}

func TestDaemonsOpenFilesStayAsManyAfterFailedAndAfterGoodAttaches(t *testing.T) {
	t.Parallel()
	const vms, failures, pairs = 4, 50, 13 // the two of each VM
	b := newBed(t, basicConfig)
	var names []string
	var machines []*testkit.QEMU
	for i := range vms {
		names = append(names, fmt.Sprint("vm", i))
		machines = append(machines, b.ejectingVM(names[i]))
	}
	b.start(fmt.Sprintf("%s=%s=%d*error", failpoint.Env, failpoint.HandoverNetdev, vms*(failures+1)))
	each := func(times int, one func(vm string) error) {
		t.Helper()
		var all sync.WaitGroup
		for _, vm := range names {
			all.Go(func() {
				for i := range times {
					if err := one(vm); err != nil {
						t.Errorf("%s, time %d: %v", vm, i, err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	fails := func(vm string) error {
		if r := b.run("attach", vm, "--queues", "2"); r.code == 0 || !strings.Contains(r.err, string(failpoint.HandoverNetdev)) {
			return fmt.Errorf("attach: exit %d, %s%s", r.code, r.out, r.err)
		}
		return nil
	}
	pair := func(vm string) error {
		for _, args := range [][]string{{"attach", vm, "--queues", "2"}, {"detach", vm}} {
			if r := b.run(args...); r.code != 0 {
				return fmt.Errorf("%v: exit %d, %s", args, r.code, r.err)
			}
		}
		return nil
	}
	each(1, fails) // what is opened once and kept
	before, n := b.daemon.open()
	each(failures, fails)
	b.noMoreOpen("after the failures", before, n)
	for _, vm := range machines {
		if held := tapQueues(vm.PID); held != 0 {
			t.Errorf("%s holds %d queues of attaches that failed", vm.Name, held)
		}
	}
	b.nothing()
	each(1, pair)
	each(pairs, pair)
	b.noMoreOpen("after the pairs", before, n)
	b.nothing()
	b.stop()
}

// The longest name there may be, of letters, blanks and a sign that turns the
// text of a terminal around, which is no control character to Unicode.
func TestLongestNameOfAVMIsTakenAndShownEscaped(t *testing.T) {
	t.Parallel()
	b := newBed(t, strings.Replace(basicConfig, "{vm}.sock", "{vm}/qmp.sock", 1)) // QEMU's own path has 107 bytes at most
	name := "Büro West, 2.\u00a0Stock \u202e日本 %d {vm} "
	name += strings.Repeat("x", 128-len(name))
	if err := os.Mkdir(b.path("qmp/"+name), 0o700); err != nil {
		t.Fatal(err)
	}
	o := ejecting(4)
	o.Socket = b.path("qmp/" + name + "/qmp.sock")
	vm := b.vm(name, o)
	b.start()
	att := b.attach(name)
	if att.VM != name || att.Phase != vmnetd.Attached {
		t.Errorf("attached as %+v", att)
	}
	if dev := b.host.Link(t, att.Ifname); dev.Alias != "vmnetd:"+name+"/net0" || !dev.Up {
		t.Errorf("the device: %+v", dev)
	}
	if n := tapQueues(vm.PID); n == 0 {
		t.Error("QEMU holds no queue")
	}
	escaped := vmnetd.Printable(name)
	if !strings.Contains(escaped, `\xe2\x80\xae`) {
		t.Fatalf("%q is not escaped", escaped)
	}
	for _, args := range [][]string{
		{"list"}, {"list", name}, {"status"}, {"show", name + "/net0"}, {"show", att.MAC}, {"explain", name}, {"doctor"},
		{"attach", name}, {"attach", name, "--id", "net0", "--queues", "7"}, {"detach", name},
	} {
		r := b.run(args...)
		shown := r.out + r.err
		if !strings.Contains(strings.Join(strings.Fields(shown), " "), strings.Join(strings.Fields(escaped), " ")) {
			t.Errorf("vmnetd %q (exit %d) does not show %s:\n%s", args, r.code, escaped, shown)
		}
		if strings.ContainsAny(shown, "\u202e\u00a0") {
			t.Errorf("vmnetd %q shows the name as it is: %q", args, shown)
		}
	}
	b.nothing()
	if e := b.told(time.Time{}, "detached", name, "net0"); e.VM != name {
		t.Errorf("%+v", e)
	}
	b.stop()
}
