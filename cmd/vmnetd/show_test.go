package main

import (
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
vm1        net0  lan      macvtap bridge  u0  52:54:00:00:00:01       4  attached
vm\x1b[2J  net0  lan      macvtap bridge  u0  52:54:00:00:00:01       4  broken
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
