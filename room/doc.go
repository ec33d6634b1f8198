// Package room reaches into network namespaces other than the daemon's: vmnetd's
// own, in which ipvtaps live, and those that operators name.
//
// In each a process of ours works: `vmnetd room`, which answers a short list of
// calls on a socket (tapdev, filter, nexthop and learn's sockets, nothing else). So
// the daemon needs no CAP_SYS_ADMIN, and vmnetd's own namespace outlives it: that
// process holds it, as a unit of its own under systemd, in a session of its own
// elsewhere, and is found again by its socket.
package room
