package uplink

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"sync"

	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// The steps that are teamd's.

// startTeam makes a team by starting its teamd. It is always told a MAC: without
// one it takes no port that was somebody's when it first saw it (libteam,
// ifinfo.c, update_hwaddr: it never learns the port's own).
func (k *kernel) startTeam(ctx context.Context, s Step) error {
	c := *s.Team
	c.HWAddr = cmp.Or(c.HWAddr, s.MAC, someMAC())
	if err := k.teams.Start(ctx, s.Device, c, false); err != nil {
		return err
	}
	l, err := k.conn.LinkByName(ctx, s.Device)
	if err == nil && s.MTU != 0 && l.MTU != s.MTU {
		err = k.setMTU(ctx, l, s)
	}
	if err != nil {
		return errors.Join(err, k.stopTeam(ctx, s.Device))
	}
	return nil
}

// stopTeam ends teamd and deletes the team.
func (k *kernel) stopTeam(ctx context.Context, team string) error {
	if err := k.teams.Kill(ctx, team); err != nil {
		return err
	}
	return k.conn.DeleteName(ctx, team)
}

func (k *kernel) restartTeam(ctx context.Context, l rtnl.Link, s Step) error {
	c, err := k.teamWithPorts(ctx, l, *s.Team)
	if err != nil {
		return err
	}
	c.HWAddr = cmp.Or(c.HWAddr, l.MAC.String())
	if needsFreePorts(&c) {
		return k.restartWithoutPorts(ctx, l, c)
	}
	return k.teams.Restart(ctx, l.Name, c)
}

// needsFreePorts says that a team's ports have to be nobody's when its teamd
// starts. It writes into its LACPDUs the MAC that a port had while it was nobody's,
// and sends none, and says nothing, on a port that it has never seen so (libteam
// 1.31, ifinfo.c, update_hwaddr; teamd_runner_lacp.c, lacpdu_send): not even where
// the port was in this team.
func needsFreePorts(c *teaming.Config) bool { return c != nil && c.Runner.Name == teaming.LACP }

// restartWithoutPorts takes the ports out while no teamd runs, and puts them in
// once the next one does.
func (k *kernel) restartWithoutPorts(ctx context.Context, team rtnl.Link, c teaming.Config) error {
	if err := k.teams.Kill(ctx, team.Name); err != nil {
		return err
	}
	ports := c.Ports
	c.Ports = nil
	for _, p := range ports {
		l, err := k.conn.LinkByName(ctx, p.Name)
		if err == nil {
			err = k.conn.Set(ctx, rtnl.Change{Index: l.Index, Attrs: []rtnl.Attr{rtnl.Master(0)}})
		}
		if err == nil {
			err = k.conn.SetUp(ctx, l.Index, false) // team_port_add wants it down
		}
		if err != nil {
			return err
		}
	}
	if err := k.teams.Start(ctx, team.Name, c, true); err != nil {
		return err
	}
	for _, p := range ports {
		if err := k.teams.PortAdd(ctx, team.Name, p); err != nil {
			return err
		}
	}
	return nil
}

// someMAC is a locally administered one: what the kernel gives a device, too.
func someMAC() string {
	mac := make(net.HardwareAddr, 6)
	_, _ = rand.Read(mac) // never fails (crypto/rand)
	mac[0] = mac[0]&^1 | 2
	return mac.String()
}

// teamWithPorts is a configuration with the ports that are in now, and no
// others: those that are to come are put in by steps of their own.
func (k *kernel) teamWithPorts(ctx context.Context, team rtnl.Link, c teaming.Config) (teaming.Config, error) {
	links, err := k.conn.Links(ctx)
	if err != nil {
		return c, err
	}
	config := c
	config.Ports = nil
	for _, l := range links {
		if l.Master == team.Index {
			config.Ports = append(config.Ports, teamPort(&c, l.Name))
		}
	}
	return config, nil
}

// setTeam gives the ports that are in what is written for them.
func (k *kernel) setTeam(ctx context.Context, l rtnl.Link, s Step) error {
	is, err := k.teams.Config(ctx, l.Name)
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, c := range teaming.Diff(is, *s.Team) {
		if c.Port == "" || done[c.Port] {
			continue
		}
		done[c.Port] = true
		if err := k.teams.SetPort(ctx, l.Name, *s.Team, c.Port); err != nil {
			return err
		}
	}
	return nil
}

func (k *kernel) addTeamPort(ctx context.Context, l rtnl.Link, s Step) error {
	return k.teams.PortAdd(ctx, s.Master, teamPort(s.Team, l.Name))
}

func (k *kernel) removeTeamPort(ctx context.Context, l rtnl.Link, s Step) error {
	return k.teams.PortRemove(ctx, s.Master, l.Name)
}

func (k *kernel) activateTeamPort(ctx context.Context, l rtnl.Link, s Step) error {
	return k.teams.Set(ctx, s.Master, "runner.active_port", l.Name)
}

// configs adds what teamd says of teams. All are asked at once: one that does not
// answer holds up no other.
func (k *kernel) configs(ctx context.Context, w World) {
	teams := slices.DeleteFunc(w.names(), func(name string) bool { return w[name].Kind != kindTeam })
	asked := make([]Device, len(teams))
	var asks sync.WaitGroup
	for i, name := range teams {
		asks.Go(func() { asked[i] = k.askTeam(ctx, name) })
	}
	asks.Wait()
	for i, name := range teams {
		w.set(name, func(d *Device) {
			d.Controller, d.Active, d.Team = asked[i].Controller, asked[i].Active, asked[i].Team
		})
	}
}

// askTeam is what only teamd knows of a device.
func (k *kernel) askTeam(ctx context.Context, name string) Device {
	config, err := k.teams.Config(ctx, name)
	d := Device{Controller: controller(err)}
	if err != nil {
		return d
	}
	d.Team = &config
	if config.Runner.Name == teaming.ActiveBackup {
		d.Active, _ = k.teams.Get(ctx, name, "runner.active_port") // none is ""
	}
	return d
}

// controller is a teamd in one word, by how it answered.
func controller(err error) string {
	switch {
	case errors.Is(err, teaming.ErrGone):
		return teaming.Gone
	case errors.Is(err, teaming.ErrSilent):
		return teaming.Silent
	}
	return teaming.Running
}
