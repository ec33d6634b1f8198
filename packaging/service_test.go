package packaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/internal/vmtest"
)

// debEnv names the package, and a newer one, to the test inside the VM.
const debEnv = "VMNETD_TEST_DEB"

// TestHostServiceUnderSystemd boots a host with systemd, puts the package on it
// and works with the service as it is packaged: its sandbox, its restarts, and
// the services of its own that it has systemd run.
func TestHostServiceUnderSystemdServesReloadsRestartsAndLeavesEverythingAlone(t *testing.T) {
	testkit.Require(t, "netns")
	if debs := os.Getenv(debEnv); debs != "" {
		deb, newer, _ := strings.Cut(debs, ":")
		underSystemd(t, deb, newer)
		return
	}
	_, deb := build(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out testkit.Output
	code, err := vmtest.Run(t.Context(), vmtest.Options{
		Command: []string{program, "-test.run=^" + t.Name() + "$", "-test.v"},
		Env:     []string{debEnv + "=" + deb + ":" + artifacts.packages[testVersion+"2"]},
		Systemd: true, Stdout: &out, Stderr: &out, Limit: 8 * time.Minute,
	})
	t.Logf("the VM:\n%s", out.String())
	if code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

const serviceConfig = `
uplinks:
  - {name: b0, bond: {mode: active-backup, miimon: 50, ports: [pa, pb]}}
  - {name: team0, team: {runner: {name: activebackup}, link_watch: {name: ethtool}, ports: [pc, pd]}}
  - {name: wan, anchor: {over: [team0, b0]}}
  - {name: br0, bridge: {ports: [pe]}}
  - {name: edge, nic: {match: {name: pf}}, limits: {macs: 1}}
  - {name: hop, nic: {match: {name: pg}}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
  - {name: sw, uplinks: [br0], modes: [switched], bandwidth: {in: 1G, out: 1G}}
  - {name: cloud, uplinks: [edge], modes: auto}
  - {name: routed, uplinks: [hop], modes: [l3]}
rules:
  - {vm: "*", networks: [lan, sw, cloud, routed]}
hypervisors: {qmp: {sockets: ["/run/vmnetd/qmp/{vm}.sock"]}}
`

// service is the packaged service on a host that systemd runs.
type service struct {
	t     *testing.T
	newer string // a package
	*nics
}

func underSystemd(t *testing.T, deb, newer string) {
	s := service{t, newer, &nics{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.journal())
		}
	})
	s.install(deb)
	if s.unit("vmnetd.service", "ActiveState") != "active" {
		t.Fatalf("it is not started by its installation:\n%s", s.journal())
	}
	if err := exec.Command("nsenter", "--target="+s.unit("vmnetd.service", "MainPID"), "--mount", "test", "-w", "/run/teamd").Run(); err != nil {
		t.Errorf("it could not remove what a killed teamd leaves: %v", err)
	}
	s.apply()
	s.startGuests()
	s.startNICs()
	for _, part := range []struct {
		name string
		test func(service)
	}{
		{"reload", service.reloads}, {"teamd", service.teamdIsAService}, {"killed", service.isKilled}, {"restart", service.isRestarted},
		{"bus", service.doesWithoutTheBus}, {"guard", service.guardOutlivesIt}, {"stop", service.isStopped}, {"upgrade", service.isUpgraded}, {"remove", service.isRemoved},
		{"room", service.roomIsSandboxed}, {"filter", service.filtersHold}, {"sandbox", service.wasNeverDenied},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(service{t, newer, s.nics}) })
	}
}

// install does what dpkg does, but for its database.
func (s service) install(deb string) {
	s.t.Helper()
	for _, nic := range []string{"pa", "pb", "pc", "pd"} {
		s.run("ip", "link", "add", nic, "type", "veth", "peer", "name", nic+"-sw")
		s.run("ip", "link", "set", nic+"-sw", "up")
	}
	s.outside()
	s.run("dpkg-deb", "--extract", deb, "/")
	s.configure(serviceConfig)
	_ = os.Remove("/usr/sbin/policy-rc.d") // where it says that nothing is to be started, a container's image is meant
	s.maintain(deb, "postinst", "configure", "")
}

// apply makes the uplinks. teamd has 5 s to start, and a busy machine that emulates
// another one does not always give it to it.
func (s service) apply() {
	s.t.Helper()
	for range 4 {
		if exec.Command("vmnetd", "uplink", "apply", "--no-confirm").Run() == nil {
			return
		}
	}
	s.run("vmnetd", "uplink", "apply", "--no-confirm")
}

