// Package filter keeps from leaving a guest what is not its own to send, and
// bounds how much it sends and receives: a base chain of nftables' netdev family
// on the attachment's own device (since Linux 5.16 also at egress, which is where
// a macvtap's guest sends), and tc for bandwidth.
//
// All chains are in tables of ours, named vmnetd, vmnetd-1 and so on; nobody else's
// is touched.
// What a guest may send is one transaction: there is no moment with half of it.
// It works on the network namespace that its connection is bound to.
package filter
