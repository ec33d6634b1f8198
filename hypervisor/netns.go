package hypervisor

import (
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
	"github.com/vmnetd/vmnetd/internal/rtnl"
)

// viaNetns begins the way to a network namespace: netns:PATH.
const viaNetns = "netns:"

// Netns is the way to network namespaces of others, which stand where VMs stand:
// what is attached to one is a device in it. It plugs nothing, because the device
// itself goes there. Its methods may be called by several goroutines at once.
type Netns struct {
	open func() (*rtnl.Conn, error) // in the namespace that the daemon was started in

	mu      sync.Mutex
	folders []string
	trusted []string
	found   map[netnsKey]netnsFound
	more    chan struct{} // closed and replaced when something was found
}

// netnsKey is a namespace in the name of one VM.
type netnsKey struct{ name, path string }

// netnsFound is which one it was.
type netnsFound struct {
	instance string
	nsid     int
}

// NewNetns makes the way; Configure before anything is asked of it.
func NewNetns() *Netns {
	return &Netns{open: rtnl.Open, found: map[netnsKey]netnsFound{}, more: make(chan struct{})}
}

// Configure replaces the folders and globs; with a bad one (vmnetd.ErrInvalid)
// the old ones stay.
func (n *Netns) Configure(c Config) error {
	if err := checkNetns(c); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.folders, n.trusted = slices.Clone(c.Folders), slices.Clone(c.Trusted)
	return nil
}

// checkNetns refuses what could never cover a path as Find takes it.
func checkNetns(c Config) error {
	for _, p := range slices.Concat(c.Folders, c.Trusted) {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "%q is not an absolute, clean path", p).WithNext("write it as /run/netns, or /run/netns/web* for namespaces that are trusted")
		}
	}
	for _, glob := range c.Trusted {
		if _, err := path.Match(glob, ""); err != nil {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "%q is no pattern of paths: %w", glob, err).WithNext("write it as /run/netns/web*")
		}
	}
	return nil
}

func (n *Netns) config() (folders, trusted []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.folders, n.trusted
}

// netnsPath reads via: netns:PATH.
func netnsPath(via string) (string, error) {
	p, ok := strings.CutPrefix(via, viaNetns)
	if !ok || !filepath.IsAbs(p) || filepath.Clean(p) != p {
		return "", vmnetd.Errorf(vmnetd.ErrInvalid, "%q is no way to a network namespace", via).
			WithNext("write netns:PATH with its absolute path: netns:/run/netns/web1")
	}
	return p, nil
}

// Allowed says whether a user may name a namespace: vmnetd.ErrDenied unless uid is
// 0 or it lies beneath a configured folder.
func (n *Netns) Allowed(uid uint32, via string) error {
	p, err := netnsPath(via)
	if err != nil || uid == 0 {
		return err
	}
	folders, _ := n.config()
	if _, _, ok := covering(folders, p); ok {
		return nil
	}
	return vmnetd.Errorf(vmnetd.ErrDenied, "only root may name a network namespace outside of the configured folders, and %s is outside", vmnetd.Printable(p)).
		WithNext("have its folder added to hypervisors: netns: folders:")
}

// covering is the folder that a path lies beneath.
func covering(folders []string, p string) (folder, rel string, ok bool) {
	for _, folder := range folders {
		rel, ok := strings.CutPrefix(p, strings.TrimSuffix(folder, "/")+"/")
		if ok && rel != "" {
			return folder, rel, true
		}
	}
	return "", "", false
}

// Find is the namespace of via (netns:PATH) as a VM of that name: its Instance
// tells it from another namespace that comes at that path. vmnetd.ErrNotFound: the
// path is not there; vmnetd.ErrInvalid: it is no network namespace, or this host's
// own. Nothing of it is held. From then on Run tells its end.
//
// A namespace whose path has gone counts as gone, also while processes are in it:
// nobody can name it any more.
func (n *Netns) Find(ctx context.Context, name, via string) (VM, error) {
	vm, f, err := n.look(ctx, name, via, (*rtnl.Conn).EnsureNSID)
	if err == nil {
		n.remember(netnsKey{name, vm.Netns}, f)
	}
	return vm, err
}

// Ask is Find that changes nothing and remembers nothing.
func (n *Netns) Ask(ctx context.Context, name, via string) (VM, error) {
	vm, _, err := n.look(ctx, name, via, func(c *rtnl.Conn, ctx context.Context, fd int) (int, error) {
		id, _, err := c.NSID(ctx, fd)
		return id, err
	})
	return vm, err
}

func (n *Netns) look(ctx context.Context, name, via string, nsid numberer) (VM, netnsFound, error) {
	if err := vmnetd.CheckVMName(name); err != nil {
		return VM{}, netnsFound{}, err
	}
	p, err := netnsPath(via)
	if err != nil {
		return VM{}, netnsFound{}, err
	}
	ns, trusted, err := n.at(p)
	if err != nil {
		return VM{}, netnsFound{}, err
	}
	defer ns.Close()
	f, err := n.identify(ctx, ns, nsid)
	if err != nil {
		return VM{}, netnsFound{}, whyNoNetns(p, err)
	}
	return VM{Name: name, Via: via, Netns: p, Running: true, Instance: f.instance, Trusted: trusted}, f, nil
}

// numberer is the number that a namespace has in a Conn's.
type numberer func(c *rtnl.Conn, ctx context.Context, fd int) (int, error)

func (n *Netns) remember(k netnsKey, f netnsFound) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.found[k] == f {
		return
	}
	n.found[k] = f
	close(n.more)
	n.more = make(chan struct{})
}

// identify says which namespace it is. Its inode can be that of the next one as
// soon as it has gone (fs/proc/generic.c, proc_alloc_inum); its number in the
// host's namespace stays over our restart, and is drawn unless the kernel had
// counted it before (rtnl.Drawn).
func (n *Netns) identify(ctx context.Context, ns *netns.NS, nsid numberer) (netnsFound, error) {
	conn, err := n.open()
	if err != nil {
		return netnsFound{}, err
	}
	defer conn.Close()
	if err := notOurs(conn, ns); err != nil {
		return netnsFound{}, err
	}
	id, err := nsid(conn, ctx, ns.Fd())
	return netnsFound{instance: fmt.Sprintf("%s%s:%d", viaNetns, ns.ID(), id), nsid: id}, err
}

// NetnsNumber is the number that the host's namespace has for one with that Instance;
// it stays while the namespace is there, also without a path.
func NetnsNumber(instance string) (nsid int, ok bool) {
	rest, ok := strings.CutPrefix(instance, viaNetns)
	if !ok {
		return 0, false
	}
	nsid, err := strconv.Atoi(rest[strings.LastIndexByte(rest, ':')+1:])
	return nsid, err == nil
}

// errOurs says that a namespace is the one that the daemon was started in.
var errOurs = vmnetd.Errorf(vmnetd.ErrInvalid, "it is this host's own network namespace").
	WithNext("to give this host itself a device there is  vmnetd host-link NETWORK --ip ADDRESS/LENGTH")

func notOurs(conn *rtnl.Conn, ns *netns.NS) error {
	return conn.Do(func() error {
		own, err := netns.Current()
		if err != nil {
			return err
		}
		defer own.Close()
		if own.Same(ns) {
			return errOurs
		}
		return nil
	})
}

// Names is the VMs that were found in the form of namespaces and have not gone.
func (n *Netns) Names() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for k := range maps.Keys(n.found) {
		names = append(names, k.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
