package main

import (
	"context"
	"time"

	"github.com/vmnetd/vmnetd"
)

func (f *fake) Plan(ctx context.Context, names []string) (vmnetd.Plan, error) {
	return f.plan, f.call(ctx, "Plan %q", names)
}

func (f *fake) Apply(ctx context.Context, o vmnetd.ApplyOptions) (vmnetd.Applied, error) {
	return f.applied, f.call(ctx, "Apply %+v", o)
}

func (f *fake) Confirm(ctx context.Context, id string) error { return f.call(ctx, "Confirm %q", id) }

func (f *fake) Rollback(ctx context.Context, id string) error { return f.call(ctx, "Rollback %q", id) }

func (f *fake) Move(ctx context.Context, anchor, to string) error {
	return f.call(ctx, "Move %s %q", anchor, to)
}

func (f *fake) SetDrain(ctx context.Context, uplink, port string, on bool) error {
	return f.call(ctx, "SetDrain %q %s %v", uplink, port, on)
}

func (f *fake) SetHold(ctx context.Context, uplink string, until time.Time) error {
	return f.call(ctx, "SetHold %s %s", uplink, until.UTC().Format(time.RFC3339))
}

func (f *fake) Team(ctx context.Context, team string, req vmnetd.TeamRequest) (string, error) {
	return f.answer, f.call(ctx, "Team %s %+v", team, req)
}

func (f *fake) Convert(ctx context.Context, uplink, to string, live bool) (vmnetd.Conversion, error) {
	return f.converted, f.call(ctx, "Convert %s %s live=%v", uplink, to, live)
}
