package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/agent"
	"github.com/vmnetd/vmnetd/internal/atomicfile"
)

// keptHead begins every file of kept NICs.
const keptHead = "# NICs that VM %s gets at its next start:\n# kept by  vmnetd attach --config,  taken out by  vmnetd detach --config\n"

// keptKeys is an entry of vms: without labels, which stand in the operator's
// files alone.
var keptKeys = object[rawVM]{what: "a VM with kept NICs", rows: slices.DeleteFunc(slices.Clone(vmKeys.rows), func(r row[rawVM]) bool { return r.name == "labels" })}

// Kept implements agent.ConfigSource. A file that cannot be used is an error that
// names it; those that can be are returned beside it.
func (s *Source) Kept() ([]agent.WantedVM, error) {
	s.keeping.Lock()
	defer s.keeping.Unlock()
	entries, err := os.ReadDir(s.kept) // sorted by name
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, vmnetd.Errorf(vmnetd.ErrFailed, "cannot read the NICs that are kept: %w", err)
	}
	var all []agent.WantedVM
	var errs []error
	for _, e := range entries {
		name, is := strings.CutSuffix(e.Name(), keptSuffix)
		if !is || strings.HasPrefix(e.Name(), ".") { // half-written, by a process that was killed
			continue
		}
		vm, err := s.readKept(filepath.Join(s.kept, e.Name()), name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, vm)
	}
	return all, errors.Join(errs...)
}

// Keep implements agent.ConfigSource. What is kept is what an entry of vms: can
// say: not by which way and how the NIC is handed over.
func (s *Source) Keep(req vmnetd.Request) (changed bool, err error) {
	req = vmnetd.Request{
		VM: req.VM, ID: req.ID, Network: req.Network, Uplink: req.Uplink, Mode: req.Mode, MAC: req.MAC, Queues: req.Queues, Bus: req.Bus, Addr: req.Addr,
		IPs: slices.Clone(req.IPs),
	}
	if err := errors.Join(vmnetd.CheckVMName(req.VM), vmnetd.CheckID(req.ID)); err != nil {
		return false, err
	}
	for i := range req.IPs { // as they come back
		if req.IPs[i], err = readNICAddress(req.IPs[i]); err != nil {
			return false, err
		}
	}
	return s.changeKept(req.VM, func(nics []vmnetd.Request) []vmnetd.Request {
		i := slices.IndexFunc(nics, func(n vmnetd.Request) bool { return n.ID == req.ID })
		if i < 0 {
			return append(nics, req)
		}
		nics[i] = req
		return nics
	})
}

// Unkeep implements agent.ConfigSource.
func (s *Source) Unkeep(vm, id string) (changed bool, err error) {
	if err := vmnetd.CheckVMName(vm); err != nil {
		return false, err
	}
	return s.changeKept(vm, func(nics []vmnetd.Request) []vmnetd.Request {
		return slices.DeleteFunc(nics, func(n vmnetd.Request) bool { return n.ID == id })
	})
}