func (s service) configure(text string) {
	s.t.Helper()
	if err := os.WriteFile("/etc/vmnetd/vmnetd.yaml", []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// startGuests starts a QEMU of another user that gets its NIC while it runs, and
// one that vmnetd exec becomes.
func (s service) startGuests() {
	s.t.Helper()
	testkit.StartQEMU(s.t, testkit.QEMUOptions{Name: "vm1", RootPorts: 1, QMPDir: "/run/vmnetd/qmp", Args: []string{"-runas", "nobody"}})
	s.run("vmnetd", "attach", "vm1")
	vm2 := exec.Command("vmnetd", "exec", "vm2", "--", "qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-m", "64", "{netdev}")
	var says testkit.Output
	vm2.Stdout, vm2.Stderr = &says, &says
	if err := vm2.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = vm2.Process.Kill()
		_ = vm2.Wait()
		if s.t.Failed() {
			s.t.Logf("vm2 said %q", says.String())
		}
	})
	s.eventually("vm2 has its NIC", func() bool { return strings.Count(s.macvtaps(), "\n") == 2 })
	files, _ := filepath.Glob("/proc/sys/net/ipv6/conf/vmn*/disable_ipv6")
	for _, file := range files {
		if strings.TrimSpace(read(s.t, file)) != "1" {
			s.t.Errorf("%s is not 1", file)
		}
	}
}

func (s service) macvtaps() string {
	s.t.Helper()
	return s.run("ip", "-o", "-br", "link", "show", "type", "macvtap")
}

func (s service) teamd() string {
	pid, _ := os.ReadFile("/run/teamd/team0.pid")
	return strings.TrimSpace(string(pid))
}

// unchanged holds that whatever is done in between leaves guests' devices and
// teamd as they are, and that the daemon then knows the way that frames go.
func (s service) unchanged(do func()) {
	s.t.Helper()
	devices, teamd := s.devices(), s.teamd()
	s.begin()
	do()
	if now := s.devices(); now != devices {
		s.t.Errorf("devices were\n%s and are\n%s", devices, now)
	}
	if now := s.teamd(); now != teamd {
		s.t.Errorf("teamd was %s and is %s", teamd, now)
	}
	s.eventually("all is served again", func() bool { return s.wrong() == "" })
	s.noneLost()
}

// wrong is what is not as it is when all is well, as far as the daemon knows.
func (s service) wrong() string {
	var is vmnetd.Status
	out, err := exec.Command("vmnetd", "status", "--json").Output()
	if err == nil {
		err = json.Unmarshal(out, &is)
	}
	if err != nil || len(is.Attachments) != nicCount {
		return fmt.Sprintf("%d NICs, %v", len(is.Attachments), err)
	}
	for _, a := range is.Attachments {
		if a.Phase != vmnetd.Attached || a.Problem != "" {
			return fmt.Sprintf("%s is %s: %s", a.FullName(), a.Phase, a.Problem)
		}
	}
	for _, u := range is.Uplinks {
		if u.State != vmnetd.StateUp || u.Path == "" && u.Kind != "nic" {
			return fmt.Sprintf("uplink %s is %s by %q", u.Name, u.State, u.Path)
		}
	}
	return ""
}

func (s service) reloads() {
	s.run("systemctl", "reload", "vmnetd.service")
	s.configure("uplinks: [{name: b0, bond: {mode: no-such-mode}}]\n")
	if err := exec.Command("systemctl", "reload", "vmnetd.service").Run(); err == nil {
		s.t.Error("a reload of a configuration that is wrong is no failure")
	}
	s.configure(serviceConfig)
	s.unchanged(func() { s.run("systemctl", "reload", "vmnetd.service") })
	if n := s.unit("vmnetd.service", "NRestarts"); n != "0" {
		s.t.Errorf("it was restarted %s times", n)
	}
}

func (s service) doesWithoutTheBus() {
	s.run("systemctl", "stop", "dbus.service", "dbus.socket")
	s.killTeamd()
	s.unchanged(func() { s.run("systemctl", "start", "dbus.socket") })
}

const teamdUnit = "vmnetd-teamd-team0.service"

func (s service) teamdIsAService() {
	if pid := s.unit(teamdUnit, "MainPID"); pid != s.teamd() || s.unit(teamdUnit, "ActiveState") != "active" {
		s.t.Fatalf("%s has process %s, teamd is %s", teamdUnit, pid, s.teamd())
	}
	if before := s.unit(teamdUnit, "Before"); !strings.Contains(before, "network.target") || s.unit(teamdUnit, "IgnoreOnIsolate") != "yes" {
		s.t.Errorf("at a shutdown it would end before guests do: Before=%s", before)
	}
	s.killTeamd()
}

