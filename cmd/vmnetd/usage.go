package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vmnetd/vmnetd"
)

// usage is a mistake on the command line of cmd.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return vmnetd.Errorf(vmnetd.ErrInvalid, format, args...).WithNext(cmd.CommandPath() + " --help")
}

// unknownCommand names the command that was probably meant.
func unknownCommand(root *cobra.Command, name string) error {
	var visible []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			visible = append(visible, c.Name())
		}
	}
	text := fmt.Sprintf("unknown command %q", name)
	if near := nearest(visible, name, anyWord); near != "" {
		text += ": did you mean " + near + "?"
	}
	return usage(root, "%s", text)
}

// flagError turns what pflag says into one sentence of ours.
func flagError(cmd *cobra.Command, err error) error {
	var (
		ours    *vmnetd.Error
		unknown *pflag.NotExistError
		missing *pflag.ValueRequiredError
		invalid *pflag.InvalidValueError
	)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case errors.As(err, &ours): // by one of our own flag values
		return ours
	case errors.As(err, &unknown):
		return unknownFlag(cmd, unknown)
	case errors.As(err, &missing):
		return usage(cmd, "--%s needs a value", missing.GetFlag().Name)
	case errors.As(err, &invalid):
		return usage(cmd, "--%s: %q is no value for it", invalid.GetFlag().Name, invalid.GetValue())
	}
	return usage(cmd, "%v", err)
}

func unknownFlag(cmd *cobra.Command, err *pflag.NotExistError) error {
	if short := err.GetSpecifiedShortnames(); short != "" {
		return usage(cmd, "unknown flag %q", "-"+short)
	}
	text := fmt.Sprintf("unknown flag %q", "--"+err.GetSpecifiedName())
	if near := nearestFlag(cmd, err.GetSpecifiedName()); near != "" {
		text += ": did you mean --" + near + "?"
	}
	return usage(cmd, "%s", text)
}

// nearestFlag is the visible flag that was probably meant, "" if none.
func nearestFlag(cmd *cobra.Command, name string) string {
	var visible []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			visible = append(visible, f.Name)
		}
	})
	return nearest(visible, name, func(flag string) int {
		if len(flag) <= 4 { // every short flag is two letters from another
			return 1
		}
		return anyWord(flag)
	})
}

// anyWord is how many letters of a word may be wrong.
func anyWord(string) int { return 2 }

// nearest is the word that begins with what was typed, or else the nearest
// within as many letters as most allows; "" if there is none.
func nearest(words []string, typed string, most func(word string) int) string {
	best, near := len(typed)+3, ""
	for _, word := range words {
		d := distance(word, typed)
		if len(typed) >= 2 && strings.HasPrefix(word, typed) {
			d = 0
		}
		if d < best && d <= most(word) {
			best, near = d, word
		}
	}
	return near
}

// distance is how many letters must be added, dropped or replaced to get from
// a to b (Levenshtein).
func distance(a, b string) int {
	if max(len(a), len(b)) > 64 { // no flag of ours
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// takes checks the number of arguments: need of them must be there, those in
// may can be.
func takes(need []string, may ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(need) {
			return usage(cmd, "%s needs %s", cmd.CommandPath(), need[len(args)])
		}
		if most := len(need) + len(may); len(args) > most {
			return usage(cmd, "%s does not know what to do with %q", cmd.CommandPath(), args[most])
		}
		return nil
	}
}
