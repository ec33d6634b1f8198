package dbusapi

import (
	"maps"
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
	name   string   // of the uplink that it is, "" otherwise
	ifaces []string // that it has
	props  faces    // of those that have any
}

// LookupObject implements dbus.Handler.
func (s *Server) LookupObject(path dbus.ObjectPath) (dbus.ServerObject, bool) {
	switch {
	case path == rootPath:
		return s.node(path, faces{managerIface: s.managerProps()}, objectsIface), true
	case s.isFolder(path):
		return &node{s: s, path: path, ifaces: []string{introspectIface}}, true
	}
	if vm, id, ok := parseAttachment(path); ok {
		for _, a := range s.api.List(vm) {
			if a.ID == id && a.VM == vm {
				return s.node(path, attachmentFaces(a)), true
			}
		}
		return nil, false
	}
	for _, u := range s.api.Uplinks() {
		if uplinkObject(u.Name) == path {
			n := s.node(path, uplinkFaces(u))
			n.name = u.Name
			return n, true
		}
	}
	return nil, false
}

func (s *Server) node(path dbus.ObjectPath, props faces, more ...string) *node {
	ifaces := append(slices.Sorted(maps.Keys(props)), propsIface, introspectIface)
	return &node{s: s, path: path, ifaces: append(ifaces, more...), props: props}
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
func (s *Server) managed() map[dbus.ObjectPath]faces {
	all := map[dbus.ObjectPath]faces{}
	for _, a := range s.api.List("") {
		all[attachmentPath(a.VM, a.ID)] = attachmentFaces(a)
	}
	for _, u := range s.api.Uplinks() {
		all[uplinkObject(u.Name)] = uplinkFaces(u)
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
	if props, ok := n.props[iface]; ok {
		return props, nil
	}
	if iface == "" { // any: where two have a property of one name, either
		all := properties{}
		for _, props := range n.props {
			maps.Copy(all, props)
		}
		return all, nil
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
