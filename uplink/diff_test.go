package uplink

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/teaming"
)

// world is devices in few words; each has a MTU of 1500 where none is given.
func world(devices ...Device) World {
	w := World{}
	for i, d := range devices {
		d.Index = i + 1
		if d.MTU == 0 {
			d.MTU = 1500
		}
		w[d.Name] = d
	}
	return w
}

// nic is a NIC with carrier, up, whose MAC ends in n.
func nic(name string, n byte) Device {
	mac := "02:00:00:00:00:0" + string('0'+n)
	return Device{Name: name, MAC: mac, PermMAC: mac, Up: true, Carrier: true}
}

func port(d Device, master string) Device {
	d.Master = master
	return d
}

func guests(d Device, vms ...string) Device {
	for _, vm := range vms {
		d.Users = append(d.Users, User{Name: "vmn" + vm, Kind: "macvtap", Alias: "vmnetd:" + vm + "/net0"})
	}
	return d
}

func bond(name, mode string, options ...string) Device {
	d := Device{Name: name, Kind: kindBond, Mode: mode, MAC: "02:00:00:00:00:01", Up: true, Carrier: true, Options: map[string]string{}}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		d.Options[k] = v
	}
	return d
}

func team(name, runner string, ports ...string) Device {
	c := &teaming.Config{Runner: teaming.Runner{Name: runner}}
	for _, p := range ports {
		c.Ports = append(c.Ports, teaming.Port{Name: p})
	}
	return Device{Name: name, Kind: kindTeam, Team: c, MAC: "02:00:00:00:00:01", Up: true, Carrier: true}
}

func vlan(lower string, id int) Device {
	return Device{Name: lower + ".v", Kind: kindVLAN, Lower: lower, Up: true, Carrier: true, VLAN: &VLAN{Over: lower, ID: id, Protocol: "802.1Q"}}
}

func bondSpec(name, mode string, options map[string]string, ports ...string) Spec {
	c := &bonding.Config{Mode: mode, Options: options}
	for _, p := range ports {
		c.Ports = append(c.Ports, bonding.Port{Name: p})
	}
	return Spec{Name: name, Kind: vmnetd.UplinkBond, Bond: c}
}

func anchorSpec(name string, over ...string) Spec {
	return Spec{Name: name, Kind: vmnetd.UplinkAnchor, Anchor: &Anchor{Over: over}}
}

func anchor(name, primary string) Device {
	return bond(name, anchorMode, "miimon="+anchorMiimon, "fail_over_mac=none", "primary="+primary, "primary_reselect=always")
}

// inWords is steps as people read them.
func inWords(steps []Step) []string {
	out := []string{}
	for _, s := range steps {
		out = append(out, s.text())
	}
	return out
}

func lines(s string) []string {
	out := []string{}
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return out
}

