package room

import (
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// peer is who is at the other end, by what the kernel says of it (unix(7),
// SO_PEERCRED): who connected, or who listened.
func peer(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); e != nil {
		return nil, e
	}
	return cred, err
}

// trusted says that at the other end is root, or who we are ourselves.
func trusted(conn *net.UnixConn) error {
	cred, err := peer(conn)
	if err != nil {
		return err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return vmnetd.Errorf(vmnetd.ErrDenied, "user %d has no business in a namespace of vmnetd's", cred.Uid)
	}
	return nil
}
