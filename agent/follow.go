package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
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
		if r, ours := a.store.byIfindex(index); ours {
			a.deviceChanged(ctx, r)
			continue
		}
		uplinks = uplinks || a.mattersToUplinks(index)
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

// mattersToUplinks says whether a link that is no attachment's device is, was, or
// may have become, an uplink or a port of one.
func (a *Agent) mattersToUplinks(index int) bool {
	return index <= 0 || a.isInUplink(index) || a.o.Provisioner.Concerns(index, a.specs())
}

// isInUplink says whether a link was an uplink or a port of one when these were
// last looked at, or is a port now.
func (a *Agent) isInUplink(index int) bool {
	link, _ := a.o.Links.ByIndex(index)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, u := range a.uplinks {
		if u.Ifindex != 0 && (u.Ifindex == index || u.Ifindex == link.Master) || slices.Contains(u.Ports, link.Name) {
			return true
		}
	}
	return false
}

// deviceChanged shows a device's link, and has a device that is not as it was
// left looked at. It writes nothing: records change in their VM's turn only.
func (a *Agent) deviceChanged(ctx context.Context, r record) {
	a.changed(r)
	_, there := a.o.Links.ByIndex(r.Ifindex)
	switch {
	case r.Phase == vmnetd.Detaching:
	case !there, r.Phase == vmnetd.Attached && (r.Problem != "" || !a.sound(ctx, r) || a.shut(ctx, r) != ""): // asked afresh: the mirror may lag behind what we did ourselves
		a.lookAgain(r.VM)
	}
}

// anyUplink is the index of no link: the uplinks alone are looked at.
const anyUplink = -1

// refreshUplinks looks at every declared uplink, and at the attachments that
// wait for one that has come back.
func (a *Agent) refreshUplinks(ctx context.Context) {
	a.looking.Lock()
	defer a.looking.Unlock()
	specs := a.specs()
	a.lookAtUplinks(ctx, specs)
	for vm := range a.squeezed() {
		a.lookAgain(vm)
	}
	a.forgetUplinks(specs)
	a.lookAtHostLinks()
}

// forgetUplinks drops those that are declared no more.
func (a *Agent) forgetUplinks(declared []uplink.Spec) {
	a.mu.Lock()
	gone := maps.Clone(a.uplinks)
	for _, spec := range declared {
		delete(gone, spec.Name)
	}
	a.uplinks = maps.Clone(a.uplinks)
	maps.DeleteFunc(a.uplinks, func(name string, _ vmnetd.UplinkState) bool { _, is := gone[name]; return is })
	a.mu.Unlock()
	for _, was := range gone {
		a.publish(Change{Uplink: &was, Gone: true})
	}
}

// lookAtUplinks looks at these and tells what has changed. Whoever calls it holds
// looking.
func (a *Agent) lookAtUplinks(ctx context.Context, specs []uplink.Spec) {
	a.mu.Lock()
	old := a.uplinks
	a.mu.Unlock()
	seen := make(map[string]vmnetd.UplinkState, len(specs))
	maps.Copy(seen, old)
	for i, found := range a.o.Provisioner.Describe(ctx, specs) {
		seen[specs[i].Name] = a.completed(specs[i], found, old[specs[i].Name])
	}
	a.mu.Lock()
	a.uplinks = seen
	a.mu.Unlock()
	a.paths.wake.set(anyUplink)
	for _, spec := range specs {
		if was, now := old[spec.Name], seen[spec.Name]; !reflect.DeepEqual(was, now) {
			a.uplinkChanged(was, now)
		}
	}
}

// Refresh implements API.
func (a *Agent) Refresh(ctx context.Context, name string) {
	specs := slices.DeleteFunc(a.specs(), func(s uplink.Spec) bool { return name != "" && s.Name != name || !a.isAsked(s.Name) })
	if len(specs) == 0 {
		return
	}
	a.looking.Lock()
	defer a.looking.Unlock()
	a.lookAtUplinks(ctx, specs)
}

// isAsked says that an uplink has to be asked about: it was not looked at yet, or
// it has a bond's or a team's state, of which not everything is told by itself.
func (a *Agent) isAsked(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	u, known := a.uplinks[name]
	return !known || u.Bond != nil || u.Team != nil
}

