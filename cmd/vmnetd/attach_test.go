package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/policy"
)

func TestAttachSaysWhatTheVMGotAndWhatToMind(t *testing.T) {
	got := do(t, &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}}, "attach", "vm1")
	want := "vm1/net0: network lan, macvtap bridge on u0 (" + vmnetd.Ifname("vm1", "net0") + "), 52:54:00:00:00:01, 4 queues, vhost; rule /etc/vmnetd/vmnetd.yaml:4\n" +
		"  mind: this host and vm1 cannot reach each other over macvtap bridge; to open it:  vmnetd host-link lan\n"
	if got.code != 0 || got.out != want || got.err != "" {
		t.Errorf("got %+v\nwant %s", got, want)
	}
}

func TestMindFollowsTheTableOfModes(t *testing.T) {
	const none, link = "cannot reach each other", "to open it:  vmnetd host-link lan"
	for mode, want := range map[vmnetd.Mode]struct{ has, lacks []string }{
		vmnetd.Bridge:   {[]string{none, link}, nil},
		vmnetd.Private:  {[]string{none}, []string{"host-link"}},
		vmnetd.VEPA:     {[]string{"only if the switch sends frames back"}, []string{"host-link"}},
		vmnetd.Passthru: {[]string{"this host itself receives nothing there"}, []string{"host-link"}},
		vmnetd.L2:       {[]string{none, link, "has the MAC of u0", "client identifier"}, []string{"routing table"}},
		vmnetd.L3:       {[]string{none, link, "has the MAC of u0", "routing table and output chain"}, nil},
		vmnetd.Switched: {nil, []string{"mind"}},
	} {
		one := nic("vm1", "net0")
		one.Mode, one.Kind = mode, mode.Info().Kind
		got := do(t, &fake{nics: []vmnetd.Attachment{one}}, "attach", "vm1")
		for _, text := range want.has {
			if !strings.Contains(got.out, text) {
				t.Errorf("%s does not say %q: %s", mode, text, got.out)
			}
		}
		for _, text := range want.lacks {
			if strings.Contains(got.out, text) {
				t.Errorf("%s says %q: %s", mode, text, got.out)
			}
		}
	}
}

func TestAHostWithALinkOfItsOwnReachesTheGuest(t *testing.T) {
	f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}, links: []vmnetd.HostLink{{Network: "lan", Uplink: "u0"}}}
	if got := do(t, f, "attach", "vm1"); got.code != 0 || strings.Contains(got.out, "mind") {
		t.Errorf("%+v", got)
	}
	f.links[0].Uplink = "u1"
	if got := do(t, f, "attach", "vm1"); !strings.Contains(got.out, "cannot reach each other") {
		t.Errorf("its link is on another uplink: %+v", got)
	}
}

func TestAttachNamesTheAddressesAndWhereAnEndpointIs(t *testing.T) {
	guest, learns, end := nic("vm1", "net0"), nic("vm1", "net0"), nic("c1", "net0")
	guest.IPs = []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"}
	learns.Kind, learns.Mode = vmnetd.Ipvtap, vmnetd.L2
	end.Kind, end.Mode, end.Via, end.Name, end.IPs, end.Queues, end.VHost = vmnetd.Veth, vmnetd.Switched, "netns:/run/netns/c1", "eth0", []string{"192.0.2.9/24"}, 0, false
	for _, c := range []struct {
		one  vmnetd.Attachment
		want string
	}{
		{guest, "52:54:00:00:00:01, 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4, 2 more addresses, 4 queues, vhost; rule"},
		{learns, "ipvtap l2 on u0 (" + learns.Ifname + "), 52:54:00:00:00:01, learns its addresses, 4 queues, vhost; rule"},
		{end, "c1/net0: network lan, veth switched on u0 (" + end.Ifname + "), eth0 in /run/netns/c1, 52:54:00:00:00:01, 192.0.2.9/24; rule"},
	} {
		if got := do(t, &fake{nics: []vmnetd.Attachment{c.one}}, "attach", c.one.VM); got.code != 0 || !strings.Contains(got.out, c.want) {
			t.Errorf("want %s\ngot %+v", c.want, got)
		}
	}
}

