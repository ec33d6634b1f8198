package dbusapi

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

func TestCountersTravelAsTheContractHasThem(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	got, err := c.Counters(t.Context(), "vm1", "net0")
	want := []vmnetd.Counter{{Rule: "source MAC", Packets: 1 << 40, Bytes: 180, Dropped: true}, {Rule: "x\uFFFD", Packets: 3}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	ifaces, err := interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ifaces[managerIface].Methods {
		if code, contract := dbus.SignatureOf([]vmnetd.Counter{}).String(), signature(m.Args, "out"); m.Name == "Counters" && code != contract {
			t.Errorf("contract %s, code %s", contract, code)
		}
	}
	for _, bad := range [][2]string{{"../x", "net0"}, {"vm1", "0"}} {
		if _, err := c.Counters(t.Context(), bad[0], bad[1]); !errors.Is(err, vmnetd.ErrInvalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if len(f.verbs) != 1 {
		t.Errorf("the agent was asked: %v", f.verbs)
	}
}

func TestAHostLinkReachesTheAgentAsItWasMeant(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	got, err := c.HostLink(t.Context(), vmnetd.HostLinkRequest{Network: "lan", Uplink: "wan", IPs: []string{"192.0.2.18/24", "2001:DB8::18/64"}})
	if want := (vmnetd.HostLink{Network: "lan", IPs: []string{"192.0.2.18/24", "2001:db8::18/64"}, Guests: []string{}, Changed: true}); err != nil || !cmp.Equal(want, got) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
	if got, err := c.HostLink(t.Context(), vmnetd.HostLinkRequest{Network: "lan", Remove: true}); err != nil || got.Changed {
		t.Errorf("%+v, %v", got, err)
	}
	links, err := c.HostLinks(t.Context())
	if want := []vmnetd.HostLink{{Network: "lan", IPs: []string{}, Guests: []string{}}}; err != nil || !cmp.Equal(want, links) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, links))
	}
	want := []string{"host-link {Network:lan Uplink:wan IPs:[192.0.2.18/24 2001:db8::18/64] Remove:false}", "host-link {Network:lan Uplink: IPs:[] Remove:true}"}
	if diff := cmp.Diff(want, f.verbs); diff != "" || f.callers[0].PID == 0 {
		t.Errorf("%s\n%+v", diff, f.callers)
	}
}

func TestAHostLinkThatMakesNoSenseReachesNobody(t *testing.T) {
	f := &fake{}
	c, _ := pair(t, f)
	for name, call := range map[string]struct {
		network string
		options properties
	}{
		"no network":        {"", properties{}},
		"control character": {"la\x1bn", properties{}},
		"longer":            {strings.Repeat("n", longestOption+1), properties{}},
		"neither uplink":    {"lan", properties{"remove": dbus.MakeVariant(true), "uplink": dbus.MakeVariant("wan")}},
		"no length":         {"lan", properties{"ips": dbus.MakeVariant([]string{"192.0.2.18"})}},
		"unknown option":    {"lan", properties{"network": dbus.MakeVariant("x")}},
	} {
		err := c.manager(t.Context(), "HostLink", call.network, call.options).Err
		if !errors.Is(err, vmnetd.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if f.verbs != nil {
		t.Errorf("the agent was asked: %v", f.verbs)
	}
}

// A router that exports its guests' routes reads them as a property and follows
// it: every change of addresses must be told.
func TestAddressesThatChangeAreTold(t *testing.T) {
	emitted := make(chan properties, 4)
	ch := newChanges(func(_ dbus.ObjectPath, name string, values ...any) {
		if changed, ok := values[1].(properties); ok && name == propsIface+".PropertiesChanged" {
			emitted <- changed
		}
	})
	a := sample("vm1", "net0")
	ch.seed([]vmnetd.Attachment{a}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ch.run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	a.IPs, a.Learned, a.GuestSide = []string{"10.0.0.1", "10.0.0.2"}, []string{"10.0.0.2"}, []string{"10.0.0.1/32", "10.0.0.2/32"}
	ch.put(agent.Change{Attachment: &a})
	want := properties{"ips": dbus.MakeVariant(a.IPs), "learned": dbus.MakeVariant(a.Learned), "guest_side": dbus.MakeVariant(a.GuestSide)}
	if diff := cmp.Diff(want, <-emitted, cmp.Comparer(func(a, b dbus.Variant) bool { return a.String() == b.String() })); diff != "" {
		t.Error(diff)
	}
}
