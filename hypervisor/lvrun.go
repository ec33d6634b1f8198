package hypervisor

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
)

// Run keeps the connection and the mirror until ctx ends, and calls saw, one
// call at a time, for each domain that came, went or changed. While nothing
// happens, it does nothing. When libvirtd goes, the mirror stays as it was last
// known until libvirtd is back. The zero Sighting comes when the domains are
// listed, when libvirtd is not there, or after Limits.Begin.
func (l *Libvirt) Run(ctx context.Context, saw func(Sighting)) error {
	ctx, cancel := context.WithCancel(ctx)
	tell := newLvTeller()
	l.mu.Lock()
	l.tell = tell
	l.mu.Unlock()
	var owned sync.WaitGroup
	owned.Go(func() { tell.run(ctx, saw) })
	begin := sync.OnceFunc(func() { tell.say(Sighting{}) })
	late := time.AfterFunc(l.limits.Begin, begin)
	defer func() {
		late.Stop()
		cancel()
		owned.Wait()
	}()
	for ctx.Err() == nil {
		if err := l.once(ctx, begin); err != nil {
			return err
		}
	}
	return nil
}

// once is one libvirtd: found, followed, lost.
func (l *Libvirt) once(ctx context.Context, begin func()) error {
	sockets, changed := l.where()
	if len(sockets) == 0 {
		l.forgetAll()
		begin()
		select {
		case <-ctx.Done():
		case <-changed:
		}
		return nil
	}
	wait, err := newLvWait(sockets)
	if err != nil {
		return err
	}
	defer wait.close()
	for ctx.Err() == nil {
		queue := newLvQueue()
		s, err := l.reach(ctx, sockets, func(ev lvEvent) { l.hear(ev, queue.add) })
		if err == nil {
			err = l.follow(ctx, s, queue, changed, begin)
			if err == nil {
				return nil // elsewhere, or the end
			}
			if l.everListed() {
				wait.tries = 0
			}
		}
		if ctx.Err() == nil {
			l.lost(err)
		}
		if absent(err) {
			begin()
		}
		if !wait.next(ctx, err, changed) {
			return nil
		}
	}
	return nil
}

// lost notes why there is no connection; the same reason is logged once.
func (l *Libvirt) lost(err error) {
	l.mu.Lock()
	was := l.why
	l.why = err
	l.mu.Unlock()
	if was != nil && was.Error() == err.Error() {
		return
	}
	level := slog.LevelWarn
	if absent(err) { // a host may have no libvirt
		level = slog.LevelInfo
	}
	l.log.Log(context.Background(), level, "libvirtd is not asked", "error", err)
}

// follow is one connection from its first subscription to its end; nil when it
// was ended by us.
func (l *Libvirt) follow(ctx context.Context, s *lvSession, queue *lvQueue, changed <-chan struct{}, begin func()) error {
	ctx, cancel := context.WithCancel(ctx)
	var worker sync.WaitGroup
	defer func() {
		l.setSession(nil)
		cancel()
		s.close()
		worker.Wait()
	}()
	l.mark()
	if err := l.subscribe(ctx, s); err != nil {
		return err
	}
	l.setSession(s)
	if err := l.list(ctx); err != nil {
		return err
	}
	l.log.Info("libvirtd is followed", "socket", s.path, "version", lvVersion(s.version))
	begin()
	worker.Go(func() { l.work(ctx, queue) })
	select {
	case <-ctx.Done():
		return nil
	case <-changed:
		return nil
	case <-s.conn.dead:
		return lvNoAnswer(s.path, lvCut(libvirt.ErrInterrupted))
	}
}

func (l *Libvirt) setSession(s *lvSession) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = s
	if s != nil {
		l.why = nil
	}
}

// mark tells what was heard on earlier connections from what comes by this one.
func (l *Libvirt) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.domains {
		d.before = d.heard
	}
}

