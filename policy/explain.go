package policy

// Explanation is what `explain` shows for one network, or why it is denied.
type Explanation struct {
	VM       string     `json:"vm"`
	ID       string     `json:"id"`
	Granted  bool       `json:"granted"`
	Error    string     `json:"error,omitempty"` // why not
	Next     string     `json:"next,omitempty"`
	Network  string     `json:"network,omitempty"`
	Uplink   string     `json:"uplink,omitempty"`
	Mode     string     `json:"mode,omitempty"`
	Kind     string     `json:"kind,omitempty"`
	MAC      string     `json:"mac,omitempty"`
	MTU      int        `json:"mtu,omitempty"`
	Queues   int        `json:"queues,omitempty"`
	VHost    bool       `json:"vhost"`
	Rule     string     `json:"rule,omitempty"`
	Lines    []Line     `json:"lines"` // the chosen, a line each
	Not      []Rejected `json:"not"`
	Mind     []string   `json:"mind"`
	ExitCode int        `json:"exit"` // what attach would exit with
}

// Line is one line of the chosen alternative: a label, a value, where it comes
// from.
type Line struct {
	Label string `json:"label"`
	Value string `json:"value"`
	From  string `json:"from"`
}
