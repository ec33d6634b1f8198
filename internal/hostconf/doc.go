// Package hostconf reads what the host's own tools would do to a network device
// at the next boot: ifupdown (interfaces(5)), systemd-networkd
// (systemd.network(5)), NetworkManager (nm-settings-keyfile(5)) and netplan,
// also where cloud-init wrote their files. It changes nothing. A file that it
// cannot read is as if it were not there, and Host.Unread says so.
//
// What it takes the tools to do was tried with those of Debian 12: ifupdown
// 0.8.41, systemd 252, NetworkManager 1.42, netplan 0.106.
package hostconf
