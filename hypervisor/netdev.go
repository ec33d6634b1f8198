package hypervisor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// deviceID is the id in QEMU of a NIC of ours.
func deviceID(id string) string { return "vmn-" + id }

// newNetdevID is an id for one attempt: a netdev_add that fails half-way leaves
// an id that can be neither used again nor deleted.
func newNetdevID(id string) string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return deviceID(id) + "." + hex.EncodeToString(b)
}

// isNetdevOf says whether a netdev is one of newNetdevID's for that NIC: ids may
// contain dots, so "vmn-a.b.01234567" is not one of "a".
func isNetdevOf(netdev, id string) bool {
	suffix, ok := strings.CutPrefix(netdev, deviceID(id)+".")
	return ok && netdevSuffix.MatchString(suffix)
}

var netdevSuffix = regexp.MustCompile(`^[0-9a-f]{8}$`)

// fdName is a queue's or vhost's name in QEMU until netdev_add has taken it. It
// is the same in each attempt, so that what a crash left can be closed. It must
// not begin with a digit (monitor/fds.c, monitor_fd_param).
func fdName(id, kind string, i int) string { return fmt.Sprintf("%s-%s%d", deviceID(id), kind, i) }

const (
	queueFD = "q"
	vhostFD = "v"
)

// netdevs lists the NIC's netdevs. No QMP command lists them; "info network"
// has since QEMU 1.0 printed a line for each: "NAME: index=0,type=tap,…", or
// " \ NAME: …" below its NIC (net/net.c, print_net_client).
func (e *engine) netdevs(ctx context.Context, id string) ([]string, error) {
	var text string
	err := e.Do(ctx, "human-monitor-command", map[string]string{"command-line": "info network"}, &text)
	if err != nil {
		return nil, err
	}
	return parseNetdevs(text, id), nil
}

func parseNetdevs(text, id string) []string {
	var found []string
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimLeft(line, ` \`), ": ")
		if ok && isNetdevOf(name, id) && !strings.Contains(rest, "type=nic") {
			found = append(found, name)
		}
	}
	return unique(found) // one line for each queue
}

func unique(items []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range items {
		if !seen[s] {
			out = append(out, s)
		}
		seen[s] = true
	}
	return out
}

// deleteNetdev deletes a netdev; one that has gone is fine. It refuses while
// the NIC is there: QEMU would close the tap under it (net/net.c,
// qemu_del_net_client).
func (e *engine) deleteNetdev(ctx context.Context, id, netdev string) error {
	plugged, err := e.hasDevice(ctx, deviceID(id))
	if err != nil {
		return err
	}
	if plugged {
		return fmt.Errorf("netdev %s stays: its NIC is still plugged", netdev)
	}
	err = e.Do(ctx, "netdev_del", map[string]string{"id": netdev}, nil)
	if isClass(err, deviceNotFound) {
		return nil
	}
	return err
}

// closeFD closes a named fd in QEMU; one that netdev_add has taken, or that
// never came, is fine.
func (e *engine) closeFD(ctx context.Context, name string) (closed bool, err error) {
	err = e.Do(ctx, "closefd", map[string]string{"fdname": name}, nil)
	var refused *Error
	if asError(err, &refused) { // GenericError: File descriptor named … not found
		return false, nil
	}
	return err == nil, err
}

// sweepRun is how many fd names in a row must be missing until no more are
// looked for: a netdev_add that failed has taken some from the front. Each costs
// 0.1 ms.
const sweepRun = 8

// sweepFDs closes the fds of one kind that an earlier attempt left, from number
// first on.
func (e *engine) sweepFDs(ctx context.Context, id, kind string, first int) error {
	for i, missing := first, 0; missing < sweepRun; i++ {
		closed, err := e.closeFD(ctx, fdName(id, kind, i))
		if err != nil {
			return err
		}
		missing++
		if closed {
			missing = 0
		}
	}
	return nil
}

// sweep removes what an attempt that was cut off left behind. The NIC must not
// be plugged.
func (e *engine) sweep(ctx context.Context, id string) error {
	netdevs, err := e.netdevs(ctx, id)
	if err != nil {
		return err
	}
	return e.deleteNetdevs(ctx, id, netdevs)
}

func (e *engine) deleteNetdevs(ctx context.Context, id string, netdevs []string) error {
	for _, n := range netdevs {
		if err := e.deleteNetdev(ctx, id, n); err != nil {
			return err
		}
	}
	return nil
}
