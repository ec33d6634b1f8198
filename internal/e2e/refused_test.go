package e2e

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// timers of bridges go on by themselves.
var timers = regexp.MustCompile(`\b(hello|tcn|topology_change|gc|hold|message_age|forward_delay)_timer +[0-9.]+`)

// asItIs is all that a command could have changed: the devices of some namespaces,
// their addresses, the filters, and what is written down.
func (b *bed) asItIs(namespaces ...*testkit.Netns) string {
	b.t.Helper()
	var all strings.Builder
	for _, ns := range namespaces {
		all.WriteString(timers.ReplaceAllString(b.inside(ns, "ip", "-d", "link"), "$1_timer"))
		all.WriteString(b.inside(ns, "ip", "-brief", "address"))
	}
	all.WriteString(b.ruleset(b.host))
	state, _ := os.ReadFile(b.path("state/state.json"))   // there is none before the first NIC
	links, _ := os.ReadFile(b.path("lib/hostlinks.json")) // there is none without a link
	records := strings.Split(string(state), "\n")         // in any order
	for i := range records {
		records[i] = strings.Trim(records[i], ",]}")
	}
	slices.Sort(records)
	return all.String() + strings.Join(records, "\n") + strings.TrimSuffix(string(links), "[]")
}

func (b *bed) same(before string, namespaces ...*testkit.Netns) {
	b.t.Helper()
	if diff := cmp.Diff(before, b.asItIs(namespaces...)); diff != "" {
		b.t.Errorf("something was changed:\n%s", diff)
	}
}

// oneSentence checks that an error is one line, with a word in it, and what to do.
func (b *bed) oneSentence(r result, says string) {
	b.t.Helper()
	lines := strings.Split(strings.TrimSpace(r.err), "\n")
	if !strings.HasPrefix(lines[0], "vmnetd: ") || len(lines) > 2 || len(lines) == 2 && !strings.HasPrefix(lines[1], "next: ") {
		b.t.Errorf("not one sentence and what to do:\n%s", r.err)
	}
	if !strings.Contains(lines[0], says) {
		b.t.Errorf("says %q, want something with %q", lines[0], says)
	}
}

const limitsConfig = `
uplinks:
  - {name: u0, nic: {}, limits: {macs: 3}}
  - {name: br0, external: {}}
networks:
  - {name: lan, uplinks: [u0], modes: [bridge, private, l2, l3]}
  - {name: sw, uplinks: [br0], modes: [switched, bridge]}
  - {name: tagged, uplinks: [br0], modes: [switched], vlan: 7}
  - {name: wrong, uplinks: [u0], modes: [switched]}
rules:
  - {vm: "*", networks: [lan, sw, tagged, wrong]}
hypervisors: {libvirt: {uri: none}, qmp: {sockets: ["DIR/qmp/{vm}.sock"]}}
`

func TestWhatCannotBeIsSaidInOneSentenceAndChangesNothing(t *testing.T) {
	t.Parallel()
	b := newModesBed(t, limitsConfig)
	for _, vm := range []string{"vm1", "vm2", "vm3"} {
		b.ejectingVM(vm)
	}
	c := b.container("web1")
	b.inside(b.host, "ip", "address", "add", onUplink4+"/24", "dev", "u0")
	b.start()
	b.attach("vm1", "--network", "lan", "--ip", "10.99.0.11", "--ip", "fd99::11")
	b.attach("vm1", "--network", "sw", "--ip", "10.99.0.21")
	via := "netns:" + c.path
	before := b.asItIs(b.host, c.Netns)
	for _, one := range []struct {
		code int
		says string
		args []string
	}{
		{5, "10.99.0.11 is held by vm1/net0", []string{"vm2", "--network", "lan", "--ip", "10.99.0.11"}},
		{5, "fd99::11 is held by vm1/net0", []string{"vm2", "--network", "lan", "--ip", "fd99:0::11"}},
		{5, "10.99.0.21 is held by vm1/net1", []string{"web1", "--via", via, "--network", "sw", "--ip", "10.99.0.21/24"}},
		{5, "10.99.0.98 is this host's own", []string{"vm2", "--network", "lan", "--ip", "10.99.0.98"}},
		{2, "none of vm2/net0 is", []string{"vm2", "--network", "lan", "--mode", "l3"}},
		{2, "none of vm2/net0 is known", []string{"vm2", "--network", "lan", "--mode", "l2"}},
		{5, "macvlan", []string{"vm2", "--network", "lan", "--mode", "l2", "--ip", "10.99.0.12"}},
		{5, "no bridge", []string{"vm2", "--network", "wrong"}},
		{5, "VLANs", []string{"vm2", "--network", "tagged"}},
		{5, "web1's root", []string{"web1", "--via", via, "--network", "lan", "--mode", "bridge"}},
		{5, "other properties", []string{"vm1", "--id", "net0", "--ip", "10.99.0.12"}},
		{2, "no IP address", []string{"vm2", "--ip", "10.99.0.300"}},
		{2, "is not one that a station can have", []string{"vm2", "--ip", "224.0.0.1"}},
		{2, "network, not an address", []string{"web1", "--via", via, "--ip", "10.99.0.0/24"}},
		{2, "broadcast address", []string{"web1", "--via", via, "--ip", "10.99.0.255/24"}},
		{2, "two lengths", []string{"web1", "--via", via, "--ip", "10.99.0.9/24", "--ip", "10.99.0.9/25"}},
		{2, "no address of a router", []string{"web1", "--via", via, "--route", "default via nowhere"}},
		{2, "by which router", []string{"web1", "--via", via, "--route", "default"}},
		{2, "mixes", []string{"web1", "--via", via, "--route", "fd88::/64 via 10.99.0.1"}},
		{2, "10.99.0.99", []string{"web1", "--via", via, "--network", "sw", "--ip", "10.98.0.9/24", "--route", "default via 10.99.0.99"}},
		{2, "15", []string{"web1", "--via", via, "--name", "a-name-that-is-too-long"}},
		{2, "'/', ':' or '%'", []string{"web1", "--via", via, "--name", "eth%d"}},
		{2, "stands for something else", []string{"web1", "--via", via, "--network", "sw", "--name", "lo"}},
		{2, "VM names its NICs", []string{"vm2", "--name", "eth0"}},
		{2, "VM makes its routes", []string{"vm2", "--route", "10.1.0.0/16 via 10.99.0.1"}},
		{2, "queues", []string{"web1", "--via", via, "--queues", "2"}},
		{2, "never to a guest", []string{"vm2", "--mode", "l3s"}},
		{2, "unknown mode", []string{"vm2", "--mode", "l7"}},
		{2, "empty", []string{"vm2", "--ip", ""}},
	} {
		b.oneSentence(b.must(one.code, append([]string{"attach"}, one.args...)...), one.says)
	}
	b.same(before, b.host, c.Netns)

	b.attach("vm2", "--network", "lan")
	before = b.asItIs(b.host, c.Netns)
	b.oneSentence(b.must(5, "attach", "vm3", "--network", "lan"), "takes 3 MACs")
	b.same(before, b.host, c.Netns)
	b.stop()
}
