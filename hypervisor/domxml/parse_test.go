package domxml

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// domain is a domain with something in it.
func domain(inside string) string { return "<domain>\n<name>vm1</name>\n" + inside + "</domain>\n" }

// asked is a domain with our metadata, whose children are on line 3.
func asked(children string) string {
	return domain("<metadata><v:nics xmlns:v='" + NS + "'>\n" + children + "</v:nics></metadata>")
}

func TestMistakesAreToldWithLineAndColumn(t *testing.T) {
	const mac1, mac2 = "52:54:00:00:00:01", "52:54:00:00:00:02"
	ours := func(mac, dev string) string {
		return "<interface type='ethernet'><mac address='" + mac + "'/><target dev='" + dev + "' managed='no'/></interface>"
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":               {"", "1:1: there is no element"},
		"no XML":                {"hello", "1:1: there is something outside of the root element"},
		"no end":                {"<domain><name>vm1</name>", "unexpected EOF"},
		"wrong end":             {"<domain>\n <name>vm1</nam></domain>", "2:17: element <name> closed by </nam>"},
		"status":                {"<domstatus><domain><name>vm1</name></domain></domstatus>", "1:1: the root element is <domstatus>, not <domain>"},
		"snapshot":              {"<?xml version='1.0'?>\n<domainsnapshot/>", "2:1: the root element is <domainsnapshot>, not <domain>"},
		"foreign domain":        {"<domain xmlns='http://example.com/'><name>vm1</name></domain>", "1:1: the root element is <domain>, not <domain>"},
		"two roots":             {domain("") + "<domain/>", "4:1: there is something outside of the root element"},
		"text after":            {domain("") + "x", "3:10: there is something outside of the root element"},
		"doctype":               {"<!DOCTYPE domain [<!ENTITY a 'b'>]>\n" + domain(""), "1:1: a domain has no DOCTYPE and no declarations"},
		"entity":                {domain("<title>&a;</title>"), "3:11: invalid character entity &a;"},
		"HTML entity":           {domain("<title>&nbsp;</title>"), "invalid character entity &nbsp;"},
		"declaration inside":    {domain("<?xml version='1.0'?>"), "3:1: the XML declaration is not at the beginning"},
		"other encoding":        {"<?xml version='1.0' encoding='latin1'?>" + domain(""), "encoding"},
		"not UTF-8":             {domain("<title>ab\xff</title>"), "3:10: this is not UTF-8"},
		"control in a comment":  {domain("<!-- \x01 -->"), "3:6: this is not UTF-8, or not a character of XML"},
		"unquoted":              {domain("<a b=c/>"), "unquoted or missing attribute value"},
		"attribute twice":       {domain("<a b='1' b='2'/>"), "3:1: <a> has the attribute b twice"},
		"prefix of nothing":     {"<x:domain xmlns:x=''><x:name>vm1</x:name></x:domain>", "1:1: the prefix x stands for no namespace"},
		"no name":               {"<domain><uuid/></domain>", "1:1: the domain has no <name>"},
		"bad name":              {"<domain><name>../x</name></domain>", `1:9: VM name "../x" contains '/'`},
		"control in the name":   {"<domain><name>a&#x85;b</name></domain>", `1:9: VM name "a\u0085b" contains a control character`},
		"two elements of ours":  {domain("<metadata><nics xmlns='" + NS + "'/><nics xmlns='" + NS + "'/></metadata>"), "3:53: a second <nics> in <metadata>"},
		"no MAC":                {asked("<v:nic id='net0'/>"), `4:1: MAC "" is not of the form`},
		"multicast":             {asked("<v:nic mac='01:00:5e:00:00:01'/>"), "4:1: MAC 01:00:5e:00:00:01 is a multicast address"},
		"bad id":                {asked("<v:nic mac='" + mac1 + "' id='0'/>"), `4:1: NIC id "0" is not a letter`},
		"bad mode":              {asked(" <v:nic mac='" + mac1 + "' mode='turbo'/>"), `4:2: unknown mode "turbo"`},
		"misspelt":              {asked("<v:nic mac='" + mac1 + "' net='dmz'/>"), "4:1: <nic> has no attribute net"},
		"MAC twice":             {asked("<v:nic mac='" + mac1 + "'/><v:nic mac='" + mac1 + "'/>"), "4:33: the NIC  of MAC 52:54:00:00:00:01 is there twice"},
		"id twice":              {asked("<v:nic mac='" + mac1 + "' id='a'/><v:nic mac='" + mac2 + "' id='a'/>"), "4:40: the NIC a of MAC 52:54:00:00:00:02 is there twice"},
		"label without a name":  {asked("<v:label value='1'/>"), `4:1: the label "" has no name`},
		"label twice":           {asked("<v:label name='a' value='1'/><v:label name='a' value='2'/>"), `4:30: the label "a" has no name, or is there twice`},
		"escape on a terminal":  {asked("<v:nic mac='" + mac1 + "' id='&#x9b;31m'/>"), `NIC id "\u009b31m" is not a letter`},
		"two NICs, one id":      {domain("<devices>" + ours(mac1, "vmnx") + ours(mac2, "vmnx") + "</devices>"), "the interfaces 52:54:00:00:00:01 and 52:54:00:00:00:02 are both NIC vmnx"},
		"a long story":          {"<" + strings.Repeat("long", 1<<16) + "/>", "the root element is <longlong"},
		"too long":              {domain("<title>" + strings.Repeat("x", maxBytes) + "</title>"), "more than 4194304"},
		"too deep":              {domain(strings.Repeat("<a>", maxDepth)), "elements are nested more than 64 deep"},
		"too many interfaces":   {domain("<devices>" + strings.Repeat("<interface/>", maxEach+1) + "</devices>"), "more than 1024 interfaces"},
		"too many NICs":         {asked(strings.Repeat("<v:nic/>", maxEach+1)), "more than 1024 <nic>"},
		"too many to be kept":   {domain("<devices><interface>" + strings.Repeat("<a/>", maxKept) + "</interface></devices>"), "more than 65536 elements"},
		"too many attributes":   {domain("<a " + strings.Repeat("b='' ", maxAttrs+1) + "/>"), "<a> has more than 64 attributes"},
		"a billion laughs":      {"<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]>" + domain("<title>&b;</title>"), "no DOCTYPE"},
		"an entity of a file":   {"<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/passwd'>]>" + domain("<title>&f;</title>"), "no DOCTYPE"},
		"a tag that never ends": {"<domain " + strings.Repeat("a", 1<<20), "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.text)
			invalid(t, err, c.want)
		})
	}
}

