package uplink

import (
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// Verb is what a step does.
type Verb string

// The verbs; run.go has one function for each.
const (
	verbMake     Verb = "make"      // Device by Kind with Options, MAC, MTU, VLAN; a team by starting its teamd with Team
	verbDelete   Verb = "delete"    // Device; a team by stopping its teamd
	verbUp       Verb = "up"        // Device
	verbDown     Verb = "down"      // Device
	verbEnslave  Verb = "enslave"   // Device becomes a port of Master
	verbRelease  Verb = "release"   // Device is taken out of Master
	verbMAC      Verb = "mac"       // Device gets MAC
	verbMTU      Verb = "mtu"       // Device gets MTU
	verbOptions  Verb = "options"   // Device (a bond or bridge) gets Options
	verbPort     Verb = "port"      // Device (a port of Master) gets Options
	verbTeam     Verb = "team"      // Device's teamd gets Team, live
	verbRestart  Verb = "restart"   // Device's teamd is replaced by one with Team; the device stays
	verbActivate Verb = "activate"  // Device becomes the active port of Master
	verbAwait    Verb = "await"     // until Device has carrier, a moment at most
	verbAddrAdd  Verb = "addr-add"  // Device gets Addr
	verbAddrDel  Verb = "addr-del"  // Device loses Addr
	verbRouteAdd Verb = "route-add" // Device gets Route
	verbRouteDel Verb = "route-del" // Device loses Route
)

// Step is one change of one device, as data: a plan shows it, a journal keeps
// it, run does it.
type Step struct {
	Verb    Verb              `json:"verb"`
	Device  string            `json:"device"`
	Kind    string            `json:"kind,omitempty"`
	Master  string            `json:"master,omitempty"`
	MAC     string            `json:"mac,omitempty"`
	MTU     int               `json:"mtu,omitempty"`
	Mode    string            `json:"mode,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	VLAN    *VLAN             `json:"vlan,omitempty"`
	Team    *teaming.Config   `json:"team,omitempty"`
	Addr    *rtnl.Addr        `json:"addr,omitempty"`
	Route   *rtnl.Route       `json:"route,omitempty"`
}
