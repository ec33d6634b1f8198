// Package tapdev makes the tap devices that guests stand on, opens their
// queues, finds who holds them and removes them. This version knows macvtap.
//
// A device is made down, marked as ours, stripped of everything by which the
// host's own stack could speak on it, and verified attribute by attribute; it
// is set up last, once a VM holds its queues. Whatever fails on the way takes
// the device with it.
package tapdev
