package vmnetd

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/vmnetd/vmnetd"

// mayImport is the import matrix of ARCHITECTURE.md: what a package, apart from
// its tests, may import of the project beside the root package and internal/….
var mayImport = map[string][]string{
	".":                 {},
	"policy":            {},
	"tapdev":            {},
	"bonding":           {},
	"teaming":           {},
	"announce":          {},
	"uplink":            {"bonding", "teaming"},
	"filter":            {},
	"learn":             {},
	"nexthop":           {},
	"hostlink":          {},
	"room":              {"tapdev", "filter", "nexthop", "learn"}, // what works inside a namespace, behind a socket
	"hypervisor":        {"hypervisor/domxml"},
	"hypervisor/domxml": {},
	"agent":             {"bonding", "teaming", "announce", "policy", "uplink", "tapdev", "filter", "learn", "nexthop", "hostlink", "room", "hypervisor", "hypervisor/domxml"},
	"agent/agenttest":   {"agent", "bonding", "teaming", "announce", "policy", "uplink", "tapdev", "filter", "learn", "nexthop", "hostlink", "room", "hypervisor", "hypervisor/domxml"},
	"dbusapi":           {"agent", "bonding", "teaming", "announce", "policy", "uplink", "tapdev", "filter", "learn", "nexthop", "hostlink", "room", "hypervisor", "hypervisor/domxml"},
	"config":            {"agent", "bonding", "teaming", "announce", "policy", "uplink", "tapdev", "filter", "learn", "nexthop", "hostlink", "room", "hypervisor", "hypervisor/domxml"},
	"cmd/vmnetd":        {"agent", "bonding", "teaming", "announce", "policy", "uplink", "tapdev", "filter", "learn", "nexthop", "hostlink", "room", "hypervisor", "hypervisor/domxml", "dbusapi", "config"},
}

// onlyIn is who may import a library, with the reason.
var onlyIn = map[string]struct {
	packages []string
	why      string
}{
	"github.com/goccy/go-yaml":           {[]string{"config", "internal/hostconf"}, "the rest sees clean types, never YAML"},
	"github.com/vishvananda/netlink":     {[]string{"internal/rtnl", "tapdev", "bonding", "uplink", "filter", "nexthop"}, "the rest sees links as rtnl.Link"},
	"github.com/godbus/dbus/v5":          {[]string{"dbusapi", "internal/bus", "internal/testkit"}, "one door to the bus"},
	"github.com/google/nftables":         {[]string{"filter"}, "the rest sees what a guest may send, never rules"},
	"github.com/cilium/ebpf":             {[]string{"nexthop"}, "one program, one place"},
	"github.com/mdlayher/genetlink":      {[]string{"teaming"}, "the team family is teaming's alone"},
	"github.com/digitalocean/go-qemu":    {[]string{"hypervisor"}, "the rest sees VMs and NICs, never QMP"},
	"github.com/digitalocean/go-libvirt": {[]string{"hypervisor", "internal/bench"}, "the rest sees VMs, NICs and definitions, never libvirt"},
	"github.com/spf13/cobra":             {[]string{"cmd/vmnetd"}, "the command line is a front end"},
}

type imports struct {
	folder string
	file   string
	test   bool
	paths  []string
}

func allImports(t *testing.T) []imports {
	t.Helper()
	var list []imports
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || path == "packaging" || path == "bin" || path == "dist") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		in := imports{folder: filepath.ToSlash(filepath.Dir(path)), file: path, test: strings.HasSuffix(path, "_test.go")}
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			in.paths = append(in.paths, p)
		}
		list = append(list, in)
		return nil
	})
	if err != nil || len(list) < 10 {
		t.Fatalf("found %d files, %v", len(list), err)
	}
	return list
}

func TestImportsGoOneWay(t *testing.T) {
	for _, in := range allImports(t) {
		for _, path := range in.paths {
			rel, ours := strings.CutPrefix(path, module+"/")
			if !ours || in.test {
				continue
			}
			internal := strings.HasPrefix(rel, "internal/")
			switch allowed, known := mayImport[in.folder]; {
			case slices.Contains([]string{"internal/testkit", "internal/demo", "internal/bench", "internal/e2e", "internal/failover", "internal/reachability", "internal/datapath"}, in.folder):
				// test beds may use what they test
			case strings.HasPrefix(in.folder, "internal/"):
				if !internal {
					t.Errorf("%s imports %s: internal packages import only the root package and each other", in.file, rel)
				}
			case !known:
				t.Errorf("%s: the folder %s is not in the import matrix", in.file, in.folder)
			case internal && (strings.HasPrefix(rel, "internal/testkit") || in.folder == "."):
				t.Errorf("%s imports %s", in.file, rel)
			case !internal && !slices.Contains(allowed, rel):
				t.Errorf("%s imports %s: %s may import %v", in.file, rel, in.folder, allowed)
			}
		}
	}
}

func TestLibrariesStayWhereTheyBelong(t *testing.T) {
	for _, in := range allImports(t) {
		for _, path := range in.paths {
			for library, rule := range onlyIn {
				if (path == library || strings.HasPrefix(path, library+"/")) && !in.test && !slices.Contains(rule.packages, in.folder) {
					t.Errorf("%s imports %s: only %v may: %s", in.file, path, rule.packages, rule.why)
				}
			}
		}
	}
}
