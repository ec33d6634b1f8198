package room

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mostMessage = 16 << 20         // bytes; 4,000 devices are 2 MB
	sendLimit   = 10 * time.Second // for a peer that does not read
)

// wire carries messages, each with at most one descriptor: four bytes of length in
// network order, with which the descriptor travels, and JSON.
type wire struct {
	conn *net.UnixConn
	mu   sync.Mutex // held while a message is written
}

// send writes one message. fd stays the caller's; -1: none.
func (w *wire) send(v any, fd int) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return err
	}
	n, _, err := w.conn.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(body))), rights, nil)
	if err == nil && n != 4 {
		err = io.ErrShortWrite
	}
	if err == nil {
		_, err = w.conn.Write(body)
	}
	if err != nil {
		_ = w.conn.Close() // the other side would take the rest for something else
	}
	return err
}

// receive reads one message and the descriptor that came with it, -1 where none did.
// The caller closes it.
func (w *wire) receive(v any) (fd int, err error) {
	head, fd, err := w.head()
	if err == nil {
		err = w.body(head, v)
	}
	if err != nil {
		closeFD(fd)
		return -1, err
	}
	return fd, nil
}

func (w *wire) head() (length uint32, fd int, err error) {
	var head [4]byte
	fd = -1
	for got := 0; got < len(head); {
		oob := make([]byte, unix.CmsgSpace(4))
		n, oobn, _, _, err := w.conn.ReadMsgUnix(head[got:], oob)
		for _, sent := range rightsIn(oob[:max(oobn, 0)]) {
			closeFD(fd)
			fd = sent
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			return 0, fd, err
		}
		got += n
	}
	return binary.BigEndian.Uint32(head[:]), fd, nil
}

func (w *wire) body(length uint32, v any) error {
	if length > mostMessage {
		return fmt.Errorf("a message of %d bytes", length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

func rightsIn(oob []byte) []int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var all []int
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil {
			all = append(all, fds...)
		}
	}
	return all
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
