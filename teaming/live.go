package teaming

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The generic-netlink family of the team driver (uapi/linux/if_team.h).
const (
	family          = "team"
	group           = "change_event"
	familyVersion   = 1
	cmdOptionsGet   = 2
	attrTeam        = 1 // TEAM_ATTR_TEAM_IFINDEX
	attrOptions     = 2 // TEAM_ATTR_LIST_OPTION
	attrItem        = 1 // TEAM_ATTR_ITEM_OPTION
	attrName        = 1 // TEAM_ATTR_OPTION_NAME
	attrData        = 4 // TEAM_ATTR_OPTION_DATA
	attrRemoved     = 5 // TEAM_ATTR_OPTION_REMOVED
	attrPortIfindex = 6 // TEAM_ATTR_OPTION_PORT_IFINDEX
)

// live is what the driver was told by teamd, as last heard: its active port, and
// which ports it may send on (drivers/net/team/team.c, team_port_txable).
type live struct {
	oneActive bool // the mode has an active port
	active    int
	ports     map[int]livePort
}

type livePort struct {
	disabled bool // "enabled" is false
	judged   bool // "user_linkup_enabled": a link watch says whether it is up
	up       bool // "user_linkup"
	queue    int  // "queue_id"
}

// Sends says whether a team may send on a port, as far as that is teamd's
// business: carrier is not. It is true of a team that was not heard of.
func (t *Teams) Sends(team, port int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.live[team]
	if !ok {
		return true
	}
	p := l.ports[port]
	return p.sends() && (!l.oneActive || l.active == port)
}

func (p livePort) sends() bool { return !p.disabled && (!p.judged || p.up) }

// Port is what the driver was told of a port: whether it is the active one,
// whether teamd lets it be used, and its queue, -1 for none.
func (t *Teams) Port(team, port int) (active, usable bool, queue int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.live[team]
	if !ok {
		return false, true, -1
	}
	p := l.ports[port]
	queue = p.queue
	if queue == 0 { // drivers/net/team/team.c, team_queue_override_port_has_gain_prio: 0 is none
		queue = -1
	}
	return l.oneActive && l.active == port, p.sends(), queue
}

// Known says whether the driver has told of a team.
func (t *Teams) Known(team int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live[team] != nil
}

// Notice has a team followed of which there is news by other ways: its ports, and
// its teamd, which may be another one now. It does not block.
func (t *Teams) Notice(index int, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, noticed := t.names[index]
	t.names[index] = name
	if !noticed || t.live[index] == nil { // news of it, which the driver sends of every team, is not all of it
		t.ask(index)
	}
	select {
	case t.bell <- struct{}{}:
	default:
	}
}

// ask has Run ask the driver about a team.
func (t *Teams) ask(team int) {
	select {
	case t.noticed <- team:
	default: // there is so much news that it will be noticed again
	}
}

// Forget ends that, when the device has gone.
func (t *Teams) Forget(team int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, team)
	delete(t.names, team)
}

// feed is the subscription to what the driver tells.
type feed struct {
	conn *genetlink.Conn
	id   uint16
}

