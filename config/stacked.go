package config

import "github.com/vmnetd/vmnetd/uplink"

type rawVLAN struct {
	spot
	over     got[string]
	id       got[int]
	protocol got[string]
}

var vlanKeys = object[rawVLAN]{what: "vlan", rows: []row[rawVLAN]{
	key("over", func(v *rawVLAN) *got[string] { return &v.over }, codec[got[string]](reference)),
	key("id", func(v *rawVLAN) *got[int] { return &v.id }, codec[got[int]](vlanID)),
	key("protocol", func(v *rawVLAN) *got[string] { return &v.protocol }, codec[got[string]](vlanProtocol)),
}}

func (b *builder) vlan(v *rawVLAN, on *standing) *uplink.VLAN {
	if v.unusable {
		return nil
	}
	if !v.over.Given {
		b.missing(v.over.At, v.spot, "this VLAN has no uplink that it is over", "add  over: UPLINK")
	} else {
		on.under = []ref{{name: v.over.V, at: v.over.At}}
	}
	if !v.id.Given {
		b.missing(v.id.At, v.spot, "this VLAN has no id", "add  id: 1 to 4094")
	}
	c := &uplink.VLAN{Over: v.over.V, ID: v.id.V, Protocol: v.protocol.V}
	if !v.protocol.Given {
		c.Protocol = dot1Q
	}
	on.vlan, on.vlanAt = c, v.id.At
	return c
}

type rawBridge struct {
	spot
	ports         got[[]got[string]]
	vlanFiltering got[bool]
	stp           got[bool]
	ageingTime    got[int]
}

var bridgeKeys = object[rawBridge]{what: "bridge", rows: []row[rawBridge]{
	key("ports", func(r *rawBridge) *got[[]got[string]] { return &r.ports }, codec[got[[]got[string]]](listOf[got[string]]{
		item: portName, what: "a list of ports", empty: true,
	})),
	truthKey("vlan_filtering", func(r *rawBridge) *got[bool] { return &r.vlanFiltering }),
	truthKey("stp", func(r *rawBridge) *got[bool] { return &r.stp }),
	key("ageing_time", func(r *rawBridge) *got[int] { return &r.ageingTime }, codec[got[int]](ageingTime)),
}}

func (b *builder) bridge(r *rawBridge, on *standing) *uplink.Bridge {
	on.under = refs(r.ports.V)
	return &uplink.Bridge{Ports: values(r.ports.V), VLANFiltering: r.vlanFiltering.V, STP: r.stp.V, AgeingTime: r.ageingTime.V}
}

type rawAnchor struct {
	spot
	over got[[]got[string]]
}

var anchorKeys = object[rawAnchor]{what: "anchor", rows: []row[rawAnchor]{
	key("over", func(a *rawAnchor) *got[[]got[string]] { return &a.over }, codec[got[[]got[string]]](listOf[got[string]]{
		item: reference, what: "a list of uplinks",
	})),
}}

func (b *builder) anchor(a *rawAnchor, on *standing) *uplink.Anchor {
	if !a.unusable && !a.over.Given {
		b.missing(a.over.At, a.spot, "this anchor has no uplinks that it is over", "add  over: [UPLINK], the preferred one first")
	}
	on.under = refs(a.over.V)
	return &uplink.Anchor{Over: values(a.over.V)}
}
