package config

import (
	"path"
	"strings"
)

// rawNetns is hypervisors.netns: network namespaces of others, which stand where
// VMs stand.
type rawNetns struct{ folders, trusted got[[]got[string]] }

var netnsKeys = object[rawNetns]{what: "netns", rows: []row[rawNetns]{
	key("folders", func(n *rawNetns) *got[[]got[string]] { return &n.folders }, codec[got[[]got[string]]](listOf[got[string]]{
		item: folder, what: "a list of folders", empty: true,
	})),
	key("trusted", func(n *rawNetns) *got[[]got[string]] { return &n.trusted }, codec[got[[]got[string]]](listOf[got[string]]{
		item: netnsGlob, what: "a list of paths or globs", empty: true,
	})),
}}

var (
	folder    = scalar[string]{shapes: []shape{text}, want: "a folder's path", read: checked(checkFolder)}
	netnsGlob = scalar[string]{shapes: []shape{text}, want: "a path or a glob", read: checked(checkNetnsGlob)}
)

// checkFolder refuses "/": beneath it is everything.
func checkFolder(s string) error {
	if !strings.HasPrefix(s, "/") || path.Clean(s) != s || s == "/" {
		return invalid("folder %q is not an absolute path without '.', '..', '//' and '/' at its end", s).
			WithNext("write one such as /run/netns")
	}
	return nil
}

func checkNetnsGlob(s string) error {
	if _, err := path.Match(s, ""); err != nil {
		return badGlob(s)
	}
	if !strings.HasPrefix(s, "/") || path.Clean(s) != s {
		return invalid("%q is not an absolute path without '.', '..' and '//'", s).WithNext(`write one such as "/run/netns/infra-*"`)
	}
	if s == "/proc" || strings.HasPrefix(s, "/proc/") {
		return invalid("%q can never match: a namespace beneath /proc has no path of its own", s).
			WithNext(`give the namespace a name,  ip netns attach NAME PID,  and trust "/run/netns/NAME"`)
	}
	return nil
}

func (b *builder) addNetns(docs []*document) {
	folders, trusted := declared{}, declared{}
	add := func(what string, seen declared, items []got[string], into *[]string) {
		for _, i := range items {
			if i.Given && seen.add(b.problems, what, i.V, i.At) {
				*into = append(*into, i.V)
			}
		}
	}
	for _, d := range docs {
		add("folder", folders, d.hypervisors.netns.folders.V, &b.cfg.Ways.Folders)
		add("trusted path", trusted, d.hypervisors.netns.trusted.V, &b.cfg.Ways.Trusted)
	}
}
