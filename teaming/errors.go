package teaming

import "github.com/vmnetd/vmnetd"

// What a teamd that is asked can be instead of answering.
var (
	// ErrGone says that no teamd runs for the team.
	ErrGone = vmnetd.Errorf(vmnetd.ErrFailed, "no teamd runs for it")
	// ErrSilent says that there is a teamd and that it does not answer in time.
	ErrSilent = vmnetd.Errorf(vmnetd.ErrFailed, "its teamd does not answer")
)

// What a team's controller, teamd, can be (vmnetd.TeamState).
const (
	Running = "running"
	Gone    = "gone"
	Silent  = "silent"
)
