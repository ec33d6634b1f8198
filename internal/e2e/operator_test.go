package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// What an operator does, and does wrong.

func TestBusRestartedUnderTheDaemon(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	bus := testkit.NewBus(t)
	b.bus = bus.Address
	vm := b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	b.start()
	before := b.attach("vm1")
	bus.Stop()
	if r := b.run("list"); r.code != 6 {
		t.Errorf("without a bus: exit %d, %s", r.code, r.err)
	}
	bus.Start()
	b.eventually("the daemon is back on the bus", 20*time.Second, func() error {
		if r := b.run("list"); r.code != 0 {
			return fmt.Errorf("exit %d, %s", r.code, r.err)
		}
		return nil
	})
	if list := b.list("vm1"); len(list) != 1 || list[0].Ifindex != before.Ifindex || list[0].Phase != vmnetd.Attached || tapQueues(vm.PID) != 1 {
		t.Errorf("afterwards: %+v", list)
	}
	b.attach("vm2")
	b.stop()
}

// publicBinary is the program where everybody may run it.
func publicBinary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmnpub")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "vmnetd")
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOrdinaryUserMayReadAndChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	b.start()
	b.attach("vm1")
	program := publicBinary(t)
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{0, "vm1", []string{"list"}},
		{0, "vm1", []string{"status"}},
		{0, "lan", []string{"explain", "vm2"}},
		{0, "net0", []string{"show", "vm1/net0"}},
		{3, "group vmnetd", []string{"attach", "vm2"}},
		{3, "group vmnetd", []string{"detach", "vm1"}},
		{3, "group vmnetd", []string{"reload"}},
		{125, "group vmnetd", []string{"exec", "vm3", "--", "/bin/true", "{netdev}"}},
	} {
		argv := append([]string{"--reuid=65534", "--regid=65534", "--clear-groups", program}, c.args...)
		p := b.spawn("setpriv", argv...)
		if code := p.wait(t); code != c.code || !strings.Contains(p.out.String(), c.says) {
			t.Errorf("%v: exit %d, want %d with %q: %s", c.args, code, c.code, c.says, &p.out)
		}
	}
	if list := b.list(); len(list) != 1 || list[0].FullName() != "vm1/net0" || list[0].Phase != vmnetd.Attached {
		t.Errorf("afterwards: %+v", list)
	}
	b.stop()
}

const badConfig = "uplinks:\n  - {name: u0, nic: {}, colour: red}\nnetworks:\n  - {name: lan, uplinks: [u7], modes: [bridge]}\n"

func TestBadConfigurationNeverGoesLive(t *testing.T) {
	t.Parallel()
	b := newBed(t, badConfig)
	d := b.launch()
	b.ended(20 * time.Second)
	if code := d.cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(d.log.String(), "colour") || !strings.Contains(d.log.String(), "u7") {
		t.Errorf("nothing was ever accepted: exit %d, %s", code, d.log)
	}

	b.config(basicConfig)
	b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	b.start()
	b.attach("vm1")
	b.config(badConfig)
	if r := b.must(2, "reload"); !strings.Contains(r.err, "colour") || !strings.Contains(r.err, "u7") {
		t.Errorf("reload: %s", r.err)
	}
	b.stop()

	b.start()
	if r := b.must(0, "status"); !strings.Contains(r.out, "colour") || !strings.Contains(r.out, "u7") || !strings.Contains(r.out, "vmnetd.yaml:2:") {
		t.Errorf("status: %s", r.out)
	}
	b.must(1, "status", "--check")
	if r := b.must(1, "doctor"); !strings.Contains(r.out, "colour") {
		t.Errorf("doctor: %s", r.out)
	}
	if list := b.list(); len(list) != 1 || list[0].Phase != vmnetd.Attached {
		t.Errorf("%+v", list)
	}
	b.attach("vm2") // by what was accepted last

	b.config(strings.Replace(basicConfig, "INC-4711", "INC-4712", 1))
	b.must(0, "reload")
	b.must(0, "status", "--check")
	b.ejectingVM("evil1")
	if r := b.must(3, "attach", "evil1"); !strings.Contains(r.err, "INC-4712") {
		t.Errorf("%s", r.err)
	}
	b.stop()
}

func TestSIGHUPReadsTheConfigurationAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	b.config(strings.NewReplacer("name: whole,", "name: entire,", "networks: [whole]", "networks: [entire]").Replace(basicConfig))
	if err := b.daemon.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.eventually("the new network is known", 10*time.Second, func() error {
		if r := b.run("explain", "vm1", "--all", "--json"); !strings.Contains(r.out, "entire") {
			return fmt.Errorf("%s%s", r.out, r.err)
		}
		return nil
	})
	b.config(badConfig)
	if err := b.daemon.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.eventually("the refusal is told", 10*time.Second, func() error {
		if r := b.run("status", "--check"); r.code != 1 {
			return fmt.Errorf("%s", r.out)
		}
		return nil
	})
	if r := b.must(0, "explain", "vm1", "--all", "--json"); !strings.Contains(r.out, "entire") {
		t.Errorf("not kept: %s", r.out)
	}
	b.stop()
}

func TestStateFileThatCannotBeReadCostsNoGuestItsNIC(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	vm := b.ejectingVM("vm1")
	b.start()
	before := b.attach("vm1", "--queues", "2")
	file := b.path("state/state.json")
	for what, spoil := range map[string]func([]byte) []byte{
		"corrupt":   func(text []byte) []byte { return append([]byte("}"), text...) },
		"truncated": func(text []byte) []byte { return text[:len(text)/2] },
		"empty":     func([]byte) []byte { return nil },
		"newer": func(text []byte) []byte {
			return []byte(strings.Replace(string(text), `"version":1`, `"version":99`, 1))
		},
	} {
		b.stop()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, spoil(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b.start()
		list := b.list()
		if len(list) != 1 || list[0].Phase != vmnetd.Attached || list[0].Ifindex != before.Ifindex || list[0].MAC != before.MAC || list[0].Network != "lan" || list[0].Via != before.Via {
			t.Errorf("%s: %+v", what, list)
		}
		if n := tapQueues(vm.PID); n != 2 {
			t.Errorf("%s: QEMU holds %d queues", what, n)
		}
	}
	if aside, _ := filepath.Glob(file + ".*"); len(aside) != 4 {
		t.Errorf("moved aside: %v", aside)
	}
	b.must(0, "detach", "vm1")
	b.nothing()
	b.stop()
}

func TestWatchTellsOfAttachAndDetach(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.start()
	watch := b.spawnAtTerminal("watch", "--json", "--since", "1h")
	events := func() (names []string) {
		for line := range strings.Lines(watch.out.String()) {
			var e vmnetd.Event
			if json.Unmarshal([]byte(line), &e) == nil && e.VM == "vm1" {
				names = append(names, e.Event+" "+e.ID+" "+e.Uplink)
			}
		}
		return names
	}
	b.attach("vm1")
	b.must(3, "attach", "vm1", "--id", "net9", "--network", "lan", "--mode", "passthru")
	b.must(0, "detach", "vm1")
	want := []string{"promiscuous net0 u0", // a veth has no unicast filter
		"attached net0 u0", "denied net9 ", "detached net0 u0"}
	b.eventually("watch has told", 10*time.Second, func() error {
		if diff := cmp.Diff(want, events()); diff != "" {
			return fmt.Errorf("%s\n%s", diff, &watch.out)
		}
		return nil
	})
	watch.signal(unix.SIGINT)
	if code := watch.wait(t); code != 0 {
		t.Errorf("stopped watch: exit %d", code)
	}
	b.stop()
}

func TestInterruptedAttachSaysThatTheDaemonGoesOn(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	setting, letGo := b.held(failpoint.AttachStored)
	b.start(setting)
	p := b.spawnAtTerminal("attach", "vm1")
	b.eventually("the attach is under way", 20*time.Second, func() error {
		if list := b.list(); len(list) != 1 {
			return fmt.Errorf("%+v %s", list, &p.out)
		}
		return nil
	})
	p.signal(unix.SIGINT)
	if code := p.wait(t); code != 130 || !strings.Contains(p.out.String(), "the daemon goes on with the attach") {
		t.Errorf("exit %d, %s", code, &p.out)
	}
	if list := b.list(); len(list) != 1 || list[0].Phase != vmnetd.Pending {
		t.Errorf("when it was interrupted: %+v", list)
	}
	letGo()
	b.attachedVM("vm1")
	b.stop()
}

func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.start()
	before, _ := os.ReadFile(b.path("state/state.json"))
	if r := b.must(0, "attach", "vm1", "--dry-run", "--mode", "private"); !strings.Contains(r.out, "macvtap private") && !strings.Contains(r.out, "private (macvtap)") {
		t.Errorf("%s", r.out)
	}
	b.must(3, "attach", "vm1", "--dry-run", "--network", "lan", "--mode", "passthru")
	after, _ := os.ReadFile(b.path("state/state.json"))
	if string(before) != string(after) || b.devices() != nil || len(b.list()) != 0 {
		t.Errorf("state %s, devices %v, list %+v", after, b.devices(), b.list())
	}
	b.stop()
}

