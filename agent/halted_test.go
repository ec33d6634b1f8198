package agent

import (
	"testing"

	"github.com/vmnetd/vmnetd"
)

func TestNICOfAVMThatWaitsForItsMigrationComesUpWhereNobodyTellsThatItRuns(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		w := newWorld()
		w.StartVM("vm1")
		w.SetIncoming("vm1", true)
		h := newHost(t, w, testConfig())
		h.start()
		if att := attach(t, h.agent, vmnetd.Request{VM: "vm1", Network: "lan", Incoming: true}); att.Link != "down" || att.Phase != vmnetd.Attached {
			t.Errorf("where it is awaited: %+v", att)
		}
		if restarted {
			h.halt()
			h.start()
		}
		if err := h.attached("vm1/net0", vmnetd.Attachment{Link: "down"}); err != nil {
			t.Errorf("it waits: %v", err)
		}
		w.SetIncoming("vm1", false)
		eventually(t, "up when it runs", func() error { return h.attached("vm1/net0", vmnetd.Attachment{Link: "up"}) })
		h.halt()
	}
}
