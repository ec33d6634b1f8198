package nexthop

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// filterName is ours, with a hash of what the program does: one of an older
// version of ours is replaced.
var filterName = sync.OnceValue(func() string {
	sum := sha256.Sum256(fmt.Append(nil, program(MAC)))
	return fmt.Sprintf("vmnetd-nexthop-%x", sum[:4])
})

// loaded gives the program to the kernel; its caller closes it.
func loaded() (*ebpf.Program, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "vmnetd_nexthop", Type: ebpf.SchedCLS, Instructions: program(MAC), License: "Apache-2.0",
	})
	if err != nil {
		return nil, whyNotLoaded(err)
	}
	return p, nil
}

func whyNotLoaded(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier):
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "this kernel's verifier refuses the program that answers for next hops: %w", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "the program that answers for next hops may not be loaded: it takes CAP_BPF and CAP_NET_ADMIN, and the system call bpf: %w", err)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL):
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "this kernel cannot run the program that answers for next hops (CONFIG_BPF_SYSCALL): %w", err)
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot load the program that answers for next hops: %w", err)
}
