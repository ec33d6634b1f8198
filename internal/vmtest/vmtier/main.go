package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

const usage = `usage:
  vmtier test [-run RE] [-v] [-cover DIR] [-timeout D] [PACKAGE...]
  vmtier run [-lib DIR] [-o DIR] [-guest] [-systemd] [-timeout D] -- COMMAND [ARGUMENT...]
  vmtier shell [-lib DIR]
`

// Exit codes of its own, beside those of commands.
const (
	exitUsage = 2
	exitVM    = 125 // the VM failed, not the command in it; as env(1) has it
)

// stdio is where the program prints.
type stdio struct{ out, err io.Writer }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	code := run(ctx, os.Args[1:], stdio{os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run returns the exit code.
func run(ctx context.Context, args []string, to stdio) int {
	verbs := map[string]func(context.Context, []string, stdio) (int, error){"test": test, "run": runCommand, "shell": shell}
	if len(args) == 0 || verbs[args[0]] == nil {
		fmt.Fprint(to.err, usage)
		return exitUsage
	}
	code, err := verbs[args[0]](ctx, args[1:], to)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(to.err, "vmtier: interrupted; nothing is left behind")
		return vmnetd.ExitInterrupted
	case errors.Is(err, flag.ErrHelp), errors.Is(err, errUsage):
		return exitUsage
	case err != nil:
		fmt.Fprintln(to.err, "vmtier:", err)
		return exitVM
	}
	return code
}

// errUsage says that the command line is wrong, which has been said.
var errUsage = errors.New("wrong usage")

func parse(flags *flag.FlagSet, args []string, to stdio) error {
	flags.SetOutput(to.err)
	if err := flags.Parse(args); err != nil {
		return errors.Join(errUsage, err)
	}
	return nil
}
