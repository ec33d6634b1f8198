package policy

import (
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestTheOperatorsLabelsWinLeafByLeaf(t *testing.T) {
	own := map[string]string{"tenant": "t9", "tier": "gold"}
	set := Set{
		Uplinks: []string{"wan"}, Networks: []Network{{Name: "lan", Uplinks: []string{"wan"}}},
		Labels: map[string]map[string]string{"vm1": {"tenant": "t1"}},
		Rules:  []Rule{{Label: map[string]string{"tenant": "t1", "tier": "gold"}}},
	}
	f := Facts{Uplinks: exampleFacts().Uplinks, MACSeed: seed}
	if _, err := set.Decide(vmnetd.Request{VM: "vm1"}, f); err == nil {
		t.Error("granted without the label of its own")
	}
	f.VM.Labels = own
	if d, err := set.Decide(vmnetd.Request{VM: "vm1"}, f); err != nil || d.MACChange != ChangeDeny {
		t.Errorf("%+v, %v", d, err)
	}
	if own["tenant"] != "t9" {
		t.Error("the facts were changed")
	}
}
