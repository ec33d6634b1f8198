package hypervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/netns"
)

// at opens the namespace of a path, and says whether it is a trusted one. The node is
// looked at before it is opened: a pipe in its place would keep us waiting.
func (n *Netns) at(p string) (ns *netns.NS, trusted bool, err error) {
	fd, err := n.node(p)
	if err != nil {
		return nil, false, whyNoNetns(p, err)
	}
	defer unix.Close(fd)
	if err := isNamespace(fd); err != nil {
		return nil, false, whyNoNetns(p, err)
	}
	node := fmt.Sprintf("/proc/self/fd/%d", fd)
	if ns, err = netns.Open(node); err != nil {
		return nil, false, whyNoNetns(p, errNoNetns)
	}
	place, err := os.Readlink(node)
	return ns, err == nil && n.trusts(place), nil
}

// node opens a path without following a link beneath a configured folder: there
// others than root choose it, who could put one there that leads to any namespace.
func (n *Netns) node(p string) (int, error) {
	folders, _ := n.config()
	folder, rel, ok := covering(folders, p)
	if !ok {
		return unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	dir, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	return walk(dir, folder, rel, func(int, string) error { return nil })
}

var (
	errNoNetns = errors.New("it is no network namespace")
	errNoMount = errors.New("it is an empty file: no namespace is mounted on it any more")
)

// isNamespace says whether the node is one of nsfs. The file that `ip netns add`
// mounts a namespace on is empty: one that is left behind is no namespace that
// somebody named by mistake, but one that has gone.
func isNamespace(fd int) error {
	var in unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(fd, &in), unix.Fstat(fd, &st)); err != nil {
		return err
	}
	switch {
	case in.Type == unix.NSFS_MAGIC:
		return nil
	case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 && in.Type != unix.PROC_SUPER_MAGIC:
		return errNoMount
	}
	return errNoNetns
}

// whyNoNetns says in one sentence why a path names no namespace that can be used.
func whyNoNetns(p string, err error) error {
	name := vmnetd.Printable(p)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ESRCH):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no network namespace %s: %w", name, cause(err)).WithNext("see  ip netns list")
	case errors.Is(err, errNoMount):
		return vmnetd.Errorf(vmnetd.ErrNotFound, "there is no network namespace %s: %w", name, err).WithNext("remove the file: rm " + name)
	case errors.Is(err, errNoNetns):
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s cannot be used: %w", name, err).WithNext("see  ip netns list")
	case errors.Is(err, errOurs):
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%s cannot be used: %w", name, err).WithNext(vmnetd.NextOf(errOurs))
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return vmnetd.Errorf(vmnetd.ErrDenied, "%s is, or is reached through, a symbolic link, which is not followed beneath a configured folder: %w", name, err).
			WithNext("name the namespace by its real path")
	}
	return vmnetd.Errorf(vmnetd.ErrFailed, "cannot use the network namespace %s: %w", name, err)
}

// trusts says whether a configured glob covers what the path of an open node is, which
// has no links. One of /proc is no path (nsfs calls it net:[4026531840]).
func (n *Netns) trusts(place string) bool {
	_, globs := n.config()
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, _ := path.Match(realGlob(glob), place)
		return ok
	})
}

// realGlob is a glob whose folders, as far as they are named, are no links:
// /var/run is one on every host.
func realGlob(glob string) string {
	fixed, rest := glob, ""
	for strings.ContainsAny(fixed, `*?[\`) || rest == "" {
		rest = filepath.Join(filepath.Base(fixed), rest)
		fixed = filepath.Dir(fixed)
	}
	if dir, err := filepath.EvalSymlinks(fixed); err == nil {
		return filepath.Join(dir, rest)
	}
	return glob
}
