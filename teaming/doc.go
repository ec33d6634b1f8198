// Package teaming controls teams by teamd: its configuration (teamd.conf(5)),
// its D-Bus and socket interfaces, its instances, and what it says of a team.
package teaming
