// Package tapdev makes the devices that guests and network namespaces are reached
// by, opens the queues of those that have some, finds who holds them and removes
// them. What a kind of device is, one table says (kinds.go).
//
// A device is made down, marked as ours, stripped of everything by which the
// host's own stack could speak on it, and verified attribute by attribute; it
// is set up last, once a VM holds its queues. Whatever fails on the way takes
// the device with it.
package tapdev
