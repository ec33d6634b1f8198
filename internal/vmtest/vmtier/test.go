package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd/internal/testkit"
	"github.com/vmnetd/vmnetd/internal/vmtest"
)

// testOptions is the flags of test.
type testOptions struct {
	run     string
	verbose bool
	cover   string
	timeout time.Duration
}

// test runs the tests of the tier, all in one VM.
func test(ctx context.Context, args []string, to stdio) (int, error) {
	var o testOptions
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.StringVar(&o.run, "run", "", "only tests whose names match `RE`")
	flags.BoolVar(&o.verbose, "v", false, "show all output while it comes")
	flags.StringVar(&o.cover, "cover", "", "write coverage data to `DIR`, for go tool covdata")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Minute, "how long one package may take")
	if err := parse(flags, args, to); err != nil {
		return 0, err
	}
	only, err := regexp.Compile(o.run)
	if err != nil {
		fmt.Fprintf(to.err, "vmtier: -run: %v\n", err)
		return 0, errUsage
	}
	patterns := flags.Args()
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	list, err := suites(ctx, patterns, only)
	if err != nil {
		return 0, err
	}
	return o.inVM(ctx, list, to)
}

// inVM compiles, boots, and reports.
func (o testOptions) inVM(ctx context.Context, list []suite, to stdio) (int, error) {
	dir, err := os.MkdirTemp("", "vmtier")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	cover := filepath.Join(dir, "cover")
	if err := os.Mkdir(cover, 0o755); err != nil {
		return 0, err
	}
	if err := compile(ctx, list, dir, o.cover != ""); err != nil {
		return 0, err
	}
	if err := prepare(ctx, list, to); err != nil {
		return 0, err
	}

	writable := []string{dir}
	if wantLibvirtGuest(list) {
		writable = append(writable, testkit.LibvirtCacheDir(vmTier))
	}
	report := newReport(list, o.verbose, to.out)
	_, err = vmtest.Run(ctx, vmtest.Options{
		Command:  []string{"sh", "-c", o.script(list, report.mark, cover)},
		Writable: writable,
		Stdout:   report, Stderr: to.err,
		Limit: time.Duration(len(list)) * (o.timeout + killAfter + time.Minute),
	})
	report.finish()
	if err != nil {
		return 0, err
	}
	if o.cover != "" {
		err = os.CopyFS(o.cover, os.DirFS(cover))
	}
	if err != nil || report.failed() {
		return 1, err
	}
	return 0, nil
}

// killAfter is how long a test program may take to die of its own -test.timeout.
const killAfter = 30 * time.Second

// script runs the test programs one after another and says between them, in
// lines with a mark, where it is.
func (o testOptions) script(list []suite, mark, cover string) string {
	var b strings.Builder
	for i, s := range list {
		words := []string{
			"timeout", "--kill-after=5", fmt.Sprint(int((o.timeout + killAfter).Seconds())),
			s.program, "-test.v", "-test.paniconexit0", "-test.timeout=" + o.timeout.String(),
			"-test.run=^(" + strings.Join(s.names, "|") + ")$",
		}
		if o.cover != "" {
			words = append(words, "-test.gocoverdir="+cover)
		}
		fmt.Fprintf(&b, "printf '\\n%%s\\n' '%s begin %d'\n", mark, i)
		fmt.Fprintf(&b, "(cd %s && exec %s) 2>&1\n", vmtest.Quote(s.dir), vmtest.Quote(words...))
		fmt.Fprintf(&b, "printf '\\n%%s %%d\\n' '%s end' $?\n", mark)
	}
	return b.String()
}

// prepare makes what tests in the VM want from outside.
func prepare(ctx context.Context, list []suite, to stdio) error {
	if slices.ContainsFunc(list, func(s suite) bool { return s.guest }) {
		if err := saveGuest(ctx, to); err != nil {
			return err
		}
	}
	if !wantLibvirtGuest(list) {
		return nil
	}
	if err := os.MkdirAll(testkit.LibvirtCacheDir(vmTier), 0o700); err != nil {
		return err
	}
	return saveLibvirtGuest(to)
}

// vmTier is what testkit.TierEnv is in the VM.
const vmTier = "vm"

func wantLibvirtGuest(list []suite) bool {
	return slices.ContainsFunc(list, func(s suite) bool { return s.libvirtGuest })
}

// saveGuest sees to it that the guest is there that testkit.RestoreGuest
// restores: in the VM, where QEMU emulates an emulator, nothing could boot.
func saveGuest(ctx context.Context, to stdio) error {
	made, err := testkit.SaveGuest(ctx, testkit.GuestOptions{})
	if err == nil && made {
		fmt.Fprintln(to.err, "vmtier: saved a running guest for the tests to restore")
	}
	return err
}

// saveLibvirtGuest is saveGuest for testkit.RestoreLibvirtGuest.
func saveLibvirtGuest(to stdio) error {
	return within(func(s *scope) {
		if testkit.SaveLibvirtGuest(s, testkit.LibvirtGuestOptions{}) {
			fmt.Fprintln(to.err, "vmtier: libvirt saved a running guest for the tests to restore")
		}
	})
}
