package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/internal/vmtest"
)

// bootEnv tells the test, inside a VM, which boot of the host it is.
const bootEnv = "VMNETD_TEST_BOOT"

// TestHostRebootInsideTheConfirmWindow boots a host twice, which keeps only
// /var/lib/vmnetd: the first boot ends, as by a power cut, while an apply waits
// to be confirmed.
func TestHostRebootInsideTheConfirmWindowBringsBackWhatWasConfirmed(t *testing.T) {
	switch os.Getenv(bootEnv) {
	case "first":
		endedWhileItWaits(t)
	case "second":
		asConfirmed(t)
	default:
		bootTwice(t)
	}
}

func bootTwice(t *testing.T) {
	testkit.Require(t, "netns")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lib := t.TempDir()
	boot := func(which string) (int, error) {
		var out testkit.Output
		code, err := vmtest.Run(t.Context(), vmtest.Options{
			Command: []string{program, "-test.run=^" + t.Name() + "$", "-test.v"},
			Env:     []string{bootEnv + "=" + which},
			Lib:     lib, Stdout: &out, Stderr: &out, Limit: 3 * time.Minute,
		})
		t.Logf("the %s boot:\n%s", which, out.String())
		return code, err
	}
	if code, err := boot("first"); !errors.Is(err, vmtest.ErrEnded) {
		t.Fatalf("the first boot was not cut off: exit code %d, %v", code, err)
	}
	if _, err := os.Stat(filepath.Join(lib, "uplinks", "checkpoint.json")); err != nil {
		t.Fatalf("the first boot did not end while an apply waited: %v", err)
	}
	if code, err := boot("second"); code != 0 || err != nil {
		t.Errorf("the second boot: exit code %d, %v", code, err)
	}
}

const confirmedUplinks = `
uplinks:
  - {name: b0, bond: {mode: active-backup, miimon: 50, ports: [pa, pb]}}
  - {name: TEAM, team: {runner: {name: activebackup}, link_watch: {name: ethtool}, ports: [pd]}}
  - {name: wan, anchor: {over: [TEAM, b0]}}
  - {name: pc, mtu: 9000, nic: {}}
  - {name: v7, mtu: 9000, vlan: {over: pc, id: 7}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`

// triedUplinks changes a bond's mode and an MTU, and has other devices.
const triedUplinks = `
uplinks:
  - {name: b0, bond: {mode: balance-xor, miimon: 50, ports: [pa, pb]}}
  - {name: wan, anchor: {over: [b0]}}
  - {name: pc, mtu: 1400, nic: {}}
  - {name: br9, bridge: {ports: [pd]}}
networks:
  - {name: lan, uplinks: [wan], modes: [bridge]}
rules:
  - {vm: "*", networks: [lan]}
`

// keptRig is a rig of a host that has two NICs more, and whose lib folder
// outlives the boot.
func keptRig(t *testing.T) *rig {
	t.Helper()
	r := stoppedRig(t, "tm0")
	for _, nic := range []string{"pc", "pd"} {
		testkit.NewVeth(t, r.net.Host, nic, r.net.Net, testkit.SwitchSide(nic))
	}
	if err := os.Symlink(vmtest.LibDir, filepath.Join(r.dir, "lib")); err != nil {
		t.Fatal(err)
	}
	return r
}

// macFile keeps the MAC that the anchor had, for the second boot.
var macFile = filepath.Join(vmtest.LibDir, "test-mac")

func endedWhileItWaits(t *testing.T) {
	r := keptRig(t)
	r.configure(confirmedUplinks)
	r.start()
	r.must("uplink", "apply", "--json")
	r.must("uplink", "confirm")
	r.must("uplink", "move", "wan", "--to", "b0")
	r.must("uplink", "drain", "pa")
	r.eventually("b0 goes by pb", func() bool { return r.net.Active(t, "b0") == "pb" })
	if err := os.WriteFile(macFile, []byte(r.net.Host.Link(t, "wan").MAC.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r.configure(triedUplinks)
	r.must("reload")
	r.must("uplink", "apply", "--confirm-within", "10m", "--json")
	if r.uplink("b0").Bond.Mode != "balance-xor" || !r.there("br9") || r.there(r.team) || r.net.Host.Link(t, "pc").MTU != 1400 {
		t.Fatalf("it was not applied:\n%s", r.must("status"))
	}
	t.Log("the power goes")
	if err := os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0); err != nil {
		t.Fatal(err)
	}
	select {}
}

func asConfirmed(t *testing.T) {
	r := keptRig(t)
	r.configure(triedUplinks)
	r.start()
	if r.there("br9") || r.master("pa") != "b0" || r.master("pb") != "b0" || r.master("pd") != r.team || r.master(r.team) != "wan" || r.master("b0") != "wan" || !r.there("v7") {
		t.Errorf("not what was confirmed:\n%s", r.net.Host.Run(t, "ip", "-d", "link"))
	}
	if u := r.uplink("b0"); u.Bond.Mode != "active-backup" || len(u.Drift) > 0 || u.Bond.ActivePort != "pb" {
		t.Errorf("b0 is %+v, %+v", u, u.Bond)
	}
	if u := r.uplink("wan"); u.Pinned != "b0" || u.Bond.ActivePort != "b0" || len(u.Drift) > 0 {
		t.Errorf("wan is %+v, %+v", u, u.Bond)
	}
	for _, name := range []string{"pc", "v7"} {
		if mtu := r.net.Host.Link(t, name).MTU; mtu != 9000 {
			t.Errorf("the MTU of %s is %d", name, mtu)
		}
	}
	if mac, err := os.ReadFile(macFile); err != nil || string(mac) != r.net.Host.Link(t, "wan").MAC.String() {
		t.Errorf("the MAC of wan was %s (%v) and is %s", mac, err, r.net.Host.Link(t, "wan").MAC)
	}
	const told = "was taken back: the machine was started anew before anybody confirmed it"
	for where, text := range map[string]string{"log": r.daemon.Log(), "status": r.must("status")} {
		if strings.Count(text, told) != 1 {
			t.Errorf("the %s does not tell of it once:\n%s", where, text)
		}
	}
	r.refused(vmnetd.ClassOf(vmnetd.ErrNotFound).Exit, []string{"no apply waits"}, "uplink", "confirm")
	r.must("uplink", "apply", "--no-confirm") // nothing is in the way of another try
	if out := r.must("status"); !r.there("br9") || r.there(r.team) || strings.Contains(out, told) {
		t.Errorf("after the second try:\n%s", out)
	}
}
