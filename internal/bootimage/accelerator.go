package bootimage

import (
	"os"
	"regexp"
)

var hardwareVirtualization = regexp.MustCompile(`(?m)^flags\s*:.*\b(vmx|svm)\b`)

// Accelerator is the QEMU arguments that say what runs the machine's code. It
// takes KVM only where the processor has it: /dev/kvm can be opened on machines
// where a stock kernel then hangs.
func Accelerator() []string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err == nil {
		_ = kvm.Close()
	}
	if err == nil && hardwareVirtualization.Match(info) {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}
