package hypervisor

import "time"

// Limits is how long things may take. A zero field means its default.
type Limits struct {
	Greeting time.Duration // QEMU's first line after connecting; default 2 s. Longer means: somebody else is connected
	Busy     time.Duration // retrying a socket that somebody else holds; default 10 s
	Command  time.Duration // one command; default 3 s. Longer means: QEMU is frozen
	Appear   time.Duration // from a socket's node to listen(2) on it; default 2 s
	Eject    time.Duration // from connecting to giving up on the guest's eject; default 800 ms
	Undo     time.Duration // taking everything back after a failure; default 3 s
	Message  int           // bytes of one reply or event, and of all events not yet read; default 64 MiB
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.Greeting, 2 * time.Second},
		{&l.Busy, 10 * time.Second},
		{&l.Command, 3 * time.Second},
		{&l.Appear, 2 * time.Second},
		{&l.Eject, 800 * time.Millisecond},
		{&l.Undo, 3 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if l.Message == 0 {
		l.Message = 64 << 20
	}
	return l
}
