package agent

import (
	"context"

	"github.com/vmnetd/vmnetd"
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
	return a.fromDecision(d, req, vm).element().XML(), nil
}