func TestAttachOfWhatIsThereIsASuccessThatSaysSo(t *testing.T) {
	one := nic("vm1", "net0")
	one.Changed = false
	got := do(t, &fake{nics: []vmnetd.Attachment{one}}, "attach", "vm1")
	if got.code != 0 || !strings.Contains(got.out, "(already so)") {
		t.Errorf("got %+v", got)
	}
}

func TestAttachThatIsNotThereYetFailsWithItsProblem(t *testing.T) {
	one := nic("vm1", "net0")
	one.Phase, one.Problem = vmnetd.Pending, "u0 is not on this host now"
	got := do(t, &fake{nics: []vmnetd.Attachment{one}}, "attach", "vm1")
	if got.code != 1 || !strings.Contains(got.err, "vm1/net0 is pending, not attached: u0 is not on this host now") {
		t.Errorf("got %+v", got)
	}
}

func TestAttachJSONHasEveryFieldOfTheContract(t *testing.T) {
	got := do(t, &fake{nics: []vmnetd.Attachment{nic("vm1", "net0")}}, "attach", "vm1", "--json")
	var fields map[string]any
	if err := json.Unmarshal([]byte(got.out), &fields); err != nil {
		t.Fatalf("%v in %s", err, got.out)
	}
	for _, name := range strings.Fields("id vm network uplink kind mode ifname ifindex mac ips mtu vlan queues vhost vhost_reason via link phase problem rule reasons changed") {
		if v, ok := fields[name]; !ok || v == nil {
			t.Errorf("field %s is %v", name, v)
		}
	}
}

func TestEveryFlagOfAttachReachesTheDaemon(t *testing.T) {
	f := &fake{nics: []vmnetd.Attachment{nic("vm1", "net3")}}
	got := do(t, f, "attach", "vm1", "--network", "lan", "--uplink", "u0", "--mode", "passthrough", "--mac", "52:54:00:AB:CD:EF",
		"--queues", "8", "--id", "net3", "--via", "qmp:/run/x/../x/vm1.sock", "--bus", "rp1", "--addr", "0x1")
	want := vmnetd.Request{
		VM: "vm1", ID: "net3", Network: "lan", Uplink: "u0", Mode: vmnetd.Passthru, MAC: "52:54:00:ab:cd:ef",
		Queues: 8, Via: "qmp:/run/x/vm1.sock", Bus: "rp1", Addr: "0x1",
	}
	if diff := cmp.Diff(want, f.req); got.code != 0 || diff != "" {
		t.Errorf("%+v\n%s", got, diff)
	}
	got = do(t, f, "attach", "c1", "--via", "netns:c1", "--name", "eth0", "--ip", "192.0.2.9/24,2001:DB8::9", "--ip", "192.0.2.10",
		"--route", "0.0.0.0/0 via 192.0.2.1", "--route", "198.51.100.0/24", "--mode", "l2")
	want = vmnetd.Request{
		VM: "c1", Via: "netns:/run/netns/c1", Name: "eth0", Mode: vmnetd.L2, IPs: []string{"192.0.2.9/24", "2001:db8::9", "192.0.2.10"},
		Routes: []string{"default via 192.0.2.1", "198.51.100.0/24"},
	}
	if diff := cmp.Diff(want, f.req); got.code != 0 || diff != "" {
		t.Errorf("%+v\n%s", got, diff)
	}
	got = do(t, f, "attach", "vm1", "--via", "libvirt", "--live", "--config", "--handover", "fd", "--incoming")
	want = vmnetd.Request{VM: "vm1", Via: "libvirt", Live: true, Config: true, Handover: "fd", Incoming: true}
	if diff := cmp.Diff(want, f.req); got.code != 0 || diff != "" {
		t.Errorf("%+v\n%s", got, diff)
	}
}

func TestANICThatIsKeptForTheNextStartIsASuccess(t *testing.T) {
	one := nic("vm1", "net0")
	one.Phase, one.Ifindex, one.Link, one.Problem = vmnetd.Pending, 0, "down", vmnetd.NextStart
	if got := do(t, &fake{nics: []vmnetd.Attachment{one}}, "attach", "vm1", "--config"); got.code != 0 || !strings.Contains(got.out, "kept for the VM's next start") {
		t.Errorf("--config: %+v", got)
	}
	one.Problem = ""
	if got := do(t, &fake{nics: []vmnetd.Attachment{one}}, "attach", "vm1"); got.code != 1 {
		t.Errorf("not there yet: %+v", got)
	}
}

