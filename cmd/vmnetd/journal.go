package main

import (
	"context"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/vmnetd/vmnetd"
)

// journalHandler gives every attribute its own journal field (vm becomes
// VMNETD_VM) besides writing it into the message, so that
// `journalctl VMNETD_VM=vm1` works.
type journalHandler struct {
	send  func(message string, p journal.Priority, vars map[string]string) error
	attrs []slog.Attr // with their groups' names in front
	group string      // "" or "a.b."
}

func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	vars := map[string]string{"SYSLOG_IDENTIFIER": "vmnetd"}
	var text strings.Builder
	text.WriteString(r.Message)
	put := func(a slog.Attr) {
		value := a.Value.Resolve().String()
		vars[fieldName(a.Key)] = value
		text.WriteString(" " + a.Key + "=" + vmnetd.Printable(value))
	}
	for _, a := range h.attrs {
		put(a)
	}
	r.Attrs(func(a slog.Attr) bool {
		for _, flat := range flatten(h.group, a) {
			put(flat)
		}
		return true
	})
	return h.send(text.String(), priority(r.Level), vars)
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = append([]slog.Attr{}, h.attrs...)
	for _, a := range attrs {
		next.attrs = append(next.attrs, flatten(h.group, a)...)
	}
	return &next
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.group += name + "."
	return &next
}

// flatten resolves groups into attributes with dotted names.
func flatten(prefix string, a slog.Attr) []slog.Attr {
	value := a.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		if a.Equal(slog.Attr{}) {
			return nil // as slog.Handler asks
		}
		return []slog.Attr{{Key: prefix + a.Key, Value: value}}
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	var all []slog.Attr
	for _, inner := range value.Group() {
		all = append(all, flatten(prefix, inner)...)
	}
	return all
}

// fieldName makes a key a name that the journal takes: A-Z, 0-9 and _, not
// beginning with _ or a digit, 64 at most (systemd, journal-file.c,
// journal_field_valid).
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	name = "VMNETD_" + name
	return name[:min(len(name), 64)]
}

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
