package teaming

import (
	"encoding/json"
	"strings"
)

// untangled is a configuration without what teamd has written to the wrong
// place: the path of eno1.7's link watch, ports.eno1.7.link_watch, is of the key 7
// of eno1 to it (teamd/teamd_json.c; teamd/teamd_link_watch.c writes one for each
// port that has none). What has nothing of the kind is given back as it is.
func untangled(b []byte) []byte {
	var c, ports map[string]json.RawMessage
	if json.Unmarshal(b, &c) != nil || json.Unmarshal(c["ports"], &ports) != nil {
		return b
	}
	changed := false
	for name := range ports {
		owner, key, ok := wrongPlace(name)
		var port map[string]json.RawMessage
		if !ok || json.Unmarshal(ports[owner], &port) != nil || port[key] == nil {
			continue
		}
		delete(port, key)
		ports[owner], changed = encoded(port), true
	}
	if !changed {
		return b
	}
	c["ports"] = encoded(ports)
	return encoded(c)
}

// wrongPlace is where teamd writes what it has for a port whose name has a dot: to
// which port, under which key.
func wrongPlace(name string) (owner, key string, ok bool) {
	owner, rest, ok := strings.Cut(name, ".")
	key, _, _ = strings.Cut(rest, ".")
	return owner, key, ok
}

func encoded(v map[string]json.RawMessage) json.RawMessage {
	out, err := json.Marshal(v)
	if err != nil {
		return nil // it was decoded from JSON
	}
	return out
}
