package learn

import "time"

// Bounds of what is heard in a second.
const (
	guestFrames  = 256   // of one guest, each direction: more are read, and that is all
	guestReads   = 4096  // of one guest's socket: it is not read any more
	uplinkReads  = 16384 // of an uplink's socket, which has answers of DHCP servers alone
	guestBuffer  = 64 << 10
	uplinkBuffer = 256 << 10
	queueLimit   = 4096 // frames that no receive buffer holds more of
)

// ear is a packet socket that is listened to.
type ear struct {
	fd    int
	name  string // for the log
	all   budget
	alarm alarm // while it is deaf: when it hears again
	heard func(f frame, outgoing bool, now time.Time)
}

// budget is how many of something there may be in a second.
type budget struct {
	perSecond int
	spent     int
	began     time.Time // the second that is counted
}

// spend takes one; false when none is left.
func (b *budget) spend(now time.Time) bool {
	if now.Sub(b.began) >= time.Second {
		b.began, b.spent = now, 0
	}
	b.spent++
	return b.spent <= b.perSecond
}

// renewed is when there are some again.
func (b *budget) renewed(now time.Time) time.Time {
	if next := b.began.Add(time.Second); next.After(now) {
		return next
	}
	return now
}