// killTeamd holds that a teamd that is killed is replaced, under its guests.
func (s service) killTeamd() {
	s.t.Helper()
	macvtaps, old := s.macvtaps(), s.teamd()
	s.kill(old)
	s.eventually("teamd is taken over", func() bool { now := s.teamd(); return now != "" && now != old && s.unit(teamdUnit, "MainPID") == now })
	if now := s.macvtaps(); now != macvtaps {
		s.t.Errorf("macvtaps were\n%s and are\n%s", macvtaps, now)
	}
}

func (s service) isKilled() {
	s.unchanged(func() {
		old := s.unit("vmnetd.service", "MainPID")
		s.kill(old)
		s.eventually("it is started again", func() bool {
			return s.unit("vmnetd.service", "ActiveState") == "active" && s.unit("vmnetd.service", "MainPID") != old
		})
	})
}

func (s service) isRestarted() {
	s.unchanged(func() { s.run("systemctl", "restart", "vmnetd.service") })
}

func (s service) guardOutlivesIt() {
	s.configure(strings.Replace(serviceConfig, "active-backup", "balance-xor", 1))
	s.run("vmnetd", "reload")
	apply := func(within string) (guard string) {
		s.t.Helper()
		var applied vmnetd.Applied
		if err := json.Unmarshal([]byte(s.run("vmnetd", "uplink", "apply", "--confirm-within", within, "--json")), &applied); err != nil {
			s.t.Fatal(err)
		}
		guard = "vmnetd-rollback-" + applied.ID + ".service"
		if s.mode() != "balance-xor" || s.unit(guard, "ActiveState") != "active" {
			s.t.Fatalf("the mode is %s, the guard %s", s.mode(), s.unit(guard, "ActiveState"))
		}
		return guard
	}
	const window = 15 * time.Second // in which the apply is looked at
	s.unchanged(func() {
		guard := apply(window.String())
		s.run("systemctl", "stop", "vmnetd.service")
		s.within(window+testkit.Patience, "the guard takes it back", func() bool { return s.mode() == "active-backup" })
		s.eventually("the guard is gone", func() bool { return s.unit(guard, "LoadState") == "not-found" })
		s.run("systemctl", "start", "vmnetd.service")
	})
	if out := s.run("vmnetd", "status"); !strings.Contains(out, "was taken back: nobody confirmed it in time") {
		s.t.Errorf("nothing is told of it:\n%s", out)
	}
	guard := apply("10m")
	s.run("vmnetd", "uplink", "confirm")
	s.eventually("the guard ends", func() bool { return s.unit(guard, "LoadState") == "not-found" })
}

func (s service) mode() string {
	mode, _, _ := strings.Cut(read(s.t, "/sys/class/net/b0/bonding/mode"), " ")
	return mode
}

func (s service) isStopped() {
	s.unchanged(func() {
		s.run("systemctl", "stop", "vmnetd.service")
		if s.unit("vmnetd.service", "Result") != "success" || s.unit(teamdUnit, "ActiveState") != "active" {
			s.t.Errorf("it ended with %s, and teamd is %s", s.unit("vmnetd.service", "Result"), s.unit(teamdUnit, "ActiveState"))
		}
		s.run("systemctl", "start", "vmnetd.service")
	})
}

func (s service) wasNeverDenied() {
	for line := range strings.Lines(s.journal()) {
		for _, denial := range []string{unix.EPERM.Error(), unix.EACCES.Error(), unix.EROFS.Error(), unix.ENOSYS.Error()} {
			if strings.Contains(line, denial) {
				s.t.Errorf("the journal: %s", line)
			}
		}
	}
}

func (s service) journal() string {
	return s.run("journalctl", "--no-pager", "--boot", "--output=short-monotonic", "--unit=vmnetd*.service")
}

// unit is a property of a unit.
func (s service) unit(name, property string) string {
	s.t.Helper()
	return strings.TrimSpace(s.run("systemctl", "show", "--value", "--property="+property, name))
}

func (s service) run(name string, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), errors.Join(err, ctx.Err()), out)
	}
	return string(out)
}

func (s service) kill(pid string) {
	s.t.Helper()
	n, err := strconv.Atoi(pid)
	if err == nil {
		err = unix.Kill(n, unix.SIGKILL)
	}
	if err != nil {
		s.t.Fatal(fmt.Errorf("cannot kill %q: %w", pid, err))
	}
}

func (s service) eventually(what string, ok func() bool) {
	s.t.Helper()
	s.within(testkit.Patience, what, ok)
}

func (s service) within(limit time.Duration, what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s\nwrong: %s\n%s", what, s.wrong(), s.run("vmnetd", "status"))
		}
	}
}