// Everything that is shown names the VM, its NIC and why it has it.
func TestWhatIsShown(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.ejectingVM("vm1")
	b.ejectingVM("vm2")
	b.start()
	att := b.attach("vm1", "--queues", "2")
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"status"}, []string{"u0", "vm1", "net0", "lan", "macvtap bridge", "attached"}},
		{[]string{"list"}, []string{"vm1", "net0", "lan", att.MAC}},
		{[]string{"list", "vm2"}, []string{"vm2"}},
		{[]string{"show", "vm1/net0"}, []string{att.Ifname, att.MAC, "vmnetd.yaml:9", "u0"}},
		{[]string{"explain", "vm2"}, []string{"lan", "u0", "bridge", "private", "vmnetd.yaml:9", "cannot reach each", "vmnetd attach vm2"}},
		{[]string{"explain", "vm2", "--all"}, []string{"lan", "whole"}},
		{[]string{"explain", "vm2", "--json"}, []string{`"network": "lan"`}},
		{[]string{"explain", "evil1"}, []string{"INC-4711"}},
		{[]string{"doctor"}, []string{"macvtap", "vhost", "/dev/net/tun", "vm1", "vm2"}},
		{[]string{"version"}, []string{"vmnetd"}},
		{[]string{"__completeNoDesc", "attach", ""}, []string{"vm1\n", "vm2\n"}},
		{[]string{"__completeNoDesc", "show", ""}, []string{"vm1/net0\n"}},
		{[]string{"__completeNoDesc", "detach", "vm1", "--id", ""}, []string{"net0\n"}},
		{[]string{"__completeNoDesc", "attach", "vm1", "--uplink", ""}, []string{"u0\n"}},
	} {
		r := b.run(c.args...)
		for _, word := range c.says {
			if !strings.Contains(r.out+r.err, word) {
				t.Errorf("vmnetd %v (exit %d) does not say %q:\n%s%s", c.args, r.code, word, r.out, r.err)
			}
		}
	}
	for _, args := range [][]string{{"status"}, {"list"}, {"show", "vm1/net0"}, {"explain", "vm1"}, {"doctor"}} {
		if r := b.run(append(args, "--json")...); !json.Valid([]byte(r.out)) {
			t.Errorf("vmnetd %v --json: %s%s", args, r.out, r.err)
		}
	}
	b.stop()
}

// busctl says what no client of ours would; the messages with descriptors are
// in dbusapi's own tests.
func TestOddMessagesLeaveTheDaemonAlive(t *testing.T) {
	t.Parallel()
	b := newBed(t, basicConfig)
	b.start()
	for _, call := range [][]string{
		{"Attach", "ah", "1", "0"},
		{"Attach", "a{sh}", "1", "x", "0"},
		{"Attach", "sa{sv}", "vm1", "1", "queues", "s", "many"},
		{"Attach", "sa{sv}", "../../x", "0"},
		{"Attach", "ah", "17", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0"},
		{"NoSuchMethod"},
		{"Explain", "u", "7"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		cmd := b.host.Command(ctx, "busctl", append([]string{"--address=" + b.bus, "call", "org.vmnetd1", "/org/vmnetd1", "org.vmnetd1.Manager"}, call...)...)
		out, err := cmd.CombinedOutput()
		cancel()
		if err == nil || ctx.Err() == context.DeadlineExceeded {
			t.Errorf("%v: %v, %s", call, err, out)
		}
	}
	b.must(0, "list")
	b.stop()
}
