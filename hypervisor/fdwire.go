package hypervisor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// libvirt's RPC header: length, program, version, procedure, type, serial and
// status, each a big-endian u32 (libvirt src/rpc/virnetprotocol.x).
const (
	rpcHeader      = 28
	rpcMaxPacket   = 64 << 20 // more than VIR_NET_MESSAGE_MAX
	rpcCall        = 0
	rpcCallWithFDs = 4
	qemuProgram    = 0x20008087
	procMonitorFD  = 7 // QEMU_PROC_DOMAIN_MONITOR_COMMAND_WITH_FILES, since libvirt 8.2
)

// fdFlight is descriptors on their way to libvirtd. go-libvirt's calls cannot
// carry any: a call of QEMUDomainMonitorCommandWithFiles whose command one waits
// for leaves a connection of wrap's as a call that does. The zero value is ready.
type fdFlight struct {
	mu      sync.Mutex
	waiting map[string]int // own copies, by domain and command
}

// wrap gives go-libvirt's dialer a connection by which descriptors travel. All
// else passes as it is, and so does everything on what is no unix socket: QEMU
// says then that no descriptor came.
func (d *fdFlight) wrap(conn net.Conn) net.Conn {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return conn
	}
	return &fdConn{UnixConn: u, flight: d}
}

// lend has a copy of fd go with the next call of that command; drop closes it
// where none took it. A call that is given up may still be written later, when
// fd's number is another file's.
func (d *fdFlight) lend(key string, fd int) (drop func(), err error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("cannot copy a queue: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, taken := d.waiting[key]; taken {
		_ = unix.Close(own)
		return nil, errors.New("a descriptor waits for this command already")
	}
	if d.waiting == nil {
		d.waiting = map[string]int{}
	}
	d.waiting[key] = own
	return func() {
		if own, ok := d.take(key); ok {
			_ = unix.Close(own)
		}
	}, nil
}

func (d *fdFlight) take(key string) (fd int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fd, ok = d.waiting[key]
	delete(d.waiting, key)
	return fd, ok
}

// commandKey names a monitor command for a domain.
func commandKey(uuid [16]byte, command string) string { return string(uuid[:]) + command }

// fdConn is a connection to libvirtd.
type fdConn struct {
	*net.UnixConn
	flight *fdFlight
	part   []byte // of a packet that is not whole yet; go-libvirt writes under one lock
}

// Write takes packets together, which bufio parts at 4096 bytes, and passes on
// each. After an error the connection is of no use.
func (c *fdConn) Write(b []byte) (int, error) {
	c.part = append(c.part, b...)
	for len(c.part) >= 4 {
		size := binary.BigEndian.Uint32(c.part)
		if size < rpcHeader || size > rpcMaxPacket {
			return 0, c.broken(fmt.Errorf("a packet of %d bytes is none of libvirt's", size))
		}
		if uint32(len(c.part)) < size {
			break
		}
		if err := c.pass(c.part[:size]); err != nil {
			return 0, c.broken(err)
		}
		c.part = c.part[size:]
	}
	if len(c.part) == 0 {
		c.part = nil
	}
	return len(b), nil
}

func (c *fdConn) broken(err error) error {
	_ = c.Close()
	return err
}

func (c *fdConn) pass(packet []byte) error {
	fd, ok := c.flight.take(keyOf(packet))
	if !ok {
		_, err := c.UnixConn.Write(packet)
		return err
	}
	defer unix.Close(fd)
	if _, err := c.UnixConn.Write(withFDs(packet, 1)); err != nil {
		return err
	}
	// A zero byte for each descriptor, after the packet (src/rpc/virnetmessage.c,
	// virNetMessageAddFD; src/util/virsocket.c, virSocketSendFD).
	_, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fd), nil)
	return err
}

// withFDs is a call that announces n descriptors between its header and what it
// carries (src/rpc/virnetmessage.c, virNetMessageEncodeNumFDs).
func withFDs(call []byte, n uint32) []byte {
	be := binary.BigEndian
	out := make([]byte, 0, len(call)+4)
	out = be.AppendUint32(out, uint32(len(call)+4))
	out = append(out, call[4:rpcHeader]...)
	be.PutUint32(out[16:], rpcCallWithFDs)
	out = be.AppendUint32(out, n)
	return append(out, call[rpcHeader:]...)
}

// keyOf is commandKey of a packet, "" when it is another call. Its arguments are
// remote_nonnull_domain {string name; opaque uuid[16]; int id}, string cmd,
// unsigned flags (src/remote/qemu_protocol.x).
func keyOf(packet []byte) string {
	be := binary.BigEndian
	if be.Uint32(packet[4:]) != qemuProgram || be.Uint32(packet[12:]) != procMonitorFD || be.Uint32(packet[16:]) != rpcCall {
		return ""
	}
	_, rest, ok := cutString(packet[rpcHeader:])
	if !ok || len(rest) < 20 {
		return ""
	}
	command, _, ok := cutString(rest[20:])
	if !ok {
		return ""
	}
	return commandKey([16]byte(rest[:16]), command)
}

// cutString takes an XDR string (RFC 4506, 4.11) off the front.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := int64(binary.BigEndian.Uint32(b))
	padded := (n + 3) &^ 3
	if int64(len(b)-4) < padded {
		return "", nil, false
	}
	return string(b[4 : 4+n]), b[4+padded:], true
}
