// Package domxml reads and writes the parts of libvirt's domain XML that concern
// NICs. What is written is spans of bytes: all else of a definition stays as it is.
package domxml

// NS is the namespace of our element in a domain's <metadata>.
const NS = "https://vmnetd.org/xmlns/1"

// Domain is what is read of a domain.
type Domain struct {
	Name       string
	Type       string // kvm, qemu, …
	UUID       string
	ID         int // of this run; 0 when it is not active
	VCPUs      int // those that are plugged now
	Interfaces []Interface
	NICs       []NIC             // of the metadata element vmnetd:nics
	Labels     map[string]string // of the same element
}

// Interface is one <interface> of a domain.
type Interface struct {
	Type     string // ethernet, direct, bridge, network, …
	MAC      string // lower case
	Target   string // <target dev=…>
	Managed  bool   // managed='no' was not given
	Model    string
	Driver   string // <driver name=…>: vhost, qemu; "": libvirt chooses
	Queues   int    // <driver queues=…>, 1 when not given
	MTU      int    // bytes, 0: not given
	LinkDown bool
	Alias    string
	Addr     string // PCI address 0000:05:00.0, "" when it has none
	Source   Source
}

// Source is an interface's <source>.
type Source struct {
	Dev     string // type='direct'
	Mode    string // type='direct': vepa, bridge, private, passthrough
	Bridge  string
	Network string
}

// NIC is what the metadata asks for an interface, which it names by its MAC.
type NIC struct {
	MAC     string
	ID      string
	Network string
	Mode    string
	IPs     string // the addresses that were asked for, with commas between; "": none
	Was     string // the <interface> that it was before Import, exactly; "": none
}

// Element is an interface of ours to be written.
type Element struct {
	NIC             // ID, Network, Mode and IPs go into the metadata
	Target   string // the device's name, which begins with vmnetd.IfnamePrefix
	Queues   int
	MTU      int    // bytes, 0: not given
	Addr     string // PCI address, "": libvirt chooses
	LinkDown bool
}
