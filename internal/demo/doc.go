// Command demo is `make demo`: two real guests in network namespaces of the
// demo's own get their NICs from a real vmnetd, and every claim is checked. With
// -failover it is `make demo-failover`: two restored guests on a redundant uplink,
// in the VM of internal/vmtest, pinged while it fails and is exchanged.
package main
