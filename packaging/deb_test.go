package packaging

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// testVersion is what the tests' packages are called.
const testVersion = "0.1.0~test"

// artifacts is built once for all tests of this package.
var artifacts struct {
	once     sync.Once
	dir      string
	program  string
	packages map[string]string // by version
	err      error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if artifacts.dir != "" {
		_ = os.RemoveAll(artifacts.dir)
	}
	os.Exit(code)
}

// build builds program and packages as `make deb` does.
func build(t *testing.T) (program, deb string) {
	t.Helper()
	a := &artifacts
	a.once.Do(func() {
		if a.dir, a.err = os.MkdirTemp("", "vmnetd-deb"); a.err != nil {
			return
		}
		a.program, a.packages = filepath.Join(a.dir, "vmnetd"), map[string]string{}
		nfpm := filepath.Join(a.dir, "nfpm")
		a.err = command("go", "build", "-C", "tools/nfpm", "-o", nfpm, "github.com/goreleaser/nfpm/v2/cmd/nfpm")
		for _, version := range []string{testVersion + "2", testVersion} { // the last one's program stays
			a.err = errors.Join(a.err,
				command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", a.program, "../cmd/vmnetd"),
				command("./build-deb", a.program, nfpm, version, a.dir))
			files, _ := filepath.Glob(filepath.Join(a.dir, "vmnetd_"+version+"_*.deb"))
			a.packages[version] = strings.Join(files, " ")
		}
	})
	if a.err != nil {
		t.Fatal(a.err)
	}
	return a.program, a.packages[testVersion]
}

func command(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.New(strings.Join(cmd.Args, " ") + ": " + err.Error() + "\n" + string(out))
	}
	return nil
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.String())
	}
	return string(out)
}

func TestPackageHasWhatDebianPolicyWantsWhereItWantsIt(t *testing.T) {
	_, deb := build(t)
	var files []string
	for line := range strings.Lines(output(t, "dpkg-deb", "--contents", deb)) {
		f := strings.Fields(line)
		mode, owner, path := f[0], f[1], strings.TrimPrefix(f[5], ".")
		if owner != "root/root" {
			t.Errorf("%s belongs to %s", path, owner)
		}
		want := map[bool]string{true: "drwxr-xr-x", false: "-rw-r--r--"}[strings.HasSuffix(path, "/")]
		if path == "/usr/bin/vmnetd" {
			want = "-rwxr-xr-x"
		}
		if mode != want {
			t.Errorf("%s has mode %s, want %s", path, mode, want)
		}
		if !strings.HasSuffix(path, "/") {
			files = append(files, path)
		}
	}
	slices.Sort(files)
	want := []string{
		"/etc/vmnetd/vmnetd.yaml",
		"/usr/bin/vmnetd",
		"/usr/lib/NetworkManager/conf.d/10-vmnetd.conf",
		"/usr/lib/modules-load.d/vmnetd.conf",
		"/usr/lib/systemd/network/10-vmnetd.link",
		"/usr/lib/systemd/network/10-vmnetd.network",
		"/usr/lib/systemd/system/vmnetd.service",
		"/usr/lib/sysusers.d/vmnetd.conf",
		"/usr/lib/tmpfiles.d/vmnetd.conf",
		"/usr/share/bash-completion/completions/vmnetd",
		"/usr/share/dbus-1/interfaces/org.vmnetd1.xml",
		"/usr/share/dbus-1/system.d/org.vmnetd1.conf",
		"/usr/share/doc/vmnetd/changelog.Debian.gz",
		"/usr/share/doc/vmnetd/changelog.gz",
		"/usr/share/doc/vmnetd/copyright",
		"/usr/share/doc/vmnetd/modes.md",
		"/usr/share/doc/vmnetd/operations.md",
		"/usr/share/fish/vendor_completions.d/vmnetd.fish",
		"/usr/share/man/man5/vmnetd.yaml.5.gz",
		"/usr/share/man/man8/vmnetd.8.gz",
		"/usr/share/zsh/vendor-completions/_vmnetd",
	}
	if !slices.Equal(files, want) {
		t.Errorf("files\n%s\nwant\n%s", strings.Join(files, "\n"), strings.Join(want, "\n"))
	}
}