func TestWhatIsOddAndNotOursIsSkipped(t *testing.T) {
	got, err := Parse("<?xml version='1.0' encoding='UTF-8'?>\n<!-- hand made -->\n" + `<domain type='kvm' id='-1' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<?pi what?>
<metadata><nics xmlns='https://example.com/'><nic mac='?'/></nics><undeclared:nics><nic mac='?'/></undeclared:nics></metadata>
<name>a &#38; b &lt;<![CDATA[&]]></name><name>second</name>
<vcpu current='x'>many</vcpu>
<devices><nonsense><interface type='ethernet'/></nonsense>
<interface><mac address='nonsense'/><mac address='52:54:00:00:00:01'/><driver queues='-4'/><mtu size='big'/><address type='pci' bus='0x100'/></interface>
<interface type='bridge'><address type='pci'/></interface></devices>
<devices><interface type='user'><address type='pci' domain='0x10000' bus='5' slot='0x1f' function='7' multifunction='on'/></interface></devices>
<qemu:commandline><qemu:arg value='-S'/></qemu:commandline></domain><!-- end -->
`)
	if err != nil {
		t.Fatal(err)
	}
	want := Domain{Name: "a & b <&", Type: "kvm", VCPUs: 1, Interfaces: []Interface{
		{MAC: "nonsense", Managed: true, Queues: 1}, {Type: "bridge", Managed: true, Queues: 1}, {Type: "user", Managed: true, Queues: 1, Addr: "10000:05:1f.7"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMetadataIsReadWhateverItsPrefix(t *testing.T) {
	want := Domain{Name: "vm1", VCPUs: 1, Labels: map[string]string{"tier": "<web>", "empty": ""}, NICs: []NIC{
		{MAC: "52:54:00:00:00:01", ID: "net0", Network: "wan", Mode: "passthru"},
		{MAC: "52:54:00:00:00:02", Was: "<interface\r\n type='x'/>"},
	}}
	const inside = `<P:nic mac='52:54:00:00:00:01' id='net0' network='wan' mode='passthrough' other:x='1'/>
<P:nic mac='52-54-00-00-00-02'><P:was>&lt;interface&#13;
 type=&apos;x&apos;/></P:was><P:later/></P:nic><nic mac='other'/><P:later/>
<P:label name='tier' value='&lt;web>'/><P:label name='empty'/>`
	for name, text := range map[string]string{
		"ours":    domain("<metadata><vmnetd:nics xmlns:vmnetd='" + NS + "' xmlns:other='o'>" + strings.ReplaceAll(inside, "P:", "vmnetd:") + "</vmnetd:nics></metadata>"),
		"another": "<domain xmlns:n1='" + NS + "'><name>vm1</name><metadata><n1:nics>" + strings.ReplaceAll(inside, "P:", "n1:") + "</n1:nics></metadata></domain>",
		"none":    domain("<metadata><nics xmlns='" + NS + "'>" + strings.ReplaceAll(strings.Replace(inside, "<nic mac='other'/>", "", 1), "P:", "") + "</nics></metadata>"),
	} {
		got, err := Parse(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("prefix %s: %v\n%s", name, err, diff)
		}
	}
}

// Real domains are parsed for each event; hostile ones must end too.
func TestBigTextsEndSoon(t *testing.T) {
	for name, unit := range map[string]string{"elements": "<a/>", "attributes": "<a b='' c='' d='' e='' f='' g='' h=''/>", "comments": "<!---->", "references": "&#65;", "text": "]] >", "instructions": "<?a?>", "interfaces": "<interface><mac/></interface>"} {
		text := domain(strings.Repeat(unit, (maxBytes-64)/len(unit)))
		start := time.Now()
		_, err := Parse(text)
		t.Logf("4 MiB of %s: %v, %v", name, time.Since(start), err)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	text := strings.Replace(sample(b, "import"), "<devices>", "<devices>"+strings.Repeat("<disk type='file' device='disk'>\n  <driver name='qemu' type='qcow2'/>\n  <source file='/var/lib/libvirt/images/a.qcow2'/>\n  <target dev='vda' bus='virtio'/>\n</disk>\n", 10), 1)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
