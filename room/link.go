package room

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
)

const (
	greetLimit = 5 * time.Second  // from connecting to the greeting
	callLimit  = 20 * time.Second // for one request; the kernel's own limits are within
)

// link is a connection to a process in a namespace, as the daemon has it. Requests
// may be made from any goroutine.
type link struct {
	*wire
	said greeting
	ns   *netns.NS
	dead chan struct{} // closed once the connection has ended

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]func(answered)
}

type answered struct {
	reply
	fd int
}

// dial connects and hears the greeting. vmnetd.ErrNotFound: nobody is there.
func dial(ctx context.Context, path string) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, greetLimit)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil, vmnetd.Errorf(vmnetd.ErrNotFound, "no process of ours serves %s", path)
	case err != nil:
		return nil, silent(path, err)
	}
	conn, _ := c.(*net.UnixConn)
	l := &link{wire: &wire{conn: conn}, dead: make(chan struct{}), waiting: map[uint64]func(answered){}}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	err = errors.Join(trusted(conn), l.hearGreeting())
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		if l.ns != nil {
			_ = l.ns.Close()
		}
		return nil, silent(path, err)
	}
	go l.read()
	return l, nil
}

func silent(path string, err error) error {
	return vmnetd.Errorf(vmnetd.ErrFailed, "the process in a namespace of ours that serves %s does not answer: %w", path, err).
		WithNext("see who listens there: ss -xlp")
}

func (l *link) hearGreeting() error {
	fd, err := l.receive(&l.said)
	if err != nil {
		return err
	}
	l.ns, err = netns.FromFD(fd)
	return err
}

// read gives replies to who waits for them, until the connection ends. Then it lets
// go of the namespace, which must not outlive its process by us.
func (l *link) read() {
	for {
		var a answered
		fd, err := l.receive(&a.reply)
		if err != nil {
			break
		}
		a.fd = fd
		l.mu.Lock()
		give := l.waiting[a.ID]
		l.mu.Unlock()
		if give == nil {
			closeFD(fd)
			continue
		}
		give(a)
	}
	_ = l.conn.Close()
	_ = l.ns.Close()
	close(l.dead)
}

func (l *link) close() error {
	_ = l.conn.Close()
	<-l.dead
	return nil
}

func (l *link) alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return true
	}
}

// ask sends a request; give gets each reply, in the reading goroutine, until forget.
func (l *link) ask(verb string, args any, give func(answered)) (id uint64, err error) {
	body, err := json.Marshal(args)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	l.last++
	id = l.last
	l.waiting[id] = give
	l.mu.Unlock()
	if err := l.send(request{ID: id, Verb: verb, Args: body}, -1); err != nil {
		l.forget(id)
		return 0, ended(err)
	}
	return id, nil
}

func (l *link) forget(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, id)
}

func (l *link) cancel(id uint64) {
	l.forget(id)
	_ = l.send(request{ID: id, Verb: verbCancel}, -1)
}

func ended(err error) error {
	return vmnetd.Errorf(vmnetd.ErrFailed, "the process in the namespace has ended: %w", err).WithNext("try again")
}

// call makes a request and waits for its reply. fd is the descriptor that came with
// it, -1 where none did; the caller closes it.
func (l *link) call(ctx context.Context, verb string, args, result any) (fd int, err error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	got := make(chan answered, 1)
	id, err := l.ask(verb, args, func(a answered) {
		select {
		case got <- a:
		default:
			closeFD(a.fd)
		}
	})
	if err != nil {
		return -1, err
	}
	defer l.forget(id)
	select {
	case a := <-got:
		return a.take(result)
	case <-l.dead:
		return l.lastWord(got, result)
	case <-ctx.Done():
		l.cancel(id)
		l.drop(got)
		return -1, vmnetd.Errorf(vmnetd.ErrFailed, "the process in the namespace did not answer %q in time: %w", verb, ctx.Err()).WithNext("try again")
	}
}

// lastWord is a reply that came before the connection ended.
func (l *link) lastWord(got <-chan answered, result any) (fd int, err error) {
	select {
	case a := <-got:
		return a.take(result)
	default:
		return -1, ended(net.ErrClosed)
	}
}

// drop closes what a reply that nobody waits for any more has brought, also one that
// is on its way to got.
func (l *link) drop(got chan answered) {
	select {
	case a := <-got:
		closeFD(a.fd)
	case got <- answered{fd: -1}: // it is full from now on
	}
}

func (a answered) take(result any) (fd int, err error) {
	if a.Error == nil && result != nil {
		err = json.Unmarshal(a.Result, result)
	} else if a.Error != nil {
		err = a.Error.err()
	}
	if err != nil {
		closeFD(a.fd)
		return -1, err
	}
	return a.fd, nil
}
