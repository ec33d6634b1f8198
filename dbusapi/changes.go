package dbusapi

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

// changes turns what the agent says into signals, in order. put never blocks
// the agent; one goroutine (run) sends, and knows what was sent before, so that
// a signal carries what is new and nothing else.
type changes struct {
	emit func(path dbus.ObjectPath, name string, values ...any)
	sent map[dbus.ObjectPath]faces // run's alone, after seed

	mu      sync.Mutex
	waiting []agent.Change
	wake    chan struct{} // one slot
}

// settle is how long changes are collected before signals tell of them: the
// answer to the call that made them goes out first, and the bus has less to
// carry.
const settle = 3 * time.Millisecond

func newChanges(emit func(dbus.ObjectPath, string, ...any)) *changes {
	return &changes{emit: emit, sent: map[dbus.ObjectPath]faces{}, wake: make(chan struct{}, 1)}
}

// seed is what is there before the first client can look.
func (c *changes) seed(attachments []vmnetd.Attachment, uplinks []vmnetd.UplinkState) {
	for _, a := range attachments {
		c.sent[attachmentPath(a.VM, a.ID)] = attachmentFaces(a)
	}
	for _, u := range uplinks {
		c.sent[uplinkObject(u.Name)] = uplinkFaces(u)
	}
}

// put copies what it is given: the agent may go on changing its own.
func (c *changes) put(change agent.Change) {
	change.Attachment, change.Uplink, change.Event = copyOf(change.Attachment), copyOf(change.Uplink), copyOf(change.Event)
	c.mu.Lock()
	c.waiting = append(c.waiting, change)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func (c *changes) take() []agent.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.waiting
	c.waiting = nil
	return taken
}

func (c *changes) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
		for _, change := range newest(c.take()) {
			c.send(change)
		}
	}
}

// newest drops what a later change of the same attachment overtakes: within one
// attach it changes five times.
func newest(all []agent.Change) []agent.Change {
	last := map[dbus.ObjectPath]int{}
	for i, c := range all {
		if c.Attachment != nil {
			last[attachmentPath(c.Attachment.VM, c.Attachment.ID)] = i
		}
	}
	kept := all[:0]
	for i, c := range all {
		overtaken := c.Attachment != nil && !c.Gone && last[attachmentPath(c.Attachment.VM, c.Attachment.ID)] > i
		if !overtaken || c.Event != nil {
			kept = append(kept, c)
		}
	}
	return kept
}

func (c *changes) send(change agent.Change) {
	if a := change.Attachment; a != nil {
		c.object(attachmentPath(a.VM, a.ID), attachmentFaces(*a), change.Gone)
	}
	if u := change.Uplink; u != nil {
		c.object(uplinkObject(u.Name), uplinkFaces(*u), change.Gone)
	}
	if e := change.Event; e != nil {
		c.emit(rootPath, managerIface+".Event", uint64(max(0, e.Time.UnixMicro())),
			clean(e.Event), clean(e.VM), clean(e.ID), clean(e.Uplink), clean(e.Text))
	}
}

// object tells what is new of one object: properties that changed, interfaces
// that came or went.
func (c *changes) object(path dbus.ObjectPath, now faces, gone bool) {
	before := c.sent[path]
	if gone {
		now = nil
	}
	added := faces{}
	for _, iface := range slices.Sorted(maps.Keys(now)) {
		was, known := before[iface]
		if !known {
			added[iface] = now[iface]
			continue
		}
		if changed := difference(was, now[iface]); len(changed) > 0 {
			c.emit(path, propsIface+".PropertiesChanged", iface, changed, []string{})
		}
	}
	if len(added) > 0 {
		c.emit(rootPath, objectsIface+".InterfacesAdded", path, added)
	}
	if removed := without(before, now); len(removed) > 0 {
		c.emit(rootPath, objectsIface+".InterfacesRemoved", path, removed)
	}
	if gone {
		delete(c.sent, path)
		return
	}
	c.sent[path] = now
}

// without names the interfaces of before that now lacks.
func without(before, now faces) []string {
	var names []string
	for _, iface := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[iface]; !still {
			names = append(names, iface)
		}
	}
	return names
}
