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

func TestShowFindsWhoHasAnAddress(t *testing.T) {
	one, two := nic("vm1", "net0"), nic("c1", "net0")
	one.IPs, two.IPs = []string{"192.0.2.101", "2001:db8::101"}, []string{"192.0.2.9/24"}
	f := &fake{nics: []vmnetd.Attachment{nic("vm0", "net0"), one, two}}
	for what, want := range map[string]string{"192.0.2.101": "vm1/net0", "2001:DB8:0::101": "vm1/net0", "192.0.2.9": "c1/net0"} {
		if got := do(t, f, "show", what); got.code != 0 || !strings.HasPrefix(got.out, want+" ") {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if got := do(t, f, "show", "192.0.2.1"); got.code != 4 || !strings.Contains(got.err, "no NIC of ours is known to have 192.0.2.1") {
		t.Errorf("%+v", got)
	}
}

func TestShowOfAMACThatGuestsShareNamesThem(t *testing.T) {
	f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0"), nic("vm2", "net0")}}
	got := do(t, f, "show", "52:54:00:00:00:01")
	if got.code != 2 || got.out != "" || !strings.Contains(got.err, "2 NICs have 52:54:00:00:00:01\nnext: vmnetd show vm1/net0, or vmnetd show vm2/net0\n") {
		t.Errorf("%+v", got)
	}
}

func TestShowJSONHasTheFilter(t *testing.T) {
	f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}}
	if got := do(t, f, "show", "vm1/net0", "--json"); !strings.Contains(got.out, `"filter": []`) || !strings.Contains(got.out, `"mode": "bridge"`) {
		t.Errorf("without a filter: %+v", got)
	}
	f.counters = []vmnetd.Counter{{Rule: "rest", Packets: 7}, {Rule: "source MAC", Packets: 3, Bytes: 180, Dropped: true}}
	var shown shownNIC
	if err := json.Unmarshal([]byte(do(t, f, "show", "vm1/net0", "--json").out), &shown); err != nil || len(shown.Filter) != 2 || shown.Filter[0] != f.counters[1] {
		t.Errorf("%+v, %v", shown, err)
	}
}

func TestShowSaysWhatItKnowsWhenTheFilterCannotBeRead(t *testing.T) {
	f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}, countErr: vmnetd.Errorf(vmnetd.ErrFailed, "no netlink")}
	if got := do(t, f, "show", "vm1/net0"); got.code != 1 || !strings.Contains(got.out, "macvtap bridge") || !strings.Contains(got.err, "no netlink") {
		t.Errorf("%+v", got)
	}
	f.countErr = vmnetd.Errorf(vmnetd.ErrUnsupported, "an older daemon")
	if got := do(t, f, "show", "vm1/net0"); got.code != 0 || strings.Contains(got.out, "FILTER") {
		t.Errorf("%+v", got)
	}
}

func TestListHasAddressesWhereAWholeOneFits(t *testing.T) {
	l2, bridge := nic("vm1", "net0"), nic("vm2", "net0")
	l2.Kind, l2.Mode, l2.IPs = vmnetd.Ipvtap, vmnetd.L2, []string{"192.0.2.101", "2001:db8::101"}
	f := &fake{nics: []vmnetd.Attachment{l2}}
	for _, c := range []struct {
		width int
		add   []vmnetd.Attachment
		has   bool
	}{{0, nil, true}, {85, nil, true}, {84, nil, false}, {85, []vmnetd.Attachment{bridge}, false}} {
		f.nics = append([]vmnetd.Attachment{l2}, c.add...)
		var out, errs bytes.Buffer
		a := testApp(f, &out, &errs)
		a.io.width = c.width
		if code := a.run(t.Context(), []string{"list"}); code != 0 {
			t.Fatal(errs.String())
		}
		if has := strings.Contains(out.String(), "  192.0.2.101 …  "); has != c.has {
			t.Errorf("%d columns, an address is %v:\n%s", c.width, has, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if c.width > 0 && cells.StringWidth(strings.TrimSuffix(line, "\n")) > c.width {
				t.Errorf("more than %d columns: %s", c.width, line)
			}
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
