package room

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// become replaces the program of this process (execve(2)): process, namespace and
// listener stay. It returns only when it fails. The new program is tried before: one
// that ended at once would take the namespace along.
func (s *server) become(ctx context.Context, program string) error {
	if s.o.Netns != "" {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "a process in somebody's namespace ends with its daemon")
	}
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return err
	}
	passed := -1 // a duplicate that the new program has too
	if e := raw.Control(func(fd uintptr) { passed, err = unix.FcntlInt(fd, unix.F_DUPFD, 3) }); e != nil || err != nil {
		return errors.Join(e, err)
	}
	defer unix.Close(passed)
	argv := []string{program, "room", "--socket", s.o.Socket, "--listener", strconv.Itoa(passed)}
	if out, err := exec.CommandContext(ctx, program, append(argv[1:], "--try")...).CombinedOutput(); err != nil {
		return vmnetd.Errorf(vmnetd.ErrUnsupported, "%s does not take the namespace over: %w: %s", program, err, firstLine(out))
	}
	s.log.Info("another version takes the namespace over", "program", program)
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot run %s: %w", program, syscall.Exec(program, argv, os.Environ()))
}
