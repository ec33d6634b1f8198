package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hostlink"
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/uplink"
)

// HostLinks implements API.
func (a *Agent) HostLinks() []vmnetd.HostLink { return a.links.shown() }

// HostLink implements API. What is wanted is written down before anything is made,
// and after everything is removed.
func (a *Agent) HostLink(ctx context.Context, _ Caller, req vmnetd.HostLinkRequest) (vmnetd.HostLink, error) {
	a.links.changing.Lock()
	defer a.links.changing.Unlock()
	if ctx.Err() != nil {
		return vmnetd.HostLink{}, vmnetd.Errorf(vmnetd.ErrBusy, "other changes of host links took too long").WithNext("try again")
	}
	n, err := a.networkOf(req.Network)
	if req.Remove {
		return a.dropHostLink(ctx, req.Network, err)
	}
	if err != nil {
		return vmnetd.HostLink{}, err
	}
	was, there := a.links.get(n.Name)
	want, err := a.wantedLink(ctx, n, req, was)
	if err != nil {
		return vmnetd.HostLink{}, err
	}
	if err := a.links.put(want); err != nil {
		return vmnetd.HostLink{}, err
	}
	made, err := a.ensureHostLink(ctx, want)
	if err != nil {
		return vmnetd.HostLink{}, a.giveUpHostLink(ctx, was, there, want, err)
	}
	made.Changed = !there || !was.same(want)
	if there && (was.Uplink != want.Uplink || was.VLAN != want.VLAN) {
		a.releaseLinkVLAN(ctx, was)
	}
	if made.Changed {
		a.event(vmnetd.Event{Event: "host-link", Uplink: made.Uplink, Text: fmt.Sprintf("this host has %s on %s for network %s: %s", strings.Join(made.IPs, ", "), made.Uplink, n.Name, made.Ifname)})
	}
	return made, nil
}

// linkUndoTime bounds what is taken back after the caller's time is up.
const linkUndoTime = 15 * time.Second

// giveUpHostLink brings things back to what they were before a link could not be
// had as asked for.
func (a *Agent) giveUpHostLink(ctx context.Context, was wantedHostLink, there bool, want wantedHostLink, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), linkUndoTime)
	defer cancel()
	if err := a.undoHostLink(ctx, was, there, want); err != nil {
		a.o.Log.Error("undo of a host link that failed", "network", want.Network, "err", err)
	}
	if !there || was.Uplink != want.Uplink || was.VLAN != want.VLAN {
		a.releaseLinkVLAN(ctx, want)
	}
	return why
}

func (a *Agent) undoHostLink(ctx context.Context, was wantedHostLink, there bool, want wantedHostLink) error {
	if there {
		defer a.lookAtHostLinks()
		return a.links.put(was)
	}
	return errors.Join(a.o.HostLinks.Remove(ctx, want.Network), a.links.drop(want.Network))
}

func (a *Agent) dropHostLink(ctx context.Context, network string, unknown error) (vmnetd.HostLink, error) {
	was, there := a.links.get(network)
	if !there && unknown != nil {
		return vmnetd.HostLink{}, unknown
	}
	if err := a.o.HostLinks.Remove(ctx, network); err != nil {
		return vmnetd.HostLink{}, err
	}
	if err := a.links.drop(network); err != nil {
		return vmnetd.HostLink{}, err
	}
	a.hostLinkSettled(network)
	if there {
		a.releaseLinkVLAN(ctx, was)
		a.event(vmnetd.Event{Event: "host-link-removed", Uplink: was.Uplink, Text: fmt.Sprintf("this host has left network %s", network)})
	}
	return vmnetd.HostLink{Network: network, Uplink: was.Uplink, IPs: []string{}, Guests: []string{}, Changed: there}, nil
}

