package hypervisor

import (
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd/internal/proc"
)

// recalled is a VM as it was described last, and what tells that it is still
// that run of it.
type recalled struct {
	vm    VM
	start uint64 // of vm.PID
	node  nodeID
}

// recall is the VM that was found at a socket before, as long as its process
// lives and the socket is the same: a question to QEMU costs ten times as much
// as these two to the kernel. Plug and Unplug look again whom they talk to.
func (q *QMP) recall(name, path string) (VM, bool) {
	q.mu.Lock()
	r, ok := q.recalled[path]
	q.mu.Unlock()
	var st unix.Stat_t
	if !ok || r.vm.Name != name || unix.Lstat(path, &st) != nil || idOf(&st) != r.node {
		return VM{}, false
	}
	if r.vm.Incoming && !q.heard(r.vm) { // whether it still waits must be asked
		return VM{}, false
	}
	start, err := proc.StartTime(r.vm.PID)
	return r.vm, err == nil && start == r.start
}

// keep remembers a VM whose process is known for certain.
func (q *QMP) keep(l *link, vm VM, node nodeID) {
	if vm.PID == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.recalled[l.path] = recalled{vm: vm, start: l.start, node: node}
}
