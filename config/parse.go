package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxDepth is how deep mappings and lists may stand in each other. The keys
// that exist need seven; the parser is recursive and keeps the path of each
// node, so its cost grows with the square of the depth.
const maxDepth = 32

// parse makes nodes of a file. It is nil when the file is empty; ok is false
// when the file could not be read to its end, so that what it may declare is
// not known.
func parse(f *file, p *problems) (root *node, ok bool) {
	if !checkText(f, p) {
		return nil, false
	}
	tokens := lexer.Tokenize(f.text)
	if !checkTokens(f, tokens, p) {
		return nil, false
	}
	docs, err := parseTokens(tokens)
	if err != nil {
		addSyntax(f, err, p)
		return nil, false
	}
	var bodies []ast.Node
	for _, d := range docs {
		if d.Body != nil && d.Body.Type() != ast.DirectiveType && d.Body.Type() != ast.CommentType {
			bodies = append(bodies, d.Body)
		}
	}
	if len(bodies) == 0 {
		return nil, true
	}
	if len(bodies) > 1 {
		p.add(placeOf(f, bodies[1]), "a second YAML document in one file").do("put it into a file of its own in conf.d")
	}
	c := converter{file: f, problems: p}
	return c.node(bodies[0], 0), true
}

// parseTokens guards against a panic in the library: a file that breaks it is a
// bad file, not the end of the daemon.
func parseTokens(tokens token.Tokens) (docs []*ast.DocumentNode, err error) {
	defer func() {
		if r := recover(); r != nil {
			docs, err = nil, fmt.Errorf("the YAML library cannot read it: %v", r)
		}
	}()
	f, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates are ours: we name both lines
	if err != nil {
		return nil, err
	}
	return f.Docs, nil
}

func addSyntax(f *file, err error, p *problems) {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil {
		p.add(f.at(1, 1), "not YAML: %v", err)
		return
	}
	pos := ye.GetToken().Position
	p.add(f.at(pos.Line, pos.Column), "not YAML: %s", ye.GetMessage())
}

// checkText refuses what is no text: bytes that are not UTF-8, control
// characters, and tabs that indent (YAML 1.2, 6.1).
func checkText(f *file, p *problems) bool {
	const enough = 10 // a binary file has thousands
	before := len(p.list)
	for i, line := range f.lines {
		if len(p.list)-before >= enough {
			break
		}
		at, what := badCharacter(line)
		if what != "" {
			p.add(f.at(i+1, at), "%s", what)
		}
	}
	return len(p.list) == before
}

func badCharacter(line string) (col int, what string) {
	indent := true
	for i, r := range line {
		col++
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(line[i:], "\ufffd"):
			return col, "not UTF-8"
		case r == '\t' && indent:
			return col, "a tab cannot indent: use spaces"
		case r != '\t' && unicode.IsControl(r), r == '\u2028', r == '\u2029', r == '\ufeff':
			return col, fmt.Sprintf("the control character %U", r)
		}
		indent = indent && (r == ' ' || r == '-' || r == '\t')
	}
	return 0, ""
}

// checkTokens refuses, before the parser sees it, a file that would cost too
// much, and the parts of YAML that are not taken here.
func checkTokens(f *file, tokens token.Tokens, p *problems) bool {
	const enough = 100
	var cost cost
	before := len(p.list)
	for _, tk := range tokens {
		if why := cost.exceeded(tk); why != "" {
			p.add(tokenPlace(f, tk), "%s", why)
			return false
		}
		if len(p.list)-before >= enough {
			return false
		}
		switch tk.Type {
		case token.MappingKeyType:
			p.add(tokenPlace(f, tk), "a key after '?' is not taken here").do("write it as  key: value")
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			p.add(tokenPlace(f, tk), "anchors, aliases and merge keys are not taken here").do("write the value out; put text that begins with & or * into quotes")
		case token.TagType, token.DirectiveType:
			p.add(tokenPlace(f, tk), "YAML tags and directives are not taken here").do("leave it out; put text that begins with ! or %% into quotes")
		}
	}
	return len(p.list) == before
}

// cost follows what makes the parser slow: it is recursive, and its time grows
// with the square of the depth, of the keys in one mapping and of the items
// between one pair of brackets (measured: 10,000 of either take 1 s, 5,000 a quarter).
type cost struct {
	flow   int               // brackets that are open
	items  [maxDepth + 2]int // in each of them
	keys   int               // outside of brackets, since the last item of a block list
	line   int
	dashes int // in line: "- - - -" nests too
}

