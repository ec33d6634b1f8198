// Package reachability tries who reaches whom: for each kind and mode of NIC a host with
// an uplink, a switch that does not reflect, a peer outside that is a router too,
// and two guests by the real daemon, all with Linux's own network stack. What
// should come of it is the table in docs/modes.md. It runs in the VM tier.
package reachability
