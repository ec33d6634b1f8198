package agent

import (
	"context"

	"github.com/vmnetd/vmnetd"
)

// Counters implements API.
func (a *Agent) Counters(ctx context.Context, vm, id string) ([]vmnetd.Counter, error) {
	return nil, errNotBuilt
}

// HostLink implements API.
func (a *Agent) HostLink(ctx context.Context, who Caller, req vmnetd.HostLinkRequest) (vmnetd.HostLink, error) {
	return vmnetd.HostLink{}, errNotBuilt
}

// HostLinks implements API.
func (a *Agent) HostLinks() []vmnetd.HostLink { return nil }

var errNotBuilt = vmnetd.Errorf(vmnetd.ErrUnsupported, "agent: not built yet")