const maxEntries = 5000

func (c *cost) exceeded(tk *token.Token) string {
	if tk.Position.Line != c.line {
		c.line, c.dashes = tk.Position.Line, 0
	}
	switch tk.Type {
	case token.MappingStartType, token.SequenceStartType:
		c.flow++
		c.items[min(c.flow, maxDepth+1)] = 0
	case token.MappingEndType, token.SequenceEndType:
		c.flow = max(0, c.flow-1)
	case token.CollectEntryType:
		c.items[c.flow]++
	case token.MappingValueType:
		if c.flow == 0 {
			c.keys++
		}
	case token.SequenceEntryType:
		c.dashes++
		c.keys = 0
	}
	switch {
	case c.flow > maxDepth, c.dashes > maxDepth, tk.Position.Column > 8*maxDepth && leads(tk):
		return "nested too deep"
	case c.keys > maxEntries, c.items[c.flow] > maxEntries:
		return fmt.Sprintf("more than %d entries: write it as a list with a line for each", maxEntries)
	}
	return ""
}

func tokenPlace(f *file, tk *token.Token) place { return f.at(tk.Position.Line, tk.Position.Column) }

// leads says whether tk is the first of its line: its column is its depth.
func leads(tk *token.Token) bool {
	return tk.Prev == nil || tk.Prev.Position.Line < tk.Position.Line
}

type converter struct {
	file     *file
	problems *problems
}

func (c converter) node(a ast.Node, depth int) *node {
	if a == nil {
		return nil
	}
	n := &node{at: placeOf(c.file, a)}
	n.key = n.at
	if depth > maxDepth {
		c.problems.add(n.at, "nested too deep")
		n.shape = broken
		return n
	}
	switch a := a.(type) {
	case *ast.MappingNode:
		c.entries(n, a.Values, depth)
	case *ast.MappingValueNode: // a mapping of one entry
		c.entries(n, []*ast.MappingValueNode{a}, depth)
	case *ast.SequenceNode:
		n.shape = list
		for _, v := range a.Values {
			n.items = append(n.items, c.node(v, depth+1))
		}
	default:
		c.scalar(n, a)
	}
	return n
}

func (c converter) entries(n *node, values []*ast.MappingValueNode, depth int) {
	n.shape = mapping
	seen := map[string]place{}
	for _, v := range values {
		at := placeOf(c.file, v.Key)
		key := &node{at: at}
		c.scalar(key, v.Key)
		if key.shape == broken {
			continue
		}
		if key.shape == nothing || key.text == "" {
			c.problems.add(at, "an empty key")
			continue
		}
		if first, twice := seen[key.text]; twice {
			c.problems.add(at, "key %q is there twice, first at %s", key.text, first)
			continue
		}
		seen[key.text] = at
		value := c.node(v.Value, depth+1)
		if value == nil {
			value = &node{at: at}
		}
		if value.shape == nothing {
			value.at = at // the library places an absent value somewhere after
		}
		value.key = at
		n.entries = append(n.entries, entry{name: key.text, at: at, value: value})
	}
}

func (c converter) scalar(n *node, a ast.Node) {
	switch a := a.(type) {
	case *ast.NullNode:
		n.shape = nothing
	case *ast.StringNode:
		n.shape, n.text = text, a.Value
		n.quoted = a.Token.Type == token.SingleQuoteType || a.Token.Type == token.DoubleQuoteType
	case *ast.LiteralNode:
		n.shape, n.text, n.quoted = text, strings.TrimSuffix(a.Value.Value, "\n"), true
	case *ast.IntegerNode:
		n.shape, n.text = number, a.Token.Value
	case *ast.FloatNode:
		n.shape, n.text = number, a.Token.Value
	case *ast.InfinityNode, *ast.NanNode:
		n.shape, n.text = number, a.GetToken().Value
	case *ast.BoolNode:
		n.shape, n.text = truth, a.Token.Value
	default:
		c.problems.add(n.at, "YAML's %s is not taken here", strings.ToLower(a.Type().YAMLName()))
		n.shape = broken
	}
}

// placeOf is where a node begins; a block mapping begins with its first key,
// the library's own token for it is the colon.
func placeOf(f *file, a ast.Node) place {
	switch m := a.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return placeOf(f, m.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return placeOf(f, m.Key)
	}
	tk := a.GetToken()
	if tk == nil || tk.Position == nil {
		return f.at(1, 1)
	}
	return f.at(tk.Position.Line, tk.Position.Column)
}
