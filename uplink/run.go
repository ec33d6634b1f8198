package uplink

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/bonding"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// verbs is what does each step, on the device of the step as it is now.
var verbs = map[Verb]func(k *kernel, ctx context.Context, l rtnl.Link, s Step) error{
	verbDelete: (*kernel).remove,
	verbUp: func(k *kernel, ctx context.Context, l rtnl.Link, _ Step) error {
		return k.conn.SetUp(ctx, l.Index, true)
	},
	verbDown: func(k *kernel, ctx context.Context, l rtnl.Link, _ Step) error {
		return k.conn.SetUp(ctx, l.Index, false)
	},
	verbEnslave:  (*kernel).enslave,
	verbRelease:  (*kernel).release,
	verbMAC:      (*kernel).setMAC,
	verbMTU:      (*kernel).setMTU,
	verbOptions:  (*kernel).setOptions,
	verbPort:     (*kernel).setPort,
	verbTeam:     (*kernel).setTeam,
	verbRestart:  (*kernel).restartTeam,
	verbActivate: (*kernel).activate,
	verbAwait:    (*kernel).await,
	verbAddrAdd:  (*kernel).addAddr,
	verbAddrDel:  (*kernel).delAddr,
	verbRouteAdd: (*kernel).addRoute,
	verbRouteDel: (*kernel).delRoute,
}

// run carries one step out. A step that holds already is fine.
func (k *kernel) run(ctx context.Context, s Step) error {
	if s.Verb == verbMake {
		return failed(s, k.make(ctx, s))
	}
	do, known := verbs[s.Verb]
	if !known {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "there is no step %q", string(s.Verb))
	}
	l, err := k.conn.LinkByName(ctx, s.Device)
	if errors.Is(err, vmnetd.ErrNotFound) && undoing[s.Verb] {
		return nil
	}
	if err != nil {
		return failed(s, err)
	}
	return failed(s, do(k, ctx, l, s))
}

// undoing are the verbs that have nothing to do where the device has gone.
var undoing = map[Verb]bool{verbDelete: true, verbRelease: true, verbDown: true, verbAddrDel: true, verbRouteDel: true}

// failed is a step's failure in words, with the kernel's own.
func failed(s Step, err error) error {
	if err == nil {
		return nil
	}
	class := vmnetd.ClassOf(err).Err
	switch {
	case errors.Is(err, unix.EBUSY):
		class = vmnetd.ErrBusy
	case errors.Is(err, unix.EOPNOTSUPP):
		class = vmnetd.ErrUnsupported
	}
	return vmnetd.Errorf(class, "cannot %s: %w", s.text(), err).WithNext(vmnetd.NextOf(err))
}

func (k *kernel) make(ctx context.Context, s Step) error {
	n := rtnl.NewLink{Name: s.Device, Kind: s.Kind, MTU: s.MTU, Data: []rtnl.Attr{}}
	if s.MAC != "" {
		mac, err := net.ParseMAC(s.MAC)
		if err != nil {
			return err
		}
		n.MAC = mac
	}
	var err error
	switch s.Kind {
	case kindTeam:
		return k.startTeam(ctx, s)
	case kindBond:
		n.Data, err = bonding.Create(bonding.Config{Mode: s.Mode, Options: s.Options})
	case kindBridge:
		n.Data, err = attrs(bridgeTable, s.Options)
	case kindVLAN:
		n.Lower, n.Data, err = k.vlan(ctx, *s.VLAN)
	}
	if err != nil {
		return err
	}
	err = k.conn.Create(ctx, n)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "this kernel cannot make a %s: %w", kindText(s.Kind), err).WithNext("modprobe " + modules[s.Kind])
	}
	return err
}

// modules are the kernel's modules by kind of device.
var modules = map[string]string{kindBond: "bonding", kindTeam: "team", kindVLAN: "8021q", kindBridge: "bridge"}

// remove deletes the device that is meant, and no other one of that name.
func (k *kernel) remove(ctx context.Context, l rtnl.Link, s Step) error {
	switch {
	case l.Kind != s.Kind:
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s is a %s now, not a %s", l.Name, kindText(l.Kind), kindText(s.Kind))
	case l.Kind == kindTeam:
		return k.stopTeam(ctx, l.Name)
	}
	return k.conn.Delete(ctx, l.Index)
}

func (k *kernel) enslave(ctx context.Context, l rtnl.Link, s Step) error {
	master, err := k.conn.LinkByName(ctx, s.Master)
	if err != nil {
		return err
	}
	if l.Master == master.Index {
		return nil
	}
	if master.Kind == kindTeam {
		return k.addTeamPort(ctx, l, s)
	}
	return k.conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.Master(master.Index)}})
}

// release takes a port out of the master that is meant.
func (k *kernel) release(ctx context.Context, l rtnl.Link, s Step) error {
	if l.Master == 0 {
		return nil
	}
	master, err := k.conn.LinkByIndex(ctx, l.Master)
	if err != nil {
		return err
	}
	if master.Name != s.Master {
		return vmnetd.Errorf(vmnetd.ErrBusy, "%s is a port of %s now, not of %s", l.Name, master.Name, s.Master)
	}
	if master.Kind == kindTeam && k.removeTeamPort(ctx, l, s) == nil {
		return nil
	}
	return k.conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.Master(0)}})
}

