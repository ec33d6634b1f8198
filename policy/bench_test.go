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

// Rules as sites write them: a name, a beginning, an end, a list, a label each,
// none of them covered.
func BenchmarkCovered(b *testing.B) {
	shapes := map[string]func(i int) Rule{
		"names":    func(i int) Rule { return Rule{VM: []string{fmt.Sprintf("vm-%d", i)}} },
		"prefixes": func(i int) Rule { return Rule{VM: []string{fmt.Sprintf("vm-%d-*", i)}} },
		"suffixes": func(i int) Rule { return Rule{VM: []string{fmt.Sprintf("*-%d", i)}} },
		"middles":  func(i int) Rule { return Rule{VM: []string{fmt.Sprintf("*-%d-*", i)}} },
		"classes":  func(i int) Rule { return Rule{VM: []string{fmt.Sprintf("[a-f]?%d-*", i)}} },
		"labels":   func(i int) Rule { return Rule{Label: map[string]string{"tenant": fmt.Sprint("t", i)}} },
		"uuids":    func(i int) Rule { return Rule{UUID: []string{fmt.Sprintf("6ba7b810-9dad-11d1-80b4-%012x", i)}} },
		"networks": func(i int) Rule { return Rule{VM: []string{"*"}, Networks: []string{fmt.Sprint("n", i)}} },
		"lists": func(i int) Rule {
			var r Rule
			for j := range 20 {
				r.VM = append(r.VM, fmt.Sprintf("vm-%d-%d", j, i))
			}
			return r
		},
	}
	for shape, rule := range shapes {
		for _, rules := range []int{1000, 4000} {
			s := &Set{}
			for i := range rules {
				s.Networks = append(s.Networks, Network{Name: fmt.Sprint("n", i)})
				s.Rules = append(s.Rules, rule(i))
			}
			b.Run(fmt.Sprintf("%s/%d", shape, rules), func(b *testing.B) {
				for b.Loop() {
					if got := s.Covered(); got != nil {
						b.Fatal(got)
					}
				}
			})
		}
	}
}
