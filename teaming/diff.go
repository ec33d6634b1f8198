package teaming

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Change is one difference between a team and what it is to be.
type Change struct {
	Path string // "runner", "link_watch", "ports.eno1", "ports.eno1.prio"
	From string // JSON, "" for nothing
	To   string
	Port string // whose configuration changes; "" for ports that come or go, and for the team's own
	Live bool   // by PortAdd, PortRemove or PortConfigUpdate; the rest needs another teamd
}

// Diff is what of want a team is not, by teamd's JSON. teamd 1.31 changes ports
// live, and of the rest nothing (its state items can be set for active_port and
// debug_level alone). What teamd adds by itself (bursts of one) is no difference.
func Diff(is, want Config) []Change {
	var all []Change
	for path, pair := range map[string][2]any{
		"runner": {runner(is.Runner), runner(want.Runner)}, "link_watch": {is.watches(), want.watches()}, "hwaddr": {is.HWAddr, want.HWAddr},
		"notify_peers": {burst(is.NotifyPeers, is), burst(want.NotifyPeers, want)}, "mcast_rejoin": {burst(is.McastRejoin, is), burst(want.McastRejoin, want)},
	} {
		if from, to := text(pair[0]), text(pair[1]); from != to && (path != "hwaddr" || want.HWAddr != "") {
			all = append(all, Change{Path: path, From: from, To: to})
		}
	}
	slices.SortFunc(all, func(a, b Change) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) })
	return append(all, diffPorts(is.effective(), want.effective())...)
}

// runner is a runner with teamd's defaults said (teamd/teamd_balancer.c,
// teamd_hash_func.c).
func runner(r Runner) Runner {
	if (r.Name == LoadBalance || r.Name == LACP) && len(r.TxHash) == 0 {
		r.TxHash = []string{"eth", "ipv4", "ipv6"}
	}
	return r
}

// watches is what watches the links of ports that have no watch of their own.
func (c Config) watches() []LinkWatch {
	if len(c.LinkWatch) == 0 {
		return []LinkWatch{{Name: "ethtool"}}
	}
	return c.LinkWatch
}

// effective is the ports by name, each with the link watches that it has: teamd
// writes them into the configuration of a port that has none.
func (c Config) effective() map[string]Port {
	byName := map[string]Port{}
	for _, p := range c.Ports {
		if len(p.LinkWatch) == 0 {
			p.LinkWatch = c.watches()
		}
		byName[p.Name] = p
	}
	return byName
}

// rejoins says that a change of a port's configuration is seen by teamd only
// when the port is put in: all but its priority.
func rejoins(is, want Port) bool {
	return or(is.QueueID, 0) != or(want.QueueID, 0) || or(is.Sticky, false) != or(want.Sticky, false) ||
		or(is.LACPPrio, 255) != or(want.LACPPrio, 255) || or(is.LACPKey, 0) != or(want.LACPKey, 0) || // teamd/teamd_runner_lacp.c, lacp_port_load_config
		!reflect.DeepEqual(is.LinkWatch, want.LinkWatch)
}

// Rejoins is the ports that a change from one configuration to the other takes out
// and puts in again, as SetPort does; in name order.
func Rejoins(is, want Config) []string {
	var names []string
	was := is.effective()
	for name, to := range want.effective() {
		if from, in := was[name]; in && rejoins(from, to) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// or is what is given, or teamd's default.
func or[T any](given *T, byDefault T) T {
	if given == nil {
		return byDefault
	}
	return *given
}

// burst is what teamd makes of a team without one: activebackup tells once
// (teamd/teamd_runner_activebackup.c), the others do not.
func burst(b *Burst, c Config) Burst {
	none, once := 0, 1
	out := Burst{Count: &none, Interval: &none}
	if c.Runner.Name == ActiveBackup {
		out.Count = &once
	}
	if b != nil && b.Count != nil {
		out.Count = b.Count
	}
	if b != nil && b.Interval != nil {
		out.Interval = b.Interval
	}
	return out
}

func diffPorts(is, want map[string]Port) []Change {
	var all []Change
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if _, stays := want[name]; !stays {
			all = append(all, Change{Path: "ports." + name, From: is[name].JSON(), Live: true})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		to := want[name]
		switch from, there := is[name]; {
		case !there:
			all = append(all, Change{Path: "ports." + name, To: to.JSON(), Live: true})
		case !reflect.DeepEqual(normal(from), normal(to)):
			all = append(all, portChanges(name, normal(from), normal(to))...)
		}
	}
	return all
}

// normal is a port with teamd's defaults said.
func normal(p Port) map[string]any {
	out := map[string]any{"prio": 0.0, "sticky": false}
	var given map[string]any
	if json.Unmarshal([]byte(p.JSON()), &given) == nil {
		maps.Copy(out, given)
	}
	return out
}

func portChanges(name string, from, to map[string]any) []Change {
	keys := map[string]bool{}
	for key := range from {
		keys[key] = true
	}
	for key := range to {
		keys[key] = true
	}
	var all []Change
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if reflect.DeepEqual(from[key], to[key]) {
			continue
		}
		all = append(all, Change{Path: fmt.Sprintf("ports.%s.%s", name, key), From: text(from[key]), To: text(to[key]), Port: name, Live: true})
	}
	return all
}

func text(v any) string {
	if v == nil {
		return ""
	}
	out, err := json.Marshal(v)
	if err != nil || string(out) == "null" || string(out) == `""` || string(out) == "{}" {
		return ""
	}
	return string(out)
}
