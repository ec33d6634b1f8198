package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
)

// suite is the tests of one package.
type suite struct {
	tierTests

	dir     string
	path    string // import path
	program string // compiled
}

// suites lists the packages among patterns that have tests of the tier.
func suites(ctx context.Context, patterns []string, only *regexp.Regexp) ([]suite, error) {
	out, err := goTool(ctx, append([]string{"list", "-f", "{{.Dir}}\t{{.ImportPath}}"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	var list []suite
	for line := range strings.Lines(out) {
		dir, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		tests, err := scan(dir, only)
		if err != nil {
			return nil, err
		}
		if len(tests.names) > 0 {
			list = append(list, suite{tierTests: tests, dir: dir, path: path})
		}
	}
	if len(list) == 0 {
		return nil, errors.New("there are no such tests for the VM tier")
	}
	return list, nil
}

// compile builds the test programs into dir. There is no -race: it would take
// minutes more in a VM without KVM, and the same code runs with it on the machine.
func compile(ctx context.Context, list []suite, dir string, cover bool) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.NumCPU())
	for i := range list {
		list[i].program = filepath.Join(dir, fmt.Sprintf("%d-%s.test", i, filepath.Base(list[i].dir)))
		args := []string{"test", "-c", "-o", list[i].program}
		if cover {
			args = append(args, "-cover", "-coverpkg=./...")
		}
		group.Go(func() error {
			_, err := goTool(ctx, append(args, list[i].path)...)
			return err
		})
	}
	return group.Wait()
}

func goTool(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}
