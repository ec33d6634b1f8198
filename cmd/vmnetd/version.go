package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set when a release is built: -ldflags "-X main.version=0.1.0".
var version string

// build says what this program was made of.
type build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Commit   string `json:"commit"`   // "" when it was not built from a work tree
	Modified bool   `json:"modified"` // the work tree had changes
}

func buildInfo() build {
	b := build{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b.named("")
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b.named(info.Main.Version)
}

// named falls back to the module's version, or says that there is none.
func (b build) named(module string) build {
	switch {
	case b.Version != "":
	case module != "" && module != "(devel)":
		b.Version = module
	default:
		b.Version = "devel"
	}
	return b
}

func (b build) String() string {
	text := "vmnetd " + b.Version + " (" + b.Go
	if b.Commit != "" {
		text += ", commit " + b.Commit[:min(12, len(b.Commit))]
	}
	if b.Modified {
		text += ", modified"
	}
	return text + ")"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  takes(nil),
		RunE:  func(*cobra.Command, []string) error { return a.printVersion() },
	}
}

func (a *app) printVersion() error {
	if a.json {
		return a.printJSON(buildInfo())
	}
	a.printf("%s\n", buildInfo())
	return nil
}
