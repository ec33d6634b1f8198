package learn

import (
	"fmt"
	"time"
)

// uplink is a device on which answers of DHCP servers are heard for all guests
// on it: before an ipvtap has its guest's address, an answer to that address alone
// does not get there (drivers/net/ipvlan/ipvlan_core.c, ipvlan_addr_lookup).
type uplink struct {
	index     int
	ear       ear
	exchanges exchanges
	guests    int
}

// join is the uplink with that ifindex, which is listened to for its first guest;
// nil for 0.
func (l *Learner) join(index int) (*uplink, error) {
	if index == 0 {
		return nil, nil
	}
	if up := l.uplinks[index]; up != nil && boundTo(up.ear.fd) == index {
		up.guests++
		return up, nil
	}
	fd, err := openSocket(l.conn, index, uplinkBuffer, serverAnswers())
	if err != nil {
		return nil, err
	}
	up := &uplink{index: index, guests: 1, ear: ear{fd: fd, name: fmt.Sprint("DHCP servers on ifindex ", index), all: budget{perSecond: uplinkReads}}}
	up.ear.heard = func(f frame, _ bool, now time.Time) { l.hearServer(up, f, now) }
	if err := l.hear(&up.ear); err != nil {
		l.sockets.close(fd)
		return nil, err
	}
	l.uplinks[index] = up
	return up, nil
}

// leave is join's end.
func (l *Learner) leave(up *uplink) {
	if up == nil {
		return
	}
	if up.guests--; up.guests > 0 {
		return
	}
	l.unhear(&up.ear)
	l.sockets.close(up.ear.fd)
	if l.uplinks[up.index] == up { // else another device has that ifindex now
		delete(l.uplinks, up.index)
	}
}

// hearServer is a frame that came to an uplink, or that a station of this host
// sends there.
func (l *Learner) hearServer(up *uplink, f frame, now time.Time) {
	_, etherType, payload := f.split()
	if etherType != etherIPv4 {
		return
	}
	d, ok := serverAnswer(payload)
	if !ok {
		return
	}
	x := up.exchanges.match(d, now)
	if x == nil {
		up.exchanges.keep(d, now)
		return
	}
	x.guest.answered(x, d, now)
	l.schedule(x.guest, now)
}
