package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

func (a *app) metricsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Print what is counted, as Prometheus reads it",
		Long: `Prints NICs, uplinks, problems and the counters of filters in the text format of
Prometheus, as they are now: nothing is kept between two runs. It is for the
textfile collector of node_exporter, or for whatever runs a command.`,
		Example: `  vmnetd metrics
  vmnetd metrics > vmnetd.prom.new && mv vmnetd.prom.new vmnetd.prom`,
		Args: takes(nil),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.metrics(cmd.Context()) },
	}
}

// metrics prints all of it or, when something of it cannot be had, nothing.
func (a *app) metrics(ctx context.Context) error {
	return a.with(ctx, func(c client) error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		sortNICs(s.Attachments)
		all := append(hostMetrics(s), uplinkMetrics(s.Uplinks)...)
		all = append(all, nicMetrics(s.Attachments)...)
		filter, err := filterMetrics(ctx, c, s.Attachments)
		if err != nil {
			return err
		}
		all = append(all, filter...)
		if a.json {
			return a.printJSON(slices.DeleteFunc(all, func(m metric) bool { return len(m.Samples) == 0 }))
		}
		return writeMetrics(a.io.out, all)
	})
}

func hostMetrics(s vmnetd.Status) []metric {
	info := metric{Name: "vmnetd_info", Help: "The daemon's version.", Type: gauge}
	info.add(1, "version", s.Version)
	start := metric{Name: "vmnetd_start_time_seconds", Help: "When the daemon started, in seconds since 1970.", Type: gauge}
	start.add(float64(s.Since.Unix()))
	problems := metric{Name: "vmnetd_problems", Help: "What vmnetd status says is wrong, by level.", Type: gauge}
	for _, level := range []string{vmnetd.LevelFail, vmnetd.LevelWarn} {
		problems.add(float64(count(s.Problems, level)), "level", level)
	}
	return []metric{info, start, problems}
}

func uplinkMetrics(uplinks []vmnetd.UplinkState) []metric {
	up := metric{Name: "vmnetd_uplink_up", Help: "Whether an uplink carries traffic: 1 also where it is degraded.", Type: gauge}
	degraded := metric{Name: "vmnetd_uplink_degraded", Help: "Whether an uplink carries traffic, and something configured is missing.", Type: gauge}
	guests := metric{Name: "vmnetd_uplink_guests", Help: "NICs of guests on an uplink.", Type: gauge}
	for _, u := range uplinks {
		up.add(oneIf(u.State == vmnetd.StateUp || u.State == vmnetd.StateDegraded), "uplink", u.Name)
		degraded.add(oneIf(u.State == vmnetd.StateDegraded), "uplink", u.Name)
		guests.add(float64(u.Guests), "uplink", u.Name)
	}
	return []metric{up, degraded, guests}
}

var phases = []vmnetd.Phase{vmnetd.Pending, vmnetd.Attached, vmnetd.Broken, vmnetd.Detaching}

func nicMetrics(nics []vmnetd.Attachment) []metric {
	info := metric{Name: "vmnetd_attachment_info", Help: "A NIC of a guest.", Type: gauge}
	phase := metric{Name: "vmnetd_attachment_phase", Help: "1 for the phase that a NIC is in.", Type: gauge}
	for _, one := range nics {
		info.add(1, "vm", one.VM, "id", one.ID, "network", one.Network, "uplink", one.Uplink, "kind", string(one.Kind), "mode", string(one.Mode), "ifname", one.Ifname, "mac", one.MAC)
		for _, p := range phases {
			phase.add(oneIf(one.Phase == p), "vm", one.VM, "id", one.ID, "phase", string(p))
		}
	}
	return []metric{info, phase}
}

func filterMetrics(ctx context.Context, c client, nics []vmnetd.Attachment) ([]metric, error) {
	packets := metric{Name: "vmnetd_filter_packets_total", Help: "Packets that a rule of a NIC's filter has matched.", Type: counter}
	bytes := metric{Name: "vmnetd_filter_bytes_total", Help: "Bytes that a rule of a NIC's filter has matched.", Type: counter}
	for _, one := range nics {
		found, err := counters(ctx, c, one)
		if err != nil {
			return nil, err
		}
		for _, n := range summed(found) {
			labels := []string{"vm", one.VM, "id", one.ID, "rule", n.Rule, "verdict", verdict(n)}
			packets.add(float64(n.Packets), labels...)
			bytes.add(float64(n.Bytes), labels...)
		}
	}
	return []metric{packets, bytes}, nil
}

// summed makes one of rules with one name: two samples with the same labels are
// an error to readers.
func summed(all []vmnetd.Counter) []vmnetd.Counter {
	var list []vmnetd.Counter
	for _, n := range all {
		i := slices.IndexFunc(list, func(had vmnetd.Counter) bool { return had.Rule == n.Rule && had.Dropped == n.Dropped })
		if i < 0 {
			list = append(list, n)
			continue
		}
		list[i].Packets += n.Packets
		list[i].Bytes += n.Bytes
	}
	return list
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
