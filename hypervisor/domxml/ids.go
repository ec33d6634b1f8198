package domxml

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Ours says whether the interface stands on a device of vmnetd's.
func (i Interface) Ours() bool {
	return i.Type == "ethernet" && strings.HasPrefix(i.Target, vmnetd.IfnamePrefix)
}

// Ours is the interfaces that stand on devices of vmnetd's.
func (d Domain) Ours() []Interface {
	var list []Interface
	for _, i := range d.Interfaces {
		if i.Ours() {
			list = append(list, i)
		}
	}
	return list
}

// NICOf is what the domain asks for an interface of its own, with MAC and ID
// filled in: metadata gives the id, or the device's name does.
func (d Domain) NICOf(i Interface) NIC {
	n := NIC{MAC: i.MAC}
	if k := slices.IndexFunc(d.NICs, func(n NIC) bool { return n.MAC == i.MAC }); k >= 0 {
		n = d.NICs[k]
	}
	if n.ID == "" {
		n.ID = d.idOf(i)
	}
	return n
}

// usualIDs is how many of net0, net1, … are tried for a device's name.
const usualIDs = 64

func (d Domain) idOf(i Interface) string {
	if len(i.Target) == len(vmnetd.Ifname(d.Name, "net0")) {
		for n := range usualIDs {
			if id := netN(n); vmnetd.Ifname(d.Name, id) == i.Target {
				return id
			}
		}
	}
	if vmnetd.CheckID(i.Target) == nil {
		return i.Target
	}
	return netN(max(0, slices.Index(d.Interfaces, i)))
}

func netN(n int) string { return fmt.Sprintf("net%d", n) }

// checkIDs refuses two NICs of ours with one id: everything of a NIC hangs on it.
func (d *document) checkIDs(dom Domain) error {
	holder := map[string]string{}
	for k, i := range dom.Interfaces {
		if !i.Ours() {
			continue
		}
		id := dom.NICOf(i).ID
		if mac, taken := holder[id]; taken {
			return d.interfaces[k].at.wrongf("the interfaces %s and %s are both NIC %s", mac, i.MAC, id)
		}
		holder[id] = i.MAC
	}
	return nil
}
