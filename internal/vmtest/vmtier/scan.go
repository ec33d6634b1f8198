package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// tierTests is what a package has for the VM tier.
type tierTests struct {
	names        []string // of the tests, sorted
	guest        bool     // a test wants a saved guest
	libvirtGuest bool     // a test wants one that libvirt saved
}

// scan reads the tests of the package in dir. Names alone do not tell: a VM is
// also what this project is about. A test that requires the tier itself and is
// not named for it would run nowhere, and is an error.
func scan(dir string, only *regexp.Regexp) (tierTests, error) {
	funcs, err := functions(dir)
	if err != nil {
		return tierTests{}, err
	}
	var found tierTests
	for name, f := range funcs {
		found.guest = found.guest || f.calls["RestoreGuest"]
		found.libvirtGuest = found.libvirtGuest || f.calls["RestoreLibvirtGuest"] || f.calls["StartRestoredLibvirtGuest"]
		switch {
		case !strings.HasPrefix(name, "Test"):
		case strings.HasPrefix(name, "TestVM") && reaches(funcs, name, map[string]bool{}):
			if only.MatchString(name) {
				found.names = append(found.names, name)
			}
		case f.requires:
			return tierTests{}, fmt.Errorf(`%s: %s requires the tier "vm" but is not named TestVM…: it would run nowhere`, dir, name)
		}
	}
	slices.Sort(found.names)
	return found, nil
}

// functions is what the test files in dir say. Methods of one name are taken for
// one function: at worst a test named for the tier is run in it although it
// could run elsewhere.
func functions(dir string) (map[string]*function, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	funcs := map[string]*function{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, decl := range parsed.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
				look(funcs, f)
			}
		}
	}
	return funcs, nil
}

// function is what a function's body says.
type function struct {
	requires bool // calls Require(…, "vm")
	calls    map[string]bool
}

func look(funcs map[string]*function, decl *ast.FuncDecl) {
	f := funcs[decl.Name.Name]
	if f == nil {
		f = &function{calls: map[string]bool{}}
		funcs[decl.Name.Name] = f
	}
	ast.Inspect(decl.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			f.requires = f.requires || requiresVM(n)
		case *ast.Ident: // also a function that is passed on, and a method's name
			f.calls[n.Name] = true
		}
		return true
	})
}

func requiresVM(call *ast.CallExpr) bool {
	name := ""
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		name = fun.Name
	case *ast.SelectorExpr:
		name = fun.Sel.Name
	}
	if name != "Require" || len(call.Args) != 2 {
		return false
	}
	tier, ok := call.Args[1].(*ast.BasicLit)
	return ok && tier.Value == `"vm"`
}

// reaches says whether a function requires the tier, or calls one that does.
func reaches(funcs map[string]*function, name string, seen map[string]bool) bool {
	f := funcs[name]
	if f == nil || seen[name] {
		return false
	}
	seen[name] = true
	if f.requires {
		return true
	}
	for callee := range f.calls {
		if reaches(funcs, callee, seen) {
			return true
		}
	}
	return false
}
