package hypervisor

import (
	"context"
	"strings"
)

// known is what stays true of one run of QEMU, so that it is asked once. A
// question is not free: QEMU takes in a command byte by byte, each by a turn of
// its main loop (monitor/monitor.c, monitor_can_read, allows one at a time),
// which costs 4 µs a byte, 0.15 ms for query-name and 0.5 ms for a qom-get. What
// a guest, an operator or another program can change is always asked.
//
// It belongs to whoever has the socket's turn.
type known struct {
	instance string
	identity *identity
	pci      *pciLayout
	hotplug  map[string]bool // by path of a bus: whether it takes hotplug
	arriving bool            // it waits for a migration, or has come by one and did not run since
	clean    map[string]bool // NICs of which no attempt that was cut off can have left anything
}

// identity is who a QEMU says it is.
type identity struct{ name, uuid string }

// pciLayout is how the buses hang together. A bridge that is plugged or
// unplugged makes another one.
type pciLayout struct {
	bridges string // ids, joined
	roots   []pciBus
	onPC    bool // machine pc, whose root bus takes hotplug
}

func newKnown(instance string) *known {
	return &known{instance: instance, hotplug: map[string]bool{}, clean: map[string]bool{}}
}

// knows finds what is known of the QEMU behind a connection. Where it is not
// certain which process that is, nothing is: the next one may look the same.
func (q *QMP) knows(path string, p peer) *known {
	if p.pid == 0 {
		return newKnown(p.instance)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.known[path]
	if k == nil || k.instance != p.instance {
		k = newKnown(p.instance)
		q.known[path] = k
	}
	return k
}

// incoming takes a status of query-status. Where QEMU was started with -S, its
// CPUs stand still when the migration is over, until somebody says cont
// (migration/migration.c, process_incoming_migration_bh).
func (k *known) incoming(status string) bool {
	switch status {
	case statusInMigrate:
		k.arriving = true
	case statusPaused:
	default:
		k.arriving = false
	}
	return k.arriving
}

// begin says whether a NIC is clean, and that it is not from now on: whatever
// is begun may be cut off.
func (k *known) begin(nic string) (clean bool) {
	clean = k.clean[nic]
	delete(k.clean, nic)
	return clean
}

// whoIs asks QEMU for its name and uuid.
func (e *engine) whoIs(ctx context.Context) (identity, error) {
	if e.known.identity != nil {
		return *e.known.identity, nil
	}
	var who struct{ Name string }
	if err := e.Do(ctx, "query-name", nil, &who); err != nil {
		return identity{}, err
	}
	var id struct{ UUID string }
	if err := e.Do(ctx, "query-uuid", nil, &id); err != nil {
		return identity{}, err
	}
	e.known.identity = &identity{name: who.Name, uuid: id.UUID}
	return *e.known.identity, nil
}

// layout asks for the buses, given the devices that have an id.
func (e *engine) layout(ctx context.Context, devices []property) (*pciLayout, error) {
	var ids []string
	for _, p := range devices {
		if _, ok := busBehind(p); ok {
			ids = append(ids, p.Name)
		}
	}
	now := &pciLayout{bridges: strings.Join(ids, ",")}
	if e.known.pci != nil && e.known.pci.bridges == now.bridges {
		return e.known.pci, nil
	}
	if err := e.Do(ctx, "query-pci", nil, &now.roots); err != nil {
		return nil, err
	}
	var err error
	if now.onPC, err = e.isPC(ctx, devices); err != nil {
		return nil, err
	}
	e.known.pci = now
	return now, nil
}
