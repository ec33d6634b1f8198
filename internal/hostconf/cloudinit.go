package hostconf

import (
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
)

// cloudLine has cloud-init leave the network's configuration to others
// (docs.cloud-init.io, network configuration), written to cloudFile.
const (
	cloudLine = "network: {config: disabled}"
	cloudFile = "/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg"
)

// clouds says that cloud-init wrote a file: by its name, or by its first lines.
func (f file) clouds() bool {
	if strings.Contains(filepath.Base(f.path), "cloud-init") {
		return true
	}
	for line := range strings.Lines(f.text) {
		if !strings.HasPrefix(line, "#") {
			return false
		}
		if strings.Contains(line, "cloud-init") {
			return true
		}
	}
	return false
}

// cloudOff says that cloud-init is told to leave the network alone.
func cloudOff(r *reader) bool {
	if len(r.glob("/etc/cloud/cloud-init.disabled")) > 0 {
		return true
	}
	for _, f := range append(r.glob("/etc/cloud/cloud.cfg"), r.glob("/etc/cloud/cloud.cfg.d/*.cfg")...) {
		var doc struct {
			Network map[string]any `yaml:"network"`
		}
		if yaml.Unmarshal([]byte(f.text), &doc) == nil && doc.Network["config"] == "disabled" {
			return true
		}
	}
	return false
}
