package agent

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/uplink"
)

// wake collects the links that changed until somebody looks: a burst of
// messages is looked at once.
type wake struct {
	bell chan struct{}

	mu      sync.Mutex
	changed map[int]bool
}

func newWake() *wake {
	return &wake{bell: make(chan struct{}, 1), changed: map[int]bool{}}
}

func (w *wake) set(ifindex int) {
	w.mu.Lock()
	w.changed[ifindex] = true
	w.mu.Unlock()
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

func (w *wake) take() map[int]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.changed
	w.changed = map[int]bool{}
	return got
}

// follow looks at links whenever they change.
func (a *Agent) follow(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake.bell:
			a.linksChanged(ctx, a.wake.take())
		}
	}
}

func (a *Agent) linksChanged(ctx context.Context, indexes map[int]bool) {
	uplinks := false
	for index := range indexes {
		r, ours := a.store.byIfindex(index)
		if !ours {
			link, ok := a.o.Links.ByIndex(index)
			uplinks = uplinks || !ok || index == 0 || !strings.HasPrefix(link.Name, vmnetd.IfnamePrefix)
			continue
		}
		a.deviceChanged(ctx, r)
	}
	if uplinks {
		a.refreshUplinks(ctx)
	}
	if indexes[0] {
		for _, r := range a.store.of("") {
			a.deviceChanged(ctx, r)
		}
	}
}

// deviceChanged shows a device's link, and has a device that is not as it was
// left looked at. It writes nothing: records change in their VM's turn only.
func (a *Agent) deviceChanged(ctx context.Context, r record) {
	a.changed(r)
	if r.Phase == vmnetd.Attached && !a.sound(ctx, r) { // asked afresh: the mirror may lag behind what we did ourselves
		a.lookAgain(r.VM)
	}
}

// refreshUplinks looks at every declared uplink, and at the attachments that
// wait for one that has come back.
func (a *Agent) refreshUplinks(ctx context.Context) {
	seen := map[string]vmnetd.UplinkState{}
	for _, spec := range a.config().Uplinks {
		state, err := a.o.Uplinks.State(ctx, spec)
		if err != nil {
			a.o.Log.Error("uplink", "uplink", spec.Name, "err", err)
			time.AfterFunc(a.o.Backoff, func() { a.wake.set(0) })
			continue
		}
		u := uplinkState(spec, state)
		u.Problem = cmp.Or(a.usurped(u), u.Problem)
		seen[spec.Name] = u
	}
	a.mu.Lock()
	old := a.uplinks
	a.uplinks = seen
	a.mu.Unlock()
	for name, now := range seen {
		if was, known := old[name]; !known || was != now {
			a.uplinkChanged(was, now)
		}
	}
}

func (a *Agent) uplinkChanged(was, now vmnetd.UplinkState) {
	a.publish(Change{Uplink: &now})
	if was.MTU != now.MTU && was.Name != "" {
		a.lookAtGuests(now.Name)
	}
	if was.State == now.State && was.Ifindex == now.Ifindex {
		return
	}
	if was.Name != "" || now.State != "up" { // at the start only what is wrong is news
		a.event(vmnetd.Event{Event: "uplink-" + now.State, Uplink: now.Name, Text: strings.TrimSpace(now.Name + " is " + now.State + ". " + now.Problem)})
	}
	if now.Ifindex == 0 {
		return
	}
	for _, r := range a.store.of("") {
		if r.Phase == vmnetd.Broken || r.Phase == vmnetd.Pending {
			a.lookAgain(r.VM)
		}
	}
}

// usurped says that an uplink was given the MAC of a guest on it: the kernel
// takes that silently, and the guest's frames then end at the host.
func (a *Agent) usurped(u vmnetd.UplinkState) string {
	for _, r := range a.store.of("") {
		if r.Uplink == u.Name && r.MAC == u.MAC && !r.Mode.Info().Exclusive {
			return fmt.Sprintf("its MAC %s is that of %s: give it another one", u.MAC, r.FullName())
		}
	}
	return ""
}

// lookAtGuests looks at what stands on an uplink.
func (a *Agent) lookAtGuests(uplink string) {
	for _, r := range a.store.of("") {
		if r.Uplink == uplink {
			a.lookAgain(r.VM)
		}
	}
}

func uplinkState(spec uplink.Spec, s uplink.State) vmnetd.UplinkState {
	u := vmnetd.UplinkState{
		Name: spec.Name, Kind: "nic", Ifname: s.Link.Name, Ifindex: s.Link.Index, MAC: s.Link.MAC.String(), MTU: s.Link.MTU,
		State: linkState(s.Link.Up, s.Link.Carrier), Problem: s.Problem,
	}
	if spec.External {
		u.Kind = "external"
	}
	if !s.Present {
		u.State = "absent"
	}
	return u
}
