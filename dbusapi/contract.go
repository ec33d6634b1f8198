package dbusapi

import (
	_ "embed"      // vmnetd1.xml
	"encoding/xml" //nolint:depguard // reads nothing but our own contract
	"fmt"
	"slices"

	"github.com/godbus/dbus/v5/introspect"
)

//go:embed vmnetd1.xml
var contract []byte

// Names of the contract.
const (
	busName      = "org.vmnetd1"
	managerIface = "org.vmnetd1.Manager"
	attachIface  = "org.vmnetd1.Attachment"
	uplinkIface  = "org.vmnetd1.Uplink"
	teamIface    = "org.vmnetd1.Team"
	bondIface    = "org.vmnetd1.Bond"
	errorPrefix  = "org.vmnetd1.Error."

	propsIface      = "org.freedesktop.DBus.Properties"
	objectsIface    = "org.freedesktop.DBus.ObjectManager"
	introspectIface = "org.freedesktop.DBus.Introspectable"
)

// interfaces of the contract by name, and the standard ones it builds on.
func interfaces() (map[string]introspect.Interface, error) {
	var root introspect.Node
	if err := xml.Unmarshal(contract, &root); err != nil {
		return nil, fmt.Errorf("vmnetd1.xml: %w", err)
	}
	byName := map[string]introspect.Interface{
		introspectIface: introspect.IntrospectData,
		propsIface:      propertiesData,
		objectsIface:    objectManagerData,
	}
	for _, i := range root.Interfaces {
		byName[i.Name] = i
	}
	return byName, nil
}

// The standard interfaces that godbus does not describe (D-Bus specification,
// "Standard Interfaces").
var (
	propertiesData = introspect.Interface{
		Name: propsIface,
		Methods: []introspect.Method{
			{Name: "Get", Args: []introspect.Arg{in("interface", "s"), in("property", "s"), out("value", "v")}},
			{Name: "GetAll", Args: []introspect.Arg{in("interface", "s"), out("properties", "a{sv}")}},
			{Name: "Set", Args: []introspect.Arg{in("interface", "s"), in("property", "s"), in("value", "v")}},
		},
		Signals: []introspect.Signal{{Name: "PropertiesChanged", Args: []introspect.Arg{
			{Name: "interface", Type: "s"}, {Name: "changed", Type: "a{sv}"}, {Name: "invalidated", Type: "as"},
		}}},
	}
	objectManagerData = introspect.Interface{
		Name: objectsIface,
		Methods: []introspect.Method{
			{Name: "GetManagedObjects", Args: []introspect.Arg{out("objects", "a{oa{sa{sv}}}")}},
		},
		Signals: []introspect.Signal{
			{Name: "InterfacesAdded", Args: []introspect.Arg{{Name: "object", Type: "o"}, {Name: "interfaces", Type: "a{sa{sv}}"}}},
			{Name: "InterfacesRemoved", Args: []introspect.Arg{{Name: "object", Type: "o"}, {Name: "interfaces", Type: "as"}}},
		},
	}
)

func in(name, typ string) introspect.Arg {
	return introspect.Arg{Name: name, Type: typ, Direction: "in"}
}
func out(name, typ string) introspect.Arg {
	return introspect.Arg{Name: name, Type: typ, Direction: "out"}
}

// describe is what Introspect answers for an object with these interfaces and
// children.
func describe(all map[string]introspect.Interface, ifaces, children []string) (string, error) {
	node := introspect.Node{}
	for _, name := range ifaces {
		node.Interfaces = append(node.Interfaces, all[name])
	}
	slices.Sort(children)
	for _, name := range slices.Compact(children) {
		node.Children = append(node.Children, introspect.Node{Name: name})
	}
	text, err := xml.MarshalIndent(node, "", " ")
	return introspect.IntrospectDeclarationString + string(text), err
}
