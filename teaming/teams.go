package teaming

import (
	"context"
	"encoding/json"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// Options of Teams.
type Options struct {
	Conn       *rtnl.Conn // of the network namespace in which the teams are
	Bus        Caller     // nil: teamd is asked by its socket alone
	BusAddress string     // of the system bus, for teamd itself; "": it is started without
	Units      Units      // nil where systemd does not run: teamd is started beside us
	Log        *slog.Logger
}

// Caller calls methods of others on the system bus (bus.Client).
type Caller interface {
	Call(ctx context.Context, dest, path, member string, args ...any) ([]any, error)
}

// Units starts services of systemd (bus.Systemd).
type Units interface {
	StartService(ctx context.Context, name, description string, argv []string) error
}

// Teams is every team of a network namespace: it asks and changes their teamd,
// starts it, and follows what it does.
type Teams struct {
	o Options

	noticed chan int      // teams to look at, by ifindex
	bell    chan struct{} // names has changed, or a teamd
	heard   chan string   // teams whose teamd came or went on the bus

	mu      sync.Mutex
	live    map[int]*live   // by ifindex of the team
	names   map[int]string  // of the teams that were noticed, by ifindex
	watched map[string]bool // those whose teamd is followed
}

// New makes Teams; it asks nobody.
func New(o Options) *Teams {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Teams{o: o, noticed: make(chan int, 64), bell: make(chan struct{}, 1), heard: make(chan string, 64), live: map[int]*live{}, names: map[int]string{}, watched: map[string]bool{}}
}

// Version is teamd's: "1.31".
func (t *Teams) Version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return "", vmnetd.Errorf(vmnetd.ErrUnsupported, "teamd does not run here: %w", err)
	}
	_, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return version, nil
}

// Config is the configuration of a team as its teamd has it, with the ports
// that are in. ErrGone, ErrSilent: there is none to tell.
func (t *Teams) Config(ctx context.Context, team string) (Config, error) {
	text, err := t.call(ctx, team, "ConfigDumpActual")
	if err != nil {
		return Config{}, err
	}
	c, _, err := Parse([]byte(text))
	return c, err
}

// ConfigText is that in teamd's JSON: as it was given, or with what is in force.
func (t *Teams) ConfigText(ctx context.Context, team string, actual bool) (string, error) {
	method := "ConfigDump"
	if actual {
		method = "ConfigDumpActual"
	}
	return t.call(ctx, team, method)
}

// State is what teamd says of a team and its ports.
func (t *Teams) State(ctx context.Context, team string) (vmnetd.TeamState, error) {
	s, err := t.state(ctx, team)
	if err != nil || s.LACP != nil {
		return s, err
	}
	c, err := t.Config(ctx, team)
	if err != nil { // another's, with what is not known here: the rest is true all the same
		return s, nil //nolint:nilerr // see above
	}
	ports := c.effective()
	for i, p := range s.Ports {
		s.Ports[i].Prio, s.Ports[i].Sticky = or(ports[p.Name].Prio, 0), or(ports[p.Name].Sticky, false)
	}
	return s, nil
}

// state is what is in its state alone: the priorities of ports are in its
// configuration, but for LACP's.
func (t *Teams) state(ctx context.Context, team string) (vmnetd.TeamState, error) {
	text, err := t.call(ctx, team, "StateDump")
	if err != nil {
		return vmnetd.TeamState{}, err
	}
	return ParseState([]byte(text))
}

// StateText is that in teamd's JSON.
func (t *Teams) StateText(ctx context.Context, team string) (string, error) {
	return t.call(ctx, team, "StateDump")
}

// Get is one item of the state, by its path: setup.runner_name (teamdctl(8)).
func (t *Teams) Get(ctx context.Context, team, item string) (string, error) {
	return t.call(ctx, team, "StateItemValueGet", item)
}

// Set sets one: runner.active_port is the only one of the team's that can be.
func (t *Teams) Set(ctx context.Context, team, item, value string) error {
	_, err := t.call(ctx, team, "StateItemValueSet", item, value)
	return err
}

// PortConfig is the configuration of one port in teamd's JSON.
func (t *Teams) PortConfig(ctx context.Context, team, port string) (string, error) {
	return t.call(ctx, team, "PortConfigDump", port)
}

// SetPortConfig replaces it; one that the port had and is not given is gone.
func (t *Teams) SetPortConfig(ctx context.Context, team, port, config string) error {
	if !json.Valid([]byte(config)) {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "the configuration of %s is no JSON", vmnetd.Printable(port)).WithNext(`it looks like {"prio": 10, "sticky": true}`)
	}
	_, err := t.call(ctx, team, "PortConfigUpdate", port, config)
	return err
}

// PortAdd puts a device in, which has to be down, with the configuration of p.
func (t *Teams) PortAdd(ctx context.Context, team string, p Port) error {
	if _, err := t.call(ctx, team, "PortConfigUpdate", p.Name, p.JSON()); err != nil {
		return err
	}
	if _, err := t.call(ctx, team, "PortAdd", p.Name); err != nil {
		return err
	}
	return t.settled(ctx, team, p.Name, true)
}

// PortRemove takes a device out.
func (t *Teams) PortRemove(ctx context.Context, team, port string) error {
	if _, err := t.call(ctx, team, "PortRemove", port); err != nil {
		return err
	}
	return t.settled(ctx, team, port, false)
}

// noticing is how long teamd may take to notice what it did to a port.
const noticing = time.Second

// settled returns when teamd knows that a port is in, or out. Before that it
// would take a port that it took out, out of whatever that was put into next.
func (t *Teams) settled(ctx context.Context, team, port string, in bool) error {
	ctx, cancel := context.WithTimeout(ctx, noticing)
	defer cancel()
	tick := time.NewTicker(startPace) // it tells of its ports when it is asked, and only then
	defer tick.Stop()
	for {
		s, err := t.state(ctx, team)
		if err != nil || in == slices.ContainsFunc(s.Ports, func(p vmnetd.TeamPort) bool { return p.Name == port }) {
			return err
		}
		select {
		case <-ctx.Done():
			return vmnetd.Errorf(vmnetd.ErrFailed, "teamd of %s does not notice within %v what it did to %s", team, noticing, vmnetd.Printable(port))
		case <-tick.C:
		}
	}
}

// SetPort gives a port that is in the configuration that it has in c. What is
// read only when a port comes (its link watch, teamd/teamd_link_watch.c, its
// queue, teamd_per_port.c, sticky and LACP's own, the runners) takes it out for a
// moment.
func (t *Teams) SetPort(ctx context.Context, team string, c Config, port string) error {
	want, ok := c.effective()[port]
	if !ok {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "%s has no port %s", team, vmnetd.Printable(port))
	}
	actual, err := t.Config(ctx, team) // a port's own may have another's in it: see untangled
	if err != nil {
		return err
	}
	was, in := actual.effective()[port]
	if !in {
		return vmnetd.Errorf(vmnetd.ErrNotFound, "%s is no port of %s now", vmnetd.Printable(port), team)
	}
	if err := t.SetPortConfig(ctx, team, port, want.JSON()); err != nil || !rejoins(was, want) {
		return err
	}
	if err := t.PortRemove(ctx, team, port); err != nil {
		return err
	}
	return t.PortAdd(ctx, team, want)
}
