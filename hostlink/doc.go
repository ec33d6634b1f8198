// Package hostlink makes devices of this host's own on an uplink that guests stand
// on: a macvlan (an ipvlan beside ipvtaps) with an address of its own, so that host
// and guests reach each other past the uplink's own stack.
package hostlink