// subscribe needs the driver: os.ErrNotExist as long as it is not loaded.
func (t *Teams) subscribe() (*feed, error) {
	var f feed
	err := t.o.Conn.Do(func() (err error) {
		f.conn, err = genetlink.Dial(nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	fam, err := f.conn.GetFamily(family)
	if err == nil {
		f.id = fam.ID
		err = os.ErrNotExist
		for _, g := range fam.Groups {
			if g.Name == group {
				err = f.conn.JoinGroup(g.ID)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.conn.Close())
	}
	return &f, nil
}

// ask has the driver send all options of a team, in order with its news.
func (f *feed) ask(team int) error {
	e := netlink.NewAttributeEncoder()
	e.Uint32(attrTeam, uint32(team))
	data, err := e.Encode()
	if err != nil {
		return err
	}
	m := genetlink.Message{Header: genetlink.Header{Command: cmdOptionsGet, Version: familyVersion}, Data: data}
	_, err = f.conn.Send(m, f.id, netlink.Request)
	return err
}

// listen takes news in until ctx ends or the socket fails.
func (t *Teams) listen(ctx context.Context, f *feed, changed func(int)) error {
	stop := context.AfterFunc(ctx, func() { _ = f.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		messages, _, err := f.conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			f.discard()
			t.lost(f)
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENODEV): // a team that we asked about has gone
		case err != nil:
			return err
		}
		for _, m := range messages {
			if team, news := t.take(m); news {
				changed(team)
			}
		}
	}
}

// discard empties the socket: until it is empty the kernel drops answers, too, and
// says no more that it does (net/netlink/af_netlink.c, netlink_overrun).
func (f *feed) discard() {
	raw, err := f.conn.SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		for err == nil || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
			_, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_DONTWAIT)
		}
	})
}

// lost asks anew about every team: some of the news was dropped, of one that
// nothing was heard of yet maybe all.
func (t *Teams) lost(f *feed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for team := range t.names {
		if err := f.ask(team); err != nil {
			t.o.Log.Warn("news of teams was lost", "err", err)
		}
	}
}

// take keeps what a message says of a team; news says whether anything is new.
func (t *Teams) take(m genetlink.Message) (team int, news bool) {
	d, err := netlink.NewAttributeDecoder(m.Data)
	if err != nil || m.Header.Command != cmdOptionsGet {
		return 0, false
	}
	var options []option
	for d.Next() {
		switch d.Type() &^ netlink.Nested {
		case attrTeam:
			team = int(d.Uint32())
		case attrOptions:
			d.Nested(func(items *netlink.AttributeDecoder) error {
				for items.Next() {
					if items.Type()&^netlink.Nested == attrItem {
						var o option
						items.Nested(o.decode)
						options = append(options, o)
					}
				}
				return items.Err()
			})
		}
	}
	if d.Err() != nil || team == 0 {
		return 0, false
	}
	return team, t.keep(team, options)
}

func (t *Teams) keep(team int, options []option) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.live[team]
	if l == nil {
		l = &live{ports: map[int]livePort{}}
		t.live[team], news = l, true
	}
	for _, o := range options {
		news = l.set(o) || news
	}
	return news
}

// option is one option of a team or a port.
type option struct {
	name    string
	port    int // ifindex, 0 for the team's own
	number  int
	isSet   bool // of a flag
	text    string
	removed bool
}

func (o *option) decode(d *netlink.AttributeDecoder) error {
	for d.Next() {
		switch d.Type() {
		case attrName:
			o.name = strings.TrimRight(d.String(), "\x00")
		case attrPortIfindex:
			o.port = int(d.Uint32())
		case attrRemoved:
			o.removed = true
		case attrData:
			o.isSet = true
			b := d.Bytes()
			if len(b) == 4 {
				o.number = int(netlinkOrder.Uint32(b))
			}
			o.text = strings.TrimRight(string(b), "\x00")
		}
	}
	return d.Err()
}

// set keeps an option; changed is false when it was so before, or means nothing
// here.
func (l *live) set(o option) (changed bool) {
	switch o.name {
	case "mode":
		was := l.oneActive
		l.oneActive = o.text == ActiveBackup
		return was != l.oneActive
	case "activeport":
		changed = l.active != o.number
		l.active = o.number
		return changed
	}
	before, was := l.ports[o.port]
	p := before
	switch o.name {
	case "enabled":
		p.disabled = !o.isSet
	case "user_linkup_enabled":
		p.judged = o.isSet
	case "user_linkup":
		p.up = o.isSet
	case "queue_id":
		p.queue = o.number
	default:
		return false
	}
	if o.removed {
		delete(l.ports, o.port)
		return was
	}
	l.ports[o.port] = p
	return !was || p != before
}
