package hypervisor

import (
	"context"
	"slices"
	"strings"
)

// peripheral holds the devices that have an id, by id (QEMU
// softmmu/qdev-monitor.c, qdev_set_id).
const peripheral = "/machine/peripheral"

// property is an entry of qom-list.
type property struct {
	Name string
	Type string
}

// child is the type of a child property: child<pcie-root-port>.
func (p property) child() (string, bool) {
	t, ok := strings.CutPrefix(p.Type, "child<")
	return strings.TrimSuffix(t, ">"), ok
}

// list reads an object's properties; none when there is no such object.
func (e *engine) list(ctx context.Context, path string) ([]property, error) {
	var props []property
	err := e.Do(ctx, "qom-list", map[string]string{"path": path}, &props)
	if isClass(err, deviceNotFound) {
		return nil, nil
	}
	return props, err
}

// get reads a property into out; ok is false when there is no such object or
// no such property.
func (e *engine) get(ctx context.Context, path, name string, out any) (ok bool, err error) {
	err = e.Do(ctx, "qom-get", map[string]string{"path": path, "property": name}, out)
	if err == nil {
		return true, nil
	}
	var refused *Error
	if asError(err, &refused) {
		return false, nil // GenericError "Property … not found", or DeviceNotFound
	}
	return false, err
}

// has says whether an object of that name is among the properties.
func has(props []property, name string) bool {
	return slices.ContainsFunc(props, func(p property) bool {
		_, ok := p.child()
		return ok && p.Name == name
	})
}

// hasDevice says whether a device of that id is in the VM.
func (e *engine) hasDevice(ctx context.Context, id string) (bool, error) {
	props, err := e.list(ctx, peripheral)
	return has(props, id), err
}

// where reads a device's bus and slot.
func (e *engine) where(ctx context.Context, id string) (Place, error) {
	var bus string
	if _, err := e.get(ctx, peripheral+"/"+id, "parent_bus", &bus); err != nil {
		return Place{}, err
	}
	var devfn int
	ok, err := e.get(ctx, peripheral+"/"+id, "addr", &devfn)
	if err != nil || !ok {
		return Place{}, err
	}
	return Place{Bus: bus[strings.LastIndexByte(bus, '/')+1:], Addr: addrOf(devfn)}, nil
}

// macOf reads the MAC that a NIC was plugged with (QEMU hw/core/qdev-properties.c,
// DEFINE_PROP_MACADDR); "" for a device without one.
func (e *engine) macOf(ctx context.Context, id string) (mac string, err error) {
	_, err = e.get(ctx, peripheral+"/"+id, "mac", &mac)
	return mac, err
}
