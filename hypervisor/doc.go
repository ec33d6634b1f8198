// Package hypervisor hands NICs to running QEMUs over QMP: it finds a VM by
// its socket, plugs and unplugs virtio NICs on tap queues that somebody else
// opened, and tells when a VM comes or goes.
//
// # The socket is not ours alone
//
// A QMP socket serves one client at a time, and other programs (Proxmox, a
// backup, an operator's script) use the same one; some of them give up after
// 3 s. So every operation connects, does what it has to, and disconnects:
// nothing holds a socket over 1 s as long as QEMU itself answers. Two things
// happen on a connection that is kept open for more than the commands:
//
//   - Unplug waits on its connection for DEVICE_DELETED, because QEMU sends
//     events only to who is connected, but for Limits.Eject (0.8 s) at the
//     most. A guest that takes longer is left alone: the caller gets
//     ErrEjecting and comes back, and then the device list tells.
//   - Undoing a device_add waits in the same way, within the same second.
//
// Beyond the second goes only a QEMU that is frozen or overloaded: each command
// has Limits.Command, and nobody else could talk to such a QEMU either.
//
// Watching needs no QMP at all: inotify tells that a socket came, and a pidfd
// that its QEMU went. What a VM tells by itself, that its CPUs stop or go on or
// that its guest changed a MAC, comes only to who stays connected: that takes a
// second socket which is ours alone (Config.Events).
//
// # Through libvirt's monitor
//
// Where libvirt holds QEMU's monitor the same steps run over libvirtd's socket
// (--handover fd, PriceOfFD says what that costs). Each step is a call of its own,
// so libvirtd may be killed and started again between any two.
//
// # Network namespaces
//
// One that is named (netns:PATH) stands in the place of a VM. It is never held:
// it gets a number in the daemon's namespace, by which the kernel tells its end
// (RTM_DELNSID), and its path's folder is watched.
//
// # Files
//
// transport.go is the connection (it implements go-qemu's qmp.Monitor), node.go
// and peer.go say whose socket it is, holder.go who else holds it, find.go and
// pattern.go look VMs up, engine.go, place.go, plug.go, netdev.go and unplug.go
// are the handover, fdwire.go and lvfd.go carry it through libvirtd, ear.go and
// ears.go listen to events sockets, filter.go asks what a guest wants to receive,
// watch.go and inotify.go see VMs come and go, qemuargs.go reads a QEMU command
// line; netns*.go are network namespaces.
package hypervisor
