package hypervisor

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
)

// libvirt's RPC (src/rpc/virnetprotocol.x): every packet begins with these
// seven words, the first of which counts the whole packet.
const (
	lvHeader    = 28
	lvMaxPacket = 32<<20 + lvHeader // VIR_NET_MESSAGE_MAX
)

var errLvGarbage = errors.New("what answers there does not speak libvirt's protocol")

// lvConn is a connection to libvirtd that hears its events as they pass:
// go-libvirt delivers those of QEMU's monitor only for one domain at a time (its
// streams are private), and drops what comes between the reply to a subscription
// and the making of its stream. heard is called by the one who reads.
type lvConn struct {
	net.Conn
	heard func(lvEvent)
	dead  chan struct{} // closed when nothing more can be read
	once  sync.Once

	header []byte
	body   []byte // of an event
	left   int    // bytes of the packet that are still to come
	event  bool   // it is one that we hear
}

func newLvConn(c net.Conn, heard func(lvEvent)) *lvConn {
	return &lvConn{Conn: c, heard: heard, dead: make(chan struct{})}
}

// Read implements net.Conn.
func (c *lvConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bad := c.look(p[:n]); bad != nil {
		_ = c.Close()
		n, err = 0, bad
	}
	if err != nil {
		c.once.Do(func() { close(c.dead) })
	}
	return n, err
}

func (c *lvConn) look(p []byte) error {
	for len(p) > 0 {
		if c.left == 0 {
			n := min(lvHeader-len(c.header), len(p))
			c.header, p = append(c.header, p[:n]...), p[n:]
			if len(c.header) < lvHeader {
				return nil
			}
			if err := c.begin(); err != nil {
				return err
			}
			continue
		}
		n := min(c.left, len(p))
		if c.event {
			c.body = append(c.body, p[:n]...)
		}
		c.left, p = c.left-n, p[n:]
		c.end()
	}
	return nil
}

// begin reads a header. A length that go-libvirt would make a negative one of
// must not reach it.
func (c *lvConn) begin() error {
	word := func(i int) uint32 { return binary.BigEndian.Uint32(c.header[4*i:]) }
	size := word(0)
	if size < lvHeader || size > lvMaxPacket {
		return errLvGarbage
	}
	c.left, c.body = int(size)-lvHeader, c.body[:0]
	c.event = isLvEvent(word(1), word(3), word(4))
	c.end()
	return nil
}

func (c *lvConn) end() {
	if c.left > 0 {
		return
	}
	if ev, ok := decodeLvEvent(binary.BigEndian.Uint32(c.header[12:]), c.body); c.event && ok {
		c.heard(ev)
	}
	c.header, c.event = c.header[:0], false
}
