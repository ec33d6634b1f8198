package dbusapi

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

const (
	fdSocketName  = "fd.sock"
	tokenSize     = 32
	mostFDs       = 253 // in one message (SCM_MAX_FD, include/net/scm.h)
	mostPacket    = 64 << 10
	packetLimit   = 5 * time.Second // for the other side's next packet
	packetAck     = "ok"
	packetMoreFDs = "+"
)

// fdHeader begins what the daemon sends: how many fds will come.
type fdHeader struct {
	Queues      int      `json:"queues"`
	VHost       int      `json:"vhost"`
	VHostReason string   `json:"vhost_reason"`
	Error       *fdError `json:"error,omitempty"`
}

// fdResult ends it.
type fdResult struct {
	Attachment *vmnetd.Attachment `json:"attachment,omitempty"`
	Error      *fdError           `json:"error,omitempty"`
}

// fdError is an error as toBus would write it.
type fdError struct {
	Name string `json:"name"`
	Text string `json:"text"`
	Next string `json:"next"`
}

func newFDError(err error) *fdError {
	return &fdError{Name: vmnetd.ClassOf(err).Name, Text: err.Error(), Next: vmnetd.NextOf(err)}
}

func (e *fdError) err() error { return classNamed(e.Name, e.Text, e.Next) }

// sendPacket sends one packet with fds, which stay the caller's.
func sendPacket(conn *net.UnixConn, data []byte, fds ...int) error {
	if err := conn.SetWriteDeadline(time.Now().Add(packetLimit)); err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := conn.WriteMsgUnix(data, oob, nil)
	return err
}

func sendJSON(conn *net.UnixConn, v any, fds ...int) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return sendPacket(conn, data, fds...)
}

// readPacket reads one packet of at most size bytes and its fds, which are the
// caller's, also when there is an error: a sender may put fds beside anything,
// even beside nothing. The kernel closes those beyond room (net/core/scm.c,
// scm_detach_fds), and the packet is refused.
func readPacket(conn *net.UnixConn, size, room int, limit time.Duration) (data []byte, fds []int, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return nil, nil, err
	}
	data, oob := make([]byte, size), make([]byte, unix.CmsgSpace(4*room))
	n, oobn, flags, _, err := conn.ReadMsgUnix(data, oob)
	fds = rights(oob[:max(oobn, 0)])
	switch {
	case err != nil:
		return nil, fds, err
	case flags&unix.MSG_TRUNC != 0:
		return nil, fds, errors.New("a packet that is too long")
	case flags&unix.MSG_CTRUNC != 0 || len(fds) > room:
		return nil, fds, errors.New("a packet with too many file descriptors")
	case n == 0:
		return nil, fds, io.EOF
	}
	return data[:n], fds, nil
}

// rights takes every fd out of control messages.
func rights(oob []byte) []int {
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

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
