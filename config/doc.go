// Package config reads what the operator wrote: strict YAML in, clean types
// out. It is the only importer of the YAML library, and it tells every mistake
// at once, each with file:line:col and the line itself.
//
// The way of a file: read.go and file.go read it, parse.go makes nodes with
// positions of it, schema.go takes the nodes apart by tables of keys (one file a
// section: uplinks.go, networks.go, rules.go, vms.go, hypervisors.go), and
// load.go joins the files, follows the references and gives an agent.Config.
// source.go keeps what was accepted.
//
// The way YAML is written here is narrower than YAML: no anchors, aliases, tags,
// merge keys or second documents. Nobody needs them in these files, and without
// them no file grows while it is read.
package config
