package domxml

import (
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// Parse reads a domain as libvirt writes it: at most 4 MiB of UTF-8, elements
// nested 64 deep, no DOCTYPE, no entities but XML's own. What it does not know it
// skips. It fails with vmnetd.ErrInvalid, a sentence and line:col; so it does for
// mistakes in our metadata and for two NICs of ours with one id.
func Parse(text string) (Domain, error) {
	doc, err := read(text)
	if err != nil {
		return Domain{}, err
	}
	return doc.domain()
}

func (d *document) domain() (Domain, error) {
	dom := Domain{Name: d.name.text, Type: d.root.attr("type"), VCPUs: d.vcpus(), ID: number(d.root.attr("id"), 0)}
	if err := vmnetd.CheckVMName(dom.Name); err != nil {
		return Domain{}, d.name.at.wrong(err)
	}
	if d.uuid != nil {
		dom.UUID = strings.TrimSpace(d.uuid.text)
	}
	for _, e := range d.interfaces {
		dom.Interfaces = append(dom.Interfaces, interfaceOf(e))
	}
	var err error
	if dom.NICs, err = d.readNICs(); err != nil {
		return Domain{}, err
	}
	if dom.Labels, err = d.readLabels(); err != nil {
		return Domain{}, err
	}
	return dom, d.checkIDs(dom)
}

// vcpus is the vCPUs that are plugged. libvirt's default is 1.
func (d *document) vcpus() int {
	if d.vcpu == nil {
		return 1
	}
	return max(1, number(d.vcpu.attr("current"), number(d.vcpu.text, 1)))
}

// number reads a number that is not negative; what is none counts as other.
func number(s string, other int) int {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 0 {
		return other
	}
	return n
}
