package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/internal/testkit"
)

// rig is a host with two switches, and a daemon that has made nothing yet.
type rig struct {
	t      *testing.T
	net    *testkit.Switches
	bus    *testkit.Bus
	dir    string
	daemon *testkit.Daemon
	text   string   // of the configuration
	letGo  func()   // ends the guest's hold on its queues
	team   string   // name of a team: /run/teamd is of all namespaces
	wrap   []string // a command that becomes the daemon's
}

func newRig(t *testing.T, config string) *rig {
	t.Helper()
	testkit.Require(t, "vm")
	r := stoppedRig(t, fmt.Sprintf("tm%d", unix.Getpid()%10000))
	r.configure(config)
	r.start()
	return r
}

// stoppedRig is a rig whose daemon is not started yet.
func stoppedRig(t *testing.T, team string) *rig {
	t.Helper()
	r := &rig{t: t, net: testkit.NewSwitches(t), bus: testkit.NewBus(t), dir: t.TempDir(), team: team}
	for _, port := range []string{testkit.PortA, testkit.PortB} {
		r.net.Host.SetUp(t, port)
	}
	t.Cleanup(func() {
		r.kill()
		r.endTeamd()
		testkit.EndProcesses(t, r.dir) // guards
	})
	return r
}

// configure writes the operator's file; TEAM stands for the team's name.
func (r *rig) configure(text string) {
	r.t.Helper()
	text = strings.ReplaceAll(text, "TEAM", r.team)
	r.text = text
	if err := os.WriteFile(filepath.Join(r.dir, "vmnetd.yaml"), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) start(env ...string) {
	r.t.Helper()
	d, err := testkit.StartDaemon(r.t.Context(), testkit.DaemonOptions{
		Program: vmnetdProgram(r.t), Dir: r.dir, Bus: r.bus.Address, Netns: r.net.Host.Do, Env: env, Wrap: r.wrap,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.daemon = d
}

func (r *rig) kill() {
	if r.daemon == nil {
		return
	}
	r.daemon.Kill()
	if r.t.Failed() {
		log := r.daemon.Log()
		r.t.Logf("vmnetd said:\n%s", log[max(0, len(log)-6000):])
	}
	r.daemon = nil
}

// endTeamd ends the team's teamd, whoever started it.
func (r *rig) endTeamd() { testkit.EndTeamd(r.team) }

// teamd is the pid of the team's teamd, 0 when it does not run.
func (r *rig) teamd() int { return testkit.TeamdPID(r.team) }

// try runs vmnetd as an operator does.
func (r *rig) try(args ...string) (string, error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, vmnetdProgram(r.t), args...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+r.bus.Address)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs a command that has to end well. teamd has a few seconds to answer, and a
// busy machine that emulates another one does not always give them to it.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	out, err := r.try(args...)
	for range 4 {
		if err == nil || !strings.Contains(out, "teamd") || !strings.Contains(out, "does not answer") {
			break
		}
		r.t.Log(out)
		out, err = r.try(args...)
	}
	if err != nil {
		r.t.Fatalf("vmnetd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// refused holds that a command ends with that exit code, and says all of these.
func (r *rig) refused(code int, says []string, args ...string) {
	r.t.Helper()
	out, err := r.try(args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		r.t.Errorf("vmnetd %s: %v, want exit %d\n%s", strings.Join(args, " "), err, code, out)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			r.t.Errorf("vmnetd %s does not say %q:\n%s", strings.Join(args, " "), s, out)
		}
	}
}

func (r *rig) uplink(name string) vmnetd.UplinkState {
	r.t.Helper()
	var u vmnetd.UplinkState
	out := r.must("uplink", "show", name, "--json")
	if err := json.Unmarshal([]byte(out), &u); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	return u
}

// eventually waits until it is so; otherwise more is to say what is.
func (r *rig) eventually(what string, ok func() bool, more ...func()) {
	r.t.Helper()
	for deadline := time.Now().Add(testkit.Patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			for _, say := range more {
				say()
			}
			r.t.Fatalf("never: %s", what)
		}
	}
}

// master is the name of the device whose port a device of the host is.
func (r *rig) master(name string) string {
	r.t.Helper()
	l := r.net.Host.Link(r.t, name)
	if l.Master == 0 {
		return ""
	}
	m, err := r.net.Host.Conn().LinkByIndex(r.t.Context(), l.Master)
	if err != nil {
		r.t.Fatal(err)
	}
	return m.Name
}

func (r *rig) there(name string) bool {
	_, err := r.net.Host.Conn().LinkByName(r.t.Context(), name)
	return err == nil
}

// macvtaps is index and name of each, and what it stands on.
func (r *rig) macvtaps() string {
	r.t.Helper()
	var all []string
	for line := range strings.Lines(r.net.Host.Run(r.t, "ip", "-o", "link", "show", "type", "macvtap")) {
		all = append(all, strings.Join(strings.Fields(line)[:2], " "))
	}
	return strings.Join(all, ", ")
}

// guest is a NIC on the only network, with frames of its own.
func (r *rig) guest() testkit.FrameGuest {
	r.t.Helper()
	r.t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", r.bus.Address)
	c, err := dbusapi.Dial(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_, set, err := c.OpenTap(r.t.Context(), vmnetd.Request{VM: "vm0", ID: "net0", MAC: testkit.FrameGuestMAC(0).String(), Queues: 1, NoVHost: true}, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	r.letGo = sync.OnceFunc(func() { _ = set.Close() })
	r.t.Cleanup(r.letGo)
	return testkit.FrameGuest{MAC: testkit.FrameGuestMAC(0), FD: set.Queues[0]}
}

// silentGuest has a guest hear a frame every 10 ms, and never speak again.
func (r *rig) silentGuest() *testkit.Stream {
	r.t.Helper()
	guest := r.guest()
	guest.Speak(r.t)
	stream := testkit.StartStream(r.t, r.net.Peer, "peer0", []testkit.FrameGuest{guest}, 10*time.Millisecond)
	r.t.Cleanup(stream.Stop)
	if !stream.Everybody(testkit.Patience) {
		r.t.Fatal("the stream does not reach the guest")
	}
	return stream
}

const anchoredTeam = `
uplinks:
  - name: TEAM
    team: {runner: {name: activebackup}, link_watch: {name: ethtool}, ports: [{name: pa, prio: 100}, {name: pb, prio: 10}]}
  - {name: wan, anchor: {over: [TEAM]}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`

func TestVMATeamUnderAnAnchorIsAppliedKilledAndTakenOver(t *testing.T) {
	r := newRig(t, anchoredTeam)
	if r.there(r.team) || r.there("wan") {
		t.Fatal("something was made before it was applied")
	}
	if u := r.uplink("wan"); u.State != vmnetd.StateNotApplied {
		t.Errorf("before the first apply: %+v", u)
	}
	t.Log(r.must("uplink", "plan"))
	t.Log(r.must("uplink", "apply", "--no-confirm"))
	if out := r.must("uplink", "plan"); !strings.Contains(out, "othing") {
		t.Errorf("left to do after the apply:\n%s", out)
	}
	stream := r.silentGuest()
	macvtaps := r.macvtaps()
	t.Log(r.must("status"))

	old := r.teamd()
	_ = unix.Kill(old, unix.SIGKILL)
	began := time.Now()
	r.eventually("teamd is taken over", func() bool { pid := r.teamd(); return pid != 0 && pid != old })
	t.Logf("taken over after %s", time.Since(began))
	r.eventually("the team is shown as running", func() bool { u := r.uplink(r.team); return u.Team != nil && u.Team.Controller == "running" })
	if now := r.macvtaps(); now != macvtaps {
		t.Errorf("macvtaps were %s and are %s", macvtaps, now)
	}
	if !strings.Contains(r.daemon.Log(), "taken over again") {
		t.Error("the take-over is not told")
	}

	kept := r.teamd()
	r.kill()
	r.start()
	if r.teamd() != kept || r.master(r.team) != "wan" || r.master("pa") != r.team {
		t.Error("a killed daemon took something with it")
	}
	r.must("uplink", "drain", "pa")
	r.eventually("pb is active", func() bool { return r.net.Active(t, r.team) == "pb" })
	t.Log(r.must("uplink", "show", r.team))
	r.must("uplink", "undrain", "pa")
	stream.Arm()
	r.net.Fail(t, r.net.Active(t, r.team), testkit.SwitchDown)
	stream.Mark()
	if !stream.Everybody(testkit.Patience) {
		t.Error("the stream did not come back after a failover")
	}
	if teamd := r.uplink("wan"); teamd.Announced == nil {
		r.eventually("the failover is announced", func() bool { return r.uplink("wan").Announced != nil })
	}
	t.Log(r.must("status"))
	t.Log(r.must("team", "state", r.team))
}

const twoWays = `
uplinks:
  - name: TEAM
    team: {runner: {name: activebackup}, link_watch: {name: ethtool}, ports: [pa, pb]}
  - {name: wan, anchor: {over: [TEAM]}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`

func TestVMATeamBecomesABondUnderRunningGuests(t *testing.T) {
	r := newRig(t, twoWays)
	r.must("uplink", "apply", "--no-confirm")
	stream := r.silentGuest()
	t.Log(r.must("convert", "team2bond", r.team))
	macvtaps := r.macvtaps()
	stream.Arm()
	t.Log(r.must("convert", "team2bond", r.team, "--live"))
	stream.Mark()
	if !stream.Everybody(testkit.Patience) {
		t.Fatal("the stream did not come back")
	}
	t.Logf("longest gap: %+v", stream.Outages())
	if now := r.macvtaps(); now != macvtaps {
		t.Errorf("macvtaps were %s and are %s", macvtaps, now)
	}
	if r.teamd() != 0 {
		t.Error("teamd still runs")
	}
	t.Log(r.must("status"))
	t.Log(r.must("uplink", "plan"))
}

func TestVMAnApplyOfADaemonThatDiesIsTakenBackByItsGuard(t *testing.T) {
	r := newRig(t, `
uplinks:
  - {name: b0, bond: {mode: active-backup, miimon: 50, ports: [pa, pb]}}
networks:
  - {name: lan, uplinks: [b0], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`)
	r.must("uplink", "apply", "--confirm-within", "3s", "--json")
	if r.master("pa") != "b0" {
		t.Fatal("it was not applied")
	}
	r.kill()
	r.eventually("the guard takes it back", func() bool { return !r.there("b0") })
	r.eventually("pa is as it was", func() bool { return r.master("pa") == "" && r.net.Host.Link(t, "pa").Up })
	r.start()
	r.eventually("the next daemon tells of it", func() bool { return strings.Contains(r.daemon.Log(), "was taken back") })
	if u := r.uplink("b0"); u.State != vmnetd.StateNotApplied {
		t.Errorf("afterwards: %+v", u)
	}
	// In time, it stays.
	r.must("uplink", "apply", "--json")
	r.must("uplink", "confirm")
	r.kill()
	r.start()
	if u := r.uplink("b0"); u.State != vmnetd.StateUp && u.State != vmnetd.StateDegraded || r.master("pb") != "b0" {
		t.Errorf("a confirmed apply: %+v", u)
	}
}

func TestVMWhatIsDoneByHandIsDriftUntilTheNextApply(t *testing.T) {
	r := newRig(t, anchoredTeam)
	r.must("uplink", "apply", "--no-confirm")
	r.refused(2, []string{"--temporary"}, "team", "port-remove", r.team, "pb")
	r.must("team", "port-remove", r.team, "pb", "--temporary")
	r.eventually("the drift is shown", func() bool { return len(r.uplink(r.team).Drift) > 0 })
	if r.master("pb") != "" {
		t.Error("a repair put the port back")
	}
	r.must("uplink", "apply", r.team, "--no-confirm")
	if r.master("pb") != r.team || len(r.uplink(r.team).Drift) > 0 {
		t.Errorf("an apply does not put it right: %+v", r.uplink(r.team))
	}
	r.must("uplink", "hold", r.team, "--for", "1h")
	r.net.Host.Run(t, "teamdctl", r.team, "port", "remove", "pb")
	r.kill()
	r.start()
	if u := r.uplink(r.team); u.HeldUntil.IsZero() || r.master("pb") != "" {
		t.Errorf("a hold does not outlive a restart: %+v", u)
	}
	r.must("uplink", "release", r.team)
	r.eventually("the port is put in again", func() bool { return r.master("pb") == r.team })
}

func TestVMSomebodyElsesTeamIsWatchedAndNeverTouched(t *testing.T) {
	r := newRig(t, `
uplinks:
  - {name: theirs, external: {match: {name: TEAM}}}
networks:
  - {name: lan, uplinks: [theirs], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`)
	for _, port := range []string{testkit.PortA, testkit.PortB} {
		r.net.Host.SetDown(t, port)
	}
	r.net.Host.Run(t, "teamd", "-t", r.team, "-d", "-U", "-c", `{"runner": {"name": "activebackup"}, "ports": {"pa": {}, "pb": {}}}`)
	r.net.Host.SetUp(t, r.team)
	r.eventually("it is described", func() bool {
		u := r.uplink("theirs")
		return u.Team != nil && u.Team.Controller == "running" && u.Path != ""
	})
	u := r.uplink("theirs")
	if u.Team.Ours || u.Team.Runner != "activebackup" || len(u.Team.Ports) != 2 {
		t.Errorf("described as %+v", u.Team)
	}
	r.refused(3, []string{"external"}, "team", "set", "theirs", "runner.active_port", "pb", "--temporary")
	pid := r.teamd()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.eventually("it is shown as gone", func() bool { return r.uplink("theirs").Team.Controller == "gone" })
	r.must("status")
	if now := r.teamd(); now != 0 && now != pid {
		t.Error("it was taken over")
	}
}

func TestVMWhatWasAppliedComesBackAfterARebootAndNothingElse(t *testing.T) {
	r := newRig(t, anchoredTeam)
	r.must("uplink", "apply", "--no-confirm")
	mac := r.net.Host.Link(t, "wan").MAC.String()
	r.kill()
	r.endTeamd()
	r.net.Host.Delete(t, "wan")
	r.net.Host.Delete(t, r.team)
	r.configure(strings.ReplaceAll(anchoredTeam, "networks:", "  - {name: br9, bridge: {ports: [pb]}}\nnetworks:")) // edited and never applied
	r.start()
	if r.master("pa") != r.team || r.master("pb") != r.team || r.master(r.team) != "wan" || r.there("br9") {
		t.Errorf("pa in %q, pb in %q, team in %q", r.master("pa"), r.master("pb"), r.master(r.team))
	}
	if now := r.net.Host.Link(t, "wan").MAC.String(); now != mac {
		t.Errorf("the MAC was %s and is %s", mac, now)
	}
	// A port that goes and comes is put in again.
	r.net.Host.Delete(t, "pa")
	r.eventually("the loss is shown", func() bool { return r.uplink(r.team).State == vmnetd.StateDegraded })
	testkit.NewVeth(t, r.net.Host, "pa", r.net.Net, "pa-again")
	r.eventually("pa is put in again", func() bool { return r.there("pa") && r.master("pa") == r.team })
}

func TestVMAHungTeamdAndABusThatRestartsAreOvercome(t *testing.T) {
	r := newRig(t, anchoredTeam)
	r.must("uplink", "apply", "--no-confirm")
	if err := unix.Kill(r.teamd(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.net.Host.SetDown(t, "pb") // something to look at the team for
	r.eventually("it is shown as silent", func() bool {
		u := r.uplink(r.team)
		return u.Team.Controller == "silent" && strings.Contains(u.Problem, "does not answer")
	})
	if err := unix.Kill(r.teamd(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.net.Host.SetUp(t, "pb")
	r.eventually("it is shown as running", func() bool { u := r.uplink(r.team); return u.Team.Controller == "running" && u.State == vmnetd.StateUp })
	r.bus.Restart()
	r.eventually("the daemon is on the bus again", func() bool { _, err := r.try("status"); return err == nil })
	r.eventually("teamd runs", func() bool { u := r.uplink(r.team); return u.Team.Controller == "running" && u.State == vmnetd.StateUp })
	if r.master("pa") != r.team || r.master(r.team) != "wan" {
		t.Error("something was taken apart")
	}
}

func TestVMANetworkWithAVLANHasItsDeviceWhileItIsUsed(t *testing.T) {
	r := newRig(t, `
uplinks:
  - {name: b0, bond: {mode: active-backup, miimon: 50, ports: [pa, pb]}}
networks:
  - {name: v7, uplinks: [b0], vlan: 7, modes: [bridge]}
rules:
  - {vm: "*", networks: [v7]}
`)
	r.must("uplink", "apply", "--no-confirm")
	vlans := func() int {
		return strings.Count(r.net.Host.Run(t, "ip", "-d", "-o", "link", "show", "type", "vlan"), "vlan protocol 802.1Q id 7")
	}
	guest := r.guest()
	if vlans() != 1 {
		t.Errorf("%d VLAN devices with a guest", vlans())
	}
	guest.Speak(t)
	r.letGo()
	r.must("detach", "vm0", "--all")
	r.eventually("the VLAN device goes with the last guest", func() bool { return vlans() == 0 })
}

func TestVMAnAnchorIsMovedAndPinned(t *testing.T) {
	r := newRig(t, `
uplinks:
  - {name: b0, bond: {mode: active-backup, miimon: 50, ports: [pa]}}
  - {name: b1, bond: {mode: active-backup, miimon: 50, ports: [pb]}}
  - {name: wan, anchor: {over: [b0, b1]}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`)
	r.must("uplink", "apply", "--no-confirm")
	on := func() string { return r.uplink("wan").Bond.ActivePort }
	r.eventually("it is on its first member", func() bool { return on() == "b0" })
	r.must("uplink", "move", "wan", "--to", "b1")
	r.eventually("it is moved", func() bool { return on() == "b1" })
	r.kill()
	r.start()
	r.eventually("it is pinned over a restart", func() bool { u := r.uplink("wan"); return u.Pinned == "b1" && u.Bond.ActivePort == "b1" })
	r.refused(4, []string{"no member"}, "uplink", "move", "wan", "--to", "b9")
	r.refused(5, []string{"last"}, "uplink", "drain", "pb", "--uplink", "b1")
	r.must("uplink", "move", "wan", "--auto")
	r.eventually("it chooses again", func() bool { return on() == "b0" })
	r.net.Fail(t, "pa", testkit.SwitchDown)
	r.eventually("it falls back by carrier", func() bool { return on() == "b1" })
}

func TestVMABondBecomesATeamUnderRunningGuests(t *testing.T) {
	r := newRig(t, `
uplinks:
  - {name: b0, bond: {mode: active-backup, miimon: 50, ports: [pa, pb]}}
  - {name: wan, anchor: {over: [b0]}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`)
	r.must("uplink", "apply", "--no-confirm")
	stream := r.silentGuest()
	macvtaps := r.macvtaps()
	stream.Arm()
	out := r.must("convert", "bond2team", "b0", "--live")
	stream.Mark()
	if !stream.Everybody(testkit.Patience) {
		t.Fatal("the stream did not come back")
	}
	t.Logf("longest gap: %+v\n%s", stream.Outages(), out)
	for _, u := range []string{"b0t", "wan"} {
		r.eventually(u+" is up", func() bool { return r.uplink(u).State == vmnetd.StateUp })
	}
	r.team = "b0t" // whose teamd ends with the test
	if now := r.macvtaps(); now != macvtaps || r.there("b0") {
		t.Errorf("macvtaps were %s and are %s", macvtaps, now)
	}
}
