package dbusapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/queuefd"
)

const (
	mostPeers        = 64 // connections at a time
	mostPeersOfUser  = 16 // of one user other than root
	ticketLife       = time.Minute
	firstPacketLimit = 2 * time.Second // a client connects when it has all it needs
)

// fdServer hands queues to whoever has a token; see OpenTap in vmnetd1.xml.
// Anybody may connect: the socket's mode keeps nobody out, the token does.
type fdServer struct {
	api  agent.API
	path string
	log  *slog.Logger

	firstPacket time.Duration // how long it may take

	listening chan struct{} // closed once listener is set

	mu       sync.Mutex
	listener *net.UnixListener
	closed   bool
	tickets  map[string]ticket // by token
	peers    map[uint32]int    // connections by user
	total    int
	serving  sync.WaitGroup
}

// ticket is who asked for a token: nobody else but root may use it.
type ticket struct {
	uid     uint32
	expires time.Time
}

func newFDServer(api agent.API, path string, log *slog.Logger) *fdServer {
	return &fdServer{
		api: api, path: path, log: log, firstPacket: firstPacketLimit, listening: make(chan struct{}),
		tickets: map[string]ticket{}, peers: map[uint32]int{},
	}
}

// listen makes the socket, once. It is not made before the bus name is ours:
// then no other daemon can be using it.
func (s *fdServer) listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil || s.closed {
		return nil
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: s.path, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("cannot make the socket for file descriptors: %w", err)
	}
	if err := os.Chmod(s.path, 0o666); err != nil {
		l.Close()
		return err
	}
	s.listener = l
	close(s.listening)
	return nil
}

// close ends listening and removes the socket.
func (s *fdServer) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.listener != nil {
		s.listener.Close()
	}
}

// wait returns when the socket is there.
func (s *fdServer) wait(ctx context.Context) error {
	select {
	case <-s.listening:
		return nil
	case <-ctx.Done():
		return vmnetd.Errorf(vmnetd.ErrFailed, "the socket %s is not there yet", s.path)
	}
}

// issue remembers who may use a token.
func (s *fdServer) issue(token []byte, uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for t, k := range s.tickets {
		if now.After(k.expires) {
			delete(s.tickets, t)
		}
	}
	s.tickets[string(token)] = ticket{uid: uid, expires: now.Add(ticketLife)}
}

// redeem takes a token out of use; the agent has the last word on it.
func (s *fdServer) redeem(token []byte, uid uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.tickets[string(token)]
	if !ok || time.Now().After(k.expires) || uid != 0 && uid != k.uid {
		return vmnetd.Errorf(vmnetd.ErrDenied, "the token is not known, was used, or is another user's").WithNext("ask for a new one: OpenTap")
	}
	delete(s.tickets, string(token))
	return nil
}

// run accepts until ctx ends.
func (s *fdServer) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	if s.wait(ctx) != nil {
		return nil
	}
	defer s.serving.Wait()
	for {
		conn, err := s.listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.log.Warn("cannot accept on the socket for file descriptors", "error", err)
			pause(ctx, 100*time.Millisecond) // no fds left, for one: others may close theirs
			continue
		}
		s.admit(ctx, conn)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// admit serves a connection in a goroutine, or closes it when there are too
// many.
func (s *fdServer) admit(ctx context.Context, conn *net.UnixConn) {
	uid, err := peerUID(conn)
	if err != nil || !s.enter(uid) {
		conn.Close()
		return
	}
	s.serving.Go(func() {
		defer s.leave(uid)
		defer conn.Close()
		defer func() {
			if p := recover(); p != nil {
				s.log.Error("handing over file descriptors panicked", "panic", p, "stack", string(debug.Stack()))
			}
		}()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		s.serve(ctx, conn, uid)
	})
}

func (s *fdServer) enter(uid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= mostPeers && uid != 0 || uid != 0 && s.peers[uid] >= mostPeersOfUser {
		return false
	}
	s.total++
	s.peers[uid]++
	return true
}

func (s *fdServer) leave(uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.peers[uid]--; s.peers[uid] == 0 {
		delete(s.peers, uid)
	}
}

// serve is the whole conversation.
func (s *fdServer) serve(ctx context.Context, conn *net.UnixConn, uid uint32) {
	token, owner, err := s.readClaim(conn, uid)
	if err != nil {
		s.refuse(conn, err)
		return
	}
	limited, cancel := context.WithTimeout(ctx, defaultCallLimit)
	defer cancel()
	set, done, err := s.api.Claim(limited, token, owner)
	if err != nil {
		s.refuse(conn, err)
		return
	}
	err = handOver(conn, set)
	_ = set.Close()
	a, err := done(err)
	if err != nil {
		s.refuse(conn, err)
		return
	}
	if err := sendJSON(conn, fdResult{Attachment: &a}); err != nil {
		s.log.Warn("the owner of a NIC does not know that it is up", "vm", a.VM, "id", a.ID, "error", err)
	}
}

// refuse tells the other side, if it still listens.
func (s *fdServer) refuse(conn *net.UnixConn, err error) {
	_ = sendJSON(conn, fdResult{Error: newFDError(err)})
}

// readClaim reads token and pidfd and closes every fd that came with them.
func (s *fdServer) readClaim(conn *net.UnixConn, uid uint32) (token []byte, owner agent.Owner, err error) {
	token, fds, err := readPacket(conn, tokenSize+1, 1, s.firstPacket)
	defer closeAll(fds)
	switch {
	case err != nil:
		return nil, owner, vmnetd.Errorf(vmnetd.ErrInvalid, "no token came: %w", err)
	case len(token) != tokenSize:
		return nil, owner, vmnetd.Errorf(vmnetd.ErrInvalid, "the first packet must be a token of %d bytes, not %d", tokenSize, len(token))
	case len(fds) != 1:
		return nil, owner, vmnetd.Errorf(vmnetd.ErrInvalid, "the token must come with one pidfd, not %d file descriptors", len(fds))
	}
	if owner, err = ownerOf(fds[0]); err != nil {
		return nil, owner, err
	}
	return token, owner, s.redeem(token, uid)
}

// handOver sends the fds and waits until the other side says that it has them.
func handOver(conn *net.UnixConn, set *queuefd.Set) error {
	fds := set.All()
	now := min(len(fds), mostFDs)
	head := fdHeader{Queues: len(set.Queues), VHost: len(set.VHost), VHostReason: set.VHostReason}
	if err := sendJSON(conn, head, fds[:now]...); err != nil {
		return fmt.Errorf("cannot send the queues: %w", err)
	}
	for fds = fds[now:]; len(fds) > 0; fds = fds[now:] {
		now = min(len(fds), mostFDs)
		if err := sendPacket(conn, []byte(packetMoreFDs), fds[:now]...); err != nil {
			return fmt.Errorf("cannot send the queues: %w", err)
		}
	}
	ack, stray, err := readPacket(conn, 16, 1, packetLimit)
	closeAll(stray)
	if err != nil {
		return fmt.Errorf("the owner did not say that it has the queues: %w", err)
	}
	if string(ack) != packetAck || len(stray) > 0 {
		return fmt.Errorf("the owner did not take the queues: it said %q", ack)
	}
	return nil
}

// peerUID is who connected, from the kernel.
func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
