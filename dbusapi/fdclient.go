package dbusapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
)

// claim fetches the queues that a token stands for. Nothing stays open when it
// fails.
func claim(ctx context.Context, path string, token []byte, ownerPID int) (a vmnetd.Attachment, set *queuefd.Set, err error) {
	if ownerPID == 0 {
		ownerPID = os.Getpid()
	}
	pidfd, err := unix.PidfdOpen(ownerPID, 0)
	if err != nil {
		return a, nil, vmnetd.Errorf(vmnetd.ErrNotFound, "no process %d that could own the NIC: %w", ownerPID, err)
	}
	defer unix.Close(pidfd)
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", path)
	conn, ok := c.(*net.UnixConn)
	if err != nil || !ok {
		return a, nil, vmnetd.Errorf(vmnetd.ErrUnreachable, "the daemon's socket for file descriptors is not reachable: %w", err).
			WithNext("is " + path + " of another namespace or user?")
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := sendPacket(conn, token, pidfd); err != nil {
		return a, nil, lostFDs(err)
	}
	if set, err = receive(conn); err != nil {
		return a, nil, err
	}
	if a, err = acknowledge(conn); err != nil {
		_ = set.Close()
		return a, nil, err
	}
	return a, set, nil
}

// receive reads the header and all fds.
func receive(conn *net.UnixConn) (set *queuefd.Set, err error) {
	data, fds, err := readPacket(conn, mostPacket, mostFDs, patience)
	defer func() {
		if err != nil {
			closeAll(fds)
		}
	}()
	if err != nil {
		return nil, lostFDs(err)
	}
	var head fdHeader
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, lostFDs(err)
	}
	if head.Error != nil {
		return nil, head.Error.err()
	}
	for len(fds) < head.Queues+head.VHost {
		_, more, err := readPacket(conn, 16, mostFDs, patience)
		fds = append(fds, more...)
		if err != nil {
			return nil, lostFDs(err)
		}
		if len(more) == 0 {
			return nil, lostFDs(fmt.Errorf("%d of %d file descriptors came", len(fds), head.Queues+head.VHost))
		}
	}
	if head.Queues < 0 || head.VHost < 0 || len(fds) != head.Queues+head.VHost {
		return nil, lostFDs(fmt.Errorf("%d file descriptors came for %d queues and %d vhost-net", len(fds), head.Queues, head.VHost))
	}
	return &queuefd.Set{Queues: fds[:head.Queues:head.Queues], VHost: fds[head.Queues:], VHostReason: head.VHostReason}, nil
}

// patience is for the daemon's packets: it may open many queues, and bounds
// its work itself.
const patience = defaultCallLimit + 5*time.Second

// acknowledge says that the queues are here and reads what became of it.
func acknowledge(conn *net.UnixConn) (a vmnetd.Attachment, err error) {
	if err := sendPacket(conn, []byte(packetAck)); err != nil {
		return a, lostFDs(err)
	}
	data, stray, err := readPacket(conn, mostPacket, 1, patience)
	closeAll(stray)
	if err != nil {
		return a, lostFDs(err)
	}
	var result fdResult
	if err := json.Unmarshal(data, &result); err != nil {
		return a, lostFDs(err)
	}
	switch {
	case result.Error != nil:
		return a, result.Error.err()
	case result.Attachment == nil:
		return a, lostFDs(fmt.Errorf("an answer without attachment"))
	}
	return *result.Attachment, nil
}

func lostFDs(err error) error {
	return vmnetd.Errorf(vmnetd.ErrFailed, "the daemon did not hand the queues over: %w", err).WithNext("see  journalctl -u vmnetd")
}