func (k *kernel) setMAC(ctx context.Context, l rtnl.Link, s Step) error {
	mac, err := net.ParseMAC(s.MAC)
	if err != nil {
		return err
	}
	return k.conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.MAC(mac)}})
}

func (k *kernel) setMTU(ctx context.Context, l rtnl.Link, s Step) error {
	return k.conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.MTU(s.MTU)}})
}

// setOptions writes options one by one, in the order that the kernel takes, and
// none that holds: an error names the one.
func (k *kernel) setOptions(ctx context.Context, l rtnl.Link, s Step) error {
	if l.Kind == kindBridge {
		return k.setBridge(ctx, l, s.Options)
	}
	names, err := k.names(ctx)
	if err != nil {
		return err
	}
	want := part(s.Options, func(string) bool { return true })
	if s.Mode != "" {
		want = with(want, map[string]string{"mode": s.Mode})
	}
	for _, c := range bonding.Diff(bonding.Read(l, names.byIndex), want) {
		data, err := bonding.Attrs(map[string]string{c.Option: c.To}, names.byName)
		if err != nil {
			return err
		}
		if err := k.conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.Info(kindBond, data)}}); err != nil {
			return vmnetd.Errorf(vmnetd.ErrFailed, "the kernel refuses %s %s: %w", c.Option, c.To, err)
		}
	}
	return nil
}

func (k *kernel) setPort(ctx context.Context, l rtnl.Link, s Step) error {
	encode := bonding.PortAttrs
	if s.Kind == kindBridge {
		encode = func(options map[string]string) ([]rtnl.Attr, error) { return attrs(bridgePortTable, options) }
	}
	data, err := encode(s.Options)
	if err != nil {
		return err
	}
	return k.conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.PortInfo(s.Kind, data)}})
}

// activate makes a port the active one. A port without link is refused by the
// kernel (bond_option_active_slave_set).
func (k *kernel) activate(ctx context.Context, l rtnl.Link, s Step) error {
	master, err := k.conn.LinkByName(ctx, s.Master)
	if err != nil {
		return err
	}
	if master.Kind == kindTeam {
		return k.activateTeamPort(ctx, l, s)
	}
	data, err := bonding.Attrs(map[string]string{"active_slave": l.Name}, func(string) (int, bool) { return l.Index, true })
	if err != nil {
		return err
	}
	return k.conn.Set(ctx, rtnl.Change{Index: master.Index, Attrs: []rtnl.Attr{rtnl.Info(kindBond, data)}})
}

// awaitLimit is how long a port may take until it carries. A bond over a bond
// looks every miimon; a NIC that was set up negotiates for a few seconds.
const awaitLimit = 8 * time.Second

// await waits until a port carries in its master: the bond's own judgement, as
// it is what it acts on, and for others the carrier.
func (k *kernel) await(ctx context.Context, _ rtnl.Link, s Step) error {
	ctx, cancel := context.WithTimeout(ctx, awaitLimit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond) // a bond announces no change of a port's MII status by itself
	defer tick.Stop()
	for {
		l, err := k.conn.LinkByName(ctx, s.Device)
		if err == nil && carries(l) {
			return nil
		}
		select {
		case <-ctx.Done():
			return vmnetd.Errorf(vmnetd.ErrFailed, "%s has no link after %v", s.Device, awaitLimit).WithNext("check its cable and switch port")
		case <-tick.C:
		}
	}
}

func carries(port rtnl.Link) bool {
	up := port.Running
	if port.PortKind == kindBond {
		rtnl.Each(port.PortData, func(attr int, v []byte) {
			if attr == unix.IFLA_BOND_SLAVE_MII_STATUS {
				up = up && len(v) > 0 && v[0] == 0 // BOND_LINK_UP
			}
		})
	}
	return up
}

// namesNow finds names and indexes of devices as they are now.
type namesNow struct {
	index map[string]int
	name  map[int]string
}

func (k *kernel) names(ctx context.Context) (namesNow, error) {
	links, err := k.conn.Links(ctx)
	n := namesNow{index: map[string]int{}, name: map[int]string{}}
	for _, l := range links {
		n.index[l.Name], n.name[l.Index] = l.Index, l.Name
	}
	return n, err
}

func (n namesNow) byIndex(index int) string { return n.name[index] }

func (n namesNow) byName(name string) (int, bool) {
	index, ok := n.index[name]
	return index, ok
}

// vlan is the lower device and attributes of a VLAN.
func (k *kernel) vlan(ctx context.Context, v VLAN) (int, []rtnl.Attr, error) {
	lower, err := k.conn.LinkByName(ctx, v.Over)
	if err != nil {
		return 0, nil, err
	}
	protocol := map[string]uint16{"": unix.ETH_P_8021Q, "802.1Q": unix.ETH_P_8021Q, "802.1ad": unix.ETH_P_8021AD}[v.Protocol]
	return lower.Index, []rtnl.Attr{
		{Type: unix.IFLA_VLAN_ID, Value: nl.Uint16Attr(uint16(v.ID))},
		{Type: unix.IFLA_VLAN_PROTOCOL, Value: binary.BigEndian.AppendUint16(nil, protocol)},
	}, nil
}
