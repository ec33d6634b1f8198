// Package learn finds out which addresses a guest uses: from what it sends on its
// own device (ARP, DHCP requests, duplicate address detection) and from what DHCP
// servers answer on the uplink. It changes nothing and believes nobody for long:
// leases end, and what is heard is bounded.
package learn
