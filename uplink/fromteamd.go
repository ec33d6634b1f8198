package uplink

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/teaming"
)

// FromTeamd is the entry of a team that is configured in teamd's own JSON
// (teamd.conf(5)), as it stands in file. vmnetd.ErrInvalid says what teamd would
// refuse of it or pass over, with file:line:column where the JSON cannot be read.
func FromTeamd(file string, b []byte) (vmnetd.Conversion, error) {
	c, device, err := teaming.Parse(b)
	if err != nil {
		return vmnetd.Conversion{}, notTeamds(file, err)
	}
	if mistakes := c.Check(); len(mistakes) > 0 {
		return vmnetd.Conversion{}, mistaken(file, mistakes)
	}
	name := cmp.Or(device, strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)))
	s := Spec{Name: name, Kind: vmnetd.UplinkTeam, Device: name, Team: &c}
	return vmnetd.Conversion{From: file, To: vmnetd.UplinkTeam, Config: entry(s)}, nil
}

// mistaken is what is wrong with a configuration, a line each.
func mistaken(file string, mistakes []teaming.Problem) error {
	var lines []string
	for _, p := range mistakes {
		line := fmt.Sprintf("%s: %s: %s", file, vmnetd.Printable(p.Key), p.Text)
		if p.Next != "" {
			line += " (" + p.Next + ")"
		}
		lines = append(lines, line)
	}
	return vmnetd.Errorf(vmnetd.ErrInvalid, "%s", strings.Join(lines, "\n")).WithNext("man teamd.conf  says what belongs there")
}

// notTeamds is an error of teaming.Parse with the file's name before its place.
func notTeamds(file string, err error) error {
	at := file
	var placed *teaming.PlaceError
	if errors.As(err, &placed) {
		at, err = fmt.Sprintf("%s:%d:%d", file, placed.Line, placed.Column), placed.Err
	}
	return vmnetd.Errorf(vmnetd.ErrInvalid, "%s: %w", at, err).WithNext("man teamd.conf  says what belongs there")
}