func TestALiveOnlyNICOfAPersistentVMIsSomethingToMind(t *testing.T) {
	one := nic("vm1", "net0")
	one.Problem = "it is gone when vm1 is shut off: its definition does not have it"
	got := do(t, &fake{nics: []vmnetd.Attachment{one}}, "attach", "vm1", "--live")
	if got.code != 0 || !strings.Contains(got.out, "\n  mind: it is gone when vm1 is shut off: its definition does not have it\n") {
		t.Errorf("%+v", got)
	}
}

func TestDryRunChangesNothingAndExitsAsAttachWould(t *testing.T) {
	denied := policy.Explanation{VM: "vm1", Error: "vm1 may not use network dmz", Next: "vmnetd explain vm1 --all", ExitCode: 3}
	f := &fake{explained: []policy.Explanation{denied}}
	got := do(t, f, "attach", "vm1", "--network", "dmz", "--dry-run")
	if got.code != 3 || got.err != "vmnetd: vm1 may not use network dmz\nnext: vmnetd explain vm1 --all\n" {
		t.Errorf("denied: %+v", got)
	}
	f.explained = []policy.Explanation{{VM: "vm1", Granted: true, Network: "lan"}}
	if got := do(t, f, "attach", "vm1", "--dry-run"); got.code != 0 || !strings.Contains(got.out, "dry run: nothing was changed") {
		t.Errorf("granted: %+v", got)
	}
	if diff := cmp.Diff([]string{"Explain all=false", "Explain all=false"}, f.calls); diff != "" {
		t.Error(diff)
	}
}

func TestExplainExitsAsTheDecisionAndIsSilentOnStandardError(t *testing.T) {
	denied := policy.Explanation{VM: "vm1", Error: "no rule", ExitCode: 3}
	open := policy.Explanation{VM: "vm1", Granted: true, Network: "lan"}
	for _, c := range []struct {
		name string
		all  []policy.Explanation
		args []string
		code int
	}{
		{"denied", []policy.Explanation{denied}, nil, 3},
		{"granted", []policy.Explanation{open}, nil, 0},
		{"all, one open", []policy.Explanation{denied, open}, []string{"--all"}, 0},
		{"all, none open", []policy.Explanation{denied, denied}, []string{"--all"}, 3},
	} {
		got := do(t, &fake{explained: c.all}, append([]string{"explain", "vm1"}, c.args...)...)
		if got.code != c.code || got.err != "" || got.out == "" {
			t.Errorf("%s: %+v, want code %d", c.name, got, c.code)
		}
	}
}

func TestErrorsOfTheDaemonKeepTheirClassAndWords(t *testing.T) {
	for _, c := range vmnetd.Classes {
		err := vmnetd.Errorf(c.Err, "it is \x1b[31mso").WithNext("do this")
		got := do(t, &fake{err: err}, "attach", "vm1")
		if want := "vmnetd: it is \\x1b[31mso\nnext: do this\n"; got.code != c.Exit || got.err != want || got.out != "" {
			t.Errorf("%s: %+v", c.Name, got)
		}
		got = do(t, &fake{err: err}, "attach", "vm1", "--json")
		var r report
		if e := json.Unmarshal([]byte(got.err), &r); e != nil || !cmp.Equal(r, report{Error: "it is \x1b[31mso", Name: c.Name, Next: "do this"}) || got.code != c.Exit {
			t.Errorf("%s as JSON: %+v %v", c.Name, got, e)
		}
	}
}

func TestInterruptedAttachSaysThatTheDaemonGoesOn(t *testing.T) {
	f := &fake{hang: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.hang
		cancel()
	}()
	var out, err bytes.Buffer
	code := testApp(f, &out, &err).run(ctx, []string{"attach", "vm1"})
	if code != 130 || !strings.Contains(err.String(), "the daemon goes on with the attach") {
		t.Errorf("exit %d, %s", code, err.String())
	}
}
