package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
)

// limit is how long the demo may take in all, far above what it needs.
const limit = 5 * time.Minute

// cleanLimit is how long the clean-up may take before the program ends anyway:
// the kernel then kills what it started and forgets its namespaces.
const cleanLimit = 20 * time.Second

func main() {
	program := flag.String("vmnetd", "bin/vmnetd", "the `PROGRAM` to show")
	failover := flag.Bool("failover", false, "show a redundant uplink; needs a kernel with bond and team")
	flag.Parse()
	os.Exit(run(*program, *failover))
}

// run returns the exit code.
func run(program string, failover bool) int {
	// Further signals change nothing: everything is being ended already. SIGPIPE is
	// what `make demo | head` ends with.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	show := newReport(os.Stdout)
	err := perform(limited, show, program, failover)
	if ctx.Err() != nil {
		fmt.Println("interrupted; nothing is left behind")
		return vmnetd.ExitInterrupted
	}
	show.summary()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	if show.failed() {
		return 1
	}
	return 0
}

// perform builds the stage, plays, and takes the stage down again.
func perform(ctx context.Context, show *report, program string, failover bool) (err error) {
	if os.Geteuid() != 0 {
		return fmt.Errorf("only root can make network namespaces; type: sudo make demo")
	}
	program, err = filepath.Abs(program)
	if err != nil {
		return err
	}
	s := newScope()
	defer s.close(cleanLimit)
	defer s.recoverFatal(&err)
	if failover {
		return playFailover(ctx, s, show, program)
	}
	st := buildStage(ctx, s, show, program)
	return play(ctx, show, st)
}
