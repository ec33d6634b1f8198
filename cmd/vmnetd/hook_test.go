package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/dbusapi"
)

const (
	domainWithOurs = "<domain type='qemu'>\n  <name>vm1</name>\n  <devices>\n    <disk><target dev='vda' bus='virtio'/></disk>\n    <interface type='ethernet'>\n      <target dev='vmnabcdefghij' managed='no'/>\n    </interface>\n  </devices>\n</domain>\n"
	domainOfOthers = "<domain type='qemu'><name>vmn</name><metadata>vmnabc</metadata><devices><interface type='bridge'><source bridge='vmnbr0'/><target dev='vnet0'/></interface></devices></domain>"
)

// hookRun runs the hook's command line with a domain's XML on standard input.
func hookRun(t *testing.T, f *fake, xml string, args ...string) result {
	t.Helper()
	var out, err bytes.Buffer
	a := testApp(f, &out, &err)
	a.io.in = strings.NewReader(xml)
	code := a.run(t.Context(), append([]string{"hook", "run", "qemu", "vm1"}, args...))
	return result{code, out.String(), err.String()}
}

func TestTheHookAsksOnlyAboutDomainsWithANICOfOurs(t *testing.T) {
	f := &fake{}
	if got := hookRun(t, f, domainWithOurs, "prepare", "begin", "-"); got != (result{}) {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{"Ping", "DomainHook vm1 prepare begin"}, f.calls); diff != "" || f.xml != domainWithOurs {
		t.Errorf("%s\n%s", diff, f.xml)
	}
	if got := hookRun(t, nil, domainOfOthers, "prepare", "begin", "-"); got != (result{}) {
		t.Errorf("another's domain, no daemon: %+v", got)
	}
}

func TestOnlyPrepareCanKeepAVMFromStarting(t *testing.T) {
	denied := vmnetd.Errorf(vmnetd.ErrDenied, "no rule gives vm1/net0 network lan").WithNext("vmnetd explain vm1")
	for args, want := range map[string]int{
		"prepare begin -": 3, "prepare begin": 3, "stopped end -": 0, "release end -": 0, "reconnect begin -": 0, "start begin -": 0, "migrate begin -": 0,
	} {
		got := hookRun(t, &fake{hookErr: denied}, domainWithOurs, strings.Fields(args)...)
		if got.code != want || got.out != "" || got.err != "vmnetd: no rule gives vm1/net0 network lan; next: vmnetd explain vm1\n" {
			t.Errorf("%s: %+v", args, got)
		}
		got = hookRun(t, nil, domainWithOurs, strings.Fields(args)...)
		if (got.code == 6) != (want == 3) || got.out != "" || strings.Count(got.err, "\n") != 1 ||
			!strings.Contains(got.err, "VM vm1 ") || !strings.Contains(got.err, "systemctl start vmnetd") {
			t.Errorf("%s, no daemon: %+v", args, got)
		}
	}
}

func TestADaemonThatHangsKeepsLibvirtNoLongerThanItMay(t *testing.T) {
	began := time.Now()
	got := hookRun(t, &fake{hang: make(chan struct{})}, domainWithOurs, "prepare", "begin", "-")
	if got.code != 6 || time.Since(began) > 30*time.Second {
		t.Errorf("%+v after %v", got, time.Since(began))
	}
	if got := hookRun(t, &fake{hang: make(chan struct{})}, domainWithOurs, "release", "end", "-"); got.code != 0 {
		t.Errorf("release: %+v", got)
	}
}

// panics is a daemon that breaks the program that asks it.
type panics struct{ *fake }

func (panics) Ping(context.Context) error { panic("a mistake") }

