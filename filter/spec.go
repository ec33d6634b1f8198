package filter

import (
	"net"
	"net/netip"

	"github.com/vmnetd/vmnetd"
)

// Spec is what one device's guest may do.
type Spec struct {
	Ifname string `json:"ifname"`
	Hook   string `json:"hook"` // the one that sees what the guest sends: Ingress or Egress

	// Spoof: frames with another source than these are dropped: the MAC always; the
	// sender of ARP, the source of IPv4, of IPv6 and what ND says where addresses
	// are known. So are BPDUs, LACPDUs and whatever else is for switches alone (IEEE
	// 802.1Q tables 8-1 and 10-1), frames of LLC, and VLAN tags beyond Trunk.
	Spoof bool               `json:"spoof,omitempty"`
	MACs  []net.HardwareAddr `json:"macs,omitempty"`
	IPs   []netip.Prefix     `json:"ips,omitempty"`
	Pin4  bool               `json:"pin4,omitempty"`  // IPv4 sources are IPs alone; without, the addresses are not known
	Pin6  bool               `json:"pin6,omitempty"`  // IPv6 sources are IPs and the link-local addresses of MACs alone
	Learn bool               `json:"learn,omitempty"` // with Pin6: any address may be probed for (RFC 4862, 5.4): that is how it is heard of
	Trunk []vmnetd.VLANRange `json:"trunk,omitempty"` // VLANs that may be sent tagged (802.1Q); at Ingress alone, where the kernel sees through a tag

	// Without Spoof, a frame of LLC or one with two tags hides from these two, and at
	// Egress one with a tag: what takes them apart is told by Spoof alone.
	DHCPServer bool     `json:"dhcp_server,omitempty"` // answers of DHCP and DHCPv6 servers are dropped
	RA         bool     `json:"ra,omitempty"`          // what routers say is dropped: router advertisements, redirects, and for multicast queries of IGMP and MLD, advertisements, PIM
	Ethertypes []uint16 `json:"ethertypes,omitempty"`  // only these may be sent; nil: all
	Broadcast  int      `json:"broadcast,omitempty"`   // packets/s; 0: no limit
	Multicast  int      `json:"multicast,omitempty"`   // packets/s; 0: no limit

	In  Rate `json:"in,omitzero"`  // to the guest
	Out Rate `json:"out,omitzero"` // from the guest
}

// Rate is a rate with the burst that may exceed it.
type Rate struct {
	Bits  uint64 `json:"bits"`  // bit/s; 0: no limit
	Burst uint32 `json:"burst"` // bytes; 0: chosen by the rate
}

// Filtered says that anything is kept from being sent.
func (s Spec) Filtered() bool {
	return s.Spoof || s.DHCPServer || s.RA || s.Ethertypes != nil || s.Broadcast != 0 || s.Multicast != 0
}

func (s Spec) check() error {
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{s.Ifname == "" || len(s.Ifname) > vmnetd.MaxIfname, "that is no name of a device"},
		{hooks[s.Hook] == nil, "frames are filtered at ingress or egress alone"},
		{s.Spoof && len(s.MACs) == 0, "nothing could be sent without a MAC"},
		{s.Broadcast < 0 || s.Multicast < 0, "a limit of packets is not negative"},
		{len(s.Trunk) > 0 && s.Hook != Ingress, "tagged frames can be told apart at ingress alone"},
	} {
		if c.bad {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "the filter of %s cannot be made: %s", vmnetd.Printable(s.Ifname), c.text)
		}
	}
	return s.checkValues()
}

func (s Spec) checkValues() error {
	for _, m := range s.MACs {
		if len(m) != 6 {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "the filter of %s cannot be made: %v is no MAC of Ethernet", s.Ifname, m)
		}
	}
	for _, p := range s.IPs {
		if !p.IsValid() {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "the filter of %s cannot be made: an address is not valid", s.Ifname)
		}
	}
	for _, v := range s.Trunk {
		if v.From < 1 || v.From > v.To || v.To > 4094 {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "the filter of %s cannot be made: there are no VLANs %d to %d", s.Ifname, v.From, v.To)
		}
	}
	return nil
}
