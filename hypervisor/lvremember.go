package hypervisor

import (
	"context"
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
)

// What a NIC was given stands in the metadata of the run as well: a VM that is
// saved or moved takes it along, and the hook that makes the device there reads it.
// Without, a NIC that was attached live would come back as policy alone decides.

// rememberBeside is remember while the caller goes on: it takes a tenth of an
// attach. Who enters the domain next waits for it.
func (l *Libvirt) rememberBeside(d lvDomain, nic NIC) {
	done := make(chan struct{})
	l.mu.Lock()
	l.unsure[d.uuid] = done
	l.mu.Unlock()
	go func() {
		defer l.sure(d.uuid, done)
		if err := l.remember(context.Background(), d, nic); err != nil {
			l.log.Warn("what a NIC was given is not in the VM's metadata: saved or moved, the VM gets what policy gives then", "vm", vmnetd.Printable(d.name), "id", nic.ID, "error", err)
		}
	}()
}

// sure ends a change that nobody waits for.
func (l *Libvirt) sure(uuid lvUUID, done chan struct{}) {
	l.mu.Lock()
	if l.unsure[uuid] == done {
		delete(l.unsure, uuid)
	}
	l.mu.Unlock()
	close(done)
}

// remember writes down what a NIC was given, as far as that is known.
func (l *Libvirt) remember(ctx context.Context, d lvDomain, nic NIC) error {
	if nic.Network == "" {
		return nil
	}
	return l.note(ctx, d, func(x *domxml.Domain) []domxml.NIC { return x.WithNIC(nicElement(nic).NIC) })
}

// forget takes a NIC that has gone out of the metadata; what is left there by
// mistake does no harm.
func (l *Libvirt) forget(ctx context.Context, d lvDomain, nic NIC) {
	err := l.note(ctx, d, func(x *domxml.Domain) []domxml.NIC {
		mac := nic.MAC.String()
		if slices.ContainsFunc(x.NICs, func(n domxml.NIC) bool { return n.MAC == mac && n.ID != "" && n.ID != nic.ID }) {
			return x.NICs // another one has its MAC
		}
		return x.WithoutNIC(mac)
	})
	if err != nil {
		l.log.Warn("the VM's metadata still names a NIC that has gone", "vm", vmnetd.Printable(d.name), "id", nic.ID, "error", err)
	}
}

// note changes the metadata of a run, from what the mirror has of it, and the
// mirror before its event comes.
func (l *Libvirt) note(ctx context.Context, d lvDomain, change func(*domxml.Domain) []domxml.NIC) error {
	x, ok := l.xmlOf(d)
	if !ok {
		return nil // that run has ended
	}
	nics := change(x)
	if slices.Equal(x.NICs, nics) {
		return nil
	}
	if err := l.setMetadata(ctx, d, Definition{Domain: *x}, nics, libvirt.DomainAffectLive); err != nil {
		return err
	}
	l.noted(d, nics)
	return nil
}

func (l *Libvirt) xmlOf(of lvDomain) (*domxml.Domain, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.domains[of.uuid]
	if d == nil || d.id != of.id || d.xml == nil {
		return nil, false
	}
	return d.xml, true
}

func (l *Libvirt) noted(of lvDomain, nics []domxml.NIC) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.domains[of.uuid]
	if d == nil || d.id != of.id || d.xml == nil {
		return
	}
	d.heard++ // what was asked before is old by now
	now := *d.xml
	now.NICs = nics
	d.xml = &now
}
