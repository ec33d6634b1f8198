// Package agent is the only place that knows the order of things: it writes an
// intent down, converges the world towards it, and repairs it when the world
// changes.
//
// One attachment is one record in the store. Everything that happens to the
// records of one VM happens in that VM's turn (turns.go), one job after the
// other; nothing holds a lock while the kernel or a QEMU is asked. Whatever
// wakes the agent (a call, a link message, a VM that comes or goes, a process
// that ends) only means "look again": converge and teardown find out by
// themselves what is left to do, so that they can be repeated after any error
// and after a SIGKILL at any point.
package agent
