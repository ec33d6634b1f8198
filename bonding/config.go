package bonding

// Config is a bond as declared. Option values are the text that the kernel's
// sysfs files take: "fast", "100", "192.0.2.1,192.0.2.2".
type Config struct {
	Mode    string            `json:"mode"`
	Options map[string]string `json:"options,omitempty"` // by the kernel's name, without mode
	Ports   []Port            `json:"ports"`
}

// Port is a port as declared.
type Port struct {
	Name    string            `json:"name"`              // of an uplink or a device
	Options map[string]string `json:"options,omitempty"` // prio, queue_id
}
