package uplink

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// vlanMark begins the ifalias of a VLAN device that was made for attachments;
// the name of the device under it follows.
const vlanMark = "vmnetd-vlan:"

const ether8021Q = 0x8100

// EnsureVLAN makes or finds the 802.1Q device of that VLAN on lower: whoever
// made it, it is used; only what carries our mark is ever removed.
func (m *Manager) EnsureVLAN(ctx context.Context, lower rtnl.Link, vlan int) (rtnl.Link, error) {
	if l, ok := m.vlanOn(lower.Index, vlan); ok {
		return m.vlanUp(ctx, l.Index)
	}
	name, err := m.vlanName(ctx, lower, vlan)
	if err != nil {
		return rtnl.Link{}, err
	}
	err = m.o.Conn.Create(ctx, rtnl.NewLink{Name: name, Kind: kindVLAN, Lower: lower.Index, MTU: lower.MTU, Data: []rtnl.Attr{
		{Type: unix.IFLA_VLAN_ID, Value: nl.Uint16Attr(uint16(vlan))},
	}})
	if errors.Is(err, unix.EEXIST) { // the mirror had not heard of it
		return m.vlanByName(ctx, name, lower, vlan)
	}
	if err != nil {
		return rtnl.Link{}, vlanError(err, lower, vlan)
	}
	l, err := m.o.Conn.LinkByName(ctx, name)
	if err == nil {
		err = m.o.Conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.Alias(vlanMark + lower.Name)}})
	}
	if err == nil { // the host has no business in the guests' VLAN
		err = m.o.Conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.AddrGenNone()}})
		if errors.Is(err, unix.EAFNOSUPPORT) { // no IPv6 on this kernel
			err = nil
		}
	}
	if err != nil {
		return rtnl.Link{}, errors.Join(err, m.o.Conn.DeleteName(ctx, name))
	}
	return m.vlanUp(ctx, l.Index)
}

func vlanError(err error, lower rtnl.Link, vlan int) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "this kernel makes no VLAN devices: %w", err).WithNext("modprobe 8021q")
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "cannot make VLAN %d on %s: %w", vlan, lower.Name, err)
}

// ReleaseVLAN removes the device of that VLAN where we made it and nothing
// stands on it any more.
func (m *Manager) ReleaseVLAN(ctx context.Context, lower, vlan int) error {
	l, ok := m.vlanOn(lower, vlan)
	if !ok || !strings.HasPrefix(l.Alias, vlanMark) || l.Master != 0 || m.declaredVLAN(l.Name) {
		return nil
	}
	links, err := m.o.Conn.Links(ctx) // the mirror may not have heard of who left it, or came
	if err != nil || slices.ContainsFunc(links, func(now rtnl.Link) bool { return now.LowerHere && now.Lower == l.Index }) {
		return err
	}
	same := func(now rtnl.Link) bool { return now.Index == l.Index && now.Name == l.Name && now.Alias == l.Alias }
	if !slices.ContainsFunc(links, same) {
		return nil // it has gone, and indexes come again
	}
	return m.o.Conn.Delete(ctx, l.Index)
}

func (m *Manager) declaredVLAN(name string) bool {
	a, _, _ := m.kept()
	return slices.ContainsFunc(a.Specs, func(s Spec) bool { return s.Kind == vmnetd.UplinkVLAN && s.Name == name })
}

// vlanOn is the device of a VLAN on another device, from the mirror.
func (m *Manager) vlanOn(lower, vlan int) (rtnl.Link, bool) {
	for _, l := range m.o.Links.On(lower) {
		if isVLAN(l, vlan) {
			return l, true
		}
	}
	return rtnl.Link{}, false
}

func isVLAN(l rtnl.Link, vlan int) bool {
	id, protocol := vlanOf(l)
	return l.Kind == kindVLAN && id == vlan && protocol == ether8021Q
}

// vlanOf is the id and protocol of a VLAN device.
func vlanOf(l rtnl.Link) (id, protocol int) {
	rtnl.Each(l.Data, func(attr int, v []byte) {
		switch {
		case attr == unix.IFLA_VLAN_ID && len(v) >= 2:
			id = int(binary.NativeEndian.Uint16(v))
		case attr == unix.IFLA_VLAN_PROTOCOL && len(v) >= 2:
			protocol = int(binary.BigEndian.Uint16(v))
		}
	})
	return id, protocol
}

// vlanName is LOWER.VID, or, where that is too long or another device's, one
// that is made of it.
func (m *Manager) vlanName(ctx context.Context, lower rtnl.Link, vlan int) (string, error) {
	plain := lower.Name + "." + strconv.Itoa(vlan)
	sum := sha256.Sum256([]byte(plain))
	other := "vmnv" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:10]
	for _, name := range []string{plain, other} {
		if len(name) > maxIfname {
			continue
		}
		_, err := m.o.Conn.LinkByName(ctx, name)
		if errors.Is(err, vmnetd.ErrNotFound) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", vmnetd.Errorf(vmnetd.ErrBusy, "VLAN %d on %s cannot be made: other devices have the names %s and %s", vlan, lower.Name, plain, other).
		WithNext(fmt.Sprintf("rename one of them:  ip link set %s name NEW", other))
}

// maxIfname is IFNAMSIZ without its zero byte (uapi/linux/if.h).
const maxIfname = 15

func (m *Manager) vlanByName(ctx context.Context, name string, lower rtnl.Link, vlan int) (rtnl.Link, error) {
	l, err := m.o.Conn.LinkByName(ctx, name)
	if err != nil {
		return rtnl.Link{}, err
	}
	if l.Lower != lower.Index || !isVLAN(l, vlan) {
		return rtnl.Link{}, vmnetd.Errorf(vmnetd.ErrBusy, "VLAN %d on %s is there, but not as %s", vlan, lower.Name, name)
	}
	return m.vlanUp(ctx, l.Index)
}

// vlanUp is the device, up.
func (m *Manager) vlanUp(ctx context.Context, index int) (rtnl.Link, error) {
	l, err := m.o.Conn.LinkByIndex(ctx, index)
	if err != nil || l.Up {
		return l, err
	}
	if err := m.o.Conn.SetUp(ctx, index, true); err != nil {
		return rtnl.Link{}, vmnetd.Errorf(vmnetd.ErrBusy, "cannot set %s up: %w", l.Name, err).WithNext("see whether the device under it is up")
	}
	return m.o.Conn.LinkByIndex(ctx, index)
}
