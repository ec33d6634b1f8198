package dbusapi

import (
	"context"
	"log/slog"
	"time"

	"github.com/vmnetd/vmnetd/agent"
)

// Options of a Server. The zero value serves the system bus.
type Options struct {
	Address    string        // bus address; "": DBUS_SYSTEM_BUS_ADDRESS, or the system bus
	RunDir     string        // where fd.sock is made; "": /run/vmnetd
	Authorizer Authorizer    // who may do what; nil: uid 0 and group vmnetd
	CallLimit  time.Duration // how long a call may take; 0: 20 s
	Log        *slog.Logger  // nil: nothing is logged
}

// Authorizer is to follow.
type Authorizer interface{}

// Server serves an agent on the bus.
type Server struct {
	api agent.API
	o   Options
}

// New makes a Server; Run starts it.
func New(api agent.API, o Options) *Server { return &Server{api: api, o: o} }

// Run serves until ctx ends. It returns an error at once when another daemon
// owns the name; a bus that is away is waited for.
func (s *Server) Run(ctx context.Context) error { return errTODO }

// Ready is closed when the name is owned for the first time.
func (s *Server) Ready() <-chan struct{} { return nil }

func (s *Server) String() string { return "D-Bus" }
