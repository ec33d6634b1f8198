package hypervisor

import (
	"context"
	"net"

	"github.com/vmnetd/vmnetd"
)

// rxFilter is an answer of query-rx-filter (QEMU qapi/net.json, RxFilterInfo).
type rxFilter struct {
	MainMAC     string   `json:"main-mac"`
	Promiscuous bool     `json:"promiscuous"`
	Multicast   string   `json:"multicast"` // none, normal, all
	Overflow    bool     `json:"multicast-overflow"`
	Table       []string `json:"multicast-table"`
}

// rxFilter asks what a guest's driver wants a device to receive. QEMU tells of
// the next change (NIC_RX_FILTER_CHANGED) only after that (hw/net/virtio-net.c,
// rxfilter_notify).
func (e *engine) rxFilter(ctx context.Context, nic, device string) (RxFilter, error) {
	var answers []rxFilter
	err := e.Do(ctx, "query-rx-filter", map[string]string{"name": device}, &answers)
	var refused *Error
	if asError(err, &refused) { // GenericError: invalid net client name
		if plugged, err := e.hasDevice(ctx, device); err == nil && !plugged {
			return RxFilter{}, e.noNIC(nic)
		}
	}
	if err != nil {
		return RxFilter{}, err
	}
	if len(answers) != 1 {
		return RxFilter{}, vmnetd.Errorf(vmnetd.ErrFailed, "QEMU of VM %s described %d filters of NIC %s", vmnetd.Printable(e.vm), len(answers), nic)
	}
	return answers[0].read(nic)
}

func (f rxFilter) read(nic string) (RxFilter, error) {
	mac, err := net.ParseMAC(f.MainMAC)
	if err != nil || len(mac) != 6 {
		return RxFilter{}, vmnetd.Errorf(vmnetd.ErrFailed, "QEMU says that NIC %s has the MAC %q", nic, f.MainMAC)
	}
	out := RxFilter{MAC: mac, AllMulti: f.Overflow || f.Promiscuous || f.Multicast == "all"}
	if f.Multicast == "none" {
		return out, nil
	}
	for _, text := range f.Table {
		group, err := net.ParseMAC(text)
		if err == nil && len(group) == 6 && group[0]&1 == 1 {
			out.Multicast = append(out.Multicast, group)
		}
	}
	return out, nil
}
