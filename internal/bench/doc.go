// Program bench is `make bench`: how long attach and detach take through the
// daemon, against the floor (the same kernel and QMP steps inlined in one
// thread) and against libvirt; what an idle daemon costs; and what many
// attachments change; then, in a VM whose kernel has bond and team, what plan,
// apply and events of many uplinks cost, and how fast a failover is announced.
// It writes docs/benchmarks.md.
package main
