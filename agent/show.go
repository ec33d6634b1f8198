package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
)

// subscribers hear of every change, in order.
type subscribers struct {
	mu   sync.Mutex
	next int
	on   map[int]func(Change)
}

// Subscribe implements API.
func (a *Agent) Subscribe(on func(Change)) (stop func()) {
	s := &a.subs
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on == nil {
		s.on = map[int]func(Change){}
	}
	id := s.next
	s.next++
	s.on[id] = on
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.on, id)
	}
}

func (a *Agent) publish(c Change) {
	a.subs.mu.Lock()
	defer a.subs.mu.Unlock()
	a.subs.tell(c)
}

func (s *subscribers) tell(c Change) {
	for _, on := range s.on {
		on(c)
	}
}

// changed tells how a record is now, or that it is no more: not how it was when
// the caller read it, for its VM's turn may have told of something newer since.
func (a *Agent) changed(r record) {
	a.subs.mu.Lock()
	defer a.subs.mu.Unlock()
	now, ok := a.store.get(r.key())
	if ok {
		r = now
	}
	att := a.shown(r)
	a.subs.tell(Change{Attachment: &att, Gone: !ok})
}

// event writes an event down, logs it and tells who listens.
func (a *Agent) event(e vmnetd.Event) {
	e.Time = time.Now()
	if err := a.journal.add(e); err != nil {
		a.o.Log.Error("event file", "err", err)
	}
	level := slog.LevelInfo
	if e.Event == "rolled-back" {
		level = slog.LevelWarn
	}
	a.o.Log.LogAttrs(context.Background(), level, e.Event, known("vm", e.VM), known("id", e.ID), known("uplink", e.Uplink), slog.String("text", e.Text))
	a.publish(Change{Event: &e})
}

// known is an attribute of a log line, or nothing when it is empty (log/slog
// leaves the zero Attr out).
func known(key, value string) slog.Attr {
	if value == "" {
		return slog.Attr{}
	}
	return slog.String(key, value)
}

// shown is a record as the outside sees it: with the device's link as it is.
func (a *Agent) shown(r record) vmnetd.Attachment {
	att := r.Attachment
	att.IPs, att.Reasons = slices.Concat([]string{}, att.IPs), slices.Concat([]string{}, att.Reasons)
	att.Changed = false
	if r.GuestMAC != "" {
		att.Reasons = append(att.Reasons, "the guest took the MAC "+r.GuestMAC+", and the device has it too")
	}
	att.Ifindex, att.Link = a.linkOf(r)
	if att.Phase == vmnetd.Attached {
		att.Problem = cmp.Or(att.Problem, r.Stale, r.Refused, r.Note, a.liveOnly(r))
	}
	return att
}

// linkOf is the index and the state of a record's device. One that lives elsewhere
// is as it was left there, with the carrier of its uplink.
func (a *Agent) linkOf(r record) (ifindex int, state string) {
	if r.Moved {
		lower, ok := a.o.Links.ByIndex(r.Lower)
		return r.Ifindex, linkState(ok && r.Phase == vmnetd.Attached && !r.Halted, lower.Carrier)
	}
	link, ok := a.o.Links.ByIndex(r.Ifindex)
	if r.Ifindex == 0 || !ok || link.Name != r.Ifname {
		return 0, linkState(false, false)
	}
	return r.Ifindex, linkState(link.Up, link.Carrier)
}

// linkState is a device's link in the words of Attachment.Link and
// UplinkState.State.
func linkState(up, carrier bool) string {
	switch {
	case !up:
		return "down"
	case !carrier:
		return "no-carrier"
	}
	return "up"
}

// List implements API.
func (a *Agent) List(vm string) []vmnetd.Attachment {
	list := []vmnetd.Attachment{}
	for _, r := range a.store.of(vm) {
		list = append(list, a.shown(r))
	}
	return list
}

// Uplinks implements API.
func (a *Agent) Uplinks() []vmnetd.UplinkState {
	guests, specs := a.guests(), a.specs()
	a.mu.Lock()
	defer a.mu.Unlock()
	list := []vmnetd.UplinkState{}
	for _, spec := range specs {
		if u, ok := a.uplinks[spec.Name]; ok {
			u.Guests = guests[spec.Name]
			list = append(list, u)
		}
	}
	return list
}

// guests counts the attachments on each uplink.
func (a *Agent) guests() map[string]int {
	n := map[string]int{}
	for _, r := range a.store.of("") {
		n[r.Uplink]++
	}
	return n
}

