package policy

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
)

// onV100 decides a NIC of network v100 on wan with what is there changed.
func onV100(change func(*Uplink)) (Decision, error) {
	s := exampleSet()
	vlanNetwork(100)(s)
	return s.Decide(vmnetd.Request{VM: "vm2", Network: "v100"}, exampleFacts().with("wan", change))
}

func TestAVLANDeviceIsALowerDeviceOfItsOwn(t *testing.T) {
	ipvlan := User{Ifname: "ipvl0", Kind: "ipvlan", Family: vmnetd.FamilyIpvlan}
	same := tapOf("vm9/net0", vmnetd.Bridge, derived("net0"))
	for name, c := range map[string]struct {
		change func(*Uplink)
		why    string // of the refusal, "" where it fits
	}{
		"nothing there":                {func(*Uplink) {}, ""},
		"ipvlan on the uplink":         {func(u *Uplink) { u.Users = []User{ipvlan} }, ""},
		"its MAC on the uplink":        {func(u *Uplink) { u.Users = []User{same} }, ""},
		"its MAC on another VLAN":      {func(u *Uplink) { u.VLANs = map[int]Uplink{7: {Ifname: "wan.7", Users: []User{same}}} }, ""},
		"ipvlan on the VLAN":           {func(u *Uplink) { u.VLANs = map[int]Uplink{100: {Ifname: "wan.100", Users: []User{ipvlan}}} }, "wan.100 carries ipvl0"},
		"its MAC on the VLAN":          {func(u *Uplink) { u.VLANs = map[int]Uplink{100: {Ifname: "wan.100", Users: []User{same}}} }, "in use by vm9/net0"},
		"the uplink's MAC":             {func(u *Uplink) { u.MAC = derived("net0") }, "is that of VLAN 100 of wan itself"},
		"the VLAN in a bridge":         {func(u *Uplink) { u.VLANs = map[int]Uplink{100: {Ifname: "wan.100", Master: "br0"}} }, "wan.100 is a port of"},
		"the uplink in a bridge":       {func(u *Uplink) { u.Master, u.MasterBy = "br0", "bridge" }, "wan is a port of bridge br0"},
		"the uplink's MTU too small":   {func(u *Uplink) { u.MTU = 1400 }, "larger than the uplink's 1400"},
		"the uplink has a guest whole": {func(u *Uplink) { u.Users = []User{tapOf("fw/net0", vmnetd.Passthru, "52:54:00:00:00:09")} }, "wan belongs to fw/net0"},
		"a bond that rewrites MACs":    {func(u *Uplink) { u.BondMode = "balance-tlb" }, "rewrites the source MACs"},
	} {
		d, err := onV100(c.change)
		switch {
		case c.why == "" && (err != nil || d.VLAN != 100 || d.Link != LinkFollow || d.Uplink != "wan"):
			t.Errorf("%s: %+v, %v", name, d, err)
		case c.why != "" && (!errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s: got %v, want %q", name, err, c.why)
		}
	}
}

func TestNobodyTakesAnUplinkWholeWhileGuestsHaveItsVLANs(t *testing.T) {
	f := exampleFacts().with("lan9", func(u *Uplink) {
		u.VLANs = map[int]Uplink{100: {Ifname: "lan9.100", Users: []User{tapOf("vm3/net0", vmnetd.Bridge, "52:54:00:00:00:03")}}}
	})
	_, err := exampleSet().Decide(vmnetd.Request{VM: "fw-1"}, f)
	if !errors.Is(err, vmnetd.ErrBusy) || !strings.Contains(err.Error(), "vm3/net0") {
		t.Errorf("got %v", err)
	}
}

func TestTheMTUOfAVLANDeviceCounts(t *testing.T) {
	s := exampleSet()
	vlanNetwork(100)(s)
	s.Networks[len(s.Networks)-1].Grant.MTU = 0
	d, err := s.Decide(vmnetd.Request{VM: "vm2", Network: "v100"}, exampleFacts().with("wan", func(u *Uplink) {
		u.VLANs = map[int]Uplink{100: {Ifname: "wan.100", MTU: 1400}}
	}))
	if err != nil || d.MTU != 1400 || d.Ifname != "wan" {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestAHostWithALinkLocalAddressAloneHasNoneInTheVLAN(t *testing.T) {
	for address, want := range map[string]string{
		"fe80::1/64":      "this host has no address in VLAN 100 of wan",
		"198.51.100.2/24": "this host (198.51.100.2 on VLAN 100 of wan) and vm2 cannot reach each other",
	} {
		d, err := onV100(func(u *Uplink) {
			u.VLANs = map[int]Uplink{100: {Ifname: "wan.100", MTU: 1500, MAC: u.MAC, Hosts: []netip.Prefix{netip.MustParsePrefix(address)}}}
		})
		if err != nil || !strings.HasPrefix(d.Mind[0], want) {
			t.Errorf("%s: %q, %v", address, d.Mind, err)
		}
	}
}
