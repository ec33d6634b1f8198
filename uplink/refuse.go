package uplink

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// refuse is everything that the kernel would not allow of the way from is to
// want, and what would take guests' devices away, found before anything is
// touched.
func refuse(is, want World) []vmnetd.Check {
	r := refuser{is: is, want: want}
	for _, name := range want.names() {
		d := want[name]
		if loop := want.loop(name); loop != "" {
			r.fail(name, "", "%s stands on itself: %s", name, loop)
			continue
		}
		if d.Master != "" && is[name].Master != d.Master && !d.Absent {
			r.port(d)
		}
		if is.there(name) && (d.Absent || rebuilt(is[name], d)) {
			r.removal(name)
		}
		r.guests(d)
	}
	return r.checks
}

type refuser struct {
	is, want World
	checks   []vmnetd.Check
}

func (r *refuser) fail(name, next, format string, args ...any) {
	r.checks = append(r.checks, vmnetd.Check{Level: vmnetd.LevelFail, Name: name, Text: fmt.Sprintf(format, args...), Do: next})
}

// handlers are the kinds that take a lower device's one receive handler
// (netdev_rx_handler_register), as a bond, team and bridge take their ports'.
var handlers = []string{"macvlan", "macvtap", "ipvlan", "ipvtap"}

// port is what keeps a device from becoming a port.
func (r *refuser) port(d Device) {
	is := r.is[d.Name]
	for _, u := range is.Users {
		if slices.Contains(handlers, u.Kind) {
			r.fail(d.Name, r.letGo(u), "%s cannot become a port of %s: %s stands on it, and a device has one or the other", d.Name, d.Master, u.text())
			break
		}
	}
	if old := is.Master; old != "" {
		if holder, ok := r.want[old]; !ok || holder.Foreign || r.undeclared(old) {
			r.fail(d.Name, "take it out:  ip link set "+d.Name+" nomaster", "%s cannot become a port of %s: it is a port of %s, which is not declared here", d.Name, d.Master, old)
		}
	}
	if r.want[d.Master].Kind == kindBridge && is.Kind == kindBridge {
		r.fail(d.Name, "", "%s cannot become a port of %s: a bridge takes no bridge as its port", d.Name, d.Master) // br_add_if: ELOOP
	}
	if is.Foreign && r.want[d.Master].Foreign {
		r.fail(d.Name, "", "%s is somebody else's", d.Master)
	}
}

// undeclared says that a device stays just as it is: no plan of ours touches
// it, so it keeps its ports.
func (r *refuser) undeclared(master string) bool {
	return !r.want[master].Absent && r.want[master].Uplink == ""
}

// removal is what keeps a device from being deleted: everything that stands on
// it would go with it.
func (r *refuser) removal(name string) {
	for _, at := range append(r.is.over(name), name) {
		if at != name && (r.is[at].Kind != kindVLAN || r.is[at].Lower == "") {
			continue // a master stays when its port is deleted
		}
		if users := r.is[at].Users; len(users) > 0 {
			r.fail(name, r.letGo(users[0]), "%s cannot be removed: %s on it, and would go with it", name, standOn(users))
			return
		}
	}
}

// guests is what must not be had under guests.
func (r *refuser) guests(d Device) {
	n := r.is.guests(d.Name)
	if n == 0 || d.Absent || d.Kind != kindBond || d.Mode == r.is[d.Name].Mode {
		return
	}
	if d.Mode == "balance-tlb" || d.Mode == "balance-alb" {
		r.fail(d.Name, "use active-backup, 802.3ad or balance-xor", "%s cannot have the mode %s with %s on it: it puts its own MACs into the frames that guests send", d.Name, d.Mode, plural(n, "guest", "guests"))
	}
}

func (r *refuser) letGo(u User) string {
	if vm, ok := strings.CutPrefix(u.Alias, guestMark); ok {
		vm, id, _ := strings.Cut(vm, "/")
		return fmt.Sprintf("vmnetd detach %s --id %s", vmnetd.Printable(vm), vmnetd.Printable(id))
	}
	return "ip link del " + u.Name
}

func (u User) text() string {
	if nic, ok := strings.CutPrefix(u.Alias, guestMark); ok {
		return fmt.Sprintf("%s of %s", u.Kind, vmnetd.Printable(nic))
	}
	return u.Kind + " " + u.Name
}

func standOn(users []User) string {
	if len(users) == 1 {
		return users[0].text() + " stands"
	}
	return fmt.Sprintf("%s and %s stand", users[0].text(), plural(len(users)-1, "other", "others"))
}

// loop is the way from a device back to itself, "a > b > a"; "" for none.
func (w World) loop(name string) string {
	path := []string{name}
	for at := w[name].Master; at != "" && len(path) <= len(w); at = w[at].Master {
		path = append(path, at)
		if at == name {
			return strings.Join(path, " > ")
		}
	}
	path = path[:1]
	for at := w[name].Lower; at != "" && len(path) <= len(w); at = w[at].Lower {
		path = append(path, at)
		if at == name {
			return strings.Join(path, " > ")
		}
	}
	return ""
}
