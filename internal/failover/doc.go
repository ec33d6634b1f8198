// Package failover measures what the failure of a port of a bond or team costs
// guests that say nothing: in the switches of testkit.Switches, with nobody
// announcing them, with the kernel doing so by accident, and with vmnetd. It runs
// in the VM tier.
package failover