func (a *Agent) networkOf(name string) (policy.Network, error) {
	var names []string
	for _, n := range a.config().Policy.Networks {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	return policy.Network{}, vmnetd.Errorf(vmnetd.ErrNotFound, "there is no network %q", name).WithNext("networks are " + cmp.Or(strings.Join(names, ", "), "none: declare one"))
}

// wantedLink is what a request makes of the link that is there, or of none.
func (a *Agent) wantedLink(ctx context.Context, n policy.Network, req vmnetd.HostLinkRequest, was wantedHostLink) (wantedHostLink, error) {
	want := wantedHostLink{Network: n.Name, Uplink: cmp.Or(req.Uplink, was.Uplink), VLAN: n.VLAN, IPs: was.IPs, Mode: was.Mode, Flag: was.Flag}
	if len(req.IPs) > 0 {
		want.IPs = nil
	}
	for _, text := range req.IPs {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return want, vmnetd.Errorf(vmnetd.ErrInvalid, "%q is no address with a length", text).WithNext("write it as 192.0.2.18/24")
		}
		want.IPs = append(want.IPs, p)
	}
	if len(want.IPs) == 0 {
		return want, vmnetd.Errorf(vmnetd.ErrInvalid, "a host link needs an address of its own").WithNext("vmnetd host-link " + n.Name + " --ip ADDRESS/LENGTH")
	}
	if want.Uplink != "" && !slices.Contains(n.Uplinks, want.Uplink) {
		return want, vmnetd.Errorf(vmnetd.ErrInvalid, "uplink %s is none of network %s's: %s", want.Uplink, n.Name, strings.Join(n.Uplinks, ", "))
	}
	if want.Uplink == "" {
		var err error
		if want.Uplink, err = a.uplinkFor(ctx, n); err != nil {
			return want, err
		}
	}
	for _, p := range want.IPs {
		if who := a.store.holderOf(p.Addr(), want.Uplink, want.VLAN, key{}); who != "" {
			return want, vmnetd.Errorf(vmnetd.ErrBusy, "the address %s is %s's", p.Addr(), who).WithNext("give this host another one")
		}
	}
	return want, nil
}

// uplinkFor is where guests of a network stand, or would: the first that is here
// and has carrier, or else is here.
func (a *Agent) uplinkFor(ctx context.Context, n policy.Network) (string, error) {
	second := ""
	for _, name := range n.Uplinks {
		spec, declared := a.specOf(name)
		if !declared {
			continue
		}
		state, err := a.o.Uplinks.State(ctx, spec)
		switch {
		case err != nil:
			return "", err
		case state.Present && state.Link.Carrier:
			return name, nil
		case state.Present && second == "":
			second = name
		}
	}
	if second == "" {
		return "", vmnetd.Errorf(vmnetd.ErrNotFound, "network %s is not on this host: none of %s is here", n.Name, strings.Join(n.Uplinks, ", ")).WithNext("vmnetd uplink list")
	}
	return second, nil
}

// ensureHostLink makes the link, or brings it to what is wanted.
func (a *Agent) ensureHostLink(ctx context.Context, want wantedHostLink) (vmnetd.HostLink, error) {
	spec, declared := a.specOf(want.Uplink)
	if !declared {
		return vmnetd.HostLink{}, vmnetd.Errorf(vmnetd.ErrNotFound, "uplink %s is not declared any more", want.Uplink).WithNext("vmnetd host-link " + want.Network + " --remove")
	}
	state, err := a.o.Uplinks.State(ctx, spec)
	if err != nil {
		return vmnetd.HostLink{}, err
	}
	if !state.Present {
		return vmnetd.HostLink{}, vmnetd.Errorf(vmnetd.ErrBusy, "uplink %s is not there", want.Uplink).WithNext("vmnetd uplink show " + want.Uplink)
	}
	ls, err := a.linkSpec(ctx, want, state)
	if err != nil {
		return vmnetd.HostLink{}, err
	}
	made, err := a.o.HostLinks.Ensure(ctx, ls)
	if err != nil {
		return vmnetd.HostLink{}, err
	}
	if want.Mode != ls.Mode || want.Flag != ls.Flag {
		want.Mode, want.Flag = ls.Mode, ls.Flag
		if err := a.links.put(want); err != nil {
			return vmnetd.HostLink{}, err
		}
	}
	a.hostLinkSettled(want.Network)
	shown := shownLink(want, made, slices.Concat(ls.Guests, ls.Claimed))
	a.links.note(want.Network, shown)
	return shown, nil
}

func shownLink(want wantedHostLink, made hostlink.Link, guests []netip.Addr) vmnetd.HostLink {
	l := shownWanted(want)
	l.Ifname, l.Kind, l.Mode, l.MAC = made.Ifname, made.Kind, made.Mode, made.MAC.String()
	for _, g := range guests {
		l.Guests = append(l.Guests, g.String())
	}
	return l
}

