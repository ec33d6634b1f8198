package dbusapi

import (
	"context"
	"time"

	"github.com/vmnetd/vmnetd"
)

// Plan is the difference between what is and what the operator's files declare;
// names restricts it to these uplinks and what they stand on.
func (c *Client) Plan(ctx context.Context, names []string) (vmnetd.Plan, error) {
	return callJSON[vmnetd.Plan](ctx, c, "Plan", append([]string{}, names...))
}

// Apply carries the plan out.
func (c *Client) Apply(ctx context.Context, o vmnetd.ApplyOptions) (vmnetd.Applied, error) {
	return callJSON[vmnetd.Applied](ctx, c, "Apply", encodeApply(o))
}

// Confirm keeps an apply; id "" is the one that waits.
func (c *Client) Confirm(ctx context.Context, id string) error {
	return c.manager(ctx, "Confirm", id).Err
}

// Rollback undoes the apply that waits for its confirmation.
func (c *Client) Rollback(ctx context.Context, id string) error {
	return c.manager(ctx, "Rollback", id).Err
}

// Move puts an anchor on one of its members; to "" lets it choose by itself
// again.
func (c *Client) Move(ctx context.Context, anchor, to string) error {
	return c.manager(ctx, "Move", anchor, to).Err
}

// SetDrain keeps a port off the active path, or ends that; uplink "" is the one
// that has the port.
func (c *Client) SetDrain(ctx context.Context, uplink, port string, on bool) error {
	return c.manager(ctx, "SetDrain", uplink, port, on).Err
}

// SetHold stops converging an uplink until a moment; the zero time ends it.
func (c *Client) SetHold(ctx context.Context, uplink string, until time.Time) error {
	us := uint64(0)
	if !until.IsZero() {
		us = uint64(max(0, until.UnixMicro()))
	}
	return c.manager(ctx, "SetHold", uplink, us).Err
}

// Team reads or changes a team; the answer is JSON, or the value asked for.
func (c *Client) Team(ctx context.Context, team string, req vmnetd.TeamRequest) (answer string, err error) {
	err = c.manager(ctx, "Team", team, encodeTeam(req)).Store(&answer)
	return answer, err
}

// Convert shows an uplink as the other kind ("bond" or "team"); live does it.
func (c *Client) Convert(ctx context.Context, uplink, to string, live bool) (vmnetd.Conversion, error) {
	return callJSON[vmnetd.Conversion](ctx, c, "Convert", uplink, to, live)
}
