package learn

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// round hears what is there to hear, lets due alarms ring, and is what is to be
// told of it.
func (l *Learner) round(ready []int, now time.Time) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fd := range ready {
		if e := l.ears[fd]; e != nil { // else it was forgotten meanwhile
			l.listen(e, now)
		}
	}
	l.alarms.ring(now)
	l.arm()
	told := l.out
	l.out = nil
	return told
}

// listen reads one batch; what is left is there in the next round, when others
// have had their turn.
func (l *Learner) listen(e *ear, now time.Time) {
	n, err := l.batch.receive(e.fd)
	for i := range n {
		if !e.all.spend(now) {
			l.deafen(e, now)
			return
		}
		f, outgoing := l.batch.frame(i)
		e.heard(f, outgoing, now)
	}
	if err != nil {
		l.trouble(e, err)
	}
}

// trouble is an error of a socket. ENETDOWN comes once when a device goes down,
// or away; one that comes back is heard again without further ado
// (net/packet/af_packet.c, packet_notifier), one that has gone is silent.
func (l *Learner) trouble(e *ear, err error) {
	if errors.Is(err, unix.ENETDOWN) {
		return
	}
	l.log.Warn("not listening any more", "to", e.name, "err", err)
	l.unhear(e)
}

// deafen stops listening for the rest of the second: the kernel drops what does
// not fit into the socket's buffer, which costs nothing here.
func (l *Learner) deafen(e *ear, now time.Time) {
	if err := l.poll.drop(e.fd); err != nil {
		l.log.Warn("cannot stop listening for a moment", "to", e.name, "err", err)
		return
	}
	e.alarm.rings = func(time.Time) { l.undeafen(e) }
	l.alarms.set(&e.alarm, e.all.renewed(now))
}

// undeafen throws away what was queued meanwhile, which is old, and listens again.
func (l *Learner) undeafen(e *ear) {
	for range queueLimit / batchSize {
		if n, err := l.batch.receive(e.fd); err != nil || n < batchSize {
			break
		}
	}
	if err := l.poll.add(e.fd); err != nil {
		l.trouble(e, err)
	}
}

// hear begins to listen to a socket.
func (l *Learner) hear(e *ear) error {
	if err := l.poll.add(e.fd); err != nil {
		return failed("cannot listen to "+e.name, err)
	}
	l.ears[e.fd] = e
	return nil
}

// unhear ends it; the socket stays open. A descriptor is taken out of the epoll
// set in so many words: closing does it only when nobody else has it.
func (l *Learner) unhear(e *ear) {
	if l.ears[e.fd] != e {
		return
	}
	delete(l.ears, e.fd)
	l.alarms.set(&e.alarm, time.Time{})
	_ = l.poll.drop(e.fd) // a deaf one is out already
}

// wire has the Learner hear what a guest's socket and its alarm bring.
func (l *Learner) wire(g *guest) {
	g.ear.heard = func(f frame, outgoing bool, now time.Time) {
		g.hear(f, outgoing, now)
		l.schedule(g, now)
	}
	g.alarm.rings = func(now time.Time) {
		g.endLeases(now)
		l.out = append(l.out, g.news.take(now)...)
		l.schedule(g, now)
	}
}

// schedule has a guest looked at when there is next something to do for it.
func (l *Learner) schedule(g *guest, now time.Time) { l.alarms.set(&g.alarm, g.next(now)) }

// arm has Run's wait end when the next alarm is due.
func (l *Learner) arm() {
	if !l.stopping {
		l.poll.until(l.alarms.next())
	}
}

func (l *Learner) setStopping(stopping bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping = stopping
	if stopping {
		l.poll.until(time.Unix(1, 0))
	}
}
