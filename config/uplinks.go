package config

import (
	"net/netip"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/uplink"
)

type rawUplink struct {
	spot
	name     got[string]
	mtu      got[int]
	probe    got[netip.Addr]
	nic      rawFound
	external rawFound
	bond     rawBond
	team     rawTeam
	vlan     rawVLAN
	bridge   rawBridge
	anchor   rawAnchor
	limits   rawLimits
	hairpin  got[bool]
}

var uplinkKeys = object[rawUplink]{what: "an uplink", rows: []row[rawUplink]{
	key("name", func(u *rawUplink) *got[string] { return &u.name }, codec[got[string]](uplinkName)),
	key("mtu", func(u *rawUplink) *got[int] { return &u.mtu }, codec[got[int]](mtu)),
	key("probe", func(u *rawUplink) *got[netip.Addr] { return &u.probe }, codec[got[netip.Addr]](ipAddress)),
	key("nic", func(u *rawUplink) *rawFound { return &u.nic }, codec[rawFound](foundKeys("nic"))),
	key("external", func(u *rawUplink) *rawFound { return &u.external }, codec[rawFound](foundKeys("external"))),
	key("bond", func(u *rawUplink) *rawBond { return &u.bond }, codec[rawBond](bondKeys)),
	key("team", func(u *rawUplink) *rawTeam { return &u.team }, codec[rawTeam](teamKeys)),
	key("vlan", func(u *rawUplink) *rawVLAN { return &u.vlan }, codec[rawVLAN](vlanKeys)),
	key("bridge", func(u *rawUplink) *rawBridge { return &u.bridge }, codec[rawBridge](bridgeKeys)),
	key("anchor", func(u *rawUplink) *rawAnchor { return &u.anchor }, codec[rawAnchor](anchorKeys)),
	key("limits", func(u *rawUplink) *rawLimits { return &u.limits }, codec[rawLimits](limitsKeys)),
	key("hairpin", func(u *rawUplink) *got[bool] { return &u.hairpin }, codec[got[bool]](yesOrNo)),
}}

// kindOf is one of the keys of which an uplink has one.
type kindOf struct {
	kind string
	*spot
}

func (u *rawUplink) kinds() []kindOf {
	return []kindOf{
		{vmnetd.UplinkNIC, &u.nic.spot}, {vmnetd.UplinkExternal, &u.external.spot}, {vmnetd.UplinkBond, &u.bond.spot},
		{vmnetd.UplinkTeam, &u.team.spot}, {vmnetd.UplinkVLAN, &u.vlan.spot}, {vmnetd.UplinkBridge, &u.bridge.spot},
		{vmnetd.UplinkAnchor, &u.anchor.spot},
	}
}

func (b *builder) addUplinks(docs []*document) {
	devices := declared{}
	for _, d := range docs {
		for i := range d.uplinks.V {
			b.uplink(&d.uplinks.V[i], devices)
		}
	}
	b.checkStack()
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
	if !fresh || kind == "" {
		return
	}
	spec := uplink.Spec{Name: u.name.V, Kind: kind, Device: u.name.V, MTU: u.mtu.V, Probe: u.probe.V, At: u.at.pos().String()}
	if !spec.Ours() {
		b.unchanged(u)
	}
	on := &standing{name: u.name.V, at: u.name.At, kind: kind, mtu: u.mtu}
	b.limits(u, &spec)
	device := b.fill(u, &spec, on)
	if first, there := devices[device]; there {
		b.add(u.name.At, "uplink %q is the same device (%s) as the uplink at %s", u.name.V, device, first).do("remove one of them")
		return
	}
	devices[device] = u.name.At
	b.stand(on, spec.Device)
	b.cfg.Uplinks = append(b.cfg.Uplinks, spec)
	b.cfg.Policy.Uplinks = append(b.cfg.Policy.Uplinks, spec.Name)
}

// unchanged refuses the keys that change a device or look after a change of it.
func (b *builder) unchanged(u *rawUplink) {
	if u.mtu.Given {
		b.add(u.mtu.Key, "an external uplink is never changed, so mtu has no effect").do("leave it out; MTUs of VMs are given by mtu in a network")
	}
	if u.probe.Given {
		b.add(u.probe.Key, "an external uplink is never applied, so probe has no effect").do("leave it out")
	}
}

// kind is the one kind that the uplink has, "" (and reported) otherwise.
func (b *builder) kind(u *rawUplink) string {
	first := ""
	for _, k := range u.kinds() {
		switch {
		case !k.there():
		case first == "":
			first = k.kind
		default:
			b.add(k.at, "an uplink has one kind, and this one is %s already", first).
				do("leave one out: nic and external are devices that are there, bond, team, vlan, bridge and anchor are made")
			return ""
		}
	}
	if first == "" && !u.unknown {
		b.add(u.at, "this uplink has no kind").
			do("add  nic: {}  for a network card,  external: {}  for what somebody else made, or one of bond, team, vlan, bridge, anchor")
	}
	return first
}

// fill puts what stands under the key of the kind into the spec, notes what the
// uplink stands on, and names its device.
func (b *builder) fill(u *rawUplink, spec *uplink.Spec, on *standing) string {
	switch spec.Kind {
	case vmnetd.UplinkNIC:
		return b.match(u, &u.nic.match, spec)
	case vmnetd.UplinkExternal:
		return b.match(u, &u.external.match, spec)
	case vmnetd.UplinkBond:
		spec.Bond = b.bond(&u.bond, on)
	case vmnetd.UplinkTeam:
		spec.Team = b.team(&u.team, on)
	case vmnetd.UplinkVLAN:
		spec.VLAN = b.vlan(&u.vlan, on)
	case vmnetd.UplinkBridge:
		spec.Bridge = b.bridge(&u.bridge, on)
	case vmnetd.UplinkAnchor:
		spec.Anchor = b.anchor(&u.anchor, on)
	}
	return u.name.V
}