// linkSpec is the link of the family that stands on the uplink, or else of what it
// was before, or of the network's first mode.
func (a *Agent) linkSpec(ctx context.Context, want wantedHostLink, state uplink.State) (hostlink.Spec, error) {
	like := a.companion(want, state)
	info := like.Mode.Info()
	if info.HostSees {
		return hostlink.Spec{}, vmnetd.Errorf(vmnetd.ErrInvalid, "guests on bridge %s reach this host without a link", want.Uplink).
			WithNext(fmt.Sprintf("give the bridge an address: ip address add %s dev %s", want.IPs[0], state.Link.Name))
	}
	s := hostlink.Spec{Network: want.Network, Kind: info.Endpoint, Mode: like.Mode, IPs: want.IPs}
	s.Guests, s.Claimed = a.guestsOf(want)
	if info.SharesMAC {
		s.Flag = cmp.Or(like.Flag, policy.FlagBridge)
	} else {
		if err := a.roomForMAC(want, state); err != nil {
			return hostlink.Spec{}, err
		}
		s.Mode, s.MAC = vmnetd.Bridge, vmnetd.DeriveMAC(a.o.Machine, "host-link "+want.Network)
	}
	lower, err := a.onVLAN(ctx, state.Link, want.VLAN)
	s.Lower = lower.Index
	return s, err
}

// roomForMAC refuses a macvlan whose MAC would be one too many for the switch port,
// which may then shut out every guest.
func (a *Agent) roomForMAC(want wantedHostLink, state uplink.State) error {
	cfg := a.config()
	limit := cfg.Policy.Limits[want.Uplink].MaxMACs
	if limit == 0 {
		return nil
	}
	facts := a.uplinkFacts(want.Uplink, state)
	users := slices.Clone(facts.Users)
	for _, v := range facts.VLANs {
		users = append(users, v.Users...)
	}
	macs := map[string]bool{facts.MAC: true}
	for _, u := range users {
		if u.Owner == policy.HostLinkOwner+want.Network {
			return nil // it has its MAC already
		}
		macs[u.MAC] = true
	}
	if len(macs) < limit {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrBusy, "the switch port of %s takes %d MACs (limits: {macs: %d}), and %d are used: a link with another one could shut out every guest", want.Uplink, limit, limit, len(macs)).
		WithNext("offer the network by l2, whose links share the uplink's MAC")
}

// companion is the guest whose family the link has to have: one that stands on the
// same lower device, or did when the link was last made, or the one that the network
// would take first.
func (a *Agent) companion(want wantedHostLink, state uplink.State) policy.User {
	facts := a.uplinkFacts(want.Uplink, state)
	users := facts.Users
	if want.VLAN != 0 {
		users = facts.VLANs[want.VLAN].Users
	}
	for _, u := range users {
		if u.Owner != "" {
			return u
		}
	}
	cfg := a.config()
	oneMAC := facts.Wireless || cfg.Policy.Limits[want.Uplink].MaxMACs == 1
	first := firstOffered(cfg.Policy, want.Network, facts, oneMAC)
	switch {
	case want.Mode == "", first.Mode.Info().HostSees, oneMAC && !want.Mode.Info().SharesMAC, !offersLike(cfg.Policy, want):
		return first
	}
	return policy.User{Mode: want.Mode, Flag: want.Flag}
}

// offersLike says whether the network still gives guests modes of the family that the
// link was of, by itself or by a rule.
func offersLike(set policy.Set, want wantedHostLink) bool {
	like := func(modes []vmnetd.Mode) bool {
		return slices.ContainsFunc(modes, func(m vmnetd.Mode) bool { return m == vmnetd.Auto || m.Info().Family == want.Mode.Info().Family })
	}
	for _, n := range set.Networks {
		if n.Name == want.Network && like(modesIn(set, n)) {
			return true
		}
	}
	return slices.ContainsFunc(set.Rules, func(r policy.Rule) bool {
		return like(r.Grant.Modes) && (len(r.Networks) == 0 || slices.Contains(r.Networks, want.Network))
	})
}

// modesIn is the modes of a network where no rule says otherwise.
func modesIn(set policy.Set, n policy.Network) []vmnetd.Mode {
	switch {
	case len(n.Grant.Modes) > 0:
		return n.Grant.Modes
	case len(set.Defaults.Modes) > 0:
		return set.Defaults.Modes
	}
	return []vmnetd.Mode{vmnetd.Bridge}
}

