package policy

import (
	"fmt"
	"testing"

	"github.com/vmnetd/vmnetd"
)

// A site's configuration: 200 networks, 1,000 rules, the last one matches.
func BenchmarkDecideAmongAThousandRules(b *testing.B) {
	s := &Set{Uplinks: []string{"wan"}}
	for i := range 200 {
		s.Networks = append(s.Networks, Network{Name: fmt.Sprint("n", i), Uplinks: []string{"wan"}})
	}
	for i := range 1000 {
		s.Rules = append(s.Rules, Rule{VM: []string{fmt.Sprintf("vm-%d-*", i)}, Text: "x", At: at("r", i)})
	}
	f := exampleFacts()
	for b.Loop() {
		if _, err := s.Decide(vmnetd.Request{VM: "vm-999-1"}, f); err != nil {
			b.Fatal(err)
		}
	}
}
