package testkit

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Ports of the host of Switches.
const (
	PortA = "pa"
	PortB = "pb"
)

// Switches is a host with two ports on two access switches, both on a third
// one with a peer on it:
//
//	host pa ── swa ─┐
//	                swc ── peer0
//	host pb ── swb ─┘
//
// The switches are bridges that keep what they learn for 300 s, as real ones do:
// swc goes on sending by swa what is for a MAC that was last heard from there.
type Switches struct {
	Host *Netns // pa and pb, both down
	Net  *Netns // the bridges; the other ends of the host's ports are pa-sw and pb-sw
	Peer *Netns // peer0
}

// PeerAddress is the address of peer0.
const PeerAddress = "192.0.2.1"

// NewSwitches builds it. Nothing in it has IPv6, but what is told to.
func NewSwitches(t TB) *Switches {
	t.Helper()
	s := &Switches{Host: NewNetns(t), Net: NewNetns(t), Peer: NewNetns(t)}
	for _, n := range []*Netns{s.Host, s.Net, s.Peer} {
		n.IPv6(t, false)
	}
	for _, bridge := range []string{"swa", "swb", "swc"} {
		s.Net.Create(t, rtnl.NewLink{Name: bridge, Kind: "bridge"})
		s.Net.SetUp(t, bridge)
	}
	NewVeth(t, s.Net, "swa-c", s.Net, "swc-a")
	NewVeth(t, s.Net, "swb-c", s.Net, "swc-b")
	NewVeth(t, s.Host, PortA, s.Net, SwitchSide(PortA))
	NewVeth(t, s.Host, PortB, s.Net, SwitchSide(PortB))
	NewVeth(t, s.Peer, "peer0", s.Net, "swc-peer")
	for port, bridge := range map[string]string{
		"swa-c": "swa", SwitchSide(PortA): "swa", "swb-c": "swb", SwitchSide(PortB): "swb", "swc-a": "swc", "swc-b": "swc", "swc-peer": "swc",
	} {
		s.Net.Set(t, port, rtnl.Master(s.Net.Link(t, bridge).Index))
	}
	s.Peer.Run(t, "ip", "address", "add", PeerAddress+"/24", "dev", "peer0")
	for _, port := range []string{PortA, PortB} {
		s.Host.SetDown(t, port) // a bond or team takes no port that is up
	}
	return s
}

// Failure is a way in which a port of Switches fails.
type Failure string

// Failures.
const (
	SwitchDown Failure = "link down at the switch"
	AdminDown  Failure = "port set down on the host"
	Mute       Failure = "switch drops every frame, link stays up" // what only arp_ping notices
)

// States of a bridge's port (uapi/linux/if_bridge.h).
const (
	bridgePortOff     = "0"
	bridgePortForward = "3"
)

// Fail makes a port of the host fail.
func (s *Switches) Fail(t TB, port string, how Failure) {
	t.Helper()
	switch how {
	case SwitchDown:
		s.Net.SetDown(t, SwitchSide(port))
	case AdminDown:
		s.Host.SetDown(t, port)
	case Mute:
		s.bridgeState(t, port, bridgePortOff)
	}
}

// Mend undoes Fail.
func (s *Switches) Mend(t TB, port string, how Failure) {
	t.Helper()
	switch how {
	case SwitchDown:
		s.Net.SetUp(t, SwitchSide(port))
	case AdminDown:
		s.Host.SetUp(t, port)
	case Mute:
		s.bridgeState(t, port, bridgePortForward)
	}
}

// bridgeState goes by RTM_SETLINK of PF_BRIDGE: after RTM_NEWLINK a port that is
// off and has carrier is switched on again (net/bridge/br_if.c,
// br_port_carrier_check).
func (s *Switches) bridgeState(t TB, port, state string) {
	t.Helper()
	s.Net.Run(t, "bridge", "link", "set", "dev", SwitchSide(port), "state", state)
}

