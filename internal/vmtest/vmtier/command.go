package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/vmnetd/vmnetd/internal/vmtest"
)

// runCommand runs one command in a VM, in this working directory.
func runCommand(ctx context.Context, args []string, to stdio) (int, error) {
	var lib, out string
	var guest bool
	o := vmtest.Options{Stdout: to.out, Stderr: to.err}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.StringVar(&lib, "lib", "", "the `DIR` that is "+vmtest.LibDir+" in the VM")
	flags.StringVar(&out, "o", "", "a `DIR` that can be written to from the VM")
	flags.BoolVar(&o.Systemd, "systemd", false, "systemd is process 1, and the command a service of it")
	flags.BoolVar(&guest, "guest", false, "the command restores saved guests: make what it restores")
	flags.DurationVar(&o.Limit, "timeout", 10*time.Minute, "how long the command may take")
	if err := parse(flags, args, to); err != nil {
		return 0, err
	}
	if o.Command = flags.Args(); len(o.Command) == 0 {
		fmt.Fprint(to.err, usage)
		return 0, errUsage
	}
	if err := places(&o, lib, out); err != nil {
		return 0, err
	}
	if guest {
		if err := saveGuest(ctx, to); err != nil {
			return 0, err
		}
	}
	return vmtest.Run(ctx, o)
}

// places makes full paths of the directories that are given.
func places(o *vmtest.Options, lib, out string) (err error) {
	if o.Dir, err = os.Getwd(); err != nil {
		return err
	}
	if lib != "" {
		if o.Lib, err = filepath.Abs(lib); err != nil {
			return err
		}
	}
	if out != "" {
		out, err = filepath.Abs(out)
		o.Writable = []string{out}
	}
	return err
}

// shell opens a shell in a VM on this terminal. Its exit ends the VM.
func shell(ctx context.Context, args []string, to stdio) (int, error) {
	var lib string
	flags := flag.NewFlagSet("shell", flag.ContinueOnError)
	flags.StringVar(&lib, "lib", "", "the `DIR` that is "+vmtest.LibDir+" in the VM")
	if err := parse(flags, args, to); err != nil {
		return 0, err
	}
	stdin := unix.Stdin
	cols, rows, err := term.GetSize(stdin)
	if err != nil {
		return 0, fmt.Errorf("a shell needs a terminal: %w; without one: vmtier run -- COMMAND", err)
	}
	// From the prompt on, keys go to the VM as they are typed, Ctrl-C too.
	var before *term.State
	o := vmtest.Options{
		Command:  []string{"bash", "-i"},
		Env:      []string{`PS1=vm:\w# `},
		Stdout:   to.out,
		Terminal: &vmtest.Terminal{Input: os.Stdin, Name: terminalName(), Rows: rows, Cols: cols},
		Started:  func() { before, _ = term.MakeRaw(stdin) },
		Limit:    24 * time.Hour,
	}
	defer func() {
		if before != nil {
			_ = term.Restore(stdin, before)
		}
	}()
	if err := places(&o, lib, ""); err != nil {
		return 0, err
	}
	fmt.Fprintln(to.err, "The VM boots. It sees this machine's files; what it writes is gone when the shell ends.")
	return vmtest.Run(ctx, o)
}

func terminalName() string {
	if name := os.Getenv("TERM"); name != "" {
		return name
	}
	return "vt100"
}
