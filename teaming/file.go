package teaming

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd"
)

// file is a configuration in teamd's own JSON (teamd.conf(5)).
type file struct {
	Device      string              `json:"device,omitempty"`
	HWAddr      string              `json:"hwaddr,omitempty"`
	DebugLevel  *int                `json:"debug_level,omitempty"` // read and left out: it is not of the team
	Runner      *fileRunner         `json:"runner,omitempty"`
	LinkWatch   watches             `json:"link_watch,omitempty"`
	NotifyPeers *Burst              `json:"notify_peers,omitempty"`
	McastRejoin *Burst              `json:"mcast_rejoin,omitempty"`
	Ports       map[string]filePort `json:"ports,omitempty"`
}

// fileRunner spells one key as teamd does, and one as its examples do.
type fileRunner struct {
	Runner
	TxBalancer *fileBalancer `json:"tx_balancer,omitempty"`
}

type fileBalancer struct {
	Name              string `json:"name"`
	BalancingInterval *int   `json:"balancing_interval,omitempty"`
	Interval          *int   `json:"interval,omitempty"`
}

type filePort struct {
	Prio      *int    `json:"prio,omitempty"`
	Sticky    *bool   `json:"sticky,omitempty"`
	QueueID   *int    `json:"queue_id,omitempty"`
	LACPPrio  *int    `json:"lacp_prio,omitempty"`
	LACPKey   *int    `json:"lacp_key,omitempty"`
	LinkWatch watches `json:"link_watch,omitempty"`
}

// watches is one link watch or a list of them.
type watches []LinkWatch

// MarshalJSON implements json.Marshaler.
func (w watches) MarshalJSON() ([]byte, error) {
	if len(w) == 1 {
		return json.Marshal(w[0])
	}
	return json.Marshal([]LinkWatch(w))
}

// UnmarshalJSON implements json.Unmarshaler.
func (w *watches) UnmarshalJSON(b []byte) error {
	var err error
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")) {
		err = strict(b, (*[]LinkWatch)(w))
	} else {
		*w = make(watches, 1)
		err = strict(b, &(*w)[0])
	}
	if err != nil {
		return &watchError{in: bytes.Clone(b), err: err}
	}
	return nil
}

// watchError is an error in link watches, whose offset counts from where they
// begin.
type watchError struct {
	in  []byte
	err error
}

func (e *watchError) Error() string { return e.err.Error() }
func (e *watchError) Unwrap() error { return e.err }

var watchKey = regexp.MustCompile(`"link_watch"\s*:\s*`)

// begin is where those link watches are in the whole, 0 when they are not. What
// is written twice is wrong in the first place already.
func (e *watchError) begin(whole []byte) int64 {
	for _, at := range watchKey.FindAllIndex(whole, -1) {
		if bytes.HasPrefix(whole[at[1]:], e.in) {
			return int64(at[1])
		}
	}
	return 0
}

func strict(b []byte, into any) error {
	if err := json.Unmarshal(b, new(json.RawMessage)); err != nil {
		return err // a Decoder does not see what comes after
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// File is the configuration of a team as teamd reads it.
func (c Config) File(device string) []byte {
	f := file{
		Device: device, HWAddr: c.HWAddr, LinkWatch: c.LinkWatch, NotifyPeers: c.NotifyPeers, McastRejoin: c.McastRejoin,
		Runner: &fileRunner{Runner: c.Runner}, Ports: map[string]filePort{},
	}
	if b := c.Runner.TxBalancer; b != nil {
		f.Runner.TxBalancer = &fileBalancer{Name: b.Name, BalancingInterval: b.BalancingInterval}
	}
	for _, p := range c.Ports {
		f.Ports[p.Name] = p.file()
	}
	out, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil // nothing in it can fail
	}
	return append(out, '\n')
}

func (p Port) file() filePort {
	return filePort{Prio: p.Prio, Sticky: p.Sticky, QueueID: p.QueueID, LACPPrio: p.LACPPrio, LACPKey: p.LACPKey, LinkWatch: p.LinkWatch}
}

// JSON is a port's configuration as PortConfigUpdate takes it: with its
// priority, without which teamd fails half-way (teamd/teamd_per_port.c,
// teamd_port_obj_init).
func (p Port) JSON() string {
	if p.Prio == nil {
		p.Prio = new(int)
	}
	out, err := json.Marshal(p.file())
	if err != nil {
		return "{}" // nothing in it can fail
	}
	return string(out)
}

// Parse reads teamd's JSON; ports come in name order. vmnetd.ErrInvalid says
// where it cannot be read.
func Parse(b []byte) (c Config, device string, err error) {
	var f file
	b = untangled(b)
	if err := strict(b, &f); err != nil {
		return c, "", vmnetd.Errorf(vmnetd.ErrInvalid, "cannot read teamd's configuration: %w", place(b, err))
	}
	c = Config{LinkWatch: f.LinkWatch, NotifyPeers: f.NotifyPeers, McastRejoin: f.McastRejoin, HWAddr: f.HWAddr}
	if f.Runner != nil {
		c.Runner = f.Runner.Runner
		if b := f.Runner.TxBalancer; b != nil {
			c.Runner.TxBalancer = &TxBalancer{Name: b.Name, BalancingInterval: b.BalancingInterval}
			if b.BalancingInterval == nil {
				c.Runner.TxBalancer.BalancingInterval = b.Interval
			}
		}
	}
	if c.Runner.Name == "" {
		c.Runner.Name = "roundrobin" // teamd's default (teamd/teamd.c, TEAMD_DEFAULT_RUNNER_NAME)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Ports)) {
		c.Ports = append(c.Ports, f.Ports[name].port(name))
	}
	return c, f.Device, nil
}

func (p filePort) port(name string) Port {
	return Port{Name: name, Prio: p.Prio, Sticky: p.Sticky, QueueID: p.QueueID, LACPPrio: p.LACPPrio, LACPKey: p.LACPKey, LinkWatch: p.LinkWatch}
}

// PlaceError is an error in teamd's JSON with its place, both from 1 on.
type PlaceError struct {
	Line, Column int
	Err          error
}

func (e *PlaceError) Error() string { return fmt.Sprintf("%d:%d: %v", e.Line, e.Column, e.Err) }

// Unwrap is for errors.As.
func (e *PlaceError) Unwrap() error { return e.Err }

// plain is an error of encoding/json without the words of Go.
func plain(err error, wrong *json.UnmarshalTypeError) error {
	if wrong == nil {
		return errors.New(strings.Replace(strings.TrimPrefix(err.Error(), "json: "), "unknown field", "unknown key", 1))
	}
	kind := wrong.Type.Kind().String()
	if kind == "struct" || kind == "map" {
		kind = "object"
	}
	return fmt.Errorf("%s is a %s, and has to be a %s", lastOf(wrong.Field), wrong.Value, kind)
}

// place adds line and column to an error of encoding/json.
func place(b []byte, err error) error {
	var offset int64
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		offset = syntax.Offset
	}
	wrong := (*json.UnmarshalTypeError)(nil)
	if errors.As(err, &wrong) {
		offset = wrong.Offset
	}
	if watch := (*watchError)(nil); errors.As(err, &watch) && offset > 0 {
		offset += watch.begin(b)
	}
	err = plain(err, wrong)
	if offset <= 0 || offset > int64(len(b)) {
		return err
	}
	before := b[:offset]
	return &PlaceError{bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n') - 1, err}
}
