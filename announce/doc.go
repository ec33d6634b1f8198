// Package announce tells the switches where a guest is now: RARP frames with
// the guest's MAC (RFC 903; as QEMU's announce-self sends them), gratuitous ARP
// (RFC 5227) and unsolicited neighbour advertisements (RFC 4861 7.2.6) where its
// addresses are known, sent out of an uplink whose path has changed.
package announce
