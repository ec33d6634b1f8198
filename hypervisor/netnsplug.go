package hypervisor

import (
	"context"
	"fmt"
	"os"

	"github.com/vmnetd/vmnetd"
)

// Plug has nothing to do: the device goes into the namespace by itself.
func (n *Netns) Plug(context.Context, VM, NIC) (Place, error) { return Place{}, nil }

// Plugged is true: what is to be in the namespace is seen there.
func (n *Netns) Plugged(context.Context, VM, NIC) (Place, bool, error) { return Place{}, true, nil }

// Unplug has nobody to ask.
func (n *Netns) Unplug(context.Context, VM, NIC) error { return nil }

// CutOff has no backend to take away.
func (n *Netns) CutOff(context.Context, VM, NIC) error { return nil }

// SetLink has nobody to tell: the link is the device's own.
func (n *Netns) SetLink(context.Context, VM, NIC, bool) error { return nil }

// Filter is vmnetd.ErrUnsupported: the kernel itself knows what a namespace's
// device receives.
func (n *Netns) Filter(_ context.Context, vm VM, _ NIC) (RxFilter, error) {
	return RxFilter{}, vmnetd.Errorf(vmnetd.ErrUnsupported, "%s is a network namespace, which asks for no filter", vmnetd.Printable(vm.Name))
}

// Doctor checks the configured folders.
func (n *Netns) Doctor(context.Context) []vmnetd.Check {
	folders, _ := n.config()
	var checks []vmnetd.Check
	for _, folder := range folders {
		c := vmnetd.Check{Level: vmnetd.LevelOK, Name: "network namespaces " + folder}
		entries, err := os.ReadDir(folder)
		c.Text = fmt.Sprintf("%d there", len(entries))
		if err != nil {
			c.Text = "not there yet; namespaces are found when they are named"
		}
		checks = append(checks, c)
	}
	return checks
}