func TestAMistakeOfOurOwnKillsNoVM(t *testing.T) {
	var out, err bytes.Buffer
	a := testApp(nil, &out, &err)
	a.io.in = strings.NewReader(domainWithOurs)
	a.dial = func(context.Context) (client, error) { return panics{&fake{}}, nil }
	if code := a.hookRun(t.Context(), hookCall{vm: "vm1", op: "reconnect", sub: "begin"}); code != 0 || out.Len() != 0 || err.Len() == 0 {
		t.Errorf("exit %d, %q, %q", code, out.String(), err.String())
	}
}

func TestXMLBeyondTheBoundIsRefusedForOurNICsAlone(t *testing.T) {
	long := strings.Repeat(" ", dbusapi.LongestXML)
	if got := hookRun(t, &fake{}, domainWithOurs+long, "prepare", "begin", "-"); got.code != 2 || !strings.Contains(got.err, "longer than 4 MiB") {
		t.Errorf("%+v", got)
	}
	if got := hookRun(t, nil, domainOfOthers+long, "prepare", "begin", "-"); got != (result{}) {
		t.Errorf("another's: %+v", got)
	}
}

func TestHookRunByHandIsRefusedWhereItMakesNoSense(t *testing.T) {
	for _, line := range []string{"hook run", "hook run lxc vm1 prepare begin -", "hook run qemu vm1", "hook run qemu vm1 prepare begin - x"} {
		if got := do(t, &fake{}, strings.Fields(line)...); got.code != 2 || got.out != "" {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

func TestInstallIsIdempotentAndRemoveTakesItBack(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/tmp/it's a bus")
	dir := filepath.Join(t.TempDir(), "hooks")
	file := filepath.Join(dir, "qemu.d", "vmnetd")
	install := func() hooked {
		t.Helper()
		got := do(t, nil, "hook", "install", "--dir", dir, "--json")
		var h hooked
		if err := json.Unmarshal([]byte(got.out), &h); err != nil || got.code != 0 {
			t.Fatalf("%v: %+v", err, got)
		}
		return h
	}
	if h := install(); !h.Changed || h.File != file || !strings.Contains(h.Next, "systemctl restart libvirtd") {
		t.Errorf("%+v", h)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if h := install(); h.Changed || h.Next != "" {
		t.Errorf("again: %+v", h)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if h := install(); !h.Changed {
		t.Errorf("a hook that nobody can run: %+v", h)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), `export DBUS_SYSTEM_BUS_ADDRESS='unix:path=/tmp/it'\''s a bus'`) {
		t.Errorf("%v\n%s", err, text)
	}
	for _, want := range []string{": removed\n", ": there was none\n"} {
		if got := do(t, nil, "hook", "remove", "--dir", dir); got.code != 0 || !strings.HasSuffix(got.out, want) {
			t.Errorf("remove: %+v, want %q", got, want)
		}
	}
}

func TestAHookOfSomebodyElseIsLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hooks")
	file := filepath.Join(dir, "qemu.d", "vmnetd")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil { //nolint:gosec // a hook is a program
		t.Fatal(err)
	}
	for _, verb := range []string{"install", "remove"} {
		if got := do(t, nil, "hook", verb, "--dir", dir); got.code != 5 || !strings.Contains(got.err, "not written by vmnetd") {
			t.Errorf("%s: %+v", verb, got)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "#!/bin/sh\nexit 0\n" {
		t.Errorf("%v, %q", err, text)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/true", file); err != nil {
		t.Fatal(err)
	}
	if got := do(t, nil, "hook", "install", "--dir", dir); got.code != 5 {
		t.Errorf("a link: %+v", got)
	}
	if got := do(t, nil, "hook", "install", "--dir", filepath.Join(t.TempDir(), "no", "hooks")); got.code != 5 || !strings.Contains(got.err, "libvirt is not installed here") {
		t.Errorf("no libvirt: %+v", got)
	}
}

func TestLibvirtIsRestartedOnlyWhenAskedAndOnlyTheOneThatRuns(t *testing.T) {
	for name, c := range map[string]struct {
		active  string
		systemd bool
		fails   bool
		calls   []string
		says    string
		code    int
	}{
		"libvirtd":   {active: "libvirtd.service", systemd: true, calls: []string{"is-active --quiet virtqemud.service", "is-active --quiet libvirtd.service", "restart libvirtd.service"}, says: "libvirtd.service was restarted"},
		"virtqemud":  {active: "virtqemud.service", systemd: true, calls: []string{"is-active --quiet virtqemud.service", "restart virtqemud.service"}, says: "virtqemud.service was restarted"},
		"none":       {systemd: true, calls: []string{"is-active --quiet virtqemud.service", "is-active --quiet libvirtd.service"}, says: "finds the hook when it starts"},
		"fails":      {active: "virtqemud.service", systemd: true, fails: true, calls: []string{"is-active --quiet virtqemud.service", "restart virtqemud.service"}, says: "could not be restarted: job failed", code: 1},
		"no systemd": {says: "by whatever starts it"},
	} {
		var out, errs bytes.Buffer
		var calls []string
		a := testApp(nil, &out, &errs)
		a.systemd = func() bool { return c.systemd }
		a.systemctl = func(_ context.Context, args ...string) error {
			calls = append(calls, strings.Join(args, " "))
			if args[0] == "is-active" && args[2] != c.active {
				return errors.New("inactive")
			}
			if args[0] == "restart" && c.fails {
				return errors.New("job failed")
			}
			return nil
		}
		code := a.run(t.Context(), []string{"hook", "install", "--restart-libvirtd", "--dir", filepath.Join(t.TempDir(), "hooks")})
		if diff := cmp.Diff(c.calls, calls); diff != "" || code != c.code || !strings.Contains(out.String()+errs.String(), c.says) {
			t.Errorf("%s: exit %d, %s%s\n%s", name, code, out.String(), errs.String(), diff)
		}
	}
}

// TestTheScriptStartsNothingForWhatItIsNotAbout runs the script with a program
// that writes down how it was called.
func TestTheScriptStartsNothingForWhatItIsNotAbout(t *testing.T) {
	dir := t.TempDir()
	program, said := filepath.Join(dir, "it's vmnetd"), filepath.Join(dir, "said")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$DBUS_SYSTEM_BUS_ADDRESS: $*\" >>'"+said+"'\nexit 3\n"), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	file := hookFile(dir)
	if _, err := installHook(file, hookScript(program, "unix:path=/x")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "another")
	for args, code := range map[string]int{
		"prepare begin -": 3, "stopped end -": 3, "release end -": 3, "reconnect begin -": 0, "start begin -": 0, "started begin -": 0,
		"migrate begin -": 0, "restore begin -": 0, "attach begin -": 0, "release begin -": 0, "prepare end -": 0,
	} {
		if err := os.RemoveAll(said); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), file, append([]string{"a vm"}, strings.Fields(args)...)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != code || len(out) != 0 {
			t.Errorf("%s: %v, %s", args, err, out)
		}
		want := ""
		if code != 0 {
			want = "unix:path=/x: hook run qemu a vm " + args + "\n"
		}
		if got, _ := os.ReadFile(said); string(got) != want {
			t.Errorf("%s: called as %q", args, got)
		}
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), file, "vm1", "prepare", "begin", "-").CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("vmnetd was removed and its hook was not: %v, %s", err, out)
	}
}

func TestOurNICIsFoundInWhateverXML(t *testing.T) {
	for xml, want := range map[string]bool{
		domainWithOurs: true, domainOfOthers: false, "": false, "<target": false, "<target dev='vmn0'": true, `<target  managed="no" dev="vmn0"/>`: true,
		"<target mydev='vmn0'/>": false, "<target dev='vnet0'/><target dev='vmn0'/>": true, "<source dev='vmn0'/>": false,
	} {
		if got := hasOurNIC(xml); got != want {
			t.Errorf("%q: %v", xml, got)
		}
	}
}
