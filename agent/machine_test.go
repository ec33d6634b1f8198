package agent

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent/agenttest"
)

// machine is what an operator, the VMs and the hardware do to a host in any
// order. After each step the agent is left alone until the host is as it ought
// to be.
type machine struct {
	h       *host
	w       *agenttest.World
	running map[string]bool
	stuck   map[string]bool
	uplink  bool
	has     map[key]bool // attached by a call and not taken away since
}

var machineVMs = []string{"vm1", "vm2", "vm3"}

func (m *machine) vm(t *rapid.T) string { return rapid.SampledFrom(machineVMs).Draw(t, "vm") }

func (m *machine) startVM(t *rapid.T) {
	vm := m.vm(t)
	m.w.StartVM(vm)
	m.running[vm], m.stuck[vm] = true, false
	m.loses(vm)
}

func (m *machine) stopVM(t *rapid.T) {
	vm := m.vm(t)
	m.w.StopVM(vm)
	m.running[vm] = false
	m.loses(vm)
}

func (m *machine) loses(vm string) {
	for k := range m.has {
		if k.vm == vm {
			delete(m.has, k)
		}
	}
}

func (m *machine) attach(t *rapid.T) {
	k := key{m.vm(t), rapid.SampledFrom([]string{"net0", "net1"}).Draw(t, "id")}
	_, err := m.h.agent.Attach(t.Context(), Caller{}, vmnetd.Request{VM: k.vm, ID: k.id})
	if err == nil {
		m.has[k] = true
	}
	if err == nil && !m.running[k.vm] {
		t.Fatalf("attached %v to a VM that does not run", k)
	}
}

func (m *machine) detach(t *rapid.T) {
	k := key{m.vm(t), rapid.SampledFrom([]string{"net0", "net1"}).Draw(t, "id")}
	if _, err := m.h.agent.Detach(t.Context(), Caller{}, k.vm, Selector{ID: k.id}); err == nil {
		delete(m.has, k)
	}
}

func (m *machine) stick(t *rapid.T) {
	vm := m.vm(t)
	m.stuck[vm] = m.running[vm] && !m.stuck[vm]
	m.w.SetStuck(vm, m.stuck[vm])
}

func (m *machine) pullUplink(*rapid.T) {
	m.w.RemoveUplink("u0")
	m.uplink = false
}

func (m *machine) plugUplink(t *rapid.T) {
	if m.uplink {
		t.Skip("it is there")
	}
	m.w.AddUplink("u0", uplinkMAC)
	m.uplink = true
}

func (m *machine) deleteDevice(t *rapid.T) {
	m.w.DeleteDevice(vmnetd.Ifname(m.vm(t), "net0"))
}

func (m *machine) failOnce(t *rapid.T) {
	m.w.FailAt(rapid.IntRange(1, 12).Draw(t, "call"), rapid.Bool().Draw(t, "after"))
}

func (m *machine) restart(*rapid.T) {
	m.h.halt()
	m.w.Revive()
	m.h.start()
}

// settled says what is not as it ought to be.
func (m *machine) settled() error {
	if unheld := m.w.Unheld(); len(unheld) != 0 {
		return fmt.Errorf("up without a holder: %v", unheld)
	}
	for k := range m.has {
		if !m.uplink || m.stuck[k.vm] {
			continue
		}
		if err := m.h.works(k.vm, k.id); err != nil {
			return err
		}
	}
	for _, att := range m.h.agent.List("") {
		if !m.running[att.VM] {
			return fmt.Errorf("%s is still listed, its VM has ended", att.FullName())
		}
		if att.Phase == vmnetd.Detaching && !m.stuck[att.VM] {
			return fmt.Errorf("%s is still detaching", att.FullName())
		}
	}
	for _, vm := range machineVMs {
		for id := range m.w.NICs(vm) {
			if _, ok := m.h.agent.store.get(key{vm, id}); !ok {
				return fmt.Errorf("%s/%s is plugged and not listed", vm, id)
			}
		}
	}
	if devices, list := m.w.DeviceNames(), m.h.agent.List(""); len(devices) > len(list) {
		return fmt.Errorf("devices %v for %d attachments", devices, len(list))
	}
	return nil
}

func TestAnyOrderOfEventsEndsAsWanted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld()
		m := &machine{h: newHost(t, w, testConfig()), w: w, running: map[string]bool{}, stuck: map[string]bool{}, uplink: true, has: map[key]bool{}}
		m.h.start()
		defer m.h.halt()
		rt.Repeat(map[string]func(*rapid.T){
			"start VM": m.startVM, "stop VM": m.stopVM, "attach": m.attach, "detach": m.detach, "stick": m.stick,
			"pull uplink": m.pullUplink, "plug uplink": m.plugUplink, "delete device": m.deleteDevice,
			"fail once": m.failOnce, "restart": m.restart,
			"": func(t *rapid.T) { within(t, 20*time.Second, "settling", m.settled) },
		})
	})
}
