package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestShowFindsByNameDeviceAndMAC(t *testing.T) {
	one := nic("vm1", "net0")
	one.MAC = "52:54:00:00:00:ab"
	f := &fake{nics: []vmnetd.Attachment{nic("vm0", "net0"), one}}
	for _, what := range []string{"vm1/net0", one.Ifname, "52:54:00:00:00:AB"} {
		got := do(t, f, "show", what, "--json")
		var shown vmnetd.Attachment
		if err := json.Unmarshal([]byte(got.out), &shown); err != nil || shown.FullName() != "vm1/net0" {
			t.Errorf("%s: %+v %v", what, got, err)
		}
	}
}

func TestShowOfNothingIsNotFoundAndNamesWhatIsNear(t *testing.T) {
	f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0"), nic("vm2", "net0")}}
	got := do(t, f, "show", "vm1")
	if got.code != 4 || !strings.Contains(got.err, "next: vmnetd show vm1/net0\n") {
		t.Errorf("%+v", got)
	}
}

func TestListIsPlainWhenPipedAndEscapesNames(t *testing.T) {
	evil := nic("vm\x1b[2J", "net0")
	evil.Phase, evil.Problem = vmnetd.Broken, "u0 has gone"
	got := do(t, &fake{nics: []vmnetd.Attachment{nic("vm1", "net0"), evil}}, "list")
	want := `VM         NIC   NETWORK  MODE            ON  MAC                QUEUES  STATE
vm\x1b[2J  net0  lan      macvtap bridge  u0  52:54:00:00:00:01       4  broken
vm1        net0  lan      macvtap bridge  u0  52:54:00:00:00:01       4  attached
! vm\x1b[2J/net0: u0 has gone
`
	if got.code != 0 || got.out != want {
		t.Errorf("got\n%swant\n%s", got.out, want)
	}
}

func TestListJSONOfNothingIsAnEmptyArray(t *testing.T) {
	if got := do(t, &fake{}, "list", "--json"); got.code != 0 || strings.TrimSpace(got.out) != "[]" {
		t.Errorf("%+v", got)
	}
}

func TestListCountsAsPeopleDo(t *testing.T) {
	f := &fake{}
	for _, name := range []string{"vm10/net0", "vm2/net10", "vm2/net9", "vm2/a", "vm02/net1", "vm/net1"} {
		vm, id, _ := strings.Cut(name, "/")
		f.nics = append(f.nics, nic(vm, id))
	}
	var got []vmnetd.Attachment
	if err := json.Unmarshal([]byte(do(t, f, "list", "--json").out), &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, one := range got {
		names = append(names, one.FullName())
	}
	if want := "vm/net1 vm02/net1 vm2/a vm2/net9 vm2/net10 vm10/net0"; strings.Join(names, " ") != want {
		t.Errorf("got %v, want %s", names, want)
	}
}

func TestAttachAndShowFitTheTerminal(t *testing.T) {
	one := nic("a-vm-with-a-long-name", "net0")
	one.VHost, one.VHostReason = false, "this host has no /dev/vhost-net"
	one.Reasons = []string{strings.Repeat("one reason ", 20)}
	for _, args := range []string{"attach " + one.VM, "show " + one.FullName()} {
		var out, err bytes.Buffer
		a := testApp(&fake{nics: []vmnetd.Attachment{one}}, &out, &err)
		a.io.width = 60
		if code := a.run(t.Context(), strings.Fields(args)); code != 0 {
			t.Fatal(err.String())
		}
		for _, line := range strings.Split(out.String(), "\n") {
			if len(line) > 60 {
				t.Errorf("%s: %d columns: %s", args, len(line), line)
			}
		}
		if strings.Count(out.String(), "no vhost") != 1 || strings.Contains(out.String(), "(this host") {
			t.Errorf("%s: vhost is not said once and plainly:\n%s", args, out.String())
		}
	}
}
