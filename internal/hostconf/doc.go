// Package hostconf reads what the host's own tools would do to a network device
// at the next boot: ifupdown (interfaces(5)), systemd-networkd
// (systemd.network(5)), NetworkManager (nm-settings-keyfile(5)) and netplan,
// also where cloud-init wrote their files. It changes nothing, and a file that
// it cannot read is as if it were not there: its tool will say so.
package hostconf
