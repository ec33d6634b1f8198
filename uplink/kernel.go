package uplink

import (
	"github.com/vmnetd/vmnetd/internal/rtnl"
	"github.com/vmnetd/vmnetd/teaming"
)

// kernel is what is asked for the present state and what carries steps out: the
// kernel itself, and teamd for teams.
type kernel struct {
	conn  *rtnl.Conn
	teams *teaming.Teams
}

func newKernel(o Options) *kernel { return &kernel{conn: o.Conn, teams: o.Teams} }