// Bond puts both ports into a bond with those options, by the names of
// ip-link(8), waits until frames pass by PortA, and returns it.
func (s *Switches) Bond(t TB, name string, options ...string) rtnl.Link {
	t.Helper()
	s.Host.Run(t, "ip", append([]string{"link", "add", name, "type", "bond"}, options...)...)
	for _, port := range []string{PortA, PortB} {
		s.Host.Run(t, "ip", "link", "set", port, "master", name)
	}
	s.Host.SetUp(t, name)
	for _, device := range []string{PortA, PortB, name} {
		s.Host.WaitRunning(t, device)
	}
	return s.Host.Link(t, name)
}

// Team has teamd (teamd.conf(5)) put both ports into a team, waits until it
// carries frames, and returns it. config lacks device and ports.
func (s *Switches) Team(t TB, name, config string) rtnl.Link {
	t.Helper()
	whole := fmt.Sprintf(`{"device": %q, "ports": {%q: {}, %q: {}}, %s}`, name, PortA, PortB, config)
	var out Output
	cmd := s.Host.Command(context.Background(), "teamd", "-U", "-c", whole)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start teamd: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM) // it removes the team
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(Patience); ; time.Sleep(10 * time.Millisecond) {
		if l, err := s.Host.conn.LinkByName(context.Background(), name); err == nil {
			if !l.Up {
				s.Host.SetUp(t, name)
			}
			if l.Running && s.Active(t, name) != "" {
				return l
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("teamd made no team that carries frames:\n%s", out.String())
		}
	}
}

// Active is the port that a bond or team sends by, "" for none.
func (s *Switches) Active(t TB, name string) string {
	t.Helper()
	l := s.Host.Link(t, name)
	active := 0
	if l.Kind == "team" {
		_, _ = fmt.Sscan(s.Host.Run(t, "teamnl", name, "getoption", "activeport"), &active)
	} else {
		const activeSlave = 2 // IFLA_BOND_ACTIVE_SLAVE, uapi/linux/if_link.h
		rtnl.Each(l.Data, func(attr int, v []byte) {
			if attr == activeSlave && len(v) == 4 {
				active = int(binary.NativeEndian.Uint32(v))
			}
		})
	}
	for _, port := range []string{PortA, PortB} {
		if s.Host.Link(t, port).Index == active {
			return port
		}
	}
	return ""
}

// Usable says whether a port of a bond or team could be the active one.
func (s *Switches) Usable(t TB, name, port string) bool {
	t.Helper()
	if s.Host.Link(t, name).Kind == "team" {
		return strings.TrimSpace(s.Host.Run(t, "teamdctl", name, "state", "item", "get", "ports."+port+".link_watches.up")) == "true"
	}
	l := s.Host.Link(t, port)
	const miiStatus = 2 // IFLA_BOND_SLAVE_MII_STATUS; BOND_LINK_UP is 0
	up := false
	rtnl.Each(l.PortData, func(attr int, v []byte) { up = up || attr == miiStatus && len(v) == 1 && v[0] == 0 })
	return l.Running && up
}

// Other is the port beside a port.
func Other(port string) string {
	if port == PortA {
		return PortB
	}
	return PortA
}

// SwitchSide is the port of the switch that a port of the host is plugged into.
func SwitchSide(port string) string { return port + "-sw" }

// IPv6 switches IPv6 on or off for devices that are made from now on.
func (n *Netns) IPv6(t TB, on bool) {
	t.Helper()
	off := map[bool]string{true: "0", false: "1"}[on]
	n.Run(t, "sh", "-c", "echo "+off+" >/proc/sys/net/ipv6/conf/default/disable_ipv6")
}

// Run runs a command in the namespace and returns its standard output. The
// test fails when the command does.
func (n *Netns) Run(t TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var says strings.Builder
	cmd := n.Command(ctx, name, args...)
	cmd.Stderr = &says
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, says.String())
	}
	return string(out)
}

// SetDown sets the device with that name down.
func (n *Netns) SetDown(t TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := n.conn.SetUp(ctx, n.Link(t, name).Index, false); err != nil {
		t.Fatalf("cannot set %s down: %v", name, err)
	}
}