// VMs implements API.
func (a *Agent) VMs() []string {
	names := a.concerned()
	for _, name := range a.o.Hypervisor.Names() {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Status implements API.
func (a *Agent) Status() vmnetd.Status {
	a.lookAtFiles()
	host, _ := os.Hostname()
	s := vmnetd.Status{
		Host: host, Version: a.o.Version, Since: a.started, Config: a.o.Config.Name(),
		Uplinks: a.Uplinks(), Attachments: a.List(""), Problems: []vmnetd.Check{},
	}
	a.mu.Lock()
	s.Accepted = a.cfg.At
	a.mu.Unlock()
	_, applied, ever := a.o.Provisioner.Applied()
	s.Applied, s.Pending = applied, a.o.Provisioner.Waiting()
	s.Never = !ever && slices.ContainsFunc(a.config().Uplinks, a.neverApplied)
	if text := a.o.Provisioner.TakenBack(); text != "" {
		s.Problems = append(s.Problems, vmnetd.Check{Level: vmnetd.LevelWarn, Text: text, Do: "vmnetd uplink plan  shows what it was to change"})
	}
	s.Problems = append(s.Problems, a.configChecks()...)
	for _, u := range s.Uplinks {
		if c := uplinkCheck(u); c.Level != vmnetd.LevelOK {
			s.Problems = append(s.Problems, c)
		}
	}
	for _, l := range a.HostLinks() {
		if c := linkCheck(l); c.Level != vmnetd.LevelOK {
			s.Problems = append(s.Problems, c)
		}
	}
	for _, att := range s.Attachments {
		if att.Phase != vmnetd.Attached || att.Problem != "" {
			s.Problems = append(s.Problems, problemOf(att))
		}
	}
	slices.SortStableFunc(s.Problems, func(x, y vmnetd.Check) int { return severity(x) - severity(y) })
	return s
}

func problemOf(att vmnetd.Attachment) vmnetd.Check {
	c := vmnetd.Check{Level: vmnetd.LevelFail, Name: att.FullName(), Text: strings.TrimSpace(string(att.Phase) + ": " + att.Problem), Do: "vmnetd show " + att.FullName()}
	if att.Phase == vmnetd.Attached || att.Phase == vmnetd.Detaching {
		c.Level = vmnetd.LevelWarn
	}
	return c
}

func severity(c vmnetd.Check) int {
	return slices.Index([]string{vmnetd.LevelFail, vmnetd.LevelWarn, vmnetd.LevelOK}, c.Level)
}

// configChecks is what is wrong with the configuration and the state.
func (a *Agent) configChecks() []vmnetd.Check {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []vmnetd.Check
	if a.cfgErr != nil {
		list = append(list, vmnetd.Check{Level: vmnetd.LevelFail, Name: "configuration", Text: "not in force, what was accepted last runs on: " + a.cfgErr.Error(), Do: "mend it, then  vmnetd check && vmnetd reload"})
	}
	if a.keptErr != nil {
		list = append(list, vmnetd.Check{Level: vmnetd.LevelFail, Name: "configuration", Text: a.keptErr.Error(), Do: "remove that file, or mend it, then  vmnetd reload"})
	}
	if a.edited {
		list = append(list, vmnetd.Check{Level: vmnetd.LevelWarn, Name: "configuration", Text: "edited since it was accepted; what was accepted last runs", Do: "vmnetd reload"})
	}
	if a.stateErr != nil {
		list = append(list, vmnetd.Check{Level: vmnetd.LevelWarn, Name: "state", Text: a.stateErr.Error(), Do: "nothing: attachments in use were adopted"})
	}
	for _, w := range a.cfg.Warnings {
		list = append(list, vmnetd.Check{Level: vmnetd.LevelWarn, Name: "configuration", Text: w})
	}
	return list
}

// uplinkCheck is an uplink in status and doctor.
func uplinkCheck(u vmnetd.UplinkState) vmnetd.Check {
	device := cmp.Or(u.Ifname, u.Name)
	c := vmnetd.Check{Level: vmnetd.LevelOK, Name: "uplink " + u.Name, Text: cmp.Or(u.Problem, device+" is "+u.State)}
	switch {
	case u.State == vmnetd.StateNotApplied:
		c.Level, c.Do = vmnetd.LevelWarn, "vmnetd uplink plan"
	case u.State == vmnetd.StateDegraded:
		c.Level, c.Do = vmnetd.LevelWarn, "vmnetd uplink show "+u.Name
	case u.State == vmnetd.StateNoCarrier && u.Problem != "": // its ports tell why
		c.Level, c.Do = vmnetd.LevelFail, "vmnetd uplink show "+u.Name
	case u.State != vmnetd.StateUp:
		c.Level, c.Do = vmnetd.LevelFail, "ip link show "+device
	case u.Problem != "":
		c.Level, c.Do = vmnetd.LevelWarn, "ip -d link show "+device
	}
	return c
}

func linkCheck(l vmnetd.HostLink) vmnetd.Check {
	c := vmnetd.Check{Level: vmnetd.LevelOK, Name: "host link " + l.Network, Text: fmt.Sprintf("%s on %s, %s", l.Ifname, l.Uplink, strings.Join(l.IPs, ", "))}
	if l.Problem != "" {
		c.Level, c.Text, c.Do = vmnetd.LevelWarn, l.Problem, "vmnetd host-link "+l.Network
	}
	return c
}

// routedCheck says what applies to guests whose frames this host routes.
func (a *Agent) routedCheck() []vmnetd.Check {
	for _, r := range a.store.of("") {
		if r.Mode.Info().Routed {
			return []vmnetd.Check{{Level: vmnetd.LevelOK, Name: "mode l3", Text: "this host's routing table and its output chain decide about what guests of mode l3 send: ip route, nft list hook ip output"}}
		}
	}
	return nil
}

// Doctor implements API.
func (a *Agent) Doctor(ctx context.Context) []vmnetd.Check {
	a.lookAtFiles()
	list := slices.Concat(a.o.Devices.Doctor(ctx), a.o.Filters.Doctor(ctx), a.o.Rooms.Doctor(ctx), a.o.Hypervisor.Doctor(ctx), a.configChecks())
	list = append(list, a.routedCheck()...)
	for _, l := range a.HostLinks() {
		list = append(list, linkCheck(l))
	}
	for _, u := range a.Uplinks() {
		list = append(list, uplinkCheck(u))
	}
	if _, err := a.o.Config.Accepted(); err != nil && !errors.Is(err, os.ErrNotExist) {
		list = append(list, vmnetd.Check{Level: vmnetd.LevelFail, Name: "configuration", Text: err.Error(), Do: "vmnetd reload"})
	}
	return list
}

// Events implements API.
func (a *Agent) Events(since time.Time) []vmnetd.Event { return a.journal.since(since) }
