package dbusapi

import (
	"context"
	"reflect"

	"github.com/vmnetd/vmnetd"
)

// hostLinkMethods are the methods about this host's own links to networks.
func hostLinkMethods() map[string]map[string]method {
	return map[string]map[string]method{managerIface: {
		"HostLink":  {in: "sa{sv}", action: ActionManageUplinks, run: hostLink},
		"HostLinks": {run: hostLinks},
	}}
}

func hostLink(ctx context.Context, c *call) ([]any, error) {
	req, err := decodeHostLink(c.text(0), c.options())
	if err != nil {
		return nil, err
	}
	link, err := c.s.api.HostLink(ctx, c.who.Caller, req)
	return jsonAnswer(listedLink(link), err)
}

func hostLinks(_ context.Context, c *call) ([]any, error) {
	var links []vmnetd.HostLink
	for _, l := range c.s.api.HostLinks() {
		links = append(links, listedLink(l))
	}
	return array(links, nil)
}

// decodeHostLink reads the options of HostLink: the JSON names of
// vmnetd.HostLinkRequest.
func decodeHostLink(network string, options properties) (vmnetd.HostLinkRequest, error) {
	req := vmnetd.HostLinkRequest{Network: network}
	if network == "" {
		return req, vmnetd.Errorf(vmnetd.ErrInvalid, "no network is named").WithNext("vmnetd host-link NETWORK")
	}
	if err := checkText(network); err != nil {
		return req, vmnetd.Errorf(vmnetd.ErrInvalid, "network %q: %w", clip(network), err)
	}
	if err := decodeInto(optionFields(reflect.ValueOf(&req).Elem(), "network"), options); err != nil {
		return req, err
	}
	if req.Remove && (req.Uplink != "" || len(req.IPs) > 0) {
		return req, vmnetd.Errorf(vmnetd.ErrInvalid, "remove takes neither uplink nor ips")
	}
	ips, err := vmnetd.CheckHostIPs(req.IPs)
	req.IPs = ips
	return req, err
}

// listedLink makes empty lists [] in JSON.
func listedLink(l vmnetd.HostLink) vmnetd.HostLink {
	l.IPs, l.Guests = append([]string{}, l.IPs...), append([]string{}, l.Guests...)
	return l
}

// HostLink makes or changes this host's own link to a network, or removes it.
func (c *Client) HostLink(ctx context.Context, req vmnetd.HostLinkRequest) (vmnetd.HostLink, error) {
	options := given(req)
	delete(options, "network")
	return callJSON[vmnetd.HostLink](ctx, c, "HostLink", req.Network, options)
}

// HostLinks is this host's own links to networks.
func (c *Client) HostLinks(ctx context.Context) ([]vmnetd.HostLink, error) {
	return callJSON[[]vmnetd.HostLink](ctx, c, "HostLinks")
}
