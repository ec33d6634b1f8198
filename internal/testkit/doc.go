// Package testkit is what tests stand on when they drive the real kernel and
// the real programs: network namespaces that vanish with the test, veth pairs
// between them, raw Ethernet frames on a device, and a check that no file
// descriptor is left behind.
//
// Everything here works on namespaces and devices the caller made; nothing
// touches the machine's own interfaces. Two copies of a test may run side by
// side.
package testkit