func TestPackageControlIsComplete(t *testing.T) {
	_, deb := build(t)
	for _, field := range []string{"Package", "Version", "Section", "Priority", "Architecture", "Maintainer", "Installed-Size", "Depends", "Description"} {
		if strings.TrimSpace(output(t, "dpkg-deb", "--field", deb, field)) == "" {
			t.Errorf("field %s is empty", field)
		}
	}
	if v := strings.TrimSpace(output(t, "dpkg-deb", "--field", deb, "Version")); v != testVersion {
		t.Errorf("Version %s, want %s", v, testVersion)
	}
	for line := range strings.Lines(output(t, "dpkg-deb", "--field", deb, "Description")) {
		if len(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("a line of the description is longer than 80 characters: %s", line)
		}
	}
	if got := output(t, "dpkg-deb", "--info", deb, "conffiles"); got != "/etc/vmnetd/vmnetd.yaml\n" {
		t.Errorf("conffiles %q", got)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		file := filepath.Join("debian", script)
		output(t, "sh", "-n", file)
		content := read(t, file)
		if !strings.HasPrefix(content, "#!/bin/sh\n") || !strings.Contains(content, "\nset -e\n") {
			t.Errorf("%s has no #!/bin/sh, or goes on after an error", script)
		}
	}
}

func TestTwoBuildsGiveTheSameBytes(t *testing.T) {
	program, deb := build(t)
	again := t.TempDir()
	if err := command("./build-deb", program, filepath.Join(filepath.Dir(program), "nfpm"), testVersion, again); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(again, filepath.Base(deb))) != read(t, deb) {
		t.Error("two builds differ")
	}
}

// rootfs is a root for dpkg with nothing in it; the maintainer scripts are run
// on this machine with DPKG_ROOT set, and touch nothing of it.
type rootfs struct {
	t   *testing.T
	dir string
}

func newRootfs(t *testing.T) rootfs {
	t.Helper()
	testkit.Require(t, "netns") // dpkg installs as root only
	r := rootfs{t: t, dir: t.TempDir()}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(r.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"var/lib/dpkg/status", "var/lib/dpkg/available"} {
		if err := os.WriteFile(filepath.Join(r.dir, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r rootfs) dpkg(args ...string) {
	r.t.Helper()
	output(r.t, "dpkg", append([]string{"--root=" + r.dir, "--force-script-chrootless", "--force-depends", "--no-triggers", "--log=/dev/null"}, args...)...)
}

func (r rootfs) path(name string) string { return filepath.Join(r.dir, name) }

// ours is every file that has our name in its path, but for dpkg's records.
func (r rootfs) ours() []string {
	var found []string
	_ = filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, r.dir)
		if err == nil && strings.Contains(name, "vmnetd") && !strings.HasPrefix(name, "/var/lib/dpkg") {
			found = append(found, name)
		}
		return nil
	})
	return found
}

func TestPackageInstallsUpgradesAndPurges(t *testing.T) {
	_, deb := build(t)
	r := newRootfs(t)
	r.dpkg("--install", deb)

	output(t, r.path("usr/bin/vmnetd"), "check", r.path("etc/vmnetd/vmnetd.yaml"))
	if !regexp.MustCompile(`(?m)^vmnetd:`).MatchString(read(t, r.path("etc/group"))) {
		t.Error("there is no group vmnetd")
	}
	if st, err := os.Stat(r.path("run/vmnetd/qmp")); err != nil || st.Mode() != fs.ModeDir|0o700 {
		t.Errorf("/run/vmnetd/qmp: %v, %v; want a directory of mode 0700", st, err)
	}
	if _, err := os.Lstat(r.path("etc/systemd/system/multi-user.target.wants/vmnetd.service")); err != nil {
		t.Errorf("the service is not enabled: %v", err)
	}

	edited := "# edited\n" + read(t, r.path("etc/vmnetd/vmnetd.yaml"))
	if err := os.WriteFile(r.path("etc/vmnetd/vmnetd.yaml"), []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	r.dpkg("--install", artifacts.packages[testVersion+"2"])
	if read(t, r.path("etc/vmnetd/vmnetd.yaml")) != edited {
		t.Error("an upgrade replaced the operator's configuration")
	}

	r.dpkg("--remove", "vmnetd")
	if read(t, r.path("etc/vmnetd/vmnetd.yaml")) != edited {
		t.Error("removing took the operator's configuration")
	}
	r.dpkg("--purge", "vmnetd")
	left := slices.DeleteFunc(r.ours(), func(f string) bool { return strings.HasPrefix(f, "/run/") })
	if len(left) > 0 {
		t.Errorf("purging left %s", strings.Join(left, ", "))
	}
}

func TestUnitIsValidAndHardened(t *testing.T) {
	program, _ := build(t)
	unit := filepath.Join(t.TempDir(), "vmnetd.service")
	content := strings.ReplaceAll(read(t, "systemd/vmnetd.service"), "/usr/bin/vmnetd", program)
	if err := os.WriteFile(unit, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), "vmnetd.service") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// Tenths: 28 is what systemd-networkd has.
	output(t, "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=28", unit)
}

