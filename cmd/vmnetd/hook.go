package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/vmnetd/vmnetd"
)

// defaultHooks is where libvirtd looks for hooks (src/util/virhook.c,
// LIBVIRT_HOOK_DIR).
const defaultHooks = "/etc/libvirt/hooks"

func (a *app) hookCommand() *cobra.Command {
	return group("hook", "Have libvirt ask vmnetd when a VM starts",
		`The hook makes the devices of a VM that libvirt starts, before it opens them. It
asks vmnetd only for VMs that have a NIC of vmnetd; all others start and stop
as if there was none.`,
		a.hookInstallCommand(), a.hookRemoveCommand(), a.hookRunCommand(),
	)
}

func (a *app) hookInstallCommand() *cobra.Command {
	var dir string
	var restart bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put the hook where libvirt finds it",
		Long: `Writes qemu.d/vmnetd into libvirt's folder of hooks. libvirt looks for hooks
when its daemon starts, so that must be restarted once; guests go on. Needs
libvirt 6.5 or later. A file of that name that is not vmnetd's is left as it is,
with exit code 5.`,
		Example: `  vmnetd hook install
  vmnetd hook install --restart-libvirtd`,
		Args: takes(nil),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.hookInstall(cmd.Context(), dir, restart)
		},
	}
	addHookDir(cmd, &dir)
	cmd.Flags().BoolVar(&restart, "restart-libvirtd", false, "restart libvirt's daemon (libvirtd or virtqemud) as well")
	return cmd
}

func (a *app) hookRemoveCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Take the hook away",
		Long: `Removes what install has written. VMs whose definition has a NIC of vmnetd do
not start without it.`,
		Example: `  vmnetd hook remove`,
		Args:    takes(nil),
		RunE:    func(*cobra.Command, []string) error { return a.hookRemove(dir) },
	}
	addHookDir(cmd, &dir)
	return cmd
}

func addHookDir(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", defaultHooks, "`DIR` of libvirt's hooks")
}

// hooked is what `hook install` and `hook remove` print.
type hooked struct {
	File      string `json:"file"`
	Changed   bool   `json:"changed"`
	Restarted string `json:"restarted"` // the service of libvirt's that was restarted, "" for none
	Next      string `json:"next"`      // what is still to be done
}

func (a *app) hookInstall(ctx context.Context, dir string, restart bool) error {
	program, err := os.Executable()
	if err != nil {
		return vmnetd.Errorf(vmnetd.ErrFailed, "cannot find out where this program is: %w", err)
	}
	file := hookFile(dir)
	changed, err := installHook(file, hookScript(program, os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")))
	if err != nil {
		return err
	}
	h := hooked{File: file, Changed: changed}
	said := file + ": installed"
	if !changed {
		said = file + ": there already"
	}
	switch {
	case restart:
		if h.Restarted, h.Next, err = a.restartLibvirt(ctx); err != nil {
			return err
		}
	case changed:
		h.Next = "restart libvirt's daemon once, guests go on:  systemctl restart libvirtd  (or virtqemud)"
	}
	if h.Restarted != "" {
		said += "; " + h.Restarted + " was restarted"
	}
	return a.printHooked(h, said)
}

func (a *app) hookRemove(dir string) error {
	file := hookFile(dir)
	changed, err := removeHook(file)
	if err != nil {
		return err
	}
	said := file + ": removed"
	if !changed {
		said = file + ": there was none"
	}
	return a.printHooked(hooked{File: file, Changed: changed}, said)
}

func (a *app) printHooked(h hooked, said string) error {
	if a.json {
		return a.printJSON(h)
	}
	a.printf("%s\n", vmnetd.Printable(said))
	if h.Next != "" {
		a.printf("next: %s\n", vmnetd.Printable(h.Next))
	}
	return nil
}

// libvirtUnits are the services that run hooks of qemu, the newer one first: a
// host has one of them.
var libvirtUnits = []string{"virtqemud.service", "libvirtd.service"}

// restartLibvirt restarts the daemon that is active. One that does not run finds
// the hook when it starts.
func (a *app) restartLibvirt(ctx context.Context) (unit, next string, err error) {
	if !a.systemd() {
		return "", "systemd does not run here: restart libvirtd by whatever starts it, guests go on", nil
	}
	for _, unit := range libvirtUnits {
		if a.systemctl(ctx, "is-active", "--quiet", unit) != nil {
			continue
		}
		if err := a.systemctl(ctx, "restart", unit); err != nil {
			return "", "", vmnetd.Errorf(vmnetd.ErrFailed, "the hook is installed, but %s could not be restarted: %w", unit, err).
				WithNext("see  systemctl status " + unit + ",  then restart it: guests go on")
		}
		return unit, "", nil
	}
	return "", "libvirt's daemon does not run; it finds the hook when it starts", nil
}
