package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
)

func asError(err error, target **Error) bool { return errors.As(err, target) }

// addrOf writes a PCI function's number as -device's addr takes it.
func addrOf(devfn int) string {
	if fn := devfn & 7; fn != 0 {
		return fmt.Sprintf("0x%x.%d", devfn>>3, fn)
	}
	return fmt.Sprintf("0x%x", devfn>>3)
}

// Bridges that a device can be plugged in behind, by QEMU type. Others, such
// as a switch's upstream port or a pxb, only carry more bridges.
var (
	expressPorts = []string{"pcie-root-port", "ioh3420", "xio3130-downstream"}
	bridges      = []string{"pci-bridge", "pcie-pci-bridge"}
)

// bus is a PCI bus that may take a device.
type bus struct {
	name    string
	path    string // in QOM
	port    string // QOM path of the bridge it is behind, "" for the root
	express bool   // one slot, number 0
	order   int    // as query-pci shows it
}

// root440fx is the root bus of machine pc, the only root that takes hotplug:
// pcie.0 of q35 has no hotplug handler.
var root440fx = bus{name: "pci.0", path: "/machine/i440fx/pci.0"}

// findPlace finds where to plug: the place asked for, or the first free one.
func (e *engine) findPlace(ctx context.Context, s survey, name, addr string) (Place, error) {
	if addr != "" && name == "" {
		return Place{}, vmnetd.Errorf(vmnetd.ErrInvalid, "a slot (%s) was asked for without the bus it is on", addr)
	}
	buses := s.buses()
	if name != "" {
		return e.placeOn(ctx, buses, name, addr)
	}
	for _, b := range inOrder(buses, e.fromEnd) {
		place, ok, err := e.freeSlot(ctx, b)
		if err != nil || ok {
			return place, err
		}
	}
	return Place{}, e.noPlace(ctx, buses)
}

func (e *engine) placeOn(ctx context.Context, buses []bus, name, addr string) (Place, error) {
	i := slices.IndexFunc(buses, func(b bus) bool { return b.name == name })
	if i < 0 {
		var names []string
		for _, b := range buses {
			names = append(names, b.name)
		}
		return Place{}, vmnetd.Errorf(vmnetd.ErrInvalid, "VM %s has no bus %q that takes a NIC; it has: %s", vmnetd.Printable(e.vm), name, strings.Join(names, ", ")).
			WithNext("name one of these, or leave the bus out for the first free place")
	}
	if addr != "" && buses[i].express && !inSlot0(addr) {
		return Place{}, vmnetd.Errorf(vmnetd.ErrInvalid, "%s is a PCI Express port: it has slot 0 only", name).
			WithNext("leave the slot out, or say 0x0")
	}
	if addr != "" {
		return Place{Bus: name, Addr: addr}, nil // QEMU refuses a slot that is taken
	}
	place, ok, err := e.freeSlot(ctx, buses[i])
	if err == nil && !ok {
		err = vmnetd.Errorf(vmnetd.ErrBusy, "bus %s of VM %s has no free slot, or takes no hotplug", name, vmnetd.Printable(e.vm))
	}
	return place, err
}

// inSlot0 reads addr as QEMU does: hexadecimal, with 0x or not, the function
// after a dot (hw/core/qdev-properties-system.c, set_pci_devfn).
func inSlot0(addr string) bool {
	slot, _, _ := strings.Cut(addr, ".")
	n, err := strconv.ParseUint(strings.TrimPrefix(slot, "0x"), 16, 32)
	return err == nil && n == 0
}

// buses lists what may take a device: the root of machine pc, then what is
// behind bridges. query-pci gives the order, but not what is taken: it finds
// what is behind a bridge by the bus number that the firmware gives out, and a
// guest that has not booted has none (hw/pci/pci-qmp-cmds.c). The object tree
// has no such gap.
func (s survey) buses() []bus {
	var all []bus
	if s.onPC {
		all = append(all, root440fx)
	}
	rank := s.rank()
	for _, p := range s.devices {
		if b, ok := busBehind(p); ok {
			b.order = rank(p.Name)
			all = append(all, b)
		}
	}
	slices.SortStableFunc(all, func(a, b bus) int {
		if a.order != b.order {
			return a.order - b.order
		}
		return strings.Compare(a.name, b.name)
	})
	return all
}

// isPC says whether this is machine pc. Express ports say that it is not.
func (e *engine) isPC(ctx context.Context, devices []property) (bool, error) {
	for _, p := range devices {
		if b, ok := busBehind(p); ok && b.express {
			return false, nil
		}
	}
	props, err := e.list(ctx, root440fx.path)
	return len(props) > 0, err
}

// pciBus is what query-pci says of a root bus.
type pciBus struct{ Devices []pciDevice }

// pciDevice is what query-pci says of a function.
type pciDevice struct {
	ID     string  `json:"qdev_id"`
	Bridge *pciBus `json:"pci_bridge"`
}

