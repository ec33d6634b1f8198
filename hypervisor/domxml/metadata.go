package domxml

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// ours is the children of our metadata element with that name.
func (d *document) ours(name string) ([]*element, error) {
	if d.nics == nil {
		return nil, nil
	}
	var list []*element
	for _, k := range d.nics.kids {
		if k.name.Space == NS && k.name.Local == name {
			list = append(list, k)
		}
	}
	if len(list) > maxEach {
		return nil, list[maxEach].at.wrongf("there are more than %d <%s>", maxEach, name)
	}
	return list, nil
}

// only refuses other attributes: one that is misspelt would ask for nothing.
func (e *element) only(names ...string) error {
	for _, a := range e.attrs {
		if a.Name.Space == "" && a.Name.Local != "xmlns" && !slices.Contains(names, a.Name.Local) {
			return e.at.wrongf("<%s> has no attribute %s", e.name.Local, a.Name.Local)
		}
	}
	return nil
}

// readNICs reads what the metadata asks for.
func (d *document) readNICs() ([]NIC, error) {
	elements, err := d.ours("nic")
	if err != nil {
		return nil, err
	}
	var nics []NIC
	for _, e := range elements {
		n, err := readNIC(e)
		if err != nil {
			return nil, err
		}
		for _, other := range nics {
			if other.MAC == n.MAC || n.ID != "" && other.ID == n.ID {
				return nil, e.at.wrongf("the NIC %s of MAC %s is there twice", n.ID, n.MAC)
			}
		}
		nics = append(nics, n)
	}
	return nics, nil
}

func readNIC(e *element) (NIC, error) {
	if err := e.only("mac", "id", "network", "mode", "ips"); err != nil {
		return NIC{}, err
	}
	mac, err := vmnetd.ParseMAC(e.attr("mac"))
	if err != nil {
		return NIC{}, e.at.wrong(err)
	}
	n := NIC{MAC: mac.String(), ID: e.attr("id"), Network: e.attr("network")}
	if err := vmnetd.CheckID(n.ID); n.ID != "" && err != nil {
		return NIC{}, e.at.wrong(err)
	}
	if mode := e.attr("mode"); mode != "" {
		m, err := vmnetd.ParseMode(mode)
		if err != nil {
			return NIC{}, e.at.wrong(err)
		}
		n.Mode = string(m)
	}
	if n.IPs = e.attr("ips"); n.IPs != "" {
		for _, ip := range strings.Split(n.IPs, ",") {
			if _, err := netip.ParseAddr(ip); err != nil {
				return NIC{}, e.at.wrongf("%q is no address", ip)
			}
		}
	}
	if was := e.kept(); was != nil {
		n.Was = *was
	}
	return n, nil
}

// kept is what an element of ours stands in the place of, nil when it does not
// say.
func (e *element) kept() *string {
	for _, k := range e.kids {
		if k.name.Space == NS && k.name.Local == "was" {
			return &k.text
		}
	}
	return nil
}

func (d *document) readLabels() (map[string]string, error) {
	elements, err := d.ours("label")
	if err != nil || len(elements) == 0 {
		return nil, err
	}
	labels := map[string]string{}
	for _, e := range elements {
		if err := e.only("name", "value"); err != nil {
			return nil, err
		}
		name := e.attr("name")
		if _, twice := labels[name]; twice || name == "" {
			return nil, e.at.wrongf("the label %q has no name, or is there twice", name)
		}
		labels[name] = e.attr("value")
	}
	return labels, nil
}
