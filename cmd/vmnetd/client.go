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
	Uplinks(ctx context.Context) ([]vmnetd.UplinkState, error)
	VMs(ctx context.Context) ([]string, error)
	Status(ctx context.Context) (vmnetd.Status, error)
	Doctor(ctx context.Context) ([]vmnetd.Check, error)
	Watch(ctx context.Context, on func(vmnetd.Event)) error
	WatchSince(ctx context.Context, since time.Time, on func(vmnetd.Event)) error
	Reload(ctx context.Context) error
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
