package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// stream sends by TCP, each flow a connection, and prints bit/s of what arrived.
func stream(host string, flows int, during time.Duration) error {
	total, errs := make([]uint64, flows), make([]error, flows)
	began := time.Now()
	together(flows, func(i int) { total[i], errs[i] = oneStream(host, during) })
	took, sum := time.Since(began), uint64(0)
	for _, n := range total {
		sum += n
	}
	fmt.Printf("%.0f\n", float64(sum)*8/took.Seconds())
	return errors.Join(errs...)
}

func oneStream(host string, during time.Duration) (arrived uint64, err error) {
	to, err := net.ResolveTCPAddr("tcp4", host+streamPort)
	if err != nil {
		return 0, err
	}
	c, err := net.DialTCP("tcp4", nil, to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	buf := make([]byte, 1<<17)
	for began := time.Now(); time.Since(began) < during; {
		if _, err := c.Write(buf); err != nil {
			return 0, err
		}
	}
	if err := c.CloseWrite(); err != nil {
		return 0, err
	}
	return arrived, binary.Read(c, binary.BigEndian, &arrived)
}

// frames sends the shortest datagrams, each flow by a socket of its own, and prints
// how many arrive in a second.
func frames(host string, flows int, during time.Duration) error {
	before, err := counted(host)
	if err != nil {
		return err
	}
	errs := make([]error, flows)
	together(flows, func(i int) { errs[i] = oneFlow(host, during) })
	after, err := counted(host)
	fmt.Printf("%.0f\n", float64(after-before)/during.Seconds())
	return errors.Join(append(errs, err)...)
}

func oneFlow(host string, during time.Duration) error {
	c, err := net.Dial("udp4", host+sinkPort)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 18) // fills a frame of 60 bytes
	for began := time.Now(); time.Since(began) < during; {
		for range 16 {
			_, _ = c.Write(buf) // what the device does not take is not counted
		}
	}
	return nil
}

func counted(host string) (n uint64, err error) {
	c, err := net.Dial("tcp4", host+countPort)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return n, binary.Read(c, binary.BigEndian, &n)
}

// ping sends a datagram and waits for its return, again and again, and prints the
// median and the 99th percentile in microseconds.
func ping(host string, _ int, during time.Duration) error {
	c, err := net.Dial("udp4", host+echoPort)
	if err != nil {
		return err
	}
	defer c.Close()
	var times []time.Duration
	buf := make([]byte, 18)
	for began := time.Now(); time.Since(began) < during; {
		sent := time.Now()
		if _, err := c.Write(buf); err != nil {
			return err
		}
		_ = c.SetReadDeadline(sent.Add(time.Second))
		if _, err := c.Read(buf); err == nil {
			times = append(times, time.Since(sent))
		}
	}
	if len(times) == 0 {
		return errors.New("nothing came back")
	}
	slices.Sort(times)
	fmt.Println(times[len(times)/2].Microseconds(), times[len(times)*99/100].Microseconds())
	return nil
}

func together(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}
