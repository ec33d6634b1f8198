package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/policy"
	"github.com/vmnetd/vmnetd/uplink"
)

var update = flag.Bool("update", false, "write what the golden tests get into testdata")

// TestEveryMistakeIsToldWithItsLine runs testdata/*.txtar: vmnetd.yaml, conf.d/*
// and want, which is what `check` shows: the mistakes, or the result.
func TestEveryMistakeIsToldWithItsLine(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var raws []rawFile
	want := ""
	for _, f := range archive.Files {
		if f.Name == "want" {
			want = string(f.Data)
			continue
		}
		raws = append(raws, rawFile{Path: "/etc/vmnetd/" + f.Name, Name: f.Name, Content: string(f.Data)})
	}
	got := show(loadRaw(raws, &problems{}))
	if *update {
		archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
		archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
		if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got (go test ./config -update writes it anew)\n%s", diff)
	}
}

// show is a configuration, or what is wrong with it, as text.
func show(cfg agent.Config, err error) string {
	var b strings.Builder
	if err != nil {
		Render(&b, err)
		return b.String()
	}
	for _, u := range cfg.Uplinks {
		fmt.Fprintf(&b, "uplink %s (%s) kind=%s device=%q mac=%q path=%q mtu=%d%s%s\n", u.Name, u.At, u.Kind, u.Device, u.MAC, u.Path, u.MTU, showMade(u), showLimits(u, cfg.Policy.Limits[u.Name]))
	}
	fmt.Fprintf(&b, "defaults %s\n", showGrant(cfg.Policy.Defaults))
	for _, n := range cfg.Policy.Networks {
		fmt.Fprintf(&b, "network %s (%s) uplinks=%v%s %s\n", n.Name, n.At, n.Uplinks, showVLAN(n), showGrant(n.Grant))
	}
	for _, r := range cfg.Policy.Rules {
		fmt.Fprintf(&b, "rule %s (%s) vm=%q uuid=%q nic=%q label=%v networks=%v deny=%q %s\n", r.Text, r.At, r.VM, r.UUID, r.NIC, r.Label, r.Networks, r.Deny, showGrant(r.Grant))
	}
	for _, v := range cfg.VMs {
		fmt.Fprintf(&b, "vm %s (%s) labels=%v\n", v.Name, v.At, cfg.Policy.Labels[v.Name])
		for _, n := range v.NICs {
			fmt.Fprintf(&b, "  nic %s/%s network=%q uplink=%q mode=%q mac=%q queues=%d bus=%q addr=%q%s\n", n.VM, n.ID, n.Network, n.Uplink, n.Mode, n.MAC, n.Queues, n.Bus, n.Addr, showIPs(n.IPs))
		}
	}
	fmt.Fprintf(&b, "sockets %q\n", cfg.Ways.Sockets)
	if w := cfg.Ways; w.Libvirt != "qemu:///system" || cfg.Trusted || w.Events != nil {
		fmt.Fprintf(&b, "libvirt %q trusted=%v events %q\n", w.Libvirt, cfg.Trusted, w.Events)
	}
	if w := cfg.Ways; w.Folders != nil || w.Trusted != nil {
		fmt.Fprintf(&b, "netns %q trusted=%q\n", w.Folders, w.Trusted)
	}
	for _, w := range append(cfg.Warnings, Warnings(cfg, func(s uplink.Spec) bool { return !strings.HasPrefix(s.Name, "absent") })...) {
		fmt.Fprintf(&b, "warning %s\n", w)
	}
	return b.String()
}

// showMade is what a made uplink is made of, as it is kept.
func showMade(u uplink.Spec) string {
	text := ""
	if u.Probe.IsValid() {
		text = " probe=" + u.Probe.String()
	}
	made, err := json.Marshal(struct {
		Bond   any `json:"bond,omitempty"`
		Team   any `json:"team,omitempty"`
		VLAN   any `json:"vlan,omitempty"`
		Bridge any `json:"bridge,omitempty"`
		Anchor any `json:"anchor,omitempty"`
	}{orNil(u.Bond), orNil(u.Team), orNil(u.VLAN), orNil(u.Bridge), orNil(u.Anchor)})
	if err != nil {
		return err.Error()
	}
	if string(made) == "{}" {
		return text
	}
	return text + " " + string(made)
}

