package agent

import (
	"context"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/hypervisor"
	"github.com/vmnetd/vmnetd/hypervisor/domxml"
	"github.com/vmnetd/vmnetd/policy"
)

// DomainXML implements API.
func (a *Agent) DomainXML(ctx context.Context, who Caller, req vmnetd.Request) (string, error) {
	req.Via = viaLibvirt
	if err := a.check(who, req); err != nil {
		return "", err
	}
	vm, _ := a.lookUp(ctx, req)
	vm.Name, vm.Via = req.VM, viaLibvirt
	var taken []string
	if kept, err := a.keptNICs(ctx, vm); err == nil { // who defines it may not have yet
		taken = ids(kept)
	}
	d, err := a.decide(ctx, req, vm, taken...)
	if err != nil {
		return "", err
	}
	r := a.fromDecision(d, req, vm)
	if err := hypervisor.CheckNamedPlace(req.Bus, req.Addr); err != nil {
		return "", err
	}
	e := r.element()
	if isNamedBy(e, req.VM) && a.isUnasked(ctx, d, req, vm, taken) {
		return e.XML(), nil
	}
	return e.XML() + forMetadata(e.NIC), nil
}

// isUnasked says that policy gives the NIC the same network, mode and addresses when
// nothing asks for them.
func (a *Agent) isUnasked(ctx context.Context, d policy.Decision, req vmnetd.Request, vm hypervisor.VM, taken []string) bool {
	if len(req.IPs) > 0 {
		return false
	}
	plain, err := a.decide(ctx, vmnetd.Request{VM: req.VM, ID: d.ID, MAC: d.MAC, Queues: d.Queues}, vm, taken...)
	return err == nil && plain.Network == d.Network && plain.Mode == d.Mode
}

// isNamedBy says that the interface alone gives the NIC its id.
func isNamedBy(e domxml.Element, vm string) bool {
	alone := domxml.Interface{MAC: e.MAC, Target: e.Target}
	return domxml.Domain{Name: vm}.NICOf(alone).ID == e.ID
}

// forMetadata is a comment after the element: two elements would be no document,
// which virsh attach-device wants.
func forMetadata(nic domxml.NIC) string {
	text := strings.ReplaceAll(domxml.MetadataText([]domxml.NIC{nic}), "--", "-&#45;") // a comment has no "--"
	return "\n<!-- and, since the interface alone does not say it all, inside the domain's <metadata>:\n" + text + "\n-->"
}
