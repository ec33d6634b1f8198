package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// libvirt is a libvirtd of our own with one paused domain like the other VMs.
type libvirt struct {
	uri string
	dir string
}

// libvirtdScript gives libvirtd folders of its own in place of the machine's,
// and becomes it. It is the first process of a pid namespace: with it ends
// every QEMU that it started.
const libvirtdScript = `set -e
cd "$0"
mkdir -p /run /var/lib/libvirt /etc/libvirt /var/log/libvirt /var/cache/libvirt
mount -t proc proc /proc
mount --bind run /run
mount --bind lib /var/lib/libvirt
mount --bind etc /etc/libvirt
mount --bind log /var/log/libvirt
mount --bind cache /var/cache/libvirt
exec libvirtd`

// What a confined libvirtd would need of the machine is switched off; none of
// it is on the way of an attach but the security driver, which would make it
// slower.
const libvirtQEMUConf = `user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
dynamic_ownership = 0
`

const libvirtdConf = `auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
log_outputs = "3:stderr"
`

const libvirtDomain = `<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>bench</name>
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
  </devices>
  <qemu:commandline><qemu:arg value='-global'/><qemu:arg value='%s'/></qemu:commandline>
</domain>
`

const libvirtNIC = `<interface type='direct'>
  <mac address='52:54:00:f2:00:01'/>
  <source dev='u0' mode='bridge'/>
  <model type='virtio'/>
  <driver queues='%d'/>
</interface>
`

func startLibvirt(s *scope, h *host) *libvirt {
	dir := s.TempDir()
	l := &libvirt{uri: "qemu:///system?socket=" + filepath.Join(dir, "run/libvirt/libvirt-sock"), dir: dir}
	for _, d := range []string{"run", "lib", "etc", "log", "cache"} {
		s.must(os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	files := map[string]string{
		"etc/qemu.conf": libvirtQEMUConf, "etc/libvirtd.conf": libvirtdConf,
		"bench.xml": fmt.Sprintf(libvirtDomain, ejectsPaused), l.nic(1): fmt.Sprintf(libvirtNIC, 1), l.nic(4): fmt.Sprintf(libvirtNIC, 4),
	}
	for name, content := range files {
		s.must(os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	cmd := exec.Command("sh", "-c", libvirtdScript, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	p, err := startProcess(cmd, h.Do)
	s.must(err)
	s.Cleanup(p.kill)
	if err := l.waitReady(s.ctx, p); err != nil {
		s.must(err)
	}
	_, err = l.virsh(s.ctx, "create", "--paused", filepath.Join(dir, "bench.xml"))
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, p.said())
	}
	s.must(err)
	return l
}

// libvirtPatience is for libvirtd's first start, which asks QEMU what it can.
const libvirtPatience = 5 * time.Minute

func (l *libvirt) waitReady(ctx context.Context, p *process) error {
	limited, cancel := context.WithTimeout(ctx, libvirtPatience)
	defer cancel()
	for {
		_, err := l.virsh(limited, "list")
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("libvirtd ended\n%s", p.said())
		default:
		}
		if pause(limited, 100*time.Millisecond) != nil {
			return fmt.Errorf("libvirtd does not answer: %w\n%s", err, p.said())
		}
	}
}

func (l *libvirt) nic(queues int) string { return fmt.Sprintf("nic%d.xml", queues) }

func (l *libvirt) virsh(ctx context.Context, args ...string) (time.Duration, error) {
	return timed(ctx, "virsh", append([]string{"--quiet", "--connect", l.uri}, args...)...)
}

func (l *libvirt) attach(ctx context.Context, queues int) (time.Duration, error) {
	return l.virsh(ctx, "attach-device", "bench", filepath.Join(l.dir, l.nic(queues)))
}

func (l *libvirt) detach(ctx context.Context, queues int) (time.Duration, error) {
	return l.virsh(ctx, "detach-device", "bench", filepath.Join(l.dir, l.nic(queues)))
}
