package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmnetd/vmnetd"
)

func anImport() vmnetd.Import {
	return vmnetd.Import{VM: "vm1", Changes: []vmnetd.ImportChange{
		{MAC: "52:54:00:12:34:56", Addr: "0000:01:00.0", ID: "net0", From: "direct bridge on eno1", To: "macvtap bridge on wan", Network: "lan"},
		{MAC: "52:54:00:12:34:57", Addr: "0000:02:00.0", From: "bridge br7", Problem: "no network of vmnetd stands on br7"},
		{MAC: "52:54:00:12:34:58", Addr: "0000:03:00.0", ID: "net1", From: "direct passthrough on eno3", To: "macvtap passthru on eno3", Network: "fw"},
	}}
}

func TestImportScreensAreWhatIsWrittenDown(t *testing.T) {
	applied, none := anImport(), anImport()
	applied.Applied, applied.Changes = true, applied.Changes[:1]
	none.Changes = none.Changes[1:2]
	for name, c := range map[string]struct {
		got  vmnetd.Import
		args string
		code int
	}{
		"import":          {anImport(), "import vm1", 0},
		"import-apply":    {applied, "import vm1 --apply", 0},
		"import-revert":   {applied, "import vm1 --revert", 0},
		"import-none":     {none, "import vm1", 0},
		"import-refused":  {none, "import vm1 --apply", 5},
		"import-nothing":  {vmnetd.Import{VM: "vm1"}, "import vm1 --apply", 0},
		"import-reverted": {vmnetd.Import{VM: "vm1"}, "import vm1 --revert", 0},
	} {
		var out, errs bytes.Buffer
		a := testApp(&fake{imported: c.got}, &out, &errs)
		a.io.width = 80
		if code := a.run(t.Context(), strings.Fields(c.args)); code != c.code || errs.Len() > 0 {
			t.Errorf("%s: exit %d, %s", name, code, errs.String())
		}
		golden(t, "screen/"+name+".txt", out.String())
	}
}

func TestImportAsksForWhatWasAsked(t *testing.T) {
	for args, want := range map[string]string{
		"":         "Import vm1 {Apply:false Revert:false}",
		"--apply":  "Import vm1 {Apply:true Revert:false}",
		"--revert": "Import vm1 {Apply:true Revert:true}",
	} {
		f := &fake{imported: vmnetd.Import{VM: "vm1"}}
		got := do(t, f, append([]string{"import", "vm1", "--json"}, strings.Fields(args)...)...)
		var back vmnetd.Import
		if err := json.Unmarshal([]byte(got.out), &back); err != nil || back.Changes == nil || got.code != 0 {
			t.Errorf("%q: %v, %+v", args, err, got)
		}
		if diff := cmp.Diff([]string{want}, f.calls); diff != "" {
			t.Error(diff)
		}
	}
	f := &fake{}
	for _, line := range []string{"import vm1 --apply --revert", "import ../vm1", "import"} {
		if got := do(t, f, strings.Fields(line)...); got.code != 2 || f.calls != nil {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

func TestXMLIsPrintedAsItIs(t *testing.T) {
	const element = "<interface type='ethernet'>\n  <mac address='52:54:00:00:00:01'/>\n</interface>"
	f := &fake{xml: element}
	got := do(t, f, "xml", "vm1", "--network", "lan", "--queues", "4")
	if got.code != 0 || got.out != element+"\n" || !reflect.DeepEqual(f.req, vmnetd.Request{VM: "vm1", Network: "lan", Queues: 4}) {
		t.Errorf("%+v of %+v", got, f.req)
	}
	var e elementOf
	if err := json.Unmarshal([]byte(do(t, f, "xml", "vm1", "--json").out), &e); err != nil || e != (elementOf{"vm1", element}) {
		t.Errorf("%v, %+v", err, e)
	}
	denied := &fake{err: vmnetd.Errorf(vmnetd.ErrDenied, "no rule")}
	if got := do(t, denied, "xml", "vm1"); got.code != 3 || got.out != "" {
		t.Errorf("denied: %+v", got)
	}
}
