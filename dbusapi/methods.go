package dbusapi

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

// methods is every method served, by interface and member.
func methods() map[string]map[string]method {
	return merge(merge(merge(uplinkMethods(), libvirtMethods()), hostLinkMethods()), map[string]map[string]method{
		managerIface: {
			"Attach":   {in: "sa{sv}", action: ActionAttach, run: attach},
			"Detach":   {in: "oa{sv}", action: ActionAttach, run: detach},
			"AttachVM": {in: "sa{sv}", action: ActionAttach, run: attachVM},
			"DetachVM": {in: "sa{sv}", action: ActionAttach, run: detachVM},
			"OpenTap":  {in: "sa{sv}", action: ActionAttach, run: openTap},
			"Reload":   {action: ActionManageUplinks, run: reload},
			"Explain":  {in: "sa{sv}", action: ActionRead, run: explain},
			"List":     {in: "s", run: list},
			"Counters": {in: "ss", action: ActionRead, run: counters},
			"Uplinks":  {in: "s", run: uplinks},
			"VMs":      {run: vms},
			"Status":   {run: status},
			"Doctor":   {run: doctor},
			"Events":   {in: "t", run: events},
		},
		objectsIface:    {"GetManagedObjects": {run: getManagedObjects}},
		introspectIface: {"Introspect": {run: introspectNode}},
		propsIface: {
			"Get":    {in: "ss", run: getProperty},
			"GetAll": {in: "s", run: getAllProperties},
			"Set":    {in: "ssv", run: setProperty},
		},
	})
}

// arg is one argument; DecodeArguments has checked its type.
func arg[T any](c *call, i int) T {
	v, _ := c.body[i].(T)
	return v
}

func (c *call) text(i int) string { return arg[string](c, i) }

// options come second in every method that takes some.
func (c *call) options() properties { return arg[properties](c, 1) }

func (c *call) request() (vmnetd.Request, error) { return decodeRequest(c.text(0), c.options()) }

func attach(ctx context.Context, c *call) ([]any, error) {
	req, err := c.request()
	if err != nil {
		return nil, err
	}
	a, err := c.s.api.Attach(ctx, c.who.Caller, req)
	if err != nil {
		return nil, err
	}
	return []any{attachmentPath(a.VM, a.ID), a.Changed}, nil
}

func attachVM(ctx context.Context, c *call) ([]any, error) {
	req, err := c.request()
	if err != nil {
		return nil, err
	}
	a, err := c.s.api.Attach(ctx, c.who.Caller, req)
	return jsonAnswer(a, err)
}

func detach(ctx context.Context, c *call) ([]any, error) {
	vm, id, err := attachmentAt(arg[dbus.ObjectPath](c, 0))
	if err != nil {
		return nil, err
	}
	var sel selection
	if err := decodeInto(scopeFields(&sel), c.options()); err != nil {
		return nil, err
	}
	sel.ID = id
	_, err = c.s.api.Detach(ctx, c.who.Caller, vm, agent.Selector(sel))
	return nil, err
}

func detachVM(ctx context.Context, c *call) ([]any, error) {
	sel, err := decodeSelector(c.text(0), c.options())
	if err != nil {
		return nil, err
	}
	gone, err := c.s.api.Detach(ctx, c.who.Caller, c.text(0), sel)
	return array(gone, err)
}

func openTap(ctx context.Context, c *call) ([]any, error) {
	req, err := c.request()
	if err != nil {
		return nil, err
	}
	if err := c.s.fds.wait(ctx); err != nil {
		return nil, err
	}
	a, token, err := c.s.api.OpenTap(ctx, c.who.Caller, req)
	if err != nil {
		return nil, err
	}
	c.s.fds.issue(token, c.who.UID)
	return []any{attachmentPath(a.VM, a.ID), token}, nil
}

func reload(ctx context.Context, c *call) ([]any, error) { return nil, c.s.api.Reload(ctx) }

func explain(ctx context.Context, c *call) ([]any, error) {
	options := c.options()
	all, isBool := options["all"].Value().(bool)
	if _, given := options["all"]; given && !isBool {
		return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "option all: must be a boolean")
	}
	delete(options, "all")
	req, err := c.request()
	if err != nil {
		return nil, err
	}
	found, err := c.s.api.Explain(ctx, c.who.Caller, req, all)
	return array(found, err)
}

func list(_ context.Context, c *call) ([]any, error) { return array(c.s.api.List(c.text(0)), nil) }

// counters answers with structs, not JSON: a monitor asks for them all the time.
func counters(ctx context.Context, c *call) ([]any, error) {
	vm, id := c.text(0), c.text(1)
	if err := vmnetd.CheckVMName(vm); err != nil {
		return nil, err
	}
	if err := vmnetd.CheckID(id); err != nil {
		return nil, err
	}
	found, err := c.s.api.Counters(ctx, vm, id)
	list := append([]vmnetd.Counter{}, found...)
	for i := range list {
		list[i].Rule = clean(list[i].Rule)
	}
	return []any{list}, err
}

func uplinks(ctx context.Context, c *call) ([]any, error) {
	name := c.text(0)
	c.s.api.Refresh(ctx, name)
	return array(slices.DeleteFunc(c.s.api.Uplinks(), func(u vmnetd.UplinkState) bool { return name != "" && u.Name != name }), nil)
}

func vms(_ context.Context, c *call) ([]any, error) { return array(c.s.api.VMs(), nil) }

func doctor(ctx context.Context, c *call) ([]any, error) { return array(c.s.api.Doctor(ctx), nil) }

func events(_ context.Context, c *call) ([]any, error) {
	return array(c.s.api.Events(sinceMicro(arg[uint64](c, 0))), nil)
}

func status(ctx context.Context, c *call) ([]any, error) {
	c.s.api.Refresh(ctx, "")
	return jsonAnswer(c.s.api.Status(), nil)
}

// array is a list as JSON: [] when it is empty, never null.
func array[T any](list []T, err error) ([]any, error) { return jsonAnswer(append([]T{}, list...), err) }

// jsonAnswer is an answer that is JSON.
func jsonAnswer(v any, err error) ([]any, error) {
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(v)
	return []any{string(text)}, err
}

func getManagedObjects(_ context.Context, c *call) ([]any, error) { return []any{c.s.managed()}, nil }

func introspectNode(_ context.Context, c *call) ([]any, error) {
	text, err := describe(c.s.ifaces, c.ifaces, c.children())
	return []any{text}, err
}

func getProperty(_ context.Context, c *call) ([]any, error) {
	v, err := c.property(c.text(0), c.text(1))
	return []any{v}, err
}

func getAllProperties(_ context.Context, c *call) ([]any, error) {
	all, err := c.properties(c.text(0))
	return []any{all}, err
}

func setProperty(_ context.Context, c *call) ([]any, error) {
	if _, err := c.property(c.text(0), c.text(1)); err != nil {
		return nil, err
	}
	return nil, dbus.NewError("org.freedesktop.DBus.Error.PropertyReadOnly", []any{c.text(1) + " cannot be set"})
}