func TestDeclaredUplinksBecomeTheFewestStepsInAnOrderThatTheKernelTakes(t *testing.T) {
	tests := map[string]struct {
		is    World
		specs []Spec
		made  map[string]string
		steps string
	}{
		"nothing is done to what holds": {
			is:    world(port(nic("e1", 1), "bond0"), bond("bond0", "802.3ad", "miimon=100", "lacp_rate=fast")),
			specs: []Spec{bondSpec("bond0", "802.3ad", map[string]string{"lacp_rate": "fast"}, "e1")},
		},
		"a bond is made before its ports are put in, each of them down": {
			is:    world(nic("e1", 1), nic("e2", 2)),
			specs: []Spec{bondSpec("bond0", "active-backup", map[string]string{"primary": "e1", "miimon": "100"}, "e1", "e2")},
			steps: `
				make bond bond0
				set e1 down
				put e1 into bond0
				set e2 down
				put e2 into bond0
				set primary e1 of bond0
				set bond0 up`,
		},
		"teamd starts while the ports are nobody's where it speaks LACP": {
			is:    world(port(nic("e1", 1), "bond0"), bond("bond0", "802.3ad")),
			specs: []Spec{{Name: "team0", Kind: vmnetd.UplinkTeam, Team: &teaming.Config{Runner: teaming.Runner{Name: teaming.LACP}, Ports: []teaming.Port{{Name: "e1"}}}}},
			made:  map[string]string{"bond0": kindBond},
			steps: `
				take e1 out of bond0
				make team team0
				put e1 into team0
				set team0 up
				remove bond0`,
		},
		"an option that is live is written and nothing else": {
			is:    world(port(nic("e1", 1), "bond0"), bond("bond0", "802.3ad", "xmit_hash_policy=layer2")),
			specs: []Spec{bondSpec("bond0", "802.3ad", map[string]string{"xmit_hash_policy": "layer3+4"}, "e1")},
			steps: `set xmit_hash_policy layer3+4 of bond0`,
		},
		"an option that needs the bond down has its ports stay in": {
			is:    world(port(nic("e1", 1), "bond0"), bond("bond0", "802.3ad", "lacp_rate=slow")),
			specs: []Spec{bondSpec("bond0", "802.3ad", map[string]string{"lacp_rate": "fast"}, "e1")},
			steps: `
				set bond0 down
				set lacp_rate fast of bond0
				set bond0 up`,
		},
		"a mode needs the ports out": {
			is:    world(port(nic("e1", 1), "bond0"), port(nic("e2", 2), "bond0"), bond("bond0", "active-backup")),
			specs: []Spec{bondSpec("bond0", "802.3ad", nil, "e1", "e2")},
			steps: `
				take e1 out of bond0
				take e2 out of bond0
				set bond0 down
				set mode 802.3ad of bond0
				give bond0 the MAC 02:00:00:00:00:01
				put e1 into bond0
				put e2 into bond0
				set bond0 up`,
		},
		"a new port is put in before the old one leaves": {
			is:    world(port(nic("e1", 1), "bond0"), nic("e2", 2), bond("bond0", "active-backup")),
			specs: []Spec{bondSpec("bond0", "active-backup", nil, "e2"), {Name: "e1", Kind: vmnetd.UplinkNIC}},
			steps: `
				set e2 down
				put e2 into bond0
				wait until e2 carries in bond0
				take e1 out of bond0
				set e1 up`,
		},
		"a team is replaced by a bond under an anchor, and the port that carries goes last": {
			is: world(port(nic("e1", 1), "team0"), port(nic("e2", 2), "team0"),
				port(active(team("team0", "activebackup", "e1", "e2"), "e1"), "wan"), guests(anchor("wan", "team0"), "a")),
			specs: []Spec{anchorSpec("wan", "bond0"), bondSpec("bond0", "active-backup", nil, "e1", "e2")},
			made:  map[string]string{"team0": kindTeam, "wan": kindBond},
			steps: `
				make bond bond0
				take e2 out of team0
				put e2 into bond0
				put bond0 into wan
				set primary bond0 of wan
				wait until bond0 carries in wan
				take team0 out of wan
				take e1 out of team0
				put e1 into bond0
				remove team0`,
		},
		"static addresses go to the anchor, not to the bond under it, and DHCP's stay": {
			is: world(with4(nic("e1", 1), "192.0.2.17/24", "192.0.2.1"), with4(dynamic(nic("e2", 2)), "198.51.100.2/24", "")),
			specs: []Spec{
				anchorSpec("wan", "bond0"), bondSpec("bond0", "active-backup", nil, "e1"),
				bondSpec("bond1", "active-backup", nil, "e2"),
			},
			steps: `
				make bond bond0
				set e1 down
				put e1 into bond0
				make bond bond1
				set e2 down
				put e2 into bond1
				set bond1 up
				make bond wan
				put bond0 into wan
				set primary bond0 of wan
				set wan up
				take the address 192.0.2.17/24 from e1
				give wan the address 192.0.2.17/24
				route the default route via 192.0.2.1 out of wan`,
		},
		"a VLAN with another id is made anew": {
			is:    world(nic("e1", 1), Device{Name: "v", Kind: kindVLAN, Lower: "e1", Up: true, VLAN: &VLAN{Over: "e1", ID: 5}}),
			specs: []Spec{{Name: "v", Kind: vmnetd.UplinkVLAN, VLAN: &VLAN{Over: "e1", ID: 6}}},
			steps: `
				remove v
				make VLAN v
				set v up`,
		},
		"what an earlier apply made and is declared no more goes from the top down": {
			is: world(port(nic("e1", 1), "bond0"), bond("bond0", "active-backup"), vlan("bond0", 5)),
			made: map[string]string{
				"bond0": kindBond, "bond0.v": kindVLAN,
			},
			steps: `
				remove bond0.v
				take e1 out of bond0
				remove bond0
				set e1 up`,
		},
		"what is said of the switch is nothing to apply": {
			is:    world(nic("e1", 1)),
			specs: []Spec{{Name: "e1", Kind: vmnetd.UplinkNIC, MaxMACs: 1, NoHairpin: true}},
		},
		"what others made is never removed": {
			is: world(port(nic("e1", 1), "bond0"), bond("bond0", "active-backup"), vlan("bond0", 5)),
		},
		"the MTU is given to the bond, which gives it to its ports": {
			is:    world(port(nic("e1", 1), "bond0"), bond("bond0", "802.3ad"), vlan("bond0", 5)),
			specs: []Spec{{Name: "bond0", Kind: vmnetd.UplinkBond, MTU: 9000, Bond: bondSpec("", "802.3ad", nil, "e1").Bond}},
			steps: `give bond0 an MTU of 9000`,
		},
		"a VLAN may be as large as what is under it is to be": {
			is: world(nic("e1", 1)),
			specs: []Spec{
				{Name: "v", Kind: vmnetd.UplinkVLAN, MTU: 9000, VLAN: &VLAN{Over: "e1", ID: 6}},
				nicMTU("e1", 9000),
			},
			steps: `
				give e1 an MTU of 9000
				make VLAN v
				set v up`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			want, checks := want(Declared{Specs: test.specs, Made: test.made}, test.is)
			if len(checks) > 0 {
				t.Fatalf("refused: %v", checks)
			}
			if diff := cmp.Diff(lines(test.steps), inWords(diff(test.is, want))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func active(d Device, port string) Device {
	d.Active = port
	return d
}

func TestStepsLeadToWhatIsWantedAndBack(t *testing.T) {
	worlds := []World{
		world(nic("e1", 1), nic("e2", 2), nic("e3", 3)),
		world(with4(nic("e1", 1), "192.0.2.17/24", "192.0.2.1"), nic("e2", 2), nic("e3", 3)),
		world(port(nic("e1", 1), "b"), port(nic("e2", 2), "b"), nic("e3", 3), bond("b", "active-backup", "primary=e1")),
		world(port(nic("e1", 1), "b"), nic("e2", 2), port(nic("e3", 3), "b"), with4(bond("b", "802.3ad", "lacp_rate=fast"), "192.0.2.17/24", "192.0.2.1")),
		world(port(nic("e1", 1), "t"), port(nic("e2", 2), "t"), nic("e3", 3), team("t", "lacp", "e1", "e2")),
		world(port(nic("e1", 1), "t"), port(nic("e2", 2), "t"), nic("e3", 3), port(team("t", "lacp", "e1", "e2"), "wan"), anchor("wan", "t")),
		world(port(nic("e1", 1), "b"), port(nic("e2", 2), "b"), nic("e3", 3), port(bond("b", "802.3ad"), "wan"), anchor("wan", "b")),
		world(port(nic("e1", 1), "br"), nic("e2", 2), port(nic("e3", 3), "b"), bond("b", "802.3ad"),
			Device{Name: "br", Kind: kindBridge, Up: true, MAC: "02:00:00:00:00:01", Options: map[string]string{"stp_state": "0"}}),
		world(nic("e1", 1), nic("e2", 2), nic("e3", 3), vlan("e1", 7)),
		world(port(nic("e1", 1), "b"), nic("e2", 2), nic("e3", 3), bond("b", "802.3ad"), vlan("b", 7)),
	}
	for i, from := range worlds {
		for j, to := range worlds {
			back := from.clone()
			for name := range to {
				if !from.there(name) {
					back[name] = Device{Name: name, Absent: true}
				}
			}
			there := to.clone()
			for name := range from {
				if !to.there(name) {
					there[name] = Device{Name: name, Absent: true}
				}
			}
			now := played(from, diff(from, there))
			if left := diff(now, there); len(left) > 0 {
				t.Errorf("%d to %d leaves %q", i, j, inWords(left))
			}
			now = played(now, diff(now, back))
			if left := diff(now, back); len(left) > 0 {
				t.Errorf("%d to %d and back leaves %q", i, j, inWords(left))
			}
			same(t, from, now)
		}
	}
}

func played(w World, steps []Step) World {
	w = w.clone()
	for _, s := range steps {
		w.play(s)
	}
	return w
}

// same compares what must come back.
func same(t *testing.T, was, is World) {
	t.Helper()
	if !slices.Equal(was.names(), is.names()) {
		t.Errorf("devices %v, want %v", is.names(), was.names())
	}
	for name, d := range was {
		n := is[name]
		if n.Master != d.Master || n.Up != d.Up || n.Mode != d.Mode || n.Kind != d.Kind || !slices.Equal(n.Addrs, d.Addrs) || !slices.Equal(n.Routes, d.Routes) {
			t.Errorf("%s is %+v, was %+v", name, n, d)
		}
	}
}
