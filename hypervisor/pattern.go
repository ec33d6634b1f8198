package hypervisor

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

const placeholder = "{vm}"

// pattern says where VMs' sockets are: one component of the path holds {vm}.
type pattern struct {
	text           string
	dir            string // everything before that component
	prefix, suffix string // of that component, around the name
	rest           string // everything after it, "" when it is the socket itself
	vm             string // of literal: whose socket dir/prefix is
}

// literal is the pattern of one socket that somebody named.
func literal(vm, path string) pattern {
	return pattern{text: path, dir: filepath.Dir(path), prefix: filepath.Base(path), vm: vm}
}

func parsePattern(text string) (pattern, error) {
	bad := func(why string) (pattern, error) {
		return pattern{}, vmnetd.Errorf(vmnetd.ErrInvalid, "socket pattern %q %s", text, why).
			WithNext("write it as /run/vmnetd/qmp/{vm}.sock")
	}
	switch {
	case !filepath.IsAbs(text):
		return bad("is not an absolute path")
	case filepath.Clean(text) != text:
		return bad("is not a clean path: it should read " + filepath.Clean(text))
	case strings.Count(text, placeholder) != 1:
		return bad("must contain {vm} exactly once")
	}
	before, after, _ := strings.Cut(text, placeholder)
	cut := strings.LastIndexByte(before, '/')
	p := pattern{text: text, dir: filepath.Clean(before[:cut+1]), prefix: before[cut+1:]}
	p.suffix, p.rest, _ = strings.Cut(after, "/")
	return p, nil
}

func parsePatterns(texts []string) ([]pattern, error) {
	patterns := make([]pattern, 0, len(texts))
	for _, text := range texts {
		p, err := parsePattern(text)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

// path is the socket of the VM of that name, which must be a checked one.
func (p pattern) path(vm string) string {
	if p.vm != "" {
		return p.text
	}
	return filepath.Join(p.dir, p.prefix+vm+p.suffix, p.rest)
}

// match reads a VM's name from the component that holds it.
func (p pattern) match(component string) (vm string, ok bool) {
	if p.vm != "" {
		return p.vm, component == p.prefix
	}
	if len(component) <= len(p.prefix)+len(p.suffix) ||
		!strings.HasPrefix(component, p.prefix) || !strings.HasSuffix(component, p.suffix) {
		return "", false
	}
	vm = component[len(p.prefix) : len(component)-len(p.suffix)]
	return vm, vmnetd.CheckVMName(vm) == nil
}

// vmAt is the VM whose socket the pattern puts at path.
func (p pattern) vmAt(path string) (vm string, ok bool) {
	if p.vm != "" {
		return p.vm, path == p.text
	}
	rel, ok := p.beneath(path)
	if !ok {
		return "", false
	}
	component, rest, _ := strings.Cut(rel, "/")
	vm, ok = p.match(component)
	return vm, ok && rest == p.rest
}

// socketsOf lists the sockets of VMs that exist, with the VM's name; eventSockets
// does for events sockets. /run/{vm}.sock also fits /run/web1.events.sock, which
// is the socket of a VM web1 to a pattern that says more: that one counts.
func (q *QMP) socketsOf(patterns []pattern) map[string]string {
	events, _ := q.listened()
	return scanAll(patterns, func(path, name string) bool { return !shorter(events, path, len(name)) })
}

func (q *QMP) eventSockets(patterns []pattern) map[string]string {
	sockets := q.config()
	return scanAll(patterns, func(path, name string) bool { return !shorter(sockets, path, len(name)+1) })
}

// shorter says whether a pattern gives the VM at path a name of fewer bytes.
func shorter(patterns []pattern, path string, than int) bool {
	return slices.ContainsFunc(patterns, func(p pattern) bool {
		vm, ok := p.vmAt(path)
		return ok && len(vm) < than
	})
}

func scanAll(patterns []pattern, ours func(path, name string) bool) map[string]string {
	there := map[string]string{}
	for _, p := range patterns {
		for name, path := range p.scan() {
			if p.vm != "" || ours(path, name) {
				there[path] = name
			}
		}
	}
	return there
}

// scan finds the sockets that exist, by VM name. A link in place of a socket is
// no socket.
func (p pattern) scan() map[string]string {
	if p.vm != "" {
		if isSocket(p.text) {
			return map[string]string{p.vm: p.text}
		}
		return nil
	}
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil
	}
	found := map[string]string{}
	for _, e := range entries {
		vm, ok := p.match(e.Name())
		if !ok || p.rest != "" && !e.IsDir() {
			continue
		}
		if path := p.path(vm); isSocket(path) {
			found[vm] = path
		}
	}
	return found
}

func isSocket(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.Mode().Type() == fs.ModeSocket
}

// beneath splits path into the pattern's fixed directory and the rest; ok is
// false when it lies elsewhere.
func (p pattern) beneath(path string) (rel string, ok bool) {
	rel, ok = strings.CutPrefix(path, strings.TrimSuffix(p.dir, "/")+"/")
	return rel, ok && rel != ""
}

// covers says whether path is one that the operator's configuration points at:
// in the pattern's directory, or, where {vm} is a directory's name, one of the
// paths that the pattern itself gives. /run/{vm}/qmp.sock must not open all of
// /run.
func (p pattern) covers(path string) bool {
	rel, ok := p.beneath(path)
	if !ok || p.rest == "" {
		return ok
	}
	component, rest, _ := strings.Cut(rel, "/")
	_, named := p.match(component)
	return named && rest == p.rest
}
