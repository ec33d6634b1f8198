package agent

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"sync"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/atomicfile"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// hostLinks is the links that this host is to have, kept over reboots in a file.
type hostLinks struct {
	changing sync.Mutex // one change at a time
	path     string
	bell     chan struct{}

	mu   sync.Mutex
	want map[string]wantedHostLink // by network
	is   map[string]vmnetd.HostLink
	rest map[string]bool // networks whose link failed, and is tried again by a timer alone
}

type wantedHostLink struct {
	Network string         `json:"network"`
	Uplink  string         `json:"uplink"`
	VLAN    int            `json:"vlan,omitempty"`
	IPs     []netip.Prefix `json:"ips"`

	// What it was when it was last made. After a reboot it is there before any guest,
	// and the guests that come have to fit beside it.
	Mode vmnetd.Mode `json:"mode,omitempty"`
	Flag string      `json:"flag,omitempty"`
}

func (w wantedHostLink) same(o wantedHostLink) bool { return reflect.DeepEqual(w, o) }

// load reads what is kept.
func (h *hostLinks) load() error {
	b, err := os.ReadFile(h.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var list []wantedHostLink
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "the host links in %s cannot be read: %w", h.path, err).WithNext("remove that file, and make them again: vmnetd host-link NETWORK --ip ADDRESS/LENGTH")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range list {
		h.want[w.Network] = w
	}
	return nil
}

func (h *hostLinks) get(network string) (wantedHostLink, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w, ok := h.want[network]
	return w, ok
}

// all is what is wanted, by network.
func (h *hostLinks) all() []wantedHostLink {
	h.mu.Lock()
	defer h.mu.Unlock()
	return sortedLinks(h.want)
}

func sortedLinks(want map[string]wantedHostLink) []wantedHostLink {
	list := []wantedHostLink{} // [] in the file, not null
	for _, name := range slices.Sorted(maps.Keys(want)) {
		list = append(list, want[name])
	}
	return list
}

func (h *hostLinks) put(w wantedHostLink) error {
	return h.change(func(want map[string]wantedHostLink) { want[w.Network] = w })
}

func (h *hostLinks) drop(network string) error {
	return h.change(func(want map[string]wantedHostLink) { delete(want, network) })
}

// change writes down what it makes of what is wanted; when that fails, nothing is
// changed. Whoever calls it holds changing: mu is not held while the disk is waited
// for.
func (h *hostLinks) change(how func(want map[string]wantedHostLink)) error {
	h.mu.Lock()
	want := maps.Clone(h.want)
	h.mu.Unlock()
	how(want)
	b, err := json.Marshal(sortedLinks(want))
	if err == nil {
		err = atomicfile.Write(h.path, b)
	}
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot write down the host links in %s: %w", h.path, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.want = want
	maps.DeleteFunc(h.is, func(network string, _ vmnetd.HostLink) bool { _, wanted := want[network]; return !wanted })
	return nil
}

func (h *hostLinks) note(network string, l vmnetd.HostLink) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.is[network] = l
}

// trouble notes why a link is not as it is wanted.
func (h *hostLinks) trouble(w wantedHostLink, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := shownWanted(w)
	l.Problem = why.Error()
	h.is[w.Network] = l
}

func shownWanted(w wantedHostLink) vmnetd.HostLink {
	l := vmnetd.HostLink{Network: w.Network, Uplink: w.Uplink, VLAN: w.VLAN, IPs: []string{}, Guests: []string{}}
	for _, p := range w.IPs {
		l.IPs = append(l.IPs, p.String())
	}
	return l
}

func (h *hostLinks) shown() []vmnetd.HostLink {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []vmnetd.HostLink{}
	for _, w := range sortedLinks(h.want) {
		l, ok := h.is[w.Network]
		if !ok {
			l = shownWanted(w)
		}
		list = append(list, l)
	}
	return list
}

// setRest has a network's link left alone, or looked at again.
func (h *hostLinks) setRest(network string, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if on {
		h.rest[network] = true
	} else {
		delete(h.rest, network)
	}
}

func (h *hostLinks) rests(network string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rest[network]
}

func (h *hostLinks) ring() {
	select {
	case h.bell <- struct{}{}:
	default:
	}
}

// touchedBy says whether an address of the host's is in a prefix of a link's, or
// connects the host to one.
func (h *hostLinks) touchedBy(a rtnl.Addr) bool {
	return slices.ContainsFunc(h.all(), func(w wantedHostLink) bool {
		return slices.ContainsFunc(w.IPs, a.Prefix.Overlaps) || slices.ContainsFunc(w.IPs, a.Peer.Overlaps)
	})
}

// uses says whether a link stands on a VLAN of an uplink.
func (h *hostLinks) uses(uplink string, vlan int) bool {
	return slices.ContainsFunc(h.all(), func(w wantedHostLink) bool { return w.Uplink == uplink && w.VLAN == vlan })
}
