package dbusapi

import (
	"encoding/json"
	"reflect"

	"github.com/godbus/dbus/v5"

	"github.com/vmnetd/vmnetd"
)

// faces is the properties of an object by interface.
type faces = map[string]properties

func attachmentFaces(a vmnetd.Attachment) faces { return faces{attachIface: attachmentProps(a)} }

// uplinkFaces is an uplink with the interface of its kind. An external one has
// the interface of what it turned out to be.
func uplinkFaces(u vmnetd.UplinkState) faces {
	o := faces{uplinkIface: uplinkProps(u)}
	if u.Team != nil || u.Kind == vmnetd.UplinkTeam {
		o[teamIface] = teamProps(u.Team)
	}
	if u.Bond != nil || u.Kind == vmnetd.UplinkBond || u.Kind == vmnetd.UplinkAnchor {
		o[bondIface] = bondProps(u.Bond)
	}
	return o
}

func uplinkProps(u vmnetd.UplinkState) properties {
	p := structProps(reflect.ValueOf(u))
	p["announced"] = dbus.MakeVariant(announcedProps(u.Announced))
	return p
}

// announcedProps is empty when nothing was announced yet.
func announcedProps(a *vmnetd.Announcement) properties {
	if a == nil {
		return properties{}
	}
	return structProps(reflect.ValueOf(*a))
}

// bondProps is a bond as the kernel has it; all empty while there is none.
func bondProps(b *vmnetd.BondState) properties {
	if b == nil {
		b = &vmnetd.BondState{}
	}
	ports, links := []string{}, map[string]bool{}
	for _, p := range b.Ports {
		name := clean(p.Name)
		ports = append(ports, name)
		links[name] = p.MII == "up"
	}
	options := map[string]string{}
	for name, value := range b.Options {
		options[clean(name)] = clean(value)
	}
	return properties{
		"mode":        dbus.MakeVariant(clean(b.Mode)),
		"active_port": dbus.MakeVariant(clean(b.ActivePort)),
		"options":     dbus.MakeVariant(options),
		"ports":       dbus.MakeVariant(ports),
		"links":       dbus.MakeVariant(links),
		"state":       dbus.MakeVariant(jsonText(b)),
	}
}

// watchResult is one link watch of a port: (sb).
type watchResult struct {
	Name string
	Up   bool
}

// teamProps is a team as teamd and the kernel have it; all empty while there is
// none.
func teamProps(t *vmnetd.TeamState) properties {
	if t == nil {
		t = &vmnetd.TeamState{}
	}
	ports, links, prios := []string{}, map[string]bool{}, map[string]int32{}
	watches := map[string][]watchResult{}
	actor, partner := map[string][]string{}, map[string][]string{}
	for _, p := range t.Ports {
		name := clean(p.Name)
		ports = append(ports, name)
		links[name] = p.Link
		prios[name] = int32(p.Prio)
		watches[name] = watchResults(p.Watches)
		if t.LACP != nil {
			actor[name], partner[name] = cleanAll(p.Actor), cleanAll(p.Partner)
		}
	}
	return properties{
		"runner":      dbus.MakeVariant(clean(t.Runner)),
		"active_port": dbus.MakeVariant(clean(t.ActivePort)),
		"controller":  dbus.MakeVariant(clean(t.Controller)),
		"ours":        dbus.MakeVariant(t.Ours),
		"pid":         dbus.MakeVariant(int32(t.PID)),
		"ports":       dbus.MakeVariant(ports),
		"links":       dbus.MakeVariant(links),
		"prios":       dbus.MakeVariant(prios),
		"watches":     dbus.MakeVariant(watches),
		"actor":       dbus.MakeVariant(actor),
		"partner":     dbus.MakeVariant(partner),
		"state":       dbus.MakeVariant(jsonText(t)),
	}
}

func watchResults(all []vmnetd.TeamWatch) []watchResult {
	list := make([]watchResult, len(all))
	for i, w := range all {
		list[i] = watchResult{clean(w.Name), w.Up}
	}
	return list
}

func cleanAll(all []string) []string {
	list := make([]string, len(all))
	for i, s := range all {
		list[i] = clean(s)
	}
	return list
}

// jsonText is v as JSON, which is text that D-Bus takes.
func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil { // no type of ours can fail
		return ""
	}
	return string(text)
}