// changeKept changes the NICs that are kept for a VM, and removes the file with
// the last of them. A file that cannot be read is not written over.
func (s *Source) changeKept(vm string, change func([]vmnetd.Request) []vmnetd.Request) (changed bool, err error) {
	s.keeping.Lock()
	defer s.keeping.Unlock()
	name := escapeName(vm)
	path := filepath.Join(s.kept, name+keptSuffix)
	was, err := s.readKept(path, name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	nics := change(slices.Clone(was.NICs))
	if reflect.DeepEqual(nics, was.NICs) {
		return false, nil
	}
	text := keptText(vm, nics)
	if len(nics) == 0 {
		err = atomicfile.Remove(path)
	} else if err = readable(vm, path, name, string(text)); err != nil {
		return false, err
	} else if err = os.MkdirAll(s.kept, 0o700); err == nil {
		err = atomicfile.Write(path, text)
	}
	if err != nil {
		return false, vmnetd.Errorf(vmnetd.ErrFailed, "cannot keep the NICs of VM %s: %w", vm, err).
			WithNext("see that " + s.kept + " can be written and has space")
	}
	return true, nil
}

// readable refuses a file that could not be read again: the NICs that are in it
// already would be lost with it.
func readable(vm, path, name, text string) error {
	_, err := parseKept(path, name, text)
	var es Errors
	if !errors.As(err, &es) {
		return err
	}
	return vmnetd.Errorf(vmnetd.ErrInvalid, "the NIC cannot be kept for VM %s: %s", vmnetd.Printable(vm), es[0].Text).WithNext(es[0].Next)
}

// readKept reads one file, whose name without its end is the VM's, escaped.
func (s *Source) readKept(path, name string) (agent.WantedVM, error) {
	content, err := readFile(path)
	var vm agent.WantedVM
	if err == nil {
		vm, err = parseKept(path, name, content)
	}
	if err != nil {
		return agent.WantedVM{}, vmnetd.Errorf(vmnetd.ErrFailed, "the NICs kept in %s cannot be used: %w", path, err).
			WithNext("mend the file, or remove it")
	}
	return vm, nil
}

func parseKept(path, name, content string) (agent.WantedVM, error) {
	var p problems
	b := newBuilder(&p)
	b.complete = false // networks and uplinks are declared elsewhere: the policy asks for them
	f := newFile(path, path, 0, content)
	var raw rawVM
	root, _ := parse(f, &p)
	switch {
	case root != nil:
		keptKeys.decode(&p, root, &raw)
		b.vm(&raw, declared{})
	case len(p.list) == 0:
		p.add(f.whole(), "it is empty")
	}
	if len(p.list) == 0 && escapeName(raw.vm.V) != name {
		p.add(raw.vm.At, "it is of VM %q, and its name is of another", raw.vm.V)
	}
	if err := p.errors(); err != nil {
		return agent.WantedVM{}, err
	}
	return b.cfg.VMs[0], nil
}

// keptText is NICs as an entry of vms:. All text is in double quotes, so that
// nothing is taken for a number or a truth.
func keptText(vm string, nics []vmnetd.Request) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, keptHead, quotedText(vm))
	fmt.Fprintf(&b, "vm: %s\nnics:\n", quotedText(vm))
	for _, n := range nics {
		fmt.Fprintf(&b, "  - id: %s\n", quotedText(n.ID))
		for _, e := range [][2]string{
			{"network", n.Network}, {"uplink", n.Uplink}, {"mode", string(n.Mode)}, {"mac", n.MAC}, {"bus", n.Bus}, {"addr", n.Addr},
		} {
			if e[1] != "" {
				fmt.Fprintf(&b, "    %s: %s\n", e[0], quotedText(e[1]))
			}
		}
		if len(n.IPs) > 0 {
			fmt.Fprintf(&b, "    ips: [%s]\n", quotedList(n.IPs))
		}
		if n.Queues != 0 {
			fmt.Fprintf(&b, "    queues: %s\n", strconv.Itoa(n.Queues))
		}
	}
	return b.Bytes()
}

func quotedList(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = quotedText(item)
	}
	return strings.Join(quoted, ", ")
}

// quotedText is text in YAML's double quotes (YAML 1.2, 7.3.1), which take JSON's
// escapes; beyond JSON the byte order mark is one, which no file may have inside.
func quotedText(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""` // a string can always be encoded
	}
	return strings.ReplaceAll(strings.TrimSpace(b.String()), "\ufeff", `\ufeff`)
}

const keptSuffix = ".yaml"

// escapeName makes a VM's name one of a visible file in its folder: '%', '/',
// what is not printed and a dot at the beginning are written %XX.
func escapeName(vm string) string {
	var b strings.Builder
	for i, c := range []byte(vm) {
		if c == '%' || c == '/' || c < ' ' || c == 0x7f || c == '.' && i == 0 {
			fmt.Fprintf(&b, "%%%02x", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
