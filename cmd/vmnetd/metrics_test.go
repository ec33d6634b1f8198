package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/vmnetd/vmnetd"
)

// metricLine is a sample as a reader of the text format takes it.
var metricLine = regexp.MustCompile(`^([a-z_]+)(\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\})? [0-9.]+$`)

func TestMetricsAreTextThatPrometheusReads(t *testing.T) {
	bad := nic(`vm"\1`, "net0")
	bad.Phase, bad.Uplink = vmnetd.Broken, "u\n0\xff"
	f := &fake{
		status: vmnetd.Status{
			Version: "0.2.0", Since: testNow, Problems: []vmnetd.Check{{Level: vmnetd.LevelWarn}},
			Uplinks:     []vmnetd.UplinkState{{Name: "eno1", State: vmnetd.StateDegraded, Guests: 2}, {Name: "eno2", State: vmnetd.StateDown}},
			Attachments: []vmnetd.Attachment{nic("vm1", "net0"), bad},
		},
		counters: []vmnetd.Counter{{Rule: "source MAC", Packets: 1 << 40, Bytes: 60, Dropped: true}, {Rule: "rest", Packets: 5}, {Rule: "rest", Packets: 2}},
	}
	got := do(t, f, "metrics")
	seen := map[string]bool{}
	for line := range strings.Lines(got.out) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "# ") && !metricLine.MatchString(line) {
			t.Errorf("no sample: %q", line)
		}
		series := line[:strings.LastIndex(line, " ")]
		if seen[series] {
			t.Errorf("twice: %s", series)
		}
		seen[series] = true
	}
	for _, want := range []string{
		"# TYPE vmnetd_filter_packets_total counter\n", "# TYPE vmnetd_uplink_up gauge\n",
		`vmnetd_uplink_up{uplink="eno1"} 1`, `vmnetd_uplink_degraded{uplink="eno1"} 1`, `vmnetd_uplink_up{uplink="eno2"} 0`, `vmnetd_uplink_guests{uplink="eno1"} 2`,
		`vmnetd_filter_packets_total{vm="vm1",id="net0",rule="source MAC",verdict="dropped"} 1099511627776`,
		`vmnetd_filter_packets_total{vm="vm1",id="net0",rule="rest",verdict="passed"} 7`, `vmnetd_filter_bytes_total{vm="vm1",id="net0",rule="source MAC",verdict="dropped"} 60`,
		`vmnetd_attachment_phase{vm="vm\"\\1",id="net0",phase="broken"} 1`, `vmnetd_attachment_phase{vm="vm\"\\1",id="net0",phase="attached"} 0`, `uplink="u\n0` + "\uFFFD" + `"`,
		`vmnetd_problems{level="warn"} 1`, `vmnetd_problems{level="fail"} 0`, `vmnetd_info{version="0.2.0"} 1`, fmt.Sprintf("vmnetd_start_time_seconds %d", testNow.Unix()),
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%s is not in\n%s", want, got.out)
		}
	}
	if got.code != 0 || got.err != "" {
		t.Errorf("%+v", got)
	}
}

func TestMetricsAreWholeOrNothing(t *testing.T) {
	f := &fake{status: vmnetd.Status{Attachments: []vmnetd.Attachment{nic("vm1", "net0")}}, countErr: vmnetd.Errorf(vmnetd.ErrFailed, "no netlink")}
	if got := do(t, f, "metrics"); got.code != 1 || got.out != "" || !strings.Contains(got.err, "no netlink") {
		t.Errorf("%+v", got)
	}
	for _, gone := range []error{vmnetd.Errorf(vmnetd.ErrNotFound, "it has gone"), vmnetd.Errorf(vmnetd.ErrUnsupported, "no egress hook")} {
		f.countErr = gone
		if got := do(t, f, "metrics"); got.code != 0 || !strings.Contains(got.out, "vmnetd_attachment_info{") || strings.Contains(got.out, "filter") {
			t.Errorf("%v: %+v", gone, got)
		}
	}
}

func TestMetricsAsJSONHaveLabelsAndValues(t *testing.T) {
	var all []metric
	f := &fake{status: vmnetd.Status{Uplinks: []vmnetd.UplinkState{{Name: "eno1", State: vmnetd.StateUp}}}}
	if err := json.Unmarshal([]byte(do(t, f, "metrics", "--json").out), &all); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.Name == "vmnetd_uplink_up" && m.Samples[0].Labels["uplink"] == "eno1" && m.Samples[0].Value == 1 {
			return
		}
	}
	t.Errorf("no uplink in %+v", all)
}
