package dbusapi

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

// Watch calls on for each event from now on. It returns nil when ctx ends and
// vmnetd.ErrUnreachable when the daemon goes.
func (c *Client) Watch(ctx context.Context, on func(vmnetd.Event)) error {
	sub, err := c.subscribe(ctx)
	if err != nil {
		return untilDone(ctx, err)
	}
	defer sub.end()
	return sub.follow(ctx, on)
}

// WatchSince is Watch with what happened since a moment in front, without a
// gap and without an event twice.
func (c *Client) WatchSince(ctx context.Context, since time.Time, on func(vmnetd.Event)) error {
	sub, err := c.subscribe(ctx)
	if err != nil {
		return untilDone(ctx, err)
	}
	defer sub.end()
	past, err := c.Events(ctx, since)
	if err != nil {
		return untilDone(ctx, err)
	}
	told := map[vmnetd.Event]bool{}
	for _, e := range past {
		told[asSent(e)] = true
		on(e)
	}
	return sub.follow(ctx, func(e vmnetd.Event) {
		if told[e] {
			delete(told, e)
			return
		}
		on(e)
	})
}

// asSent is an event with what a signal can carry.
func asSent(e vmnetd.Event) vmnetd.Event {
	e.Time = time.UnixMicro(e.Time.UnixMicro())
	return e
}

// untilDone is err, unless it came because ctx ended.
func untilDone(ctx context.Context, err error) error {
	switch ctx.Err() {
	case nil:
		return err
	default:
		return nil
	}
}

// subscription is the signals that come from the daemon until end.
type subscription struct {
	c       *Client
	signals chan *dbus.Signal
	rules   [][]dbus.MatchOption
}

func (c *Client) subscribe(ctx context.Context) (*subscription, error) {
	sub := &subscription{c: c, signals: make(chan *dbus.Signal, 64)}
	c.conn.Signal(sub.signals)
	for _, rule := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(c.owner), dbus.WithMatchInterface(managerIface), dbus.WithMatchMember("Event")},
		{
			dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchInterface("org.freedesktop.DBus"),
			dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, busName),
		},
	} {
		if err := c.conn.AddMatchSignalContext(ctx, rule...); err != nil {
			sub.end()
			return nil, fromBus(err)
		}
		sub.rules = append(sub.rules, rule)
	}
	return sub, nil
}

// end drops the rules: the bus keeps them, and counts them, as long as the
// connection lives.
func (s *subscription) end() {
	s.c.conn.RemoveSignal(s.signals)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, rule := range s.rules {
		_ = s.c.conn.RemoveMatchSignalContext(ctx, rule...)
	}
}

func (s *subscription) follow(ctx context.Context, on func(vmnetd.Event)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.c.conn.Context().Done():
			return untilDone(ctx, goneAway())
		case signal, open := <-s.signals:
			if !open {
				return untilDone(ctx, goneAway())
			}
			if s.ownerGone(signal) {
				return vmnetd.Errorf(vmnetd.ErrUnreachable, "the daemon has ended").WithNext("start it: systemctl start vmnetd, or vmnetd serve")
			}
			if e, ok := s.event(signal); ok {
				on(e)
			}
		}
	}
}

func (s *subscription) ownerGone(signal *dbus.Signal) bool {
	return signal.Sender == "org.freedesktop.DBus" && signal.Name == "org.freedesktop.DBus.NameOwnerChanged" &&
		bodyString(signal.Body, 0) == busName && bodyString(signal.Body, 2) != s.c.owner
}

// event reads a signal of the daemon; anybody can send us one.
func (s *subscription) event(signal *dbus.Signal) (e vmnetd.Event, ok bool) {
	if signal.Sender != s.c.owner || signal.Name != managerIface+".Event" {
		return e, false
	}
	var us uint64
	if dbus.Store(signal.Body, &us, &e.Event, &e.VM, &e.ID, &e.Uplink, &e.Text) != nil {
		return e, false
	}
	e.Time = sinceMicro(us)
	return e, true
}
