package dbusapi

import (
	"context"
	"fmt"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
)

// asked notes what the agent was asked about uplinks, and by whom.
func (f *fake) asked(who agent.Caller, format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.callers = append(f.callers, who)
	f.verbs = append(f.verbs, fmt.Sprintf(format, args...))
	return f.fail
}

func (f *fake) Plan(_ context.Context, names []string) (vmnetd.Plan, error) {
	return vmnetd.Plan{From: "/etc/vmnetd", Changes: []vmnetd.PlanChange{{Op: "+", Name: "team0"}}}, f.asked(agent.Caller{}, "plan %q", names)
}

func (f *fake) Apply(_ context.Context, who agent.Caller, o vmnetd.ApplyOptions) (vmnetd.Applied, error) {
	return vmnetd.Applied{ID: "a1", Until: time.UnixMicro(5), Changed: true}, f.asked(who, "apply %+v", o)
}

func (f *fake) Confirm(_ context.Context, who agent.Caller, id string) error {
	return f.asked(who, "confirm %q", id)
}

func (f *fake) Rollback(_ context.Context, who agent.Caller, id string) error {
	return f.asked(who, "rollback %q", id)
}

func (f *fake) Move(_ context.Context, who agent.Caller, anchor, to string) error {
	return f.asked(who, "move %q %q", anchor, to)
}

func (f *fake) SetDrain(_ context.Context, who agent.Caller, uplink, port string, on bool) error {
	return f.asked(who, "drain %q %q %v", uplink, port, on)
}

func (f *fake) SetHold(_ context.Context, who agent.Caller, uplink string, until time.Time) error {
	return f.asked(who, "hold %q %v", uplink, until.IsZero() || until.Equal(time.UnixMicro(7)))
}

func (f *fake) Team(_ context.Context, who agent.Caller, team string, req vmnetd.TeamRequest) (string, error) {
	return "answer to " + req.Op, f.asked(who, "team %q %+v", team, req)
}

func (f *fake) Convert(_ context.Context, who agent.Caller, uplink, to string, live bool) (vmnetd.Conversion, error) {
	return vmnetd.Conversion{From: uplink, To: to}, f.asked(who, "convert %q %q %v", uplink, to, live)
}
