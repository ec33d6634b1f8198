package config

// rawBridgePort is port: how a switched NIC stands on its bridge.
type rawBridgePort struct{ hairpin, isolated, learning, bpduGuard got[bool] }

var bridgePortKeys = object[rawBridgePort]{what: "port", rows: []row[rawBridgePort]{
	key("hairpin", func(p *rawBridgePort) *got[bool] { return &p.hairpin }, codec[got[bool]](yesOrNo)),
	key("isolated", func(p *rawBridgePort) *got[bool] { return &p.isolated }, codec[got[bool]](yesOrNo)),
	key("learning", func(p *rawBridgePort) *got[bool] { return &p.learning }, codec[got[bool]](yesOrNo)),
	key("bpdu_guard", func(p *rawBridgePort) *got[bool] { return &p.bpduGuard }, codec[got[bool]](yesOrNo)),
}}
