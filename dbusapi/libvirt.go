package dbusapi

import (
	"context"
	"reflect"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

// Bounds of what libvirt's hook hands on.
const (
	// LongestXML is the most bytes of a domain's XML that are taken. libvirt's own
	// limit is larger (VIR_STRING_MAX, 4 MiB for each string of its protocol), so
	// nothing longer can have been defined.
	LongestXML    = 4 << 20
	longestHookOp = 64 // bytes; libvirt's longest is "reconnect" (src/util/virhook.c)
)

// libvirtMethods are the methods about domains of libvirt.
func libvirtMethods() map[string]map[string]method {
	return map[string]map[string]method{managerIface: {
		"DomainHook": {in: "ssss", action: ActionAttach, run: domainHook},
		"DomainXML":  {in: "sa{sv}", action: ActionRead, run: domainXML},
		"Import":     {in: "sa{sv}", action: ActionAttach, run: importVM},
	}}
}

func domainHook(ctx context.Context, c *call) ([]any, error) {
	vm, op, sub, xml := c.text(0), c.text(1), c.text(2), c.text(3)
	if err := vmnetd.CheckVMName(vm); err != nil {
		return nil, err
	}
	for what, word := range map[string]string{"operation": op, "sub-operation": sub} {
		if word == "" || len(word) > longestHookOp {
			return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "the hook's %s %q has not 1 to %d bytes", what, clip(word), longestHookOp)
		}
	}
	if len(xml) > LongestXML {
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "the XML of VM %s is longer than %d MiB", vm, LongestXML>>20)
	}
	return nil, c.s.api.DomainHook(ctx, c.who.Caller, vm, op, sub, xml)
}

func domainXML(ctx context.Context, c *call) ([]any, error) {
	req, err := c.request()
	if err != nil {
		return nil, err
	}
	text, err := c.s.api.DomainXML(ctx, c.who.Caller, req)
	return []any{clean(text)}, err
}

func importVM(ctx context.Context, c *call) ([]any, error) {
	vm, o := c.text(0), vmnetd.ImportOptions{}
	if err := vmnetd.CheckVMName(vm); err != nil {
		return nil, err
	}
	if err := decodeInto(optionFields(reflect.ValueOf(&o).Elem(), ""), c.options()); err != nil {
		return nil, err
	}
	changes, err := c.s.api.Import(ctx, c.who.Caller, vm, o)
	changes.Changes = append([]vmnetd.ImportChange{}, changes.Changes...) // never null
	return jsonAnswer(changes, err)
}

// Ping waits until the daemon has answered: one that hangs owns its name too.
func (c *Client) Ping(ctx context.Context) error {
	return c.call(ctx, rootPath, "org.freedesktop.DBus.Peer.Ping").Err
}

// DomainHook hands the daemon what libvirt told its hook: operation, sub-operation
// and the domain's XML, LongestXML bytes at the most. Only an error at
// prepare/begin is one for libvirt.
func (c *Client) DomainHook(ctx context.Context, vm, op, sub, xml string) error {
	return c.manager(ctx, "DomainHook", vm, op, sub, clean(xml)).Err
}

// DomainXML is the <interface> element that gives a VM of libvirt's the NIC that
// the policy grants.
func (c *Client) DomainXML(ctx context.Context, req vmnetd.Request) (string, error) {
	var text string
	err := c.manager(ctx, "DomainXML", req.VM, encodeRequest(req)).Store(&text)
	return text, err
}

// Import shows, or makes, NICs of ours of the interfaces in a VM's definition.
func (c *Client) Import(ctx context.Context, vm string, o vmnetd.ImportOptions) (vmnetd.Import, error) {
	options := map[string]dbus.Variant{}
	for name, field := range optionFields(reflect.ValueOf(o), "") {
		if !field.IsZero() {
			options[name] = variant(field)
		}
	}
	return callJSON[vmnetd.Import](ctx, c, "Import", vm, options)
}
