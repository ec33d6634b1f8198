package bonding

import (
	"maps"
	"slices"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Create is the attributes (IFLA_INFO_DATA) of a new bond, the mode among them.
// Options that name a port are left out: they are set once the ports are in; and
// those that are 0 in a new bond and cannot be told so without miimon.
func Create(c Config) ([]rtnl.Attr, error) {
	options := maps.Clone(c.Options)
	if options == nil {
		options = map[string]string{}
	}
	options["mode"] = c.Mode
	for name, value := range options {
		if o, ok := find(table, name); ok && o.Late || value == "0" && slices.Contains(beforeMIIMon, name) {
			delete(options, name)
		}
	}
	return Attrs(options, nil)
}

// Late is the options that name a port, which Create leaves out.
func Late(options map[string]string) map[string]string {
	late := map[string]string{}
	for name, value := range options {
		if o, ok := find(table, name); ok && o.Late {
			late[name] = value
		}
	}
	return late
}

// Attrs is options as attributes of a bond, in an order that the kernel takes
// (it sets them in an order of its own, drivers/net/bonding/bond_netlink.c,
// bond_changelink). index finds ports by name; vmnetd.ErrInvalid for an option
// or a value that there is not.
func Attrs(options map[string]string, index func(string) (int, bool)) ([]rtnl.Attr, error) {
	return encode(table, options, index)
}

// PortAttrs is options of a port as attributes (IFLA_INFO_SLAVE_DATA).
func PortAttrs(options map[string]string) ([]rtnl.Attr, error) {
	return encode(portTable, options, nil)
}

func encode(rows []Option, options map[string]string, index func(string) (int, bool)) ([]rtnl.Attr, error) {
	attrs := []rtnl.Attr{}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if _, ok := find(rows, name); !ok {
			return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "a bond has no option %q", name)
		}
	}
	for _, o := range rows {
		text, given := options[o.Name]
		if !given {
			continue
		}
		a, err := o.codec.encode(o.attr, text, index)
		if err != nil {
			return nil, vmnetd.Errorf(vmnetd.ErrInvalid, "%s %w", o.Name, err)
		}
		attrs = append(attrs, a)
	}
	return attrs, nil
}

// Read is the options of a bond, those that its mode has, with the mode among
// them as "mode". name finds ports by ifindex.
func Read(bond rtnl.Link, name func(int) string) map[string]string {
	options := decode(table, bond.Data, name)
	mode := options["mode"]
	for _, o := range table {
		if !o.in(mode) {
			delete(options, o.Name)
			continue
		}
		if _, said := options[o.Name]; !said && o.Late {
			options[o.Name] = "" // the kernel is silent about a port that there is not
		}
	}
	if options["ad_actor_system"] == "00:00:00:00:00:00" {
		delete(options, "ad_actor_system") // the bond's own MAC
	}
	return options
}

// ReadPort is the options of a port.
func ReadPort(port rtnl.Link) map[string]string { return decode(portTable, port.PortData, nil) }

func decode(rows []Option, data []byte, name func(int) string) map[string]string {
	options := map[string]string{}
	rtnl.Each(data, func(attr int, v []byte) {
		for _, o := range rows {
			if o.attr == attr {
				options[o.Name] = o.codec.decode(v, name)
			}
		}
	})
	return options
}

// Change is one option that is to be another.
type Change struct {
	Option string
	From   string
	To     string
	Need   Need
}

// Diff is what of want a bond does not have, in the order in which the kernel
// takes it. What want does not name stays as it is; is comes from Read.
func Diff(is, want map[string]string) []Change {
	return diff(table, is, want)
}

// DiffPort is Diff for the options of a port.
func DiffPort(is, want map[string]string) []Change { return diff(portTable, is, want) }

// beforeMIIMon is what is set to 0 before miimon is changed: while arp_interval is
// set, miimon takes its place, and the delays cannot be set without miimon
// (drivers/net/bonding/bond_options.c, _bond_option_delay_set: EPERM).
var beforeMIIMon = []string{"arp_interval", "updelay", "downdelay", "peer_notif_delay"}

func diff(rows []Option, is, want map[string]string) []Change {
	var first, rest []Change
	for _, o := range rows {
		to, given := want[o.Name]
		if !given || to == is[o.Name] {
			continue
		}
		o, _ = find(rows, o.Name)
		c := Change{Option: o.Name, From: is[o.Name], To: to, Need: o.Need}
		if to == "0" && c.From != "" && slices.Contains(beforeMIIMon, o.Name) {
			first = append(first, c)
			continue
		}
		rest = append(rest, c)
	}
	return append(first, rest...)
}

// NeedOf is the dearest need of changes: Live for none.
func NeedOf(changes []Change) Need {
	need := Live
	for _, c := range changes {
		if c.Need == NoPorts || c.Need == Down && need == Live {
			need = c.Need
		}
	}
	return need
}
