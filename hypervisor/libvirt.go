package hypervisor

import (
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/failpoint"
)

const viaLibvirt = "libvirt"

// The sockets of the one daemon and of the modular one (libvirtd(8),
// virtqemud(8)).
const (
	libvirtdSocket  = "/run/libvirt/libvirt-sock"
	virtqemudSocket = "/run/libvirt/virtqemud-sock"
)

// LibvirtOptions is what NewLibvirt needs. The zero value works.
type LibvirtOptions struct {
	FP     failpoint.Set
	Log    *slog.Logger
	Limits Limits
	Hooks  string // the folder of libvirt's hooks; default /etc/libvirt/hooks
}

// Libvirt reaches VMs through libvirtd. It keeps one connection and a mirror of
// the domains, which events keep true: a VM is found without a question. Run has
// to run for any of it. Its methods may be called by several goroutines at once.
type Libvirt struct {
	limits Limits
	log    *slog.Logger
	hit    func(failpoint.Point) error
	hooks  string

	mu      sync.Mutex
	sockets []string      // where libvirtd may listen, best first; none: libvirt is not asked
	changed chan struct{} // closed and replaced when sockets change
	now     *lvSession    // nil: not connected
	why     error         // why it is not
	domains map[lvUUID]*lvDomain
	listed  bool                       // domains were listed once
	unsure  map[lvUUID]<-chan struct{} // closed at the end of a change that nobody waited for
	waiting map[lvDevice]chan bool     // who waits for a device's removal; false: the guest refused
	tell    *lvTeller                  // of Run
	warned  map[string]bool            // domains whose taint was said
	fd      *fdWay
}

// NewLibvirt makes a Libvirt that asks nobody until Configure names a libvirtd.
func NewLibvirt(o LibvirtOptions) *Libvirt {
	l := &Libvirt{
		limits: o.Limits.withDefaults(), log: o.Log, hit: o.FP.Hit, hooks: o.Hooks, changed: make(chan struct{}),
		domains: map[lvUUID]*lvDomain{}, unsure: map[lvUUID]<-chan struct{}{}, waiting: map[lvDevice]chan bool{}, warned: map[string]bool{},
	}
	l.fd = l.newFDWay()
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.hooks == "" {
		l.hooks = "/etc/libvirt/hooks"
	}
	return l
}

// Configure says which libvirtd is asked: qemu:///system,
// qemu:///system?socket=PATH, or "" for none. Run goes there at once. With a bad
// one (vmnetd.ErrInvalid) the old one stays.
func (l *Libvirt) Configure(uri string) error {
	sockets, err := libvirtSockets(uri)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Join(sockets, "\n") == strings.Join(l.sockets, "\n") {
		return nil
	}
	l.sockets = sockets
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

func (l *Libvirt) where() (sockets []string, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sockets, l.changed
}

// libvirtSockets is where the libvirtd of a URI may listen, best first; none for
// no URI.
func libvirtSockets(uri string) ([]string, error) {
	if uri == "" {
		return nil, nil
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return nil, badURI(uri, "cannot be read")
	case u.Scheme == "qemu" && u.Host == "" && u.Path == "/session":
		return nil, badURI(uri, "is a user's own libvirtd: it has no right to open our devices")
	}
	if u.RawQuery, u.ForceQuery = "", false; u.String() != "qemu:///system" {
		return nil, badURI(uri, "is not one of this host's QEMU")
	}
	_, params, _ := strings.Cut(uri, "?")
	return socketParam(uri, params)
}

func socketParam(uri, params string) ([]string, error) {
	query, err := url.ParseQuery(params)
	if err != nil {
		return nil, badURI(uri, "cannot be read")
	}
	if len(query) == 0 {
		return []string{libvirtdSocket, virtqemudSocket}, nil
	}
	path := query.Get("socket")
	switch {
	case len(query) != 1 || len(query["socket"]) != 1:
		return nil, badURI(uri, "has parameters other than socket")
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		return nil, badURI(uri, "names a socket that is not a clean absolute path")
	case strings.HasSuffix(path, "-ro"):
		return nil, badURI(uri, "names the socket for reading only: nothing can be attached by it")
	}
	return []string{path}, nil
}

func badURI(uri, why string) error {
	return vmnetd.Errorf(vmnetd.ErrInvalid, "libvirt URI %q %s", uri, why).
		WithNext("write qemu:///system, or qemu:///system?socket=PATH")
}
