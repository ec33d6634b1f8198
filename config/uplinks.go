package config

import (
	"net"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/uplink"
)

type rawUplink struct {
	spot
	name     got[string]
	mtu      got[int]
	nic      rawKind
	external rawKind
}

// rawKind is what stands under the key of a kind. It is there when its spot is.
type rawKind struct {
	spot
	match rawMatch
}

func (k *rawKind) there() bool { return k.at.file != nil }

type rawMatch struct {
	spot
	name got[string]
	mac  got[net.HardwareAddr]
	path got[string]
}

var matchKeys = object[rawMatch]{what: "match", rows: []row[rawMatch]{
	key("name", func(m *rawMatch) *got[string] { return &m.name }, codec[got[string]](deviceName)),
	key("mac", func(m *rawMatch) *got[net.HardwareAddr] { return &m.mac }, codec[got[net.HardwareAddr]](macAddress)),
	key("path", func(m *rawMatch) *got[string] { return &m.path }, codec[got[string]](devicePath)),
}}

func kindKeys(what string) object[rawKind] {
	return object[rawKind]{what: what, rows: []row[rawKind]{
		key("match", func(k *rawKind) *rawMatch { return &k.match }, codec[rawMatch](matchKeys)),
	}}
}

// kinds are the keys of an uplink of which it has one; the first two work.
var kinds = []string{"nic", "external", "team", "bond", "vlan", "bridge", "anchor"}

var uplinkKeys = object[rawUplink]{what: "an uplink", rows: slices.Concat([]row[rawUplink]{
	key("name", func(u *rawUplink) *got[string] { return &u.name }, codec[got[string]](uplinkName)),
	key("mtu", func(u *rawUplink) *got[int] { return &u.mtu }, codec[got[int]](mtu)),
	key("nic", func(u *rawUplink) *rawKind { return &u.nic }, codec[rawKind](kindKeys("nic"))),
	key("external", func(u *rawUplink) *rawKind { return &u.external }, codec[rawKind](kindKeys("external"))),
}, later[rawUplink](kinds[2:]...), later[rawUplink]("limits", "hairpin", "extra"))}

func (b *builder) addUplinks(docs []*document) {
	devices := declared{}
	for _, d := range docs {
		for i := range d.uplinks.V {
			b.uplink(&d.uplinks.V[i], devices)
		}
	}
}

func (b *builder) uplink(u *rawUplink, devices declared) {
	if u.unusable {
		return
	}
	kind := b.kind(u)
	if !u.name.Given {
		b.missing(u.name.At, u.spot, "this uplink has no name", "add  name: NAME")
		b.uplinks.reserve(u.name.Written, u.at)
		return
	}
	fresh := b.uplinks.add(b.problems, "uplink", u.name.V, u.name.At)
	if !fresh || kind == nil {
		return
	}
	spec := uplink.Spec{Name: u.name.V, Kind: vmnetd.UplinkNIC, MTU: u.mtu.V}
	if kind == &u.external {
		spec.Kind = vmnetd.UplinkExternal
	}
	if !spec.Ours() && u.mtu.Given {
		b.add(u.mtu.Key, "an external uplink is never changed, so mtu has no effect").do("leave it out; MTUs of VMs are given by mtu in a network")
	}
	device := b.match(u, &kind.match, &spec)
	if first, there := devices[device]; there {
		b.add(u.name.At, "uplink %q is the same device (%s) as the uplink at %s", u.name.V, device, first).do("remove one of them")
		return
	}
	devices[device] = u.name.At
	b.cfg.Uplinks = append(b.cfg.Uplinks, spec)
	b.cfg.Policy.Uplinks = append(b.cfg.Policy.Uplinks, spec.Name)
}

// kind is the one kind that the uplink has, nil (and reported) otherwise.
func (b *builder) kind(u *rawUplink) *rawKind {
	switch {
	case u.nic.there() && u.external.there():
		b.add(u.external.at, "an uplink is either nic or external, not both").do("nic is ours to set up, external is somebody else's and only used")
		return nil
	case u.nic.there():
		return &u.nic
	case u.external.there():
		return &u.external
	}
	isLater := slices.ContainsFunc(u.later, func(name string) bool { return slices.Contains(kinds, name) })
	if !isLater && !u.unknown {
		b.add(u.at, "this uplink has no kind").do("add  nic: {}  for a network card, or  external: {}  for a bond, team, bridge or VLAN that somebody else made")
	}
	return nil
}

// match fills in how the device is found, and names the device for messages.
func (b *builder) match(u *rawUplink, m *rawMatch, spec *uplink.Spec) string {
	switch {
	case m.at.file != nil && m.written() == 0 && !m.mistakes:
		b.add(m.at, "match is empty").do("give one of name, mac, path, or leave match out: then the uplink's name is the device's")
	case m.written() > 1:
		b.add(m.at, "match takes one of name, mac, path, not %d", m.written())
	}
	spec.MAC, spec.Path, spec.Device = m.mac.V, m.path.V, m.name.V
	switch {
	case m.mac.Given:
		return "MAC " + m.mac.V.String()
	case m.path.Given:
		return m.path.V
	case m.name.Given:
		return m.name.V
	case m.mistakes: // which device is meant is not known
		return "the one of " + u.name.V
	}
	spec.Device = u.name.V
	return u.name.V
}

// written is how many of its keys are there, right or wrong.
func (m *rawMatch) written() int {
	n := 0
	for _, at := range []place{m.name.At, m.mac.At, m.path.At} {
		if at.file != nil {
			n++
		}
	}
	return n
}
