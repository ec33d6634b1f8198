package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/vmnetd/vmnetd"
)

func sick() vmnetd.Status {
	broken := nic("vm2", "net0")
	broken.Phase, broken.Problem = vmnetd.Broken, "its device was deleted"
	return vmnetd.Status{
		Host: "kvm17", Version: "0.1.0", Since: testNow.Add(-12 * 24 * time.Hour), Config: "/etc/vmnetd/vmnetd.yaml", Accepted: testNow,
		Problems: []vmnetd.Check{{Level: vmnetd.LevelFail, Name: "u0", Text: "u0 has no carrier", Do: "check the cable"},
			{Level: vmnetd.LevelWarn, Name: "vm2/net0", Text: "broken: its device was deleted\nand more", Do: "vmnetd show vm2/net0"}},
		Uplinks:     []vmnetd.UplinkState{{Name: "u0", Kind: "nic", Ifname: "eno1", State: "no-carrier", MTU: 1500, Guests: 2, Problem: "u0 has no carrier"}},
		Attachments: []vmnetd.Attachment{nic("vm1", "net0"), broken},
	}
}

func TestStatusBeginsWithProblems(t *testing.T) {
	t.Setenv("TZ", "UTC")
	got := do(t, &fake{status: sick()}, "status")
	lines := strings.Split(got.out, "\n")
	if got.code != 0 || !strings.HasPrefix(lines[0], "kvm17  vmnetd 0.1.0, up 12 d; /etc/vmnetd/vmnetd.yaml accepted 2026-11-22") {
		t.Errorf("%+v", got)
	}
	want := `
! u0 has no carrier
  next: check the cable
! vm2/net0: broken: its device was deleted
  and more
  next: vmnetd show vm2/net0

UPLINK  KIND  STATE       PATH   MTU  GUESTS  LAST CHANGE
u0      nic   no-carrier  eno1  1500       2  -

VM   NIC   NETWORK  MODE            ON  QUEUES  STATE
vm1  net0  lan      macvtap bridge  u0       4  attached
vm2  net0  lan      macvtap bridge  u0       4  broken
`
	if rest := strings.Join(lines[1:], "\n"); rest != want {
		t.Errorf("got\n%swant\n%s", rest, want)
	}
}

func TestStatusCheckIsALineAProblemAndExit1(t *testing.T) {
	got := do(t, &fake{status: sick()}, "status", "--check")
	if want := "FAIL  u0 has no carrier\nWARN  vm2/net0: broken: its device was deleted …\n"; got.code != 1 || got.out != want || got.err != "" {
		t.Errorf("%+v", got)
	}
	well := vmnetd.Status{Attachments: []vmnetd.Attachment{nic("vm1", "net0")}}
	if got := do(t, &fake{status: well}, "status", "--check"); got != (result{}) {
		t.Errorf("well: %+v", got)
	}
	well.Problems = []vmnetd.Check{{Level: vmnetd.LevelWarn, Text: "network dmz is not on this host"}}
	well.Problems = append(well.Problems, vmnetd.Check{Level: vmnetd.LevelWarn, Name: "vm1/net0", Text: "attached: on u1, not on the network's first choice of uplink"})
	want := "WARN  network dmz is not on this host\nWARN  vm1/net0: on u1, not on the network's first choice of uplink\n"
	if got := do(t, &fake{status: well}, "status", "--check"); got.code != 0 || got.out != want {
		t.Errorf("warned: %+v", got)
	}
}

func TestStatusFitsTheTerminalWhereNamesCanBeShortened(t *testing.T) {
	s := sick()
	s.Attachments[0].VM = strings.Repeat("long-", 20)
	s.Attachments[0].Network = strings.Repeat("ネット", 10)
	var out, err bytes.Buffer
	a := testApp(&fake{status: s}, &out, &err)
	a.io.width = 80
	if code := a.run(t.Context(), []string{"status"}); code != 0 {
		t.Fatal(err.String())
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if w := cells.StringWidth(line); w > 80 {
			t.Errorf("%d columns: %s", w, line)
		}
	}
	if !strings.Contains(out.String(), "…") {
		t.Errorf("nothing shortened:\n%s", out.String())
	}
}

func TestColourOnlyWhereTheTerminalMayBeColoured(t *testing.T) {
	for _, color := range []bool{false, true} {
		var out, err bytes.Buffer
		a := testApp(&fake{status: sick()}, &out, &err)
		a.io.color = color
		a.run(t.Context(), []string{"status"})
		if has := strings.Contains(out.String(), "\x1b["); has != color {
			t.Errorf("color %v: escapes in the output: %v", color, has)
		}
	}
}

func TestDoctorExitsByItsFailures(t *testing.T) {
	checks := []vmnetd.Check{
		{Level: vmnetd.LevelOK, Name: "macvtap", Text: "in the kernel"},
		{Level: vmnetd.LevelWarn, Name: "vhost_net", Text: "no /dev/vhost-net", Do: "modprobe vhost_net"},
	}
	got := do(t, &fake{checks: checks}, "doctor")
	want := "ok    macvtap: in the kernel\nWARN  vhost_net: no /dev/vhost-net\n      do: modprobe vhost_net\nok    daemon: runs and answers on the bus\n\n1 warning, no failure\n"
	if got.code != 0 || got.out != want {
		t.Errorf("%+v", got)
	}
	checks = append(checks, vmnetd.Check{Level: vmnetd.LevelFail, Name: "tun", Text: "no /dev/net/tun"})
	if got := do(t, &fake{checks: checks}, "doctor", "--json"); got.code != 1 || !json.Valid([]byte(got.out)) {
		t.Errorf("%+v", got)
	}
}

func TestDoctorWithoutTheDaemonLooksForItself(t *testing.T) {
	got := do(t, nil, "doctor")
	if got.code != 1 || !strings.Contains(got.out, "FAIL  daemon: the daemon is not running\n      do: systemctl start vmnetd\n") || !strings.Contains(got.out, "macvtap: seen from outside\n") || !strings.Contains(got.out, "configuration") {
		t.Errorf("%+v", got)
	}
}
