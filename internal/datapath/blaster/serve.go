package main

import (
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
)

// Ports of the one that serves.
const (
	streamPort = ":5001" // TCP: swallows, and says how much when no more comes
	echoPort   = ":5002" // UDP: gives back
	sinkPort   = ":5003" // UDP: swallows
	countPort  = ":5004" // TCP: says how many datagrams were swallowed
)

var swallowed atomic.Uint64

// serve works until it is killed.
func serve() error {
	failed := make(chan error)
	for port, how := range map[string]func(net.Conn) error{streamPort: swallow, countPort: count} {
		l, err := net.Listen("tcp4", port)
		if err != nil {
			return err
		}
		go func() { failed <- accept(l, how) }()
	}
	for port, how := range map[string]func(net.PacketConn) error{echoPort: echo, sinkPort: sink} {
		c, err := net.ListenPacket("udp4", port)
		if err != nil {
			return err
		}
		go func() { failed <- how(c) }()
	}
	return <-failed
}

func accept(l net.Listener, how func(net.Conn) error) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			_ = how(c)
			_ = c.Close()
		}()
	}
}

func swallow(c net.Conn) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 1<<18))
	if err != nil {
		return err
	}
	return binary.Write(c, binary.BigEndian, uint64(n))
}

func count(c net.Conn) error { return binary.Write(c, binary.BigEndian, swallowed.Load()) }

func echo(c net.PacketConn) error {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(buf[:n], from); err != nil {
			return err
		}
	}
}

func sink(c net.PacketConn) error {
	buf := make([]byte, 2048)
	for {
		if _, _, err := c.ReadFrom(buf); err != nil {
			return err
		}
		swallowed.Add(1)
	}
}