// firstOffered is the guest that a network would take first.
func firstOffered(set policy.Set, network string, facts policy.Uplink, oneMAC bool) policy.User {
	for _, n := range set.Networks {
		if n.Name != network {
			continue
		}
		flag := cmp.Or(n.Grant.Flag, set.Defaults.Flag)
		if first := modesIn(set, n)[0]; first != vmnetd.Auto {
			return policy.User{Mode: first, Flag: flag}
		}
		switch {
		case vmnetd.FamilyOf(facts.Kind) == vmnetd.FamilyBridge:
			return policy.User{Mode: vmnetd.AutoOnBridge[0]}
		case oneMAC || facts.PromiscAt > 0:
			return policy.User{Mode: vmnetd.L2, Flag: flag}
		}
	}
	return policy.User{Mode: vmnetd.Bridge}
}

// guestsOf is the addresses of a network's guests: those that they were given, and
// those that they were heard to use.
func (a *Agent) guestsOf(want wantedHostLink) (given, claimed []netip.Addr) {
	for _, r := range a.store.on(want.Uplink) {
		if r.Network != want.Network || r.Phase == vmnetd.Detaching {
			continue
		}
		for _, p := range r.Terms.IPs {
			given = append(given, p.Addr())
		}
		for _, h := range r.Heard {
			if !h.IP.IsLinkLocalUnicast() {
				claimed = append(claimed, h.IP)
			}
		}
	}
	slices.SortFunc(given, netip.Addr.Compare)
	slices.SortFunc(claimed, netip.Addr.Compare)
	return given, claimed
}

// releaseLinkVLAN removes the VLAN device that a link stood on, if nobody else
// wants it.
func (a *Agent) releaseLinkVLAN(ctx context.Context, was wantedHostLink) {
	if err := a.releaseVLAN(ctx, was.Uplink, was.VLAN, key{}); err != nil {
		a.o.Log.Warn("cannot remove a VLAN device that nobody uses", "uplink", was.Uplink, "vlan", was.VLAN, "err", err)
	}
}

// followHostLinks keeps the links as they are wanted while uplinks come and go and
// guests' addresses change.
func (a *Agent) followHostLinks(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.links.bell:
			a.ensureHostLinks(ctx)
		}
	}
}

// addressChanged hears of every address that the host gets or loses: by them it is
// decided which traffic goes by a link. Those of the links are given by ourselves.
// It must not block.
func (a *Agent) addressChanged(ifindex int, addr rtnl.Addr) {
	on, _ := a.o.Links.ByIndex(ifindex)
	if !hostlink.IsOurs(on) && a.links.touchedBy(addr) {
		a.lookAtHostLinks()
	}
}

func (a *Agent) lookAtHostLinks() { a.links.ring() }

// linkGuestsChanged has the link to a NIC's network reach its addresses too.
func (a *Agent) linkGuestsChanged(r record) {
	if _, there := a.links.get(r.Network); there {
		a.lookAtHostLinks()
	}
}

func (a *Agent) ensureHostLinks(ctx context.Context) {
	a.links.changing.Lock()
	defer a.links.changing.Unlock()
	for _, want := range a.links.all() {
		if a.links.rests(want.Network) {
			continue
		}
		if _, err := a.ensureHostLink(ctx, want); err != nil {
			a.links.trouble(want, err)
			a.o.Log.Warn("host link", "network", want.Network, "err", err)
			a.hostLinkLater(want)
		}
	}
}

// hostLinkLater has a link that failed tried again by a timer alone: a device that
// is made and taken back is news of the uplink under it (net/core/dev.c,
// __netdev_upper_dev_link), which would have it tried again at once and for ever. An
// uplink that is not there needs no timer: it is looked at when it comes.
func (a *Agent) hostLinkLater(want wantedHostLink) {
	if a.uplinkIndexes()[want.Uplink] == 0 {
		return
	}
	a.links.setRest(want.Network, true)
	a.retries.later(linkKey(want.Network), func() {
		a.links.setRest(want.Network, false)
		a.lookAtHostLinks()
	})
}

// hostLinkSettled: it is well, or wanted no more.
func (a *Agent) hostLinkSettled(network string) {
	a.retries.done(linkKey(network))
	a.links.setRest(network, false)
}

// linkKey is that of a host link among what is tried again: of no VM.
func linkKey(network string) key { return key{id: policy.HostLinkOwner + network} }