// squeezed is the VMs with a device that was pulled down by its uplink, which has
// room for more now (drivers/net/macvlan.c, macvlan_device_event): both may have
// happened before anybody looked at the uplink.
func (a *Agent) squeezed() map[string]bool {
	type device struct {
		vm                string
		index, lower, mtu int
	}
	var here []device
	a.store.each("", func(r *record) {
		if !r.Moved && r.Phase == vmnetd.Attached {
			here = append(here, device{r.VM, r.Ifindex, r.Lower, r.MTU})
		}
	})
	vms := map[string]bool{}
	for _, d := range here {
		dev, there := a.o.Links.ByIndex(d.index)
		if lower, ok := a.o.Links.ByIndex(d.lower); ok && there && dev.MTU < min(d.mtu, lower.MTU) {
			vms[d.vm] = true
		}
	}
	return vms
}

// completed is an uplink with what the agent knows of it; one that could not be
// asked for is as it was, and looked at again.
func (a *Agent) completed(spec uplink.Spec, found uplink.Described, was vmnetd.UplinkState) vmnetd.UplinkState {
	retry := key{id: spec.Name} // of no VM
	u, err := found.State, found.Err
	if err != nil {
		a.o.Log.Error("uplink", "uplink", spec.Name, "err", err)
		a.retries.later(retry, func() { a.wake.set(anyUplink) })
		u = was
		if u.Name == "" {
			u = vmnetd.UplinkState{Name: spec.Name, Kind: spec.Kind, State: vmnetd.StateAbsent}
		}
		u.Problem = "its state is not known: " + err.Error()
		return u
	}
	a.retries.done(retry)
	u.Problem = cmp.Or(a.usurped(u), u.Problem)
	u.Announced = a.paths.last(spec.Name)
	u.Since, u.Last = was.Since, was.Last
	if changed := changeOf(was, u); changed != "" {
		u.Since, u.Last = time.Now(), changed
	}
	return u
}

// changeOf is what has changed about an uplink in a few words, "" for nothing
// that an operator would look for.
func changeOf(was, now vmnetd.UplinkState) string {
	switch {
	case was.Name == "":
		return ""
	case was.Path != now.Path && was.Path != "" && now.Path != "":
		return "failover " + was.Path + " -> " + now.Path
	case was.State != now.State:
		return now.State
	case !slices.Equal(was.Ports, now.Ports):
		return "ports " + strings.Join(now.Ports, ", ")
	}
	return ""
}

func (a *Agent) uplinkChanged(was, now vmnetd.UplinkState) {
	shown := now
	shown.Guests = a.guests()[now.Name]
	a.publish(Change{Uplink: &shown})
	known, changed := was.Name != "", was.State != now.State || was.Ifindex != now.Ifindex
	if changed && (known || now.State != "up") { // at the start only what is wrong is news
		a.event(vmnetd.Event{Event: "uplink-" + now.State, Uplink: now.Name, Text: cmp.Or(now.Problem, now.Name+" is "+now.State)})
	}
	if !known || now.Ifindex == 0 {
		return // who looks at it for the first time looks at every attachment
	}
	if was.MTU != now.MTU || was.Ifindex != now.Ifindex {
		a.lookAtGuests(now.Name) // also what does not say yet that it waits for the uplink
	}
	if changed {
		for _, r := range a.store.unsettled() {
			a.lookAgain(r.VM)
		}
	}
}

// usurped says that an uplink was given the MAC of a guest on it: the kernel
// takes that silently, and the guest's frames then end at the host.
func (a *Agent) usurped(u vmnetd.UplinkState) string {
	whose := ""
	a.store.each(u.Name, func(r *record) {
		if r.MAC == u.MAC && !r.Mode.Info().Exclusive && !r.Mode.Info().SharesMAC {
			whose = r.FullName()
		}
	})
	if whose == "" {
		return ""
	}
	return fmt.Sprintf("its MAC %s is that of %s: give it another one", u.MAC, whose)
}

// lookAtGuests looks at what stands on an uplink.
func (a *Agent) lookAtGuests(uplink string) {
	for _, r := range a.store.on(uplink) {
		a.lookAgain(r.VM)
	}
}
