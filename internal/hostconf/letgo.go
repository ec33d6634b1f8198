package hostconf

// Command is one by which a tool lets go of what it holds.
type Command struct{ Tool, Line string }

// LetGo is the commands by which the tools behind a Source let a device go, for
// good: none for one that does nothing once it has set a device up.
//
// They are for a device that is a port by then. NetworkManager sets a device
// down when it lets go of it while it runs, a port too, and the uplink with it;
// so it is restarted, which it survives without touching a link, and what it
// gave the port is taken off by hand (seen with 1.42). networkd takes its
// addresses along and leaves the link up (systemd 252).
func (s Source) LetGo(device string) []Command {
	var commands []Command
	if s.Tool == CloudInit {
		commands = append(commands, Command{CloudInit, "echo '" + cloudLine + "' > " + cloudFile})
	}
	switch s.holder {
	case NetworkManager:
		commands = append(commands, Command{s.holder, `printf '[keyfile]\nunmanaged-devices+=interface-name:` + device + `\n' > /etc/NetworkManager/conf.d/90-` + device + `.conf && systemctl restart NetworkManager && ip addr flush dev ` + device})
	case Networkd:
		commands = append(commands, Command{s.holder, `printf '[Match]\nName=` + device + `\n[Link]\nUnmanaged=yes\n' > /etc/systemd/network/00-` + device + `.network && networkctl reload`})
	}
	return commands
}
