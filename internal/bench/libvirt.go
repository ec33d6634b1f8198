package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"github.com/vmnetd/vmnetd/internal/testkit"
)

// libvirt is a libvirtd of our own with one paused domain like the other VMs.
type libvirt struct {
	*testkit.Libvirtd
	host   *host
	api    *golibvirt.Libvirt
	domain golibvirt.Domain
}

const libvirtDomain = `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>%s</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <controller type='usb' model='none'/>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' index='1' model='pcie-root-port'/>
    <controller type='pci' index='2' model='pcie-root-port'/>
    <controller type='pci' index='3' model='pcie-root-port'/>
    <controller type='pci' index='4' model='pcie-root-port'/>
    <memballoon model='none'/>
    %s
  </devices>
  <qemu:commandline><qemu:arg value='-global'/><qemu:arg value='%s'/></qemu:commandline>
</domain>
`

// libvirtMAC is that of the NIC that is attached and detached.
const libvirtMAC = "52:54:00:f2:00:01"

func directNIC(mac string, queues int) string {
	return fmt.Sprintf(`<interface type='direct'><mac address='%s'/><source dev='u0' mode='bridge'/><model type='virtio'/><driver queues='%d'/></interface>`, mac, queues)
}

func ethernetNIC(mac, ifname string, queues int) string {
	return fmt.Sprintf(`<interface type='ethernet'><mac address='%s'/><target dev='%s' managed='no'/><model type='virtio'/><driver queues='%d'/></interface>`, mac, ifname, queues)
}

// startLibvirt starts libvirtd on a host, and the domain. Its hooks are those that
// before put into its folder.
func startLibvirt(s *scope, h *host, domain string, before func(hooks string)) *libvirt {
	l := &libvirt{Libvirtd: testkit.StartLibvirtd(s, testkit.LibvirtdOptions{Netns: h.Do}), host: h}
	if before != nil {
		before(l.Hooks)
		l.Kill() // hooks count when libvirtd starts
		l.Start()
	}
	l.Virsh("create", "--paused", l.write(s, domain, fmt.Sprintf(libvirtDomain, domain, "", ejectsPaused)))
	l.api = golibvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(l.Socket)))
	s.must(l.api.Connect())
	s.Cleanup(func() { _ = l.api.Disconnect() })
	var err error
	l.domain, err = l.api.DomainLookupByName(domain)
	s.must(err)
	return l
}

// write writes a file of XML and returns its path.
func (l *libvirt) write(s *scope, name, xml string) string {
	path := filepath.Join(l.Dir, name+".xml")
	s.must(os.WriteFile(path, []byte(xml), 0o600))
	return path
}

// virsh times a virsh command, from the start of its process to the end.
func (l *libvirt) virsh(ctx context.Context, args ...string) (time.Duration, error) {
	return timed(ctx, "virsh", append([]string{"--quiet", "--connect", l.URI}, args...)...)
}

// device attaches and detaches a NIC of libvirt's.
type device struct {
	l    *libvirt
	name string // stem of its files
	api  bool   // by go-libvirt, not by virsh
	tap  bool   // type='ethernet' on a macvtap that is made before, not type='direct'
}

// libvirtTap is the macvtap that libvirt is given.
const libvirtTap = "lvtap0"

func (d device) xml(queues int) string {
	if d.tap {
		return ethernetNIC(libvirtMAC, libvirtTap, queues)
	}
	return directNIC(libvirtMAC, queues)
}

// attach does not count the making of a device that is there before.
func (d device) attach(ctx context.Context, queues int) (time.Duration, error) {
	if d.tap {
		if err := d.ip(ctx, "link", "add", "name", libvirtTap, "numtxqueues", strconv.Itoa(queues), "numrxqueues", strconv.Itoa(queues),
			"address", libvirtMAC, "link", "u0", "type", "macvtap", "mode", "bridge"); err != nil {
			return 0, err
		}
		if err := d.ip(ctx, "link", "set", libvirtTap, "up"); err != nil {
			return 0, err
		}
	}
	return d.run(ctx, "attach-device", queues, d.l.api.DomainAttachDeviceFlags)
}

func (d device) detach(ctx context.Context, queues int) (time.Duration, error) {
	took, err := d.run(ctx, "detach-device", queues, d.l.api.DomainDetachDeviceFlags)
	if err == nil && d.tap {
		err = d.ip(ctx, "link", "delete", libvirtTap)
	}
	return took, err
}

// run is one call, or one virsh; both return when QEMU has done it.
func (d device) run(ctx context.Context, command string, queues int, call func(golibvirt.Domain, string, uint32) error) (time.Duration, error) {
	if d.api {
		began := time.Now()
		err := call(d.l.domain, d.xml(queues), uint32(golibvirt.DomainDeviceModifyLive))
		return time.Since(began), err
	}
	file := filepath.Join(d.l.Dir, fmt.Sprintf("%s%d.xml", d.name, queues))
	if err := os.WriteFile(file, []byte(d.xml(queues)), 0o600); err != nil {
		return 0, err
	}
	return d.l.virsh(ctx, command, d.l.domain.Name, file)
}

func (d device) ip(ctx context.Context, args ...string) error {
	if out, err := d.l.host.Command(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %v: %w: %s", args, err, out)
	}
	return nil
}

// hook installs ours.
func hook(ctx context.Context, s *scope, d *daemon) func(hooks string) {
	return func(hooks string) {
		cmd := exec.CommandContext(ctx, d.program, "hook", "install", "--dir", hooks)
		cmd.Env = d.env()
		if out, err := cmd.CombinedOutput(); err != nil {
			s.must(fmt.Errorf("%v: %w: %s", cmd.Args, err, out))
		}
	}
}
