// Command vmtier runs things in the VM of internal/vmtest:
//
//	vmtier test [-run RE] [-v] [-cover DIR] [-timeout D] [PACKAGE...]
//	vmtier run [-lib DIR] [-o DIR] [-guest] [-systemd] [-timeout D] -- COMMAND [ARGUMENT...]
//	vmtier shell [-lib DIR]
//
// test runs the tests of the VM tier of the packages (./... when none is named),
// all in one VM. A test belongs to the tier when its name begins with TestVM and
// it, or what it calls in its package, calls testkit.Require(t, "vm").
// run runs one command, shell opens one.
//
// Exit codes: that of the command; of test, 1 when a test failed, was skipped, or
// none ran; 125 when the VM itself failed, 130 when interrupted, 2 on wrong usage.
package main
