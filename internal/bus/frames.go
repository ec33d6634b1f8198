package bus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/godbus/dbus/v5"
)

const (
	fixedHeader = 16      // bytes before the header fields (D-Bus specification, "Message Format")
	maxMessage  = 1 << 27 // bytes, by the specification
)

// frames hands godbus one whole message after the other and drops those that
// godbus cannot decode. Left to itself, godbus closes the connection at the
// first of them, and panics where the mistake is of a kind it does not expect
// (decoder.go, Decode: "Not ours; re-panic"); anybody on the bus could send it.
type frames struct {
	net.Conn
	begun   bool // the handshake is over, messages follow
	rest    []byte
	dropped func(error)
}

// Write notices the end of the handshake: godbus writes BEGIN in one piece and
// starts to read messages after it (auth.go).
func (f *frames) Write(p []byte) (int, error) {
	if !f.begun && bytes.Equal(p, []byte("BEGIN\r\n")) {
		f.begun = true
	}
	return f.Conn.Write(p)
}

func (f *frames) Read(p []byte) (int, error) {
	if !f.begun {
		return f.Conn.Read(p)
	}
	for len(f.rest) == 0 {
		message, err := readMessage(f.Conn)
		if err != nil {
			return 0, err
		}
		if err := decodable(message); err != nil {
			f.dropped(err)
			continue
		}
		f.rest = message
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// readMessage reads one message, whatever is in it. The sizes can be trusted
// as far as the bus can: it validates both before it passes a message on.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, fixedHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[0] == 'B' {
		order = binary.BigEndian
	}
	body, fields := uint64(order.Uint32(head[4:])), uint64(order.Uint32(head[12:]))
	rest := (fields+7)&^7 + body
	if rest > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", rest)
	}
	message := bytes.NewBuffer(head)
	if _, err := io.CopyN(message, r, int64(rest)); err != nil {
		return nil, err
	}
	return message.Bytes(), nil
}

func decodable(message []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("godbus: %v", p)
		}
	}()
	r := bytes.NewReader(message)
	if _, err := dbus.DecodeMessage(r); err != nil {
		return err
	}
	if r.Len() != 0 {
		return fmt.Errorf("%d bytes too many", r.Len())
	}
	return nil
}
