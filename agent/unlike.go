package agent

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
)

// A request for a NIC that is there is answered by it only where it asks for nothing
// else.

func thereOtherwise(r record, how string) error {
	return vmnetd.Errorf(vmnetd.ErrBusy, "%s is there with other properties: %s", r.FullName(), how).
		WithNext(fmt.Sprintf("vmnetd detach %s --id %s, or take another --id", r.VM, r.ID))
}

// unlike names what a request asks for and the attachment is not, "" if nothing.
func unlike(req vmnetd.Request, r record) string {
	var list []string
	differ := func(what, asked, is string) {
		if asked != "" && asked != is {
			list = append(list, fmt.Sprintf("%s %s, not %s", what, is, asked))
		}
	}
	differ("network", req.Network, r.Network)
	differ("uplink", req.Uplink, r.Uplink)
	differ("mode", string(req.Mode), string(r.Mode))
	mac := req.MAC
	if parsed, err := vmnetd.ParseMAC(mac); err == nil {
		mac = parsed.String()
	}
	differ("MAC", mac, r.MAC)
	if req.Queues != 0 && req.Queues != r.Queues {
		list = append(list, fmt.Sprintf("%d queues, not %d", r.Queues, req.Queues))
	}
	if strings.HasPrefix(req.Via, "qmp:") || strings.HasPrefix(req.Via, viaNetns) {
		differ("handed over", req.Via, r.Via)
	}
	handover := handoverName
	if r.Request.Handover == handoverFD {
		handover = handoverFD
	}
	differ("handover", req.Handover, handover)
	differ("name", req.Name, r.Name)
	differ("routes", inOrder(req.Routes), cmp.Or(inOrder(r.Routes), "none"))
	if given := withoutLearned(r.Attachment); len(req.IPs) > 0 && !sameIPs(req.IPs, given) {
		list = append(list, fmt.Sprintf("addresses %s, not %s", strings.Join(given, ", "), strings.Join(req.IPs, ", ")))
	}
	return strings.Join(list, "; ")
}

// elsewhere refuses a request for a NIC in another place of the VM than it has.
func (a *Agent) elsewhere(ctx context.Context, r record, vm hypervisor.VM, req vmnetd.Request) error {
	if inPlace(req, r.Request.Bus, r.Request.Addr) || inPlace(req, r.Bus, r.Addr) {
		return nil
	}
	r, err := a.placed(ctx, r, vm)
	if err != nil || inPlace(req, r.Bus, r.Addr) {
		return err
	}
	return thereOtherwise(r, fmt.Sprintf("place %s, not %s", placeText(r.Bus, r.Addr), placeText(req.Bus, req.Addr)))
}

func placeText(bus, addr string) string {
	return cmp.Or(strings.TrimSpace(bus+" "+addr), "still to be found")
}

func inPlace(req vmnetd.Request, bus, addr string) bool {
	return (req.Bus == "" || req.Bus == bus) && (req.Addr == "" || plainSlot(req.Addr) == plainSlot(addr))
}

// plainSlot is a slot the one way: 5, 05, 0x5 and 5.0 are the same one.
func plainSlot(addr string) string {
	slot := strings.TrimPrefix(strings.TrimSuffix(strings.ToLower(addr), ".0"), "0x")
	if slot == "" {
		return ""
	}
	return cmp.Or(strings.TrimLeft(slot, "0"), "0")
}

// withoutLearned is the addresses that an attachment was given.
func withoutLearned(att vmnetd.Attachment) []string {
	return slices.DeleteFunc(slices.Clone(att.IPs), func(ip string) bool { return slices.Contains(att.Learned, ip) })
}

// sameIPs compares addresses whatever their order and, where only one side has it,
// their length.
func sameIPs(asked, given []string) bool {
	plain := func(list []string) []string {
		var out []string
		for _, text := range list {
			ip, _, _ := strings.Cut(text, "/")
			if addr, err := netip.ParseAddr(ip); err == nil {
				ip = addr.String()
			}
			out = append(out, ip)
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(plain(asked), plain(given))
}

// inOrder is a list whose order means nothing, as a text.
func inOrder(list []string) string { return strings.Join(slices.Sorted(slices.Values(list)), ", ") }