func TestManualPagesRenderWithoutWarning(t *testing.T) {
	for _, page := range []string{"man/vmnetd.8", "man/vmnetd.yaml.5"} {
		cmd := exec.Command("groff", "-man", "-Tascii", "-ww", "-z", page)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", page, err, out)
		}
	}
}

func TestManualPageKnowsEveryCommandAndFlag(t *testing.T) {
	program, _ := build(t)
	page := manual(t, "man/vmnetd.8")
	_, commands, _ := strings.Cut(output(t, program, "--help"), "Commands:\n")
	commands, _, _ = strings.Cut(commands, "\n\n")
	flag := regexp.MustCompile(`(?m)^ +(--[a-z-]+) .*`)
	for line := range strings.Lines(commands) {
		name := strings.Fields(line)[0]
		if !strings.Contains(page, "vmnetd "+name) {
			t.Errorf("vmnetd.8 does not know vmnetd %s", name)
		}
		for _, f := range flag.FindAllStringSubmatch(output(t, program, name, "--help"), -1) {
			if !strings.Contains(f[0], "given by QEMU") && !strings.Contains(page, f[1]) {
				t.Errorf("vmnetd.8 does not know %s of vmnetd %s", f[1], name)
			}
		}
	}
}

func TestManualPageKnowsEveryKeyButThoseOfBondsAndTeams(t *testing.T) {
	page := manual(t, "man/vmnetd.yaml.5")
	reference := read(t, "../config/reference.yaml")
	uplinks, rest, _ := strings.Cut(reference, "\ndefaults:\n")
	if rest == "" {
		t.Fatal("reference.yaml has no defaults")
	}
	bonds, teams := strings.Index(uplinks, "- name: bond0"), strings.Index(uplinks, "- name: core")
	for _, key := range regexp.MustCompile(`(?m)^ *(?:- )?([a-z_]+):`).FindAllStringSubmatch(uplinks[:bonds]+uplinks[teams:]+"\n"+rest, -1) {
		if !regexp.MustCompile(`\b` + key[1] + `\b`).MatchString(page) {
			t.Errorf("vmnetd.yaml.5 does not know the key %s", key[1])
		}
	}
}

// manual is a page's source, with its hyphens as they are printed.
func manual(t *testing.T, file string) string {
	t.Helper()
	return strings.ReplaceAll(read(t, file), `\-`, "-")
}

func TestCompletionsAreShellScripts(t *testing.T) {
	program, _ := build(t)
	script := filepath.Join(t.TempDir(), "vmnetd")
	if err := os.WriteFile(script, []byte(output(t, program, "completion", "bash")), 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, "bash", "-n", script)
}

func TestModulesToLoadAreThoseOfAPackagedKernel(t *testing.T) {
	known := ""
	files, _ := filepath.Glob("/lib/modules/*/modules.*")
	for _, f := range files {
		if base := filepath.Base(f); base == "modules.dep" || base == "modules.builtin" {
			known += read(t, f)
		}
	}
	lines := bufio.NewScanner(strings.NewReader(read(t, "modules-load.d/vmnetd.conf")))
	for lines.Scan() {
		if m := lines.Text(); !strings.HasPrefix(m, "#") && !strings.Contains(known, "/"+m+".ko") {
			t.Errorf("no packaged kernel has module %s", m)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
