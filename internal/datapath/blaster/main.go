// Program blaster is what guests run to measure the way between them. It is
// static, since a guest has nothing but a kernel and a shell.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

const usage = `usage: blaster serve
       blaster stream|frames|ping HOST FLOWS MILLISECONDS
`

// commands are what is asked of the one that serves; each prints numbers.
var commands = map[string]func(host string, flows int, during time.Duration) error{
	"stream": stream, "frames": frames, "ping": ping,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "blaster:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == "serve" {
		return serve()
	}
	if len(args) != 4 || commands[args[0]] == nil {
		return fmt.Errorf("%s", usage)
	}
	flows, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	ms, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	return commands[args[0]](args[1], flows, time.Duration(ms)*time.Millisecond)
}