func showVLAN(n policy.Network) string {
	text := ""
	if n.VLAN != 0 {
		text = fmt.Sprintf(" vlan=%d", n.VLAN)
	}
	if n.Trunk != nil {
		text += fmt.Sprintf(" trunk=%v@%d", n.Trunk, n.TrunkAt.Line)
	}
	return text
}

func showIPs(ips []string) string {
	if len(ips) == 0 {
		return ""
	}
	return fmt.Sprintf(" ips=%q", ips)
}

func showLimits(u uplink.Spec, l policy.Limits) string {
	if u.MaxMACs != l.MaxMACs || u.NoHairpin != l.NoHairpin {
		return fmt.Sprintf(" limits differ: %+v", l)
	}
	text := ""
	if l.MaxMACs != 0 {
		text = fmt.Sprintf(" macs=%d@%d", l.MaxMACs, l.MaxMACsAt.Line)
	}
	if l.HairpinAt.Line != 0 {
		text += fmt.Sprintf(" hairpin=%v@%d", !l.NoHairpin, l.HairpinAt.Line)
	}
	return text
}

func orNil[T any](p *T) any {
	if p == nil {
		return nil
	}
	return p
}

func showGrant(g policy.Grant) string {
	var parts []string
	if g.Modes != nil {
		parts = append(parts, fmt.Sprintf("modes=%v@%d", g.Modes, g.ModesAt.Line))
	}
	if g.MTU != 0 {
		parts = append(parts, fmt.Sprintf("mtu=%d@%d", g.MTU, g.MTUAt.Line))
	}
	if g.Queues.Given {
		parts = append(parts, fmt.Sprintf("queues=%+v@%d", g.Queues, g.QueuesAt.Line))
	}
	if g.MACs != nil {
		parts = append(parts, fmt.Sprintf("macs=%v@%d", g.MACs, g.MACsAt.Line))
	}
	if g.Link != "" {
		parts = append(parts, fmt.Sprintf("link=%s@%d", g.Link, g.LinkAt.Line))
	}
	if g.MACChange != "" {
		parts = append(parts, fmt.Sprintf("change=%s@%d", g.MACChange, g.MACChangeAt.Line))
	}
	return "{" + strings.Join(append(parts, showGuest(g)...), " ") + "}"
}

func showGuest(g policy.Grant) []string {
	var parts []string
	if g.IPs.Given {
		parts = append(parts, fmt.Sprintf("ips=%v@%d", g.IPs, g.IPsAt.Line))
	}
	if g.MaxIPs != 0 {
		parts = append(parts, fmt.Sprintf("max_ips=%d@%d", g.MaxIPs, g.MaxIPsAt.Line))
	}
	for _, flag := range []struct {
		name string
		v    *bool
		at   policy.Pos
	}{
		{"spoof", g.Filter.Spoof, g.Filter.SpoofAt}, {"dhcp_server", g.Filter.DHCPServer, g.Filter.DHCPServerAt}, {"ra", g.Filter.RA, g.Filter.RAAt},
		{"hairpin", g.Port.Hairpin, g.Port.HairpinAt}, {"isolated", g.Port.Isolated, g.Port.IsolatedAt},
		{"learning", g.Port.Learning, g.Port.LearningAt}, {"bpdu_guard", g.Port.BPDUGuard, g.Port.BPDUGuardAt},
	} {
		if flag.v != nil {
			parts = append(parts, fmt.Sprintf("%s=%v@%d", flag.name, *flag.v, flag.at.Line))
		}
	}
	if f := g.Filter; f.Ethertypes != nil || f.Broadcast != 0 || f.Multicast != 0 {
		parts = append(parts, fmt.Sprintf("ethertypes=%x@%d broadcast=%d@%d multicast=%d@%d", f.Ethertypes, f.EthertypesAt.Line, f.Broadcast, f.BroadcastAt.Line, f.Multicast, f.MulticastAt.Line))
	}
	if g.Bandwidth != (policy.Bandwidth{}) {
		parts = append(parts, fmt.Sprintf("bandwidth=%v@%d,%d", g.Bandwidth, g.InAt.Line, g.OutAt.Line))
	}
	if g.Flag != "" {
		parts = append(parts, fmt.Sprintf("flag=%s@%d", g.Flag, g.FlagAt.Line))
	}
	if g.Extra.MACs != nil || g.Extra.IPs != nil {
		parts = append(parts, fmt.Sprintf("extra=%v@%d", g.Extra, g.ExtraAt.Line))
	}
	return parts
}
