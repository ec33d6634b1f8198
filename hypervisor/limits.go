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
	Reach    time.Duration // connecting to libvirtd and being let in; default 5 s
	Query    time.Duration // a question to libvirtd; default 5 s
	Change   time.Duration // a change by libvirtd; default 40 s: libvirtd itself gives up its wait for a domain's turn after 30 s (qemu_domainjob.c, QEMU_JOB_WAIT_TIME) and says so
	Begin    time.Duration // until the watch counts as begun without libvirtd; default 2 s
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
		{&l.Reach, 5 * time.Second},
		{&l.Query, 5 * time.Second},
		{&l.Change, 40 * time.Second},
		{&l.Begin, 2 * time.Second},
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
