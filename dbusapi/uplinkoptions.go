package dbusapi

import (
	"reflect"
	"strings"
	"time"

	"github.com/vmnetd/vmnetd"
)

const (
	mostNames    = 256       // of uplinks in one call; a host has a few
	longestValue = 64 * 1024 // bytes of a team's item or port configuration
)

// applyOptions is vmnetd.ApplyOptions as options of a call.
type applyOptions struct {
	ConfirmWithin int      `json:"confirm_within"` // ms
	NoConfirm     bool     `json:"no_confirm"`
	Force         bool     `json:"force"`
	Uplinks       []string `json:"uplinks"`
}

func decodeApply(options properties) (vmnetd.ApplyOptions, error) {
	var o applyOptions
	if err := decodeInto(optionFields(reflect.ValueOf(&o).Elem(), ""), options); err != nil {
		return vmnetd.ApplyOptions{}, err
	}
	if o.NoConfirm && o.ConfirmWithin != 0 {
		return vmnetd.ApplyOptions{}, vmnetd.Errorf(vmnetd.ErrInvalid, "confirm_within and no_confirm exclude each other")
	}
	return vmnetd.ApplyOptions{
		ConfirmWithin: time.Duration(o.ConfirmWithin) * time.Millisecond,
		NoConfirm:     o.NoConfirm, Force: o.Force, Uplinks: o.Uplinks,
	}, checkNames(o.Uplinks)
}

func encodeApply(o vmnetd.ApplyOptions) properties {
	return given(applyOptions{int(o.ConfirmWithin.Milliseconds()), o.NoConfirm, o.Force, o.Uplinks})
}

// given is the fields of a struct of options that are not zero.
func given(o any) properties {
	options := properties{}
	for name, field := range optionFields(reflect.ValueOf(o), "") {
		if !field.IsZero() {
			options[name] = variant(field)
		}
	}
	return options
}

func checkNames(names []string) error {
	if len(names) > mostNames {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "%d uplinks are named, %d at most can be", len(names), mostNames)
	}
	for _, name := range names {
		if len(name) > longestOption {
			return vmnetd.Errorf(vmnetd.ErrInvalid, "the name of an uplink is longer than %d bytes", longestOption)
		}
	}
	return nil
}

// decodeTeam reads the options of Team: the JSON names of vmnetd.TeamRequest.
// A value may be longer than other options are.
func decodeTeam(options properties) (vmnetd.TeamRequest, error) {
	var req vmnetd.TeamRequest
	others := properties{}
	for name, v := range options {
		value, isText := v.Value().(string)
		if name == "value" && isText {
			req.Value = value
			continue
		}
		others[name] = v
	}
	if err := decodeInto(optionFields(reflect.ValueOf(&req).Elem(), ""), others); err != nil {
		return req, err
	}
	return req, checkTeam(req)
}

func checkTeam(req vmnetd.TeamRequest) error {
	if len(req.Value) > longestValue {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "the value is longer than %d bytes", longestValue)
	}
	if strings.Contains(req.Port, "/") || len(req.Port) > longestOption || len(req.Item) > longestOption {
		return vmnetd.Errorf(vmnetd.ErrInvalid, "port %q, item %q: no such names", clip(req.Port), clip(req.Item))
	}
	return nil
}

func encodeTeam(req vmnetd.TeamRequest) properties { return given(req) }

// untilMicro is a moment in µs since 1970; 0 is none.
func untilMicro(us uint64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return sinceMicro(us)
}
