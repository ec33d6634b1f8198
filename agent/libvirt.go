package agent

import (
	"context"

	"github.com/vmnetd/vmnetd"
)

// DomainHook implements API.
func (a *Agent) DomainHook(context.Context, Caller, string, string, string, string) error {
	return vmnetd.Errorf(vmnetd.ErrUnsupported, "not yet")
}

// DomainXML implements API.
func (a *Agent) DomainXML(context.Context, Caller, vmnetd.Request) (string, error) {
	return "", vmnetd.Errorf(vmnetd.ErrUnsupported, "not yet")
}

// Import implements API.
func (a *Agent) Import(context.Context, Caller, string, vmnetd.ImportOptions) (vmnetd.Import, error) {
	return vmnetd.Import{}, vmnetd.Errorf(vmnetd.ErrUnsupported, "not yet")
}
