package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
)

// printUplinkNotes prints what an operator has asked for and what differs: a
// line each, under the table.
func (a *app) printUplinkNotes(uplinks []vmnetd.UplinkState) {
	for _, u := range uplinks {
		for _, note := range a.uplinkNotes(u) {
			a.printHanging(a.io.paint(yellow, "!")+" ", "  ", vmnetd.Printable(u.Name+": "+note))
		}
	}
}

// uplinkNotes is everything about an uplink that is not as it would be without
// somebody's doing.
func (a *app) uplinkNotes(u vmnetd.UplinkState) []string {
	var notes []string
	if !u.HeldUntil.IsZero() {
		notes = append(notes, fmt.Sprintf("held until %s: nothing is repaired; end it with  vmnetd uplink release %s", a.clock(u.HeldUntil), u.Name))
	}
	if u.Pinned != "" {
		notes = append(notes, fmt.Sprintf("moved to %s by hand; end it with  vmnetd uplink move %s --auto", u.Pinned, u.Name))
	}
	if len(u.Drained) > 0 {
		notes = append(notes, fmt.Sprintf("drained: %s; end it with  vmnetd uplink undrain %s", strings.Join(u.Drained, ", "), u.Drained[0]))
	}
	for _, d := range u.Drift {
		notes = append(notes, "differs from what was applied: "+d)
	}
	if len(u.Drift) > 0 {
		notes = append(notes, "put right by  vmnetd uplink apply "+u.Name)
	}
	return notes
}

// clock is a moment as people say it today: the time alone, with the date on
// other days.
func (a *app) clock(t time.Time) string {
	t, now := t.Local(), a.now().Local()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04:05")
	}
	return t.Format("2006-01-02 15:04")
}

// announcedLine is "last failover 02:13:07: eno2 -> eno1, 3 of 3 guests
// announced in 4 ms".
func (a *app) announcedLine(n vmnetd.Announcement) string {
	what, rest, _ := strings.Cut(n.Why, " ")
	if what == "" {
		what = "change"
	}
	head := "last " + what + " " + a.clock(n.At)
	if rest != "" {
		head += ": " + rest
	}
	return fmt.Sprintf("%s, %d of %s announced in %s", head, n.Guests, plural(n.Of, "guest"), micros(n.TookUs))
}

// micros is a length of time given in µs: "450 µs", "4 ms", "1.3 s".
func micros(us int64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%d µs", us)
	case us < 1_000_000:
		return fmt.Sprintf("%d ms", (us+500)/1000)
	}
	return fmt.Sprintf("%.1f s", float64(us)/1e6)
}

// lastAnnounced is the newest announcement of guests.
func lastAnnounced(uplinks []vmnetd.UplinkState) *vmnetd.Announcement {
	var last *vmnetd.Announcement
	for _, u := range uplinks {
		if n := u.Announced; n != nil && n.Of > 0 && (last == nil || n.At.After(last.At)) {
			last = n
		}
	}
	return last
}

func plainNumber(n int) string { return fmt.Sprintf("%d", n) }
