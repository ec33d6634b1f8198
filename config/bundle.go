package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// bundleVersion is of the form of the file in which Accept keeps a
// configuration; a higher one was written by a later vmnetd.
const bundleVersion = 1

// bundle is a configuration as it was accepted: the files themselves, so that
// the next start reads it with the same code and tells the same places.
type bundle struct {
	Version  int             `json:"version"`
	Accepted time.Time       `json:"accepted"`
	Files    json.RawMessage `json:"files"` // what Config.Raw has
}

// encodeRaw makes Config.Raw. It has no time in it: two configurations with the
// same Raw are the same.
func encodeRaw(raws []rawFile) ([]byte, error) {
	for _, r := range raws {
		if !utf8.ValidString(r.Content) {
			return nil, fmt.Errorf("%s is not UTF-8", r.Path) // JSON would change it silently
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(raws); err != nil {
		return nil, fmt.Errorf("cannot keep the configuration: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func encodeBundle(raw []byte, accepted time.Time) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(bundle{Version: bundleVersion, Accepted: accepted.UTC(), Files: raw})
	return b.Bytes(), err
}

func decodeBundle(data []byte) ([]rawFile, time.Time, error) {
	var b bundle
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, time.Time{}, fmt.Errorf("it is damaged (%w)", err)
	}
	if b.Version != bundleVersion {
		return nil, time.Time{}, fmt.Errorf("its version is %d, this vmnetd reads version %d", b.Version, bundleVersion)
	}
	var raws []rawFile
	if err := json.Unmarshal(b.Files, &raws); err != nil {
		return nil, time.Time{}, fmt.Errorf("it is damaged (%w)", err)
	}
	if len(raws) == 0 {
		return nil, time.Time{}, fmt.Errorf("it is damaged (no files in it)")
	}
	return raws, b.Accepted, nil
}
