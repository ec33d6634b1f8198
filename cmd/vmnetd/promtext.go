package main

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// Types of metric.
const (
	gauge   = "gauge"
	counter = "counter"
)

// metric is one family in Prometheus' text format 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats), which needs no library:
// client_golang makes the program a fifth larger and every start of it, QEMU's
// and libvirt's among them, a quarter slower.
type metric struct {
	Name    string   `json:"name"`
	Help    string   `json:"help"`
	Type    string   `json:"type"`
	Samples []sample `json:"samples"`
}

type sample struct {
	Labels map[string]string `json:"labels"`
	Value  float64           `json:"value"`
	pairs  []string          // Labels in the order in which they are written
}

// add adds a sample; labels are name and value in turn.
func (m *metric) add(value float64, labels ...string) {
	s := sample{Labels: map[string]string{}, Value: value, pairs: labels}
	for i := 0; i+1 < len(labels); i += 2 {
		s.Labels[labels[i]] = labels[i+1]
	}
	m.Samples = append(m.Samples, s)
}

var (
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

// writeMetrics writes the families that have samples. Labels are UTF-8: readers
// refuse a file with anything else in it.
func writeMetrics(w io.Writer, all []metric) error {
	out := bufio.NewWriter(w)
	for _, m := range all {
		if len(m.Samples) == 0 {
			continue
		}
		_, _ = out.WriteString("# HELP " + m.Name + " " + helpEscapes.Replace(m.Help) + "\n# TYPE " + m.Name + " " + m.Type + "\n")
		for _, s := range m.Samples {
			_, _ = out.WriteString(m.Name + labelsOf(s.pairs) + " " + strconv.FormatFloat(s.Value, 'f', -1, 64) + "\n")
		}
	}
	return out.Flush() // says what went wrong before, too
}

func labelsOf(pairs []string) string {
	if len(pairs) == 0 {
		return ""
	}
	var list []string
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, pairs[i]+`="`+labelEscapes.Replace(strings.ToValidUTF8(pairs[i+1], "\uFFFD"))+`"`)
	}
	return "{" + strings.Join(list, ",") + "}"
}
