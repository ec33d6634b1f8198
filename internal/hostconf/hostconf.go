package hostconf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Tools.
const (
	Ifupdown       = "ifupdown"
	Networkd       = "systemd-networkd"
	NetworkManager = "NetworkManager"
	Netplan        = "netplan"
	CloudInit      = "cloud-init" // by netplan, and it may write its file again
)

// Source is a place in the host's configuration that is about a device.
type Source struct {
	Tool      string
	File      string // as the host sees it: /etc/network/interfaces
	Line      int    // from 1
	Name      string // of the connection, stanza or definition
	Addresses []string
	Gateway   string
	Dynamic   bool // DHCP or router advertisements give addresses
	family    string
}

// Place is FILE:LINE.
func (s Source) Place() string { return fmt.Sprintf("%s:%d", s.File, s.Line) }

// readers is what reads each tool's files beneath root.
var readers = []func(root string) []entry{interfaces, networkd, keyfiles, netplans}

// entry is a Source and which devices it is for.
type entry struct {
	Source
	matches func(device, mac string) bool
	only    bool // of several of a tool that match, the first counts
}

// Find is what would configure a device at boot. root is "/", or a folder in
// which a test has put files; mac is the NIC's own.
func Find(root, device, mac string) []Source {
	var found []Source
	for _, read := range readers {
		for _, e := range read(root) {
			if !e.matches(device, mac) {
				continue
			}
			found = append(found, e.Source)
			if e.only {
				break
			}
		}
	}
	return found
}

// LetGo is the command by which the tool lets a device go, "" for one that does
// nothing after it has set a device up.
func (s Source) LetGo(device string) string {
	switch s.Tool {
	case NetworkManager:
		return "nmcli device set " + device + " managed no"
	case Networkd:
		return "printf '[Match]\\nName=" + device + "\\n[Link]\\nUnmanaged=yes\\n' > /etc/systemd/network/00-" + device + ".network && networkctl reload"
	}
	return ""
}

// Lines is what to write, in the tool's own words, so that it gives the same to
// another device.
func (s Source) Lines(to string) []string {
	gateway := func(line string) []string {
		if s.Gateway == "" {
			return nil
		}
		return []string{line + s.Gateway}
	}
	switch s.Tool {
	case Ifupdown:
		return []string{"auto " + to, "iface " + to + " " + s.family + " static"}
	case Networkd:
		return []string{"[Match]", "Name=" + to}
	case NetworkManager:
		line := fmt.Sprintf("nmcli connection add type bond ifname %s con-name %s bond.options mode=active-backup,miimon=50 %s.method manual %s.addresses %s", to, to, s.family, s.family, strings.Join(s.Addresses, ","))
		return []string{strings.Join(append([]string{line}, gateway(s.family+".gateway ")...), " ")}
	}
	lines := []string{"network:", "  ethernets:", "    " + to + ":", "      addresses: [" + strings.Join(s.Addresses, ", ") + "]"}
	if s.Gateway != "" {
		lines = append(lines, "      routes: [{to: default, via: "+s.Gateway+"}]")
	}
	return lines
}

// glob is the files that match a pattern beneath root, with their text.
func glob(root, pattern string) []file {
	paths, _ := filepath.Glob(filepath.Join(root, pattern)) // the patterns are ours and good
	var files []file
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		inside, err := filepath.Rel(root, path)
		if err != nil {
			continue
		}
		files = append(files, file{path: "/" + inside, text: string(text)})
	}
	return files
}

// file is one file as the host sees it.
type file struct{ path, text string }

// same compares MACs as people write them.
func same(a, b string) bool { return a != "" && strings.EqualFold(a, b) }
