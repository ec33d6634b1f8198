package hypervisor

import (
	"slices"
	"strings"
)

// Args is what a QEMU command line says about the VM.
type Args struct {
	Name    string   // -name NAME or -name guest=NAME
	ID      string   // -id, Proxmox VE's own option: the VM's number, which its sockets are named after
	UUID    string   // -uuid
	Sockets []string // unix sockets that speak QMP, as written
}

// ParseArgs reads a QEMU command line, the program's name first. It never
// fails: what it does not know it leaves out.
func ParseArgs(argv []string) Args {
	r := argsReader{paths: map[string]string{}}
	for i := 1; i+1 < len(argv); i++ {
		option, ok := optionName(argv[i])
		if !ok {
			continue
		}
		if r.read(option, argv[i+1]) {
			i++ // the value is no option, even when it looks like one
		}
	}
	for _, id := range r.qmp {
		if id != "" {
			r.args.addSocket(r.paths[id])
		}
	}
	return r.args
}

type argsReader struct {
	args  Args
	qmp   []string          // ids of character devices that a QMP monitor uses
	paths map[string]string // of character devices, by id
}

// read takes one option; ok is false when it is none that we know.
func (r *argsReader) read(option, value string) (ok bool) {
	first, keys := parseOptions(value)
	switch option {
	case "name":
		r.args.Name = first
		if guest, ok := keys["guest"]; ok {
			r.args.Name = guest
		}
	case "uuid":
		r.args.UUID = value
	case "id":
		r.args.ID = value
	case "qmp", "qmp-pretty":
		path, id := qmpDevice(value)
		r.args.addSocket(path)
		r.qmp = append(r.qmp, id)
	case "chardev":
		if first == "socket" {
			r.paths[keys["id"]] = keys["path"]
		}
	case "mon":
		if keys["mode"] == "control" {
			r.qmp = append(r.qmp, first, keys["chardev"])
		}
	default:
		return false
	}
	return true
}

func (a *Args) addSocket(path string) {
	if path != "" && !slices.Contains(a.Sockets, path) {
		a.Sockets = append(a.Sockets, path)
	}
}

// optionName: QEMU takes one dash or two (softmmu/vl.c, lookup_opt).
func optionName(arg string) (string, bool) {
	name, ok := strings.CutPrefix(arg, "-")
	if !ok {
		return "", false
	}
	return strings.TrimPrefix(name, "-"), true
}

// qmpDevice reads -qmp's value: unix:PATH,server=on or chardev:ID
// (chardev/char.c, qemu_chr_parse_compat).
func qmpDevice(value string) (path, chardev string) {
	if rest, ok := strings.CutPrefix(value, "unix:"); ok {
		first, keys := parseOptions(rest)
		if first == "" {
			first = keys["path"]
		}
		return first, ""
	}
	if id, ok := strings.CutPrefix(value, "chardev:"); ok {
		return "", id
	}
	return "", ""
}

// parseOptions takes FIRST,key=value,… apart, where a comma in a value is
// written twice (util/qemu-option.c, get_opt_value). FIRST is "" when the text
// begins with key=value.
func parseOptions(text string) (first string, keys map[string]string) {
	keys = map[string]string{}
	for i, item := range splitCommas(text) {
		key, value, found := strings.Cut(item, "=")
		switch {
		case found:
			keys[key] = value
		case i == 0:
			first = item
		default:
			keys[item] = "on"
		}
	}
	return first, keys
}

func splitCommas(text string) []string {
	var items []string
	var item strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != ',':
			item.WriteByte(text[i])
		case i+1 < len(text) && text[i+1] == ',':
			item.WriteByte(',')
			i++
		default:
			items = append(items, item.String())
			item.Reset()
		}
	}
	return append(items, item.String())
}
