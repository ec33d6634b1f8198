package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// qmp is the least that speaks QMP: blocking, one command at a time.
type qmp struct {
	fd  int
	buf []byte
}

func dialQMP(path string) (*qmp, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	q := &qmp{fd: fd}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		q.close()
		return nil, err
	}
	_, err = q.next() // the greeting
	if err == nil {
		err = q.run("qmp_capabilities", nil)
	}
	if err != nil {
		q.close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) close() { _ = unix.Close(q.fd) }

type reply struct {
	Return json.RawMessage
	Error  *struct{ Class, Desc string }
	Event  string
	Data   struct{ Device string }
	QMP    json.RawMessage
}

// next reads one line.
func (q *qmp) next() (r reply, err error) {
	for {
		if line, rest, ok := bytes.Cut(q.buf, []byte("\n")); ok {
			q.buf = rest
			return r, json.Unmarshal(line, &r)
		}
		more := make([]byte, 4096)
		n, err := unix.Read(q.fd, more)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return r, err
		case n == 0:
			return r, errors.New("QEMU closed the connection")
		default:
			q.buf = append(q.buf, more[:n]...)
		}
	}
}

type command struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
}

func (q *qmp) run(name string, args any) error { return q.send(name, args, nil) }

// give hands fds over and returns their names as netdev_add takes them.
func (q *qmp) give(kind string, fds []int) (string, error) {
	names := make([]string, len(fds))
	for i, fd := range fds {
		names[i] = fmt.Sprintf("%s-%s%d", floorNIC, kind, i)
		if err := q.send("getfd", map[string]string{"fdname": names[i]}, unix.UnixRights(fd)); err != nil {
			return "", err
		}
	}
	return strings.Join(names, ":"), nil
}

func (q *qmp) send(name string, args any, oob []byte) error {
	msg, err := json.Marshal(command{name, args})
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(q.fd, msg, oob, nil, 0); err != nil {
		return err
	}
	for {
		r, err := q.next()
		switch {
		case err != nil:
			return err
		case r.Error != nil:
			return fmt.Errorf("%s: %s: %s", name, r.Error.Class, r.Error.Desc)
		case r.Return != nil:
			return nil
		}
	}
}

// unplug is device_del and the event that says it is done. The event may come
// before the reply.
func (q *qmp) unplug(device string) error {
	msg, err := json.Marshal(command{"device_del", map[string]string{"id": device}})
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(q.fd, msg, nil, nil, 0); err != nil {
		return err
	}
	for returned, gone := false, false; !returned || !gone; {
		r, err := q.next()
		switch {
		case err != nil:
			return err
		case r.Error != nil:
			return fmt.Errorf("device_del: %s: %s", r.Error.Class, r.Error.Desc)
		case r.Return != nil:
			returned = true
		case r.Event == "DEVICE_DELETED" && r.Data.Device == device:
			gone = true
		}
	}
	return nil
}
