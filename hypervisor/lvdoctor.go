package hypervisor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"

	"github.com/vmnetd/vmnetd"
	"github.com/vmnetd/vmnetd/internal/proc"
)

// Doctor checks the connection, the hook, and whether the VMs that have NICs of
// ours can take another one.
func (l *Libvirt) Doctor(ctx context.Context) []vmnetd.Check {
	s, err := l.session()
	sockets, _ := l.where()
	if err != nil && !slices.ContainsFunc(sockets, isSocket) {
		return []vmnetd.Check{{Level: vmnetd.LevelOK, Name: "libvirt", Text: "not there; VMs are found by QMP sockets"}}
	}
	if err == nil {
		err = l.query(ctx, func(lv *libvirt.Libvirt) error { _, err := lv.ConnectGetLibVersion(); return err })
	}
	if err != nil {
		return []vmnetd.Check{{Level: vmnetd.LevelFail, Name: "libvirt", Text: err.Error(), Do: vmnetd.NextOf(err)}}
	}
	return append([]vmnetd.Check{l.connected(s)}, l.fullDomains(ctx)...)
}

// connected is the line of the connection and of the hook.
func (l *Libvirt) connected(s *lvSession) vmnetd.Check {
	c := vmnetd.Check{Level: vmnetd.LevelOK, Name: "libvirt"}
	counts := fmt.Sprintf("%s; %s", lvVersion(s.version), l.counts())
	var hook unix.Stat_t
	path := filepath.Join(l.hooks, "qemu.d", "vmnetd")
	started, known := s.started()
	switch {
	case unix.Stat(path, &hook) != nil:
		c.Level, c.Text = vmnetd.LevelWarn, "the hook is not installed: devices are not there when libvirt starts a VM; "+counts
		c.Do = "vmnetd hook install"
	case known && time.Unix(hook.Ctim.Unix()).After(started):
		c.Level, c.Text = vmnetd.LevelWarn, "the hook is newer than libvirtd, which looks for hooks when it starts; "+counts
		c.Do = "restart libvirtd once: systemctl restart libvirtd (VMs go on)"
	case !known:
		c.Text = "hook installed; when libvirtd started could not be told; " + counts
	default:
		c.Text = "hook installed and loaded; " + counts
	}
	return c
}

func (l *Libvirt) counts() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	nics := 0
	for _, d := range l.domains {
		nics += d.nicsOfOurs()
	}
	return fmt.Sprintf("domains: %d, NICs of ours: %d", len(l.domains), nics)
}

func (d *lvDomain) nicsOfOurs() int {
	n := 0
	if d.xml != nil {
		for _, i := range d.xml.Interfaces {
			if i.Ours() {
				n++
			}
		}
	}
	return n
}

// fullDomains warns of those into which nothing can be plugged any more.
func (l *Libvirt) fullDomains(ctx context.Context) []vmnetd.Check {
	var checks []vmnetd.Check
	l.mu.Lock()
	var doms []lvDomain
	for _, d := range l.domains {
		if d.nicsOfOurs() > 0 {
			doms = append(doms, *d)
		}
	}
	l.mu.Unlock()
	slices.SortFunc(doms, func(a, b lvDomain) int { return strings.Compare(a.name, b.name) })
	for _, d := range doms {
		var text string
		err := l.query(ctx, func(lv *libvirt.Libvirt) (err error) { text, err = lv.DomainGetXMLDesc(d.ref(), 0); return err })
		name := vmnetd.Printable(d.name)
		if free, ports := freePorts(text); err == nil && ports && free == 0 {
			checks = append(checks, vmnetd.Check{
				Level: vmnetd.LevelWarn, Name: "VM " + name, Text: "no free PCIe port: no NIC can be hot-plugged",
				Do: "add <controller type='pci' model='pcie-root-port'/>, restart " + name,
			})
		}
	}
	return checks
}

// started is when libvirtd did, at the latest. With socket activation it is systemd that
// listens, and libvirtd is found by its pid file.
func (s *lvSession) started() (time.Time, bool) {
	daemon := "libvirtd"
	if strings.HasPrefix(filepath.Base(s.path), "virtqemud") {
		daemon = "virtqemud"
	}
	pid := s.pid
	if commOf(pid) != daemon {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(s.path)), daemon+".pid"))
		if err != nil {
			return time.Time{}, false
		}
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	ticks, err := proc.StartTime(pid)
	if err != nil || commOf(pid) != daemon {
		return time.Time{}, false
	}
	const tick = 10 * time.Millisecond // 1/USER_HZ, in which proc_pid_stat(5) counts, whole ones
	since := proc.SinceBoot() - time.Duration(ticks+1)*tick
	return time.Now().Add(-since), true
}

func commOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
