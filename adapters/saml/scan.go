package saml

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/beevik/etree"
)

// limits bound a document. They hold before anything of it is parsed, so they bound what every later step costs.
type limits struct {
	bytes      int
	depth      int // of elements
	elements   int
	attributes int // of one element, namespace declarations among them
	prefixes   int // different ones in the whole document
	comments   bool
}

// What is long in no document, in bytes. A namespace is short, since canonicalization may write it anew at every element.
const (
	maxName      = 128
	maxAttribute = 4 << 10
	maxNamespace = 256
)

// Of a response: 500 groups with room for as much again, each an element of its own. Texts between elements are at most about
// twice as many as elements, so they need no bound of their own. No identity provider is known to put a comment into a
// response, and a comment within a text has truncated names at many a service provider (SAML-075), so there are none.
var ofResponse = limits{bytes: 256 << 10, depth: 40, elements: 4_000, attributes: 64, prefixes: 32}

// Of metadata: a federation's document holds hundreds of entities, and people write comments into theirs.
var ofMetadata = limits{bytes: 1 << 20, depth: 40, elements: 20_000, attributes: 64, prefixes: 64, comments: true}

// declaration is an XML declaration as we take it: version 1.0, UTF-8.
// Expressions are compiled when they are first needed: to compile these is a good part of a cold start, of every function.
var declaration = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*("1\.0"|'1\.0')` +
		`([ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*("(?i:utf-8)"|'(?i:utf-8)'))?` +
		`([ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*("yes"|'yes'|"no"|'no'))?[ \t\r\n]*\?>`)
})

// scan reads the bytes of a document once, from left to right, and lets through a subset of XML 1.0 in which parsers have
// never been seen to differ: UTF-8, names of ASCII, one root, start and end tags that match, attributes that are given once,
// and the five entities of XML itself. There is no document type, no directive, no processing instruction, no CDATA section
// and nothing before the declaration; characters and references to them are graphic, or a tab or an end of line.
//
// As it goes it builds the tree, which encoding/xml would take five times as long for. That is no second opinion about what was
// said: what a signature covers is written anew from this tree, digested, and then read by encoding/xml, and only that is gone
// by. A slip here would make a digest differ, and not a name. FuzzScan holds the two against each other.
func scan(doc []byte, max limits) (*etree.Element, error) {
	if len(doc) > max.bytes {
		return nil, fmt.Errorf("it has %d bytes; at most %d are read", len(doc), max.bytes)
	}
	doc = bytes.TrimPrefix(doc, []byte("\ufeff"))
	if !utf8.Valid(doc) {
		return nil, errors.New("it is not UTF-8")
	}
	s := scanner{limits: max, b: string(doc), at: len(declaration().Find(doc))}
	if err := s.document(); err != nil {
		return nil, fmt.Errorf("at byte %d: %w", s.at, err)
	}
	return s.root, nil
}

type scanner struct {
	limits
	b     string
	at    int
	root  *etree.Element
	open  []*etree.Element // the elements that are open, with their names
	names []string
	count int // of elements
}

func (s *scanner) document() error {
	for s.at < len(s.b) {
		if s.b[s.at] != '<' {
			if err := s.text(); err != nil {
				return err
			}
			continue
		}
		var err error
		switch rest := s.b[s.at+1:]; {
		case strings.HasPrefix(rest, "/"):
			err = s.endTag()
		case strings.HasPrefix(rest, "!--") && s.comments:
			err = s.comment()
		case strings.HasPrefix(rest, "!--"):
			return errors.New("it holds a comment, which no identity provider sends")
		case strings.HasPrefix(rest, "!"):
			return errors.New("it holds a document type, a directive or a CDATA section, which are not read")
		case strings.HasPrefix(rest, "?"):
			return errors.New("it holds a processing instruction, or an XML declaration that is not first, not 1.0 or not UTF-8")
		default:
			err = s.startTag()
		}
		if err != nil {
			return err
		}
	}
	switch {
	case len(s.open) > 0:
		return errors.New("it ends before it is complete")
	case s.root == nil:
		return errors.New("it is not XML")
	}
	return nil
}

func (s *scanner) peek(n int) byte {
	if s.at+n < len(s.b) {
		return s.b[s.at+n]
	}
	return 0
}

// text reads what stands between two tags.
func (s *scanner) text() error {
	start, inside := s.at, len(s.open) > 0
	simple := true
	for s.at < len(s.b) && s.b[s.at] != '<' {
		c := s.b[s.at]
		switch {
		case !inside && !space(c):
			return errors.New("text stands outside of the document's element")
		case c == ']' && strings.HasPrefix(s.b[s.at:], "]]>"):
			return errors.New("]]> stands in a text")
		case c == '&' || c == '\r':
			simple = false
		}
		if err := s.character(); err != nil {
			return err
		}
	}
	if inside {
		data := s.b[start:s.at]
		if !simple {
			data = expand(ends.Replace(data))
		}
		s.open[len(s.open)-1].AddChild(&etree.CharData{Data: data})
	}
	return nil
}

// ends makes one of what ends a line (XML 1.0 §2.11), and blanks a space of each within an attribute's value (§3.3.3).
var (
	ends   = strings.NewReplacer("\r\n", "\n", "\r", "\n")
	blanks = strings.NewReplacer("\r\n", " ", "\r", " ", "\n", " ", "\t", " ")
)

// expand puts characters for the references to them, which were found to be good.
func expand(s string) string {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "&")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		name, after, _ := strings.Cut(rest, ";")
		r, _ := referred(name)
		out.WriteRune(r)
		s = after
	}
}

// character reads one character of a text or of a value, or a reference to one.
func (s *scanner) character() error {
	c := s.b[s.at]
	switch {
	case c == '&':
		return s.reference()
	case c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0x7f:
		return fmt.Errorf("it holds the control character U+%04X", c)
	case c < utf8.RuneSelf:
		s.at++
		return nil
	}
	r, n := utf8.DecodeRuneInString(s.b[s.at:])
	if !graphic(r) {
		return fmt.Errorf("it holds the character U+%04X, which is none for people", r)
	}
	s.at += n
	return nil
}

// reference reads an entity or a numeric character reference.
func (s *scanner) reference() error {
	end := strings.IndexByte(s.b[s.at:min(s.at+12, len(s.b))], ';')
	if end < 0 {
		return errors.New("& begins no reference")
	}
	if _, err := referred(s.b[s.at+1 : s.at+end]); err != nil {
		return err
	}
	s.at += end + 1
	return nil
}

// referred is the character that a reference is to.
func referred(name string) (rune, error) {
	switch name {
	case "lt":
		return '<', nil
	case "gt":
		return '>', nil
	case "amp":
		return '&', nil
	case "quot":
		return '"', nil
	case "apos":
		return '\'', nil
	}
	digits, ok := strings.CutPrefix(name, "#")
	if !ok {
		return 0, errors.New("it refers to an entity that is not XML's own")
	}
	base := 10
	if hex, ok := strings.CutPrefix(digits, "x"); ok {
		digits, base = hex, 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n > utf8.MaxRune {
		return 0, errors.New("it holds a reference to no character")
	}
	if r := rune(n); graphic(r) || r == '\t' || r == '\n' || r == '\r' {
		return r, nil
	}
	return 0, fmt.Errorf("it refers to the character U+%04X, which is none for people", n)
}

// graphic says whether a character may stand in a document: an XML 1.0 Char (§2.2) that is no control and no noncharacter.
func graphic(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r <= 0x9f, r >= 0xd800 && r <= 0xdfff, r >= 0xfdd0 && r <= 0xfdef, r&0xfffe == 0xfffe, r > utf8.MaxRune:
		return false
	}
	return true
}

func (s *scanner) startTag() error {
	s.at++
	name, e, err := s.tag()
	if err != nil {
		return err
	}
	switch s.count++; {
	case s.count > s.elements:
		return fmt.Errorf("it has more than %d elements", s.elements)
	case len(s.open) == s.depth:
		return fmt.Errorf("its elements are nested more than %d deep", s.depth)
	case len(s.open) > 0:
		s.open[len(s.open)-1].AddChild(e)
	case s.root != nil:
		return errors.New("it has a second root")
	default:
		s.root = e
	}
	for {
		before := s.at
		s.spaces()
		switch {
		case s.peek(0) == '>':
			s.at++
			s.open, s.names = append(s.open, e), append(s.names, name)
			return nil
		case s.peek(0) == '/' && s.peek(1) == '>':
			s.at += 2
			return nil
		case before == s.at:
			return errors.New("a tag is not well-formed")
		}
		a, err := s.attribute()
		if err != nil {
			return err
		}
		for _, o := range e.Attr {
			if o.Key == a.Key && o.Space == a.Space {
				return fmt.Errorf("the attribute %s is given twice", a.FullKey())
			}
		}
		if e.Attr = append(e.Attr, a); len(e.Attr) > s.attributes {
			return fmt.Errorf("an element has more than %d attributes", s.attributes)
		}
	}
}

func (s *scanner) tag() (string, *etree.Element, error) {
	name, prefix, local, err := s.name()
	return name, &etree.Element{Space: prefix, Tag: local}, err
}

func (s *scanner) attribute() (a etree.Attr, err error) {
	if _, a.Space, a.Key, err = s.name(); err != nil {
		return a, err
	}
	s.spaces()
	if s.peek(0) != '=' {
		return a, errors.New("an attribute has no value")
	}
	s.at++
	s.spaces()
	quote := s.peek(0)
	if quote != '"' && quote != '\'' {
		return a, errors.New("an attribute's value has no quotes")
	}
	s.at++
	start, simple := s.at, true
	for s.at < len(s.b) && s.b[s.at] != quote {
		switch c := s.b[s.at]; {
		case c == '<':
			return a, errors.New("< stands in an attribute's value")
		case s.at-start >= maxAttribute:
			return a, fmt.Errorf("an attribute's value is longer than %d bytes", maxAttribute)
		case c == '&' || c < ' ':
			simple = false
		}
		if err := s.character(); err != nil {
			return a, err
		}
	}
	if s.at == len(s.b) {
		return a, errors.New("it ends within an attribute")
	}
	if a.Value = s.b[start:s.at]; !simple {
		a.Value = expand(blanks.Replace(a.Value))
	}
	s.at++
	return a, nil
}

func (s *scanner) endTag() error {
	s.at += len("</")
	name, _, _, err := s.name()
	if err != nil {
		return err
	}
	s.spaces()
	if s.peek(0) != '>' {
		return errors.New("an end tag is not well-formed")
	}
	last := len(s.open) - 1
	if last < 0 || s.names[last] != name {
		return fmt.Errorf("</%s> ends nothing that is open", name)
	}
	s.open, s.names = s.open[:last], s.names[:last]
	s.at++
	return nil
}

// comment reads a comment, in which -- cannot stand (XML 1.0 §2.5). It stays in the tree, so that a text with one in it is not
// taken for two, or for one.
func (s *scanner) comment() error {
	s.at += len("<!--")
	start := s.at
	for s.at < len(s.b) {
		switch {
		case strings.HasPrefix(s.b[s.at:], "-->"):
			if len(s.open) > 0 {
				s.open[len(s.open)-1].AddChild(etree.NewComment(s.b[start:s.at]))
			}
			s.at += len("-->")
			return nil
		case strings.HasPrefix(s.b[s.at:], "--"):
			return errors.New("-- stands in a comment")
		case s.b[s.at] == '&': // not a reference here
			s.at++
			continue
		}
		if err := s.character(); err != nil {
			return err
		}
	}
	return errors.New("it ends within a comment")
}

// name reads a qualified name of ASCII letters, digits, dots, hyphens and underscores, with at most one prefix.
func (s *scanner) name() (full, prefix, local string, err error) {
	start, part := s.at, s.at
	for s.at < len(s.b) {
		c := s.b[s.at]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case s.at > part && (c >= '0' && c <= '9' || c == '-' || c == '.'):
		case s.at > part && c == ':' && prefix == "":
			prefix = s.b[start:s.at]
			part = s.at + 1
		case s.at == part:
			return "", "", "", errors.New("a name is not one")
		case s.at-start > maxName:
			return "", "", "", fmt.Errorf("a name is longer than %d bytes", maxName)
		default:
			return s.b[start:s.at], prefix, s.b[part:s.at], nil
		}
		s.at++
	}
	return "", "", "", errors.New("it ends within a name")
}

func (s *scanner) spaces() {
	for s.at < len(s.b) && space(s.b[s.at]) {
		s.at++
	}
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
