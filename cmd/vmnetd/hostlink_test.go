package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

// lanLink is this host's link to network lan.
func lanLink() vmnetd.HostLink {
	return vmnetd.HostLink{
		Network: "lan", Uplink: "eno1", Ifname: "vml4k2x7q3hd", Kind: vmnetd.Macvlan, Mode: vmnetd.Bridge, MAC: "02:00:00:00:00:01",
		IPs: []string{"192.0.2.18/24"}, Guests: []string{"192.0.2.101", "192.0.2.102"}, Changed: true,
	}
}

func TestHostLinkSaysByWhatTheHostReachesGuests(t *testing.T) {
	again, broken := lanLink(), lanLink()
	again.Changed, again.VLAN, broken.Problem = false, 100, "eno1 is not on this host now"
	for _, c := range []struct {
		link vmnetd.HostLink
		args string
		out  string
		code int
	}{
		{lanLink(), "lan --ip 192.0.2.18/24", "this host reaches guests of lan by vml4k2x7q3hd (192.0.2.18/24) on eno1\n", 0},
		{again, "lan", "this host reaches guests of lan by vml4k2x7q3hd (192.0.2.18/24) on eno1.100 (already so)\n", 0},
		{lanLink(), "lan --remove", "this host's own link to lan is removed: it and guests no longer reach each other by it\n", 0},
		{vmnetd.HostLink{Network: "lan"}, "lan --remove", "this host has no link of its own to lan (already so)\n", 0},
		{broken, "lan", "this host is to reach guests of lan by vml4k2x7q3hd (192.0.2.18/24) on eno1\n", 1},
	} {
		f := &fake{link: c.link}
		got := do(t, f, append([]string{"host-link"}, strings.Fields(c.args)...)...)
		if got.code != c.code || got.out != c.out || c.code == 0 && got.err != "" {
			t.Errorf("%s: want %s\ngot %+v", c.args, c.out, got)
		}
		if c.code != 0 && !strings.Contains(got.err, "does not work yet: eno1 is not on this host now\nnext: ") {
			t.Errorf("%+v", got)
		}
	}
}

func TestHostLinkReachesTheDaemonAsItWasMeant(t *testing.T) {
	f := &fake{link: lanLink()}
	got := do(t, f, "host-link", "lan", "--ip", "192.0.2.18/24,2001:DB8::18/64", "--ip", "198.51.100.1/32", "--uplink", "eno1", "--json")
	want := vmnetd.HostLinkRequest{Network: "lan", Uplink: "eno1", IPs: []string{"192.0.2.18/24", "2001:db8::18/64", "198.51.100.1/32"}}
	if diff := cmp.Diff(want, f.linked); got.code != 0 || diff != "" {
		t.Errorf("%+v\n%s", got, diff)
	}
	var shown vmnetd.HostLink
	if err := json.Unmarshal([]byte(got.out), &shown); err != nil || !cmp.Equal(shown, lanLink()) {
		t.Errorf("%v in %s", err, got.out)
	}
}

func TestHostLinkAloneListsAndChangesNothing(t *testing.T) {
	f := &fake{}
	if got := do(t, f, "host-link"); got.code != 0 || !strings.Contains(got.out, "vmnetd host-link NETWORK") {
		t.Errorf("%+v", got)
	}
	if got := do(t, f, "host-link", "--json"); strings.TrimSpace(got.out) != "[]" {
		t.Errorf("%+v", got)
	}
	if f.calls != nil {
		t.Errorf("asked for %v", f.calls)
	}
}
