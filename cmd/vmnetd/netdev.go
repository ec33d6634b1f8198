package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/queuefd"
)

// placeholder is the word of QEMU's command line that becomes its -netdev and
// -device options.
const placeholder = "{netdev}"

// checkPlaceholder wants it exactly once, as a word of its own.
func checkPlaceholder(argv []string) error {
	n := 0
	for _, word := range argv {
		switch {
		case word == placeholder:
			n++
		case strings.Contains(word, placeholder):
			return vmnetd.Errorf(vmnetd.ErrInvalid, "%s must stand alone, not inside %q: it becomes -netdev … -device …", placeholder, word)
		}
	}
	switch n {
	case 1:
		return nil
	case 0:
		return vmnetd.Errorf(vmnetd.ErrInvalid, "QEMU's command line has no %s", placeholder).
			WithNext("vmnetd exec vm1 -- qemu-system-x86_64 … " + placeholder)
	}
	return vmnetd.Errorf(vmnetd.ErrInvalid, "QEMU's command line has %s %d times, and one exec gives one NIC", placeholder, n)
}

// substitute puts words in the place of the placeholder.
func substitute(argv, words []string) []string {
	var out []string
	for _, word := range argv {
		if word == placeholder {
			out = append(out, words...)
			continue
		}
		out = append(out, word)
	}
	return out
}

// netdevWords are the four words that give QEMU a NIC by fds that it inherits.
func netdevWords(got vmnetd.Attachment, fds *queuefd.Set, bus, addr string) []string {
	id := "vmn-" + got.ID
	netdev := fmt.Sprintf("tap,id=%s,fds=%s", id, fdList(fds.Queues))
	if len(fds.VHost) > 0 {
		// vhost=on without an fd makes QEMU open /dev/vhost-net itself and abort
		// when it cannot (net/tap.c, net_init_tap_one); vhostforce, because it
		// otherwise drops back to user space for a guest without MSI-X in silence.
		netdev += ",vhost=on,vhostforce=on,vhostfds=" + fdList(fds.VHost)
	}
	device := fmt.Sprintf("virtio-net-pci,netdev=%s,id=%s,mac=%s", id, id, got.MAC)
	if n := len(fds.Queues); n > 1 {
		// a vector for each rx and tx queue, one for the control queue and one for
		// configuration changes (hw/virtio/virtio-pci.c)
		device += fmt.Sprintf(",mq=on,vectors=%d", 2*n+2)
	}
	if bus != "" {
		device += ",bus=" + bus
	}
	if addr != "" {
		device += ",addr=" + addr
	}
	return []string{"-netdev", netdev, "-device", device}
}

func fdList(fds []int) string {
	list := make([]string, len(fds))
	for i, fd := range fds {
		list[i] = strconv.Itoa(fd)
	}
	return strings.Join(list, ":")
}