// rank gives each device's place in the order in which query-pci walks the
// buses; those that it does not see come last.
func (s survey) rank() func(id string) int {
	ranks := map[string]int{}
	var walk func(b pciBus)
	walk = func(b pciBus) {
		for _, d := range b.Devices {
			if d.ID != "" {
				ranks[d.ID] = len(ranks) + 1
			}
			if d.Bridge != nil {
				walk(*d.Bridge)
			}
		}
	}
	for _, r := range s.roots {
		walk(r)
	}
	return func(id string) int {
		if r, ok := ranks[id]; ok {
			return r
		}
		return len(ranks) + 1
	}
}

// busBehind is the bus behind a bridge, which has the bridge's id as its name
// (hw/pci/pci_bridge.c, pci_bridge_initfn). One without an id cannot be told
// from the root bus by name: "pcie.0" may be both.
func busBehind(p property) (bus, bool) {
	kind, _ := p.child()
	express := slices.Contains(expressPorts, kind)
	if !express && !slices.Contains(bridges, kind) {
		return bus{}, false
	}
	port := peripheral + "/" + p.Name
	return bus{name: p.Name, path: port + "/" + p.Name, port: port, express: express}, true
}

// anySlot is those that a bus may have free. 0: the host bridge, or the bridge's
// own hotplug controller (hw/pci/shpc.c).
var anySlot = func() (slots []int) {
	for slot := 1; slot < 32; slot++ {
		slots = append(slots, slot)
	}
	return slots
}()

func inOrder[T any](items []T, fromEnd bool) []T {
	if !fromEnd {
		return items
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	return items
}

// freeSlot finds a free slot of a bus that takes hotplug.
func (e *engine) freeSlot(ctx context.Context, b bus) (Place, bool, error) {
	taken, err := e.slots(ctx, b)
	if err != nil || b.express && len(taken) > 0 {
		return Place{}, false, err
	}
	if ok, err := e.takesHotplug(ctx, b); err != nil || !ok {
		return Place{}, false, err
	}
	if b.express {
		// The slot is said, because QEMU would put a second device into slot 1
		// of a port, where no guest ever looks.
		return Place{Bus: b.name, Addr: addrOf(0)}, true, nil
	}
	for _, slot := range inOrder(anySlot, e.fromEnd) {
		if !slices.Contains(taken, slot) {
			return Place{Bus: b.name, Addr: addrOf(slot << 3)}, true, nil
		}
	}
	return Place{}, false, nil
}

// slots lists the slots of a bus that are taken.
func (e *engine) slots(ctx context.Context, b bus) ([]int, error) {
	props, err := e.list(ctx, b.path)
	if err != nil {
		return nil, err
	}
	var taken []int
	for _, p := range props {
		if !strings.HasPrefix(p.Name, "child[") {
			continue
		}
		var devfn int
		ok, err := e.get(ctx, b.path+"/"+p.Name, "addr", &devfn)
		if err != nil {
			return nil, err
		}
		if ok {
			taken = append(taken, devfn>>3)
		}
	}
	return taken, nil
}

// takesHotplug: a bus with a hotplug handler, behind a port that was not
// switched off (hotplug=off, as libvirt's <target hotplug='off'/>).
func (e *engine) takesHotplug(ctx context.Context, b bus) (bool, error) {
	if takes, ok := e.known.hotplug[b.path]; ok {
		return takes, nil
	}
	handler, on := "", true
	_, err := e.get(ctx, b.path, "hotplug-handler", &handler)
	if err == nil && handler != "" && b.express {
		_, err = e.get(ctx, b.port, "hotplug", &on)
	}
	if err != nil {
		return false, err
	}
	e.known.hotplug[b.path] = handler != "" && on
	return handler != "" && on, nil
}

// noPlace says what to add to the command line, with an id and a chassis number
// that are free.
func (e *engine) noPlace(ctx context.Context, buses []bus) error {
	device, number, stem := "pcie-root-port", "chassis", "rp"
	if len(buses) > 0 && buses[0].port == "" {
		device, number, stem = "pci-bridge", "chassis_nr", "pci."
	}
	chassis, err := e.lastChassis(ctx, number)
	if err != nil {
		return err
	}
	free := 1
	for slices.ContainsFunc(buses, func(b bus) bool { return b.name == stem+itoa(free) }) {
		free++
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "VM %s has no free place for another PCI device: of %d that have a name, none is free and takes hotplug", vmnetd.Printable(e.vm), len(buses)).
		WithNext(fmt.Sprintf("start QEMU with one more: -device %s,id=%s%d,%s=%d", device, stem, free, number, chassis+1))
}

// lastChassis is the highest number of a property of bridges, with an id or
// without: two with the same one are refused by QEMU.
func (e *engine) lastChassis(ctx context.Context, number string) (last int, err error) {
	for _, container := range []string{peripheral, peripheral + "-anon"} {
		props, err := e.list(ctx, container)
		if err != nil {
			return 0, err
		}
		for _, p := range props {
			if _, ok := busBehind(p); !ok {
				continue
			}
			n := 0
			if _, err := e.get(ctx, container+"/"+p.Name, number, &n); err != nil {
				return 0, err
			}
			last = max(last, n)
		}
	}
	return last, nil
}
