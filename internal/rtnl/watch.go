package rtnl

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// watchBuffer is the receive buffer in bytes. The usual 212 KiB hold 92 of the
// 10,400 messages that 1,000 new links bring.
const watchBuffer = 8 << 20

// resyncPause is how long a resync waits after one that could not see every
// link at once, or failed.
const resyncPause = 500 * time.Millisecond

// Watch mirrors the links of the namespace it was opened in, and may tell of its
// addresses too. It is meant to be the only subscriber to link messages of the
// process.
type Watch struct {
	conn   *Conn
	sock   *nl.NetlinkSocket
	links  *mirror
	ready  chan struct{}
	synced sync.Once

	noPrefix map[addrOn]bool // of the addresses that were heard of; Run's alone

	news      sync.Mutex // held while the mirror is brought up to date: a dump must not undo later news
	mu        sync.Mutex
	onChange  []func(ifindex int)
	onAddr    []func(ifindex int, a Addr)
	overruns  int
	closeOnce sync.Once
}

// WatchOption changes how a Watch is opened.
type WatchOption func(*watchSettings)

type watchSettings struct {
	buffer int
	groups []uint
}

// WithBuffer sets the receive buffer in bytes instead of 8 MiB; the kernel
// doubles it for its own bookkeeping (socket(7), SO_RCVBUF).
func WithBuffer(bytes int) WatchOption { return func(s *watchSettings) { s.buffer = bytes } }

// OpenWatch subscribes in the network namespace of the calling thread. The
// mirror is empty until Sync or Run.
func OpenWatch(opts ...WatchOption) (*Watch, error) {
	set := watchSettings{buffer: watchBuffer, groups: []uint{unix.RTNLGRP_LINK}}
	for _, o := range opts {
		o(&set)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	conn, err := Open()
	if err != nil {
		return nil, err
	}
	sock, err := nl.Subscribe(unix.NETLINK_ROUTE, set.groups...)
	if err != nil {
		_ = conn.Close()
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot subscribe to link messages: %w", err)
	}
	if sock.SetReceiveBufferSize(set.buffer, true) != nil { // needs CAP_NET_ADMIN
		_ = sock.SetReceiveBufferSize(set.buffer, false)
	}
	return &Watch{conn: conn, sock: sock, links: newMirror(), noPrefix: map[addrOn]bool{}, ready: make(chan struct{})}, nil
}

// Close ends the subscription; Run does it by itself when it ends.
func (w *Watch) Close() error {
	var err error
	w.closeOnce.Do(func() {
		w.sock.Close()
		err = w.conn.Close()
	})
	return err
}

// ByName is the link with that name, as last heard of.
func (w *Watch) ByName(name string) (Link, bool) { return w.links.name(name) }

// ByIndex is the link with that ifindex, as last heard of.
func (w *Watch) ByIndex(index int) (Link, bool) { return w.links.index(index) }

// On is the links that have that one as their lower device, by ifindex.
func (w *Watch) On(lower int) []Link { return w.links.on(lower) }

// Ports is the links that have that one as their master, by ifindex.
func (w *Watch) Ports(master int) []Link { return w.links.ports(master) }

// All is every link, by ifindex.
func (w *Watch) All() []Link { return w.links.all() }

// OnChange adds a function that is called after each change with the link's
// ifindex, and with 0 after a full resync. Calls come one at a time, in the
// kernel's order; a function must not block.
func (w *Watch) OnChange(changed func(ifindex int)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onChange = append(w.onChange, changed)
}

// Ready is closed once the mirror shows every link.
func (w *Watch) Ready() <-chan struct{} { return w.ready }

// Overruns is how often the kernel had more messages than the buffer holds.
func (w *Watch) Overruns() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overruns
}

// Sync makes the mirror show every link there is now. With ErrDumpInterrupted
// the mirror shows what was seen and has forgotten nothing.
func (w *Watch) Sync(ctx context.Context) error {
	w.news.Lock()
	links, err := w.conn.Links(ctx)
	interrupted := errors.Is(err, ErrDumpInterrupted)
	if err == nil || interrupted {
		w.links.replace(links, interrupted)
	}
	w.news.Unlock()
	if err != nil && !interrupted {
		return err
	}
	if err == nil {
		w.synced.Do(func() { close(w.ready) })
	}
	w.tell(0)
	return err
}

// Run keeps the mirror up to date until ctx ends, which is no error. It
// begins with a Sync where none was done, and ends the subscription.
func (w *Watch) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, w.sock.Close) // ends a Receive that waits
	defer stop()
	defer w.Close()
	stale := true
	select {
	case <-w.ready:
		stale = false
	default:
	}
	for ctx.Err() == nil {
		if stale {
			stale = w.Sync(ctx) != nil
		}
		w.waitAtMost(stale)
		msgs, _, err := w.sock.Receive()
		switch {
		case ctx.Err() != nil:
		case err == nil:
			w.apply(msgs)
		case errors.Is(err, unix.ENOBUFS):
			// Messages are lost. What is still in the buffer is older than the
			// dump that follows.
			w.overrun()
			clear(w.noPrefix)
			stale = true
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		default:
			return vmnetd.Errorf(vmnetd.ErrFailed, "cannot read link messages: %w", err)
		}
	}
	return nil
}

// waitAtMost bounds the next Receive while the mirror is not sure of itself.
func (w *Watch) waitAtMost(stale bool) {
	var tv unix.Timeval
	if stale {
		tv = unix.NsecToTimeval(resyncPause.Nanoseconds())
	}
	_ = w.sock.SetReceiveTimeout(&tv)
}

// overrun counts it and empties the buffer. It reads as Run does, not by the
// raw descriptor: that may be somebody else's by now, when ctx has ended.
func (w *Watch) overrun() {
	w.mu.Lock()
	w.overruns++
	w.mu.Unlock()
	tv := unix.NsecToTimeval(time.Millisecond.Nanoseconds())
	_ = w.sock.SetReceiveTimeout(&tv)
	for {
		_, _, err := w.sock.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
			return // EAGAIN: empty
		}
	}
}

func (w *Watch) apply(msgs []syscall.NetlinkMessage) {
	for _, m := range msgs {
		if m.Header.Type == unix.RTM_NEWADDR || m.Header.Type == unix.RTM_DELADDR {
			w.applyAddr(m)
			continue
		}
		// A bridge says with family AF_BRIDGE that a port came or went, or is in
		// another state (net/bridge/br_netlink.c, br_ifinfo_notify): an
		// RTM_DELLINK of that family deletes no link.
		if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC {
			if m.Header.Type == unix.RTM_NEWLINK && len(m.Data) >= unix.SizeofIfInfomsg {
				w.tell(int(nl.DeserializeIfInfomsg(m.Data).Index))
			}
			continue
		}
		l, err := parseLink(m.Data)
		if err != nil {
			continue
		}
		w.news.Lock()
		switch m.Header.Type {
		case unix.RTM_NEWLINK:
			w.links.set(l)
		case unix.RTM_DELLINK:
			w.links.delete(l.Index)
		}
		w.news.Unlock()
		w.tell(l.Index)
	}
}

func (w *Watch) tell(ifindex int) {
	w.mu.Lock()
	funcs := w.onChange
	w.mu.Unlock()
	for _, f := range funcs {
		f(ifindex)
	}
}
