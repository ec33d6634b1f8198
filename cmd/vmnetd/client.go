package main

import (
	"context"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/dbusapi"
	"github.com/vmnetd/vmnetd/internal/queuefd"
	"github.com/vmnetd/vmnetd/policy"
)

// client is what the commands need of the daemon (dbusapi.Client has it).
type client interface {
	Attach(ctx context.Context, req vmnetd.Request) (vmnetd.Attachment, error)
	Detach(ctx context.Context, vm string, sel agent.Selector) ([]vmnetd.Attachment, error)
	Explain(ctx context.Context, req vmnetd.Request, all bool) ([]policy.Explanation, error)
	List(ctx context.Context, vm string) ([]vmnetd.Attachment, error)
	Counters(ctx context.Context, vm, id string) ([]vmnetd.Counter, error)
	HostLink(ctx context.Context, req vmnetd.HostLinkRequest) (vmnetd.HostLink, error)
	HostLinks(ctx context.Context) ([]vmnetd.HostLink, error)
	Uplinks(ctx context.Context) ([]vmnetd.UplinkState, error)
	Uplink(ctx context.Context, name string) (vmnetd.UplinkState, error)
	VMs(ctx context.Context) ([]string, error)
	Status(ctx context.Context) (vmnetd.Status, error)
	Doctor(ctx context.Context) ([]vmnetd.Check, error)
	Watch(ctx context.Context, on func(vmnetd.Event)) error
	WatchSince(ctx context.Context, since time.Time, on func(vmnetd.Event)) error
	Reload(ctx context.Context) error
	Plan(ctx context.Context, names []string) (vmnetd.Plan, error)
	Apply(ctx context.Context, o vmnetd.ApplyOptions) (vmnetd.Applied, error)
	Confirm(ctx context.Context, id string) error
	Rollback(ctx context.Context, id string) error
	Move(ctx context.Context, anchor, to string) error
	SetDrain(ctx context.Context, uplink, port string, on bool) error
	SetHold(ctx context.Context, uplink string, until time.Time) error
	Team(ctx context.Context, team string, req vmnetd.TeamRequest) (string, error)
	Convert(ctx context.Context, uplink, to string, live bool) (vmnetd.Conversion, error)
	Ping(ctx context.Context) error
	DomainHook(ctx context.Context, vm, op, sub, xml string) error
	DomainXML(ctx context.Context, req vmnetd.Request) (string, error)
	Import(ctx context.Context, vm string, o vmnetd.ImportOptions) (vmnetd.Import, error)
	OpenTap(ctx context.Context, req vmnetd.Request, ownerPID int) (vmnetd.Attachment, *queuefd.Set, error)
	Close() error
}

func dialDaemon(ctx context.Context) (client, error) {
	c, err := dbusapi.Dial(ctx)
	if err != nil {
		return nil, err // not c: a nil *Client in an interface is not nil
	}
	return c, nil
}