// subscribe asks for the events, before anything is listed. Those of QEMU's
// monitor do not taint a domain; where they are refused, libvirt's own suffice.
func (l *Libvirt) subscribe(ctx context.Context, s *lvSession) error {
	limited, cancel := context.WithTimeout(ctx, l.limits.Query)
	defer cancel()
	for _, id := range lvSubscriptions {
		err := s.do(limited, func(lv *libvirt.Libvirt) error {
			_, err := lv.ConnectDomainEventCallbackRegisterAny(int32(id), nil)
			return err
		})
		if err != nil {
			return lvReached(s.path, err)
		}
	}
	for _, name := range lvMonitorEvents {
		err := s.do(limited, func(lv *libvirt.Libvirt) error {
			_, err := lv.QEMUConnectDomainMonitorEventRegister(nil, libvirt.OptString{name}, 0)
			return err
		})
		var refused libvirt.Error
		if err != nil && !errors.As(err, &refused) {
			return lvReached(s.path, err)
		}
		if err != nil {
			l.log.Warn("libvirt does not pass on an event of QEMU", "event", name, "error", err)
		}
	}
	return nil
}

// list reads every domain and drops those that are gone.
func (l *Libvirt) list(ctx context.Context) error {
	var doms []libvirt.Domain
	err := l.query(ctx, func(lv *libvirt.Libvirt) (err error) {
		doms, _, err = lv.ConnectListAllDomains(1, 0)
		return err
	})
	if err != nil {
		return lvRefused("", "list its VMs", err)
	}
	there := map[lvUUID]bool{}
	for _, dom := range doms {
		there[dom.UUID] = true
		d, err := l.refresh(ctx, dom.UUID)
		if err != nil && !errors.Is(err, vmnetd.ErrNotFound) {
			return err
		}
		if err == nil && d.active() {
			l.tell.say(Sighting{Name: d.name, Via: viaLibvirt, Here: true, Filter: true}) // what changed meanwhile was not told
		}
	}
	l.mu.Lock()
	var gone []lvUUID
	for uuid, d := range l.domains {
		if !there[uuid] && d.heard == d.before {
			gone = append(gone, uuid)
		}
	}
	l.listed = true
	l.mu.Unlock()
	for _, uuid := range gone {
		l.drop(uuid)
	}
	return nil
}

// forgetAll is for a configuration without libvirt.
func (l *Libvirt) forgetAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.domains {
		l.tell.say(Sighting{Name: d.name, Via: viaLibvirt})
	}
	clear(l.domains)
	l.listed, l.why = false, nil
}

// lvAskAgain is how long after a question about a domain that was not answered it
// is asked again: somebody's hook may hold it.
const lvAskAgain = time.Second

// work refreshes the domains that events named, one after the other.
func (l *Libvirt) work(ctx context.Context, queue *lvQueue) {
	for {
		uuid, ok := queue.take(ctx)
		if !ok {
			return
		}
		if _, err := l.refresh(ctx, uuid); err != nil && !errors.Is(err, vmnetd.ErrNotFound) && ctx.Err() == nil {
			l.log.Warn("libvirt does not tell about a VM", "uuid", uuidText(uuid), "error", err)
			time.AfterFunc(lvAskAgain, func() { queue.add(uuid) }) // no event tells when it would
		}
	}
}

// lvQueue is the domains to be refreshed, each once.
type lvQueue struct {
	mu    sync.Mutex
	list  []lvUUID
	ready chan struct{}
}

func newLvQueue() *lvQueue { return &lvQueue{ready: make(chan struct{}, 1)} }

func (q *lvQueue) add(uuid lvUUID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, u := range q.list {
		if u == uuid {
			return
		}
	}
	q.list = append(q.list, uuid)
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *lvQueue) take(ctx context.Context) (lvUUID, bool) {
	for {
		q.mu.Lock()
		if len(q.list) > 0 {
			u := q.list[0]
			q.list = q.list[1:]
			q.mu.Unlock()
			return u, ctx.Err() == nil
		}
		q.mu.Unlock()
		select {
		case <-q.ready:
		case <-ctx.Done():
			return lvUUID{}, false
		}
	}
}
