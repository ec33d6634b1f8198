package dbusapi

import (
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

// node is one object as it is at the moment of one call. Objects are looked up
// in the agent, not exported one by one: a thousand attachments cost nothing
// until somebody asks for one.
type node struct {
	s      *Server
	path   dbus.ObjectPath
	ifaces []string                     // that it has
	props  map[string]func() properties // of those that have any
}

// LookupObject implements dbus.Handler.
func (s *Server) LookupObject(path dbus.ObjectPath) (dbus.ServerObject, bool) {
	switch {
	case path == rootPath:
		return s.node(path, managerIface, s.managerProps, objectsIface), true
	case s.isFolder(path):
		return &node{s: s, path: path, ifaces: []string{introspectIface}}, true
	}
	if vm, id, ok := parseAttachment(path); ok {
		for _, a := range s.api.List(vm) {
			if a.ID == id && a.VM == vm {
				return s.node(path, attachIface, func() properties { return attachmentProps(a) }), true
			}
		}
		return nil, false
	}
	for _, u := range s.api.Uplinks() {
		if uplinkObject(u.Name) == path {
			return s.node(path, uplinkIface, func() properties { return uplinkProps(u) }), true
		}
	}
	return nil, false
}

func (s *Server) node(path dbus.ObjectPath, iface string, props func() properties, more ...string) *node {
	ifaces := append([]string{iface, propsIface, introspectIface}, more...)
	return &node{s: s, path: path, ifaces: ifaces, props: map[string]func() properties{iface: props}}
}

func (s *Server) managerProps() properties {
	return properties{"fd_socket": dbus.MakeVariant(s.fds.path)}
}

// isFolder says whether path only leads to objects.
func (s *Server) isFolder(path dbus.ObjectPath) bool {
	switch path {
	case "/", "/org", attachPath, uplinkPath:
		return true
	}
	name, isVM := strings.CutPrefix(string(path), string(attachPath)+"/")
	vm, ok := unescape(name)
	return isVM && ok && vm != "" && len(s.api.List(vm)) > 0
}

// children are the elements right below path.
func (n *node) children() []string {
	var found []string
	for _, p := range n.s.paths() {
		rest, below := strings.CutPrefix(string(p), strings.TrimSuffix(string(n.path), "/")+"/")
		if name, _, _ := strings.Cut(rest, "/"); below && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}

func (s *Server) paths() []dbus.ObjectPath {
	all := []dbus.ObjectPath{attachPath, uplinkPath}
	for _, a := range s.api.List("") {
		all = append(all, attachmentPath(a.VM, a.ID))
	}
	for _, u := range s.api.Uplinks() {
		all = append(all, uplinkObject(u.Name))
	}
	return all
}

// managed is everything below the Manager, for GetManagedObjects.
func (s *Server) managed() map[dbus.ObjectPath]map[string]properties {
	all := map[dbus.ObjectPath]map[string]properties{}
	for _, a := range s.api.List("") {
		all[attachmentPath(a.VM, a.ID)] = map[string]properties{attachIface: attachmentProps(a)}
	}
	for _, u := range s.api.Uplinks() {
		all[uplinkObject(u.Name)] = map[string]properties{uplinkIface: uplinkProps(u)}
	}
	return all
}

// LookupInterface implements dbus.ServerObject; "" is any interface of the
// object (D-Bus specification, "Method Calls").
func (n *node) LookupInterface(name string) (dbus.Interface, bool) {
	if name == "" {
		return boundIface{n, n.ifaces}, true
	}
	return boundIface{n, []string{name}}, slices.Contains(n.ifaces, name)
}

type boundIface struct {
	n      *node
	ifaces []string
}

// LookupMethod implements dbus.Interface.
func (b boundIface) LookupMethod(member string) (dbus.Method, bool) {
	for _, iface := range b.ifaces {
		if m, ok := b.n.s.methods[iface][member]; ok {
			return boundMethod{n: b.n, m: m}, true
		}
	}
	return nil, false
}

// property finds one property of one interface, of any when iface is "".
func (n *node) property(iface, name string) (dbus.Variant, error) {
	all, err := n.properties(iface)
	if err != nil {
		return dbus.Variant{}, err
	}
	v, ok := all[name]
	if !ok {
		return v, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", []any{"no property " + name})
	}
	return v, nil
}

func (n *node) properties(iface string) (properties, error) {
	for name, props := range n.props {
		if iface == name || iface == "" {
			return props(), nil
		}
	}
	if slices.Contains(n.ifaces, iface) {
		return properties{}, nil
	}
	return nil, dbus.MakeUnknownInterfaceError(iface)
}

// attachment is the NIC that the path names.
func attachmentAt(path dbus.ObjectPath) (vm, id string, err error) {
	vm, id, ok := parseAttachment(path)
	if !ok || vmnetd.CheckVMName(vm) != nil || vmnetd.CheckID(id) != nil {
		return "", "", vmnetd.Errorf(vmnetd.ErrInvalid, "%s is no attachment", clip(string(path)))
	}
	return vm, id, nil
}
