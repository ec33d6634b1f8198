package hypervisor

// What domxml will do, as small as it can be: to be replaced by domxml.Parse,
// Element.XML and domxml.Metadata.

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

const lvNamespace = "https://vmnetd.org/xmlns/1"

type lvXMLInterface struct {
	Type string `xml:"type,attr"`
	MAC  struct {
		Address string `xml:"address,attr"`
	} `xml:"mac"`
	Target struct {
		Dev     string `xml:"dev,attr"`
		Managed string `xml:"managed,attr"`
	} `xml:"target"`
	Model struct {
		Type string `xml:"type,attr"`
	} `xml:"model"`
	Driver struct {
		Queues int `xml:"queues,attr"`
	} `xml:"driver"`
	MTU struct {
		Size int `xml:"size,attr"`
	} `xml:"mtu"`
	Link struct {
		State string `xml:"state,attr"`
	} `xml:"link"`
	Alias struct {
		Name string `xml:"name,attr"`
	} `xml:"alias"`
	Address struct {
		Type     string `xml:"type,attr"`
		Domain   string `xml:"domain,attr"`
		Bus      string `xml:"bus,attr"`
		Slot     string `xml:"slot,attr"`
		Function string `xml:"function,attr"`
	} `xml:"address"`
}

func parseDomain(text string) (domxml.Domain, error) {
	var x struct {
		ID   int    `xml:"id,attr"`
		Name string `xml:"name"`
		UUID string `xml:"uuid"`
		VCPU struct {
			Current int `xml:"current,attr"`
			Max     int `xml:",chardata"`
		} `xml:"vcpu"`
		NICs []struct {
			MAC     string `xml:"mac,attr"`
			ID      string `xml:"id,attr"`
			Network string `xml:"network,attr"`
			Mode    string `xml:"mode,attr"`
		} `xml:"metadata>nics>nic"`
		Labels []struct {
			Name  string `xml:"name,attr"`
			Value string `xml:"value,attr"`
		} `xml:"metadata>nics>label"`
		Interfaces []lvXMLInterface `xml:"devices>interface"`
	}
	if err := xml.Unmarshal([]byte(text), &x); err != nil {
		return domxml.Domain{}, fmt.Errorf("cannot read the domain's XML: %w", err)
	}
	d := domxml.Domain{Name: x.Name, UUID: x.UUID, ID: x.ID, VCPUs: x.VCPU.Current}
	if d.VCPUs == 0 {
		d.VCPUs = x.VCPU.Max
	}
	for _, n := range x.NICs {
		d.NICs = append(d.NICs, domxml.NIC{MAC: strings.ToLower(n.MAC), ID: n.ID, Network: n.Network, Mode: n.Mode})
	}
	for _, l := range x.Labels {
		if d.Labels == nil {
			d.Labels = map[string]string{}
		}
		d.Labels[l.Name] = l.Value
	}
	for _, i := range x.Interfaces {
		d.Interfaces = append(d.Interfaces, domxml.Interface{
			Type: i.Type, MAC: strings.ToLower(i.MAC.Address), Target: i.Target.Dev, Managed: i.Target.Managed != "no", Model: i.Model.Type,
			Queues: max(i.Driver.Queues, 1), MTU: i.MTU.Size, LinkDown: i.Link.State == "down", Alias: i.Alias.Name, Addr: i.addr(),
		})
	}
	return d, nil
}

func (i lvXMLInterface) addr() string {
	if i.Address.Type != "pci" {
		return ""
	}
	n := func(s string) int64 { v, _ := strconv.ParseInt(s, 0, 32); return v }
	return fmt.Sprintf("%04x:%02x:%02x.%x", n(i.Address.Domain), n(i.Address.Bus), n(i.Address.Slot), n(i.Address.Function))
}

// interfaceXML is the element of an interface of ours.
func interfaceXML(e domxml.Element) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<interface type='ethernet'><mac address='%s'/><target dev='%s' managed='no'/><model type='virtio'/>", e.MAC, e.Target)
	if e.Queues > 1 {
		fmt.Fprintf(&b, "<driver name='vhost' queues='%d'/>", e.Queues)
	}
	if e.MTU > 0 {
		fmt.Fprintf(&b, "<mtu size='%d'/>", e.MTU)
	}
	if e.LinkDown {
		b.WriteString("<link state='down'/>")
	}
	if e.Addr != "" {
		var d, bus, slot, f int
		_, _ = fmt.Sscanf(e.Addr, "%x:%x:%x.%x", &d, &bus, &slot, &f)
		fmt.Fprintf(&b, "<address type='pci' domain='0x%04x' bus='0x%02x' slot='0x%02x' function='0x%x'/>", d, bus, slot, f)
	}
	b.WriteString("</interface>")
	return b.String()
}

// metadataXML is the metadata element, "" when nothing is in it.
func metadataXML(nics []domxml.NIC, labels map[string]string) string {
	if len(nics) == 0 && len(labels) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("<nics>")
	attr := func(name, value string) {
		if value != "" {
			b.WriteString(" " + name + "='")
			_ = xml.EscapeText(&b, []byte(value))
			b.WriteString("'")
		}
	}
	for _, n := range nics {
		b.WriteString("<nic")
		attr("mac", n.MAC)
		attr("id", n.ID)
		attr("network", n.Network)
		attr("mode", n.Mode)
		b.WriteString("/>")
	}
	keys := make([]string, 0, len(labels))
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		b.WriteString("<label")
		attr("name", k)
		attr("value", labels[k])
		b.WriteString("/>")
	}
	b.WriteString("</nics>")
	return b.String()
}
