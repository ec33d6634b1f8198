// Package policy decides which network, uplink, mode, MAC, MTU and queues a
// NIC of a VM gets, and says why. It is pure: the configuration comes in as a
// Set, what the host looks like as Facts, and nothing else is read, so that
// `vmnetd explain --file` decides in CI what the daemon decides on a host.
//
// # How a request is decided
//
// Rules are read from the first to the last. A rule matches when all its
// matchers hold and its networks (none given: all) contain the network asked
// for; the first that matches decides, and where none does the request is
// denied. A request that names no network gets the first network of the first
// rule that matches the VM; a deny that is limited to some networks only takes
// these away, so they are passed over.
//
// Keys are merged one by one: the rule beats the network, the network beats the
// defaults; lists replace. A mode that takes the whole uplink (passthru) counts
// only where the rule itself lists it.
//
// Uplinks with carrier come first, in the network's order, then those without:
// no carrier is not unfit. On each uplink the modes are tried in order; the
// first pair that fits the facts is taken. NICs of a network with a VLAN stand
// on a device of their own over the uplink: what else stands there counts, not
// what stands on the uplink. Those of mode switched are ports of a bridge, and the
// VLAN is the port's.
//
// Modes auto stands for a list that depends on the uplink (vmnetd.AutoModes,
// vmnetd.AutoOnBridge), in which one that fits is passed over where the uplink's
// facts speak softly against it and another fits; what stands there already stays.
// One lower device takes one family, and of ipvlans one mode and flag, so that
// nobody who comes later breaks who is there.
//
// A network namespace (Facts.Netns) gets another kind of device by the same rules:
// the table of modes in the root package says which, and whether anything of the
// host's sees what its root sends. Where nothing does, no filter can be kept, and
// only namespaces that are trusted get such a device.
//
// Addresses are those asked for, else those of the grant; learning is for the agent
// to do, within what the grant allows. In modes that share the uplink's MAC no
// other one is given.
//
// # How it fails
//
// vmnetd.ErrInvalid: what was asked for is no VM name, id, mode, MAC, address, route
// or number of queues, is for VMs and was asked for a namespace or the other way
// round, or is a mode by name with what it cannot have (l3 without addresses),
// which is told last. vmnetd.ErrNotFound: no such network or uplink, or it is not on
// this host. vmnetd.ErrDenied: a rule or a network forbids it. vmnetd.ErrBusy:
// allowed, and nothing fits now. They are checked in this order, except that
// a network that is not on this host is told only to those who may have it.
package policy
