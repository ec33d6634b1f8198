package hypervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// holder is the process that is connected to a socket.
type holder struct {
	pid     int
	program string
}

func (h holder) String() string {
	return fmt.Sprintf("process %d (%s)", h.pid, vmnetd.Printable(h.program))
}

// errNoHolder: the kernel shows the unix sockets of one network namespace, so a
// QEMU that runs in another one is not seen.
var errNoHolder = errors.New("who holds it could not be found")

// findHolder finds the process at the other end of the connection that QEMU
// serves. SO_PEERCRED cannot tell, it is asked from the client's side; sock_diag
// lists, for each accepted socket, the node it was accepted on and its peer.
func findHolder(n *node) (holder, error) {
	peers, err := boundTo(n, tcpEstablished, clientOf)
	if err != nil {
		return holder{}, fmt.Errorf("%w: %w", errNoHolder, err)
	}
	for _, ino := range peers {
		if pid := ownerOf(ino); pid != 0 && pid != os.Getpid() {
			return holder{pid, program(pid)}, nil
		}
	}
	return holder{}, errNoHolder
}

// findListener finds the process that listens on the node, 0 when it sees none.
func findListener(n *node) int {
	listening, _ := boundTo(n, tcpListen, listenerOf)
	for _, ino := range listening {
		if pid := ownerOf(ino); pid != 0 && pid != os.Getpid() {
			return pid
		}
	}
	return 0
}

// Constants of include/uapi/linux/unix_diag.h and sock_diag.h.
const (
	sockDiagByFamily = 20
	showName         = 1 << 0
	showVFS          = 1 << 1
	showPeer         = 1 << 2
	attrName         = 0
	attrVFS          = 1
	attrPeer         = 2
	tcpEstablished   = 1
	tcpListen        = 10
	diagMsgLen       = 16
)

// reading takes the inode that is wanted out of one answer about a socket.
type reading func(body []byte, n *node) (ino uint32, ok bool)

// boundTo lists inodes of the sockets in a state that are bound to the node.
func boundTo(n *node, state uint8, read reading) ([]uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil, err
	}
	if err := unix.Sendto(fd, diagRequest(state), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var all []uint32
	buf := make([]byte, 64<<10)
	for {
		size, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		more, found, err := readDiag(buf[:size], n, read)
		all = append(all, found...)
		if err != nil || !more {
			return all, err
		}
	}
}

// diagRequest is struct nlmsghdr and struct unix_diag_req.
func diagRequest(state uint8) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+24)
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], uint32(len(b)))
	ne.PutUint16(b[4:], sockDiagByFamily)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req := b[unix.SizeofNlMsghdr:]
	req[0] = unix.AF_UNIX
	ne.PutUint32(req[4:], 1<<state)
	ne.PutUint32(req[12:], showName|showVFS|showPeer)
	return b
}

// readDiag reads one datagram of the dump.
func readDiag(b []byte, n *node, read reading) (more bool, found []uint32, err error) {
	ne := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(ne.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, found, errors.New("sock_diag sent a message of an impossible length")
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch kind := ne.Uint16(b[4:]); {
		case kind == unix.NLMSG_DONE:
			return false, found, nil
		case kind == unix.NLMSG_ERROR && len(body) >= 4:
			return false, found, unix.Errno(-int32(ne.Uint32(body)))
		case kind == sockDiagByFamily && len(body) >= diagMsgLen:
			if ino, ok := read(body, n); ok {
				found = append(found, ino)
			}
		}
		b = b[min(align4(size), len(b)):]
	}
	return true, found, nil
}

// clientOf is the peer of a connection. An accepted socket inherits the node it
// was accepted on; one that still waits in listen(2)'s queue, such as ours, has
// no inode yet (net/unix/af_unix.c).
func clientOf(body []byte, n *node) (peer uint32, ok bool) {
	own, attrs := diagMessage(body)
	if value := attrs[attrPeer]; len(value) >= 4 {
		peer = binary.NativeEndian.Uint32(value)
	}
	return peer, onNode(attrs, n) && own != 0 && peer != 0
}

// listenerOf is a listening socket itself.
func listenerOf(body []byte, n *node) (own uint32, ok bool) {
	own, attrs := diagMessage(body)
	return own, onNode(attrs, n) && own != 0
}

// diagMessage reads struct unix_diag_msg: a socket's inode and attributes.
func diagMessage(body []byte) (own uint32, attrs map[uint16][]byte) {
	return binary.NativeEndian.Uint32(body[4:]), diagAttrs(body[diagMsgLen:])
}

// onNode says whether a socket is bound to the node.
func onNode(attrs map[uint16][]byte, n *node) bool {
	if string(attrs[attrName]) == n.path {
		return true
	}
	ne := binary.NativeEndian
	vfs := attrs[attrVFS]
	return len(vfs) >= 8 && ne.Uint32(vfs) == uint32(n.stat.Ino) && ne.Uint32(vfs[4:]) == kernelDev(n.stat.Dev)
}

// diagAttrs reads struct nlattr's, by type.
func diagAttrs(b []byte) map[uint16][]byte {
	ne := binary.NativeEndian
	attrs := map[uint16][]byte{}
	for len(b) >= 4 {
		size := int(ne.Uint16(b))
		if size < 4 || size > len(b) {
			break
		}
		attrs[ne.Uint16(b[2:])] = b[4:size]
		b = b[min(align4(size), len(b)):]
	}
	return attrs
}

// kernelDev is a device number as the kernel keeps it inside (linux/kdev_t.h).
func kernelDev(dev uint64) uint32 { return unix.Major(dev)<<20 | unix.Minor(dev) }

func align4(n int) int { return (n + 3) &^ 3 }

// ownerOf finds a process that has the socket open, 0 when it sees none.
func ownerOf(ino uint32) int {
	want := fmt.Sprintf("socket:[%d]", ino)
	links, _ := filepath.Glob("/proc/[0-9]*/fd")
	for _, dir := range links {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // ended, or not ours to look at
		}
		for _, e := range entries {
			if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && target == want {
				pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
				return pid
			}
		}
	}
	return 0
}
