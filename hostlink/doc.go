// Package hostlink makes devices of this host's own on an uplink that guests stand
// on: a macvlan (an ipvlan beside ipvtaps) with an address of its own, so that host
// and guests reach each other past the uplink's own stack.
//
// # Beside an address of the uplink's
//
// Where another device of the host, as a rule the uplink itself, has an address in
// the same prefix, there is a connected route to that prefix already, and it stays
// the only one. What is sent from the link's address goes by a table of the link's
// own, through a rule; each guest that is known has a route in the main table,
// which is more specific. All of them carry our protocol number, and go with the
// link. Otherwise the address brings its connected route and nothing else is
// needed.
//
// The host's other devices are left as they are. The link itself answers ARP for
// its own addresses alone, and asks with them.
package hostlink
