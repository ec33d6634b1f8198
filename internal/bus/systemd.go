package bus

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// Systemd starts services by systemd, which is process 1.
type Systemd struct{}

// SystemdRuns says whether it is (sd_booted(3)).
func SystemdRuns() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// unitGone is how long systemd may take to forget a unit of the same name whose
// process was killed.
const unitGone = 2 * time.Second

// StartService runs a program as a transient service (systemd.service(5),
// Type=exec), and returns once it is executed. The service outlives us, and goes
// on in whatever target the host is brought to. It is killed when it is stopped,
// not asked to end: what it works on stays as it is. At a shutdown that is after
// everything that needs the network, guests among it, has ended.
func (s Systemd) StartService(ctx context.Context, name, description string, argv []string) error {
	return s.start(ctx, name, append(lasting(description), dbus.PropType("exec"), dbus.PropExecStart(argv, true)))
}

// lasting is what services of ours have in common, whose work goes on without us.
func lasting(description string) []dbus.Property {
	return []dbus.Property{
		dbus.PropDescription(description),
		{Name: "KillSignal", Value: godbus.MakeVariant(int32(unix.SIGKILL))},
		dbus.PropBefore("network.target"),
		{Name: "IgnoreOnIsolate", Value: godbus.MakeVariant(true)},
		{Name: "CollectMode", Value: godbus.MakeVariant("inactive-or-failed")},
	}
}

// start starts a transient service and waits until systemd says that it has started.
func (Systemd) start(ctx context.Context, name string, properties []dbus.Property) error {
	conn, err := dbus.NewWithContext(ctx) // where there is no bus, by systemd's own socket
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrUnreachable, "systemd is not reachable: %w", err).WithNext("systemctl status dbus")
	}
	defer conn.Close()
	result := make(chan string, 1)
	for deadline := time.Now().Add(unitGone); ; {
		_, err = conn.StartTransientUnitContext(ctx, name, "fail", properties, result)
		if !exists(err) || time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond): // systemd reaps it in its own time, and a unit that was never loaded has no signal
		}
	}
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "systemd does not start %s: %w", name, err).WithNext("systemctl status " + name)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case how := <-result:
		if how != "done" {
			return vmnetd.Errorf(vmnetd.ErrFailed, "systemd does not start %s: %s", name, how).WithNext("journalctl -u " + name)
		}
		return nil
	}
}

// exists says that a unit of that name is still loaded.
func exists(err error) bool {
	var e godbus.Error
	return errors.As(err, &e) && strings.HasSuffix(e.Name, ".UnitExists")
}
