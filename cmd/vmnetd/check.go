package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/config"
)

// defaultConfig is the configuration's main file; conf.d stands beside it.
const defaultConfig = "/etc/vmnetd/vmnetd.yaml"

// checked is what `check --json` prints of a good configuration.
type checked struct {
	File     string   `json:"file"`
	Uplinks  int      `json:"uplinks"`
	Networks int      `json:"networks"`
	Rules    int      `json:"rules"`
	VMs      int      `json:"vms"`
	Warnings []string `json:"warnings"`
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration, without the daemon",
		Long: `Reads a configuration and the drop-ins in conf.d beside it and says every
mistake with file, line and column. Nothing is changed; no daemon is needed.
Without FILE it is ` + defaultConfig + `.`,
		Example: `  vmnetd check
  vmnetd check ./vmnetd.yaml && sudo vmnetd reload`,
		Args: takes(nil, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := defaultConfig
			if len(args) > 0 {
				file = args[0]
			}
			return a.check(cmd.Context(), file)
		},
	}
}

func (a *app) check(ctx context.Context, file string) error {
	cfg, err := checkFile(file)
	if err != nil {
		return a.badConfig(err)
	}
	warnings := append(append([]string{}, cfg.Warnings...), hostWarnings(ctx, cfg)...) // never null
	c := checked{file, len(cfg.Uplinks), len(cfg.Policy.Networks), len(cfg.Policy.Rules), len(cfg.VMs), warnings}
	if a.json {
		return a.printJSON(c)
	}
	for _, w := range c.Warnings {
		a.printf("%s\n", a.problem(vmnetd.LevelWarn, w))
	}
	a.printf("%s: good: %s, %s, %s, %s\n", vmnetd.Printable(c.File),
		plural(c.Uplinks, "uplink"), plural(c.Networks, "network"), plural(c.Rules, "rule"), plural(c.VMs, "VM"))
	return nil
}

// badConfig shows a configuration's mistakes each with its line; in JSON they
// are one error like any other.
func (a *app) badConfig(err error) error {
	var mistakes config.Errors
	if a.json || !errors.As(err, &mistakes) {
		return &exitError{code: vmnetd.ClassOf(vmnetd.ErrInvalid).Exit, err: err}
	}
	config.Render(a.io.err, err)
	return &exitError{code: vmnetd.ClassOf(err).Exit}
}

// checkFile reads a configuration that nobody accepted, with the drop-ins that
// stand beside it.
func checkFile(file string) (agent.Config, error) {
	if file == "" {
		return agent.Config{}, vmnetd.Errorf(vmnetd.ErrInvalid, "the name of the configuration is empty")
	}
	return config.Check(file, dropins(file))
}

// dropins is the folder of drop-ins that belongs to a main file.
func dropins(file string) string { return filepath.Join(filepath.Dir(file), "conf.d") }
