package testkit

import (
	"fmt"
	"html"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmnetd/vmnetd/internal/bootimage"
)

// LibvirtGuestOptions says what machine a guest of libvirt gets.
type LibvirtGuestOptions struct {
	Name       string
	VCPUs      int      // 1 when 0
	RootPorts  int      // PCIe ports with nothing in them, 2 when 0
	Interfaces []string // each the XML of an <interface>
	Disks      []string // each the XML of a <disk> on no bus of virtio's
	Metadata   string   // XML inside <metadata>
	Persistent bool     // defined and started, not only created
	Paused     bool     // its CPUs stand still until virsh resume
	QEMUArgs   []string // further QEMU arguments; they taint the domain
}

// EjectsPaused makes a q35 machine let go of NICs while its CPUs stand still: with
// native PCIe hot-plug a slot that was never powered is unplugged at once (QEMU
// hw/pci/pcie.c, pcie_cap_slot_unplug_request_cb).
var EjectsPaused = []string{"-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"}

// XML is the domain's. Its files are in dir.
func (o LibvirtGuestOptions) XML(dir string, image GuestImage) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>")
	line("<name>%s</name>", xmlText(o.Name))
	line("<metadata>%s</metadata>", o.Metadata)
	line("<memory unit='MiB'>128</memory>")
	line("<vcpu>%d</vcpu>", max(o.VCPUs, 1))
	line("<os><type arch='x86_64' machine='q35'>hvm</type>")
	line("<kernel>%s</kernel><initrd>%s</initrd><cmdline>%s</cmdline></os>", xmlText(image.Kernel), xmlText(image.Initrd), o.commandLine())
	line("<features><acpi/></features>")
	line("<devices>")
	line("<controller type='usb' model='none'/><memballoon model='none'/>")
	o.writePorts(line)
	line("<serial type='file'><source path='%s'/></serial>", xmlText(consoleFile(dir, o.Name)))
	line("<channel type='unix'><source mode='bind' path='%s'/><target type='virtio' name='vmnetd-guest'/></channel>", xmlText(channelFile(dir, o.Name)))
	line("%s", strings.Join(slices.Concat(o.Disks, o.Interfaces), "\n"))
	line("</devices>")
	if len(o.QEMUArgs) > 0 {
		line("<qemu:commandline>")
		for _, arg := range o.QEMUArgs {
			line("<qemu:arg value='%s'/>", xmlText(arg))
		}
		line("</qemu:commandline>")
	}
	line("</domain>")
	return b.String()
}

// commandLine has a guest with several CPUs boot again when one of them stands still:
// without KVM a CPU's timer may stop for good (seen once, after a reset), and
// everything that waits for RCU with it.
func (o LibvirtGuestOptions) commandLine() string {
	if o.VCPUs > 1 {
		return bootimage.CommandLine + " sysctl.kernel.panic_on_rcu_stall=1" // after 21 s; panic=-1 is a reboot
	}
	return bootimage.CommandLine
}

// writePorts makes a port for each device that libvirt puts into one, and for each
// that is to be empty.
func (o LibvirtGuestOptions) writePorts(line func(string, ...any)) {
	ports := o.RootPorts
	if ports == 0 {
		ports = 2
	}
	const virtioSerial = 1
	line("<controller type='pci' index='0' model='pcie-root'/>")
	for i := range ports + virtioSerial + len(o.Interfaces) {
		line("<controller type='pci' index='%d' model='pcie-root-port'/>", i+1)
	}
	// The first of all virtio devices: the guest finds it by that (vport0p1).
	line("<controller type='virtio-serial' index='0'><address type='pci' bus='0x01' slot='0x00'/></controller>")
}

func consoleFile(dir, name string) string { return filepath.Join(dir, name+".console") }

func channelFile(dir, name string) string { return filepath.Join(dir, name) }

// xmlText escapes a text: HTML and XML have the same five characters to escape.
func xmlText(s string) string { return html.EscapeString(s) }
