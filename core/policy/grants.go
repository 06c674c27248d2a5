package policy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Grant is one rule as its subject's `grants` item keeps it: what a decision needs and no more.
type Grant struct {
	Rule    core.RuleID
	Role    core.RoleID
	Scope   core.ScopeID
	Expires int64 // Unix seconds, from which on it no longer holds; 0: never
}

// GrantOf is the grant that a rule amounts to.
func GrantOf(r core.Rule) Grant {
	g := Grant{Rule: r.ID, Role: r.Role, Scope: r.Scope}
	if !r.ExpiresAt.IsZero() {
		g.Expires = r.ExpiresAt.Unix()
	}
	return g
}

// Live says whether the grant still holds at that time.
func (g Grant) Live(now time.Time) bool { return g.Expires == 0 || now.Unix() < g.Expires }

// MaxGrants is how many rules one subject may have in one cluster, or at the account: one item holds them all.
const MaxGrants = 200

// Grants is an index of grants by subject and scope. The zero Grants holds none. It is safe for concurrent Decides once
// it is built.
type Grants struct {
	runs map[holding]run
	list []entry
}

// holding is what a subject holds in a scope.
type holding struct {
	id    string
	scope core.ScopeID
	kind  byte
}

// run is a part of Grants.list.
type run struct{ from, to uint32 }

// entry is a Grant without what its holding says already.
type entry struct {
	rule    core.RuleID
	expires int64
	role    core.RoleID
}

// kindOf shortens a subject's kind, to make the index smaller and its look-ups faster. 0 stands for any unknown kind.
func kindOf(k core.SubjectKind) byte {
	switch k {
	case core.User:
		return 'u'
	case core.Group:
		return 'g'
	case core.Application:
		return 'a'
	}
	return 0
}

// BuildGrants indexes rules, in any order.
func BuildGrants(rules []core.Rule) *Grants {
	sorted := slices.Clone(rules)
	slices.SortFunc(sorted, func(a, b core.Rule) int {
		return cmp.Or(cmp.Compare(a.Subject.Kind, b.Subject.Kind), cmp.Compare(a.Subject.ID, b.Subject.ID),
			cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.ID, b.ID))
	})
	g := &Grants{runs: make(map[holding]run, len(rules)), list: make([]entry, 0, len(rules))}
	for _, r := range sorted {
		g.add(r.Subject, GrantOf(r))
	}
	return g
}

// Add indexes the body of a subject's grants item. A body that does not decode is an error, never "no grants". A subject's
// scope lies in exactly one item, so the same pair must not come from two: that too is an error.
func (g *Grants) Add(s core.Subject, body []byte) error {
	from := uint32(len(g.list))
	if g.runs == nil {
		g.runs = make(map[holding]run)
	}
	return decodeGrants(body, func(gr Grant) error {
		if r, ok := g.runs[holding{s.ID, gr.Scope, kindOf(s.Kind)}]; ok && r.from < from {
			return fmt.Errorf("policy: grants of %s in scope %s come twice", s, gr.Scope)
		}
		g.add(s, gr)
		return nil
	})
}

// add appends a grant; those of one holding must come one after the other.
func (g *Grants) add(s core.Subject, gr Grant) {
	kind := kindOf(s.Kind)
	if kind == 0 {
		return // no request can name it either
	}
	n := uint32(len(g.list))
	g.list = append(g.list, entry{gr.Rule, gr.Expires, gr.Role})
	h := holding{s.ID, gr.Scope, kind}
	if r, ok := g.runs[h]; ok {
		g.runs[h] = run{r.from, n + 1}
		return
	}
	g.runs[h] = run{n, n + 1}
}

// Len is the number of grants.
func (g *Grants) Len() int { return len(g.list) }

// grantsFormat is the first byte of a grants item; another form would get another number.
const grantsFormat = 1

// EncodeGrants makes the body of a grants item: the format, the number of grants, and for each its rule, role and expiry
// as varints and its scope behind its length; ordered by scope, then rule. More than MaxGrants is core.Limit.
func EncodeGrants(grants []Grant) ([]byte, error) {
	if len(grants) > MaxGrants {
		return nil, fmt.Errorf("policy: %d rules for one subject in one cluster, at most %d: %w", len(grants), MaxGrants, core.Limit)
	}
	sorted := slices.Clone(grants)
	slices.SortFunc(sorted, compareGrants)
	body := make([]byte, 0, 2+len(sorted)*64)
	body = append(body, grantsFormat)
	body = binary.AppendUvarint(body, uint64(len(sorted)))
	for i, g := range sorted {
		if g.Scope == "" || len(g.Scope) > maxScope || g.Role < 0 || g.Expires < 0 || i > 0 && compareGrants(sorted[i-1], g) == 0 {
			return nil, fmt.Errorf("policy: grant of rule %d cannot be kept", g.Rule)
		}
		body = binary.AppendUvarint(body, uint64(g.Rule))
		body = binary.AppendUvarint(body, uint64(g.Role))
		body = binary.AppendUvarint(body, uint64(g.Expires))
		body = binary.AppendUvarint(body, uint64(len(g.Scope)))
		body = append(body, g.Scope...)
	}
	return body, nil
}

// maxScope bounds a scope id in bytes: "UUID.random" has 45. With it, a full item stays below store.MaxBody.
const maxScope = 100

func compareGrants(a, b Grant) int {
	return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Rule, b.Rule))
}

// DecodeGrants reads what EncodeGrants wrote. An empty body is no grants: an absent item has one. Anything else that
// EncodeGrants would not have written is an error.
func DecodeGrants(body []byte) ([]Grant, error) {
	var out []Grant
	err := decodeGrants(body, func(g Grant) error {
		out = append(out, g)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func decodeGrants(body []byte, each func(Grant) error) error {
	if len(body) == 0 {
		return nil
	}
	if body[0] != grantsFormat {
		return fmt.Errorf("policy: grants in unknown format %d", body[0])
	}
	text := string(body) // one copy, which every scope id is a part of
	at := 1
	bad := false
	number := func(most uint64) uint64 {
		n, size := binary.Uvarint(body[at:])
		if size <= 0 || n > most || size > 1 && body[at+size-1] == 0 { // cut off, too large, or not the shortest form
			bad = true
			return 0
		}
		at += size
		return n
	}
	count := number(MaxGrants)
	var last Grant
	for i := uint64(0); i < count && !bad; i++ {
		g := Grant{
			Rule:    core.RuleID(number(1<<64 - 1)),
			Role:    core.RoleID(number(1<<31 - 1)),
			Expires: int64(number(1<<63 - 1)),
		}
		n := int(number(maxScope))
		if bad || n == 0 || n > len(body)-at {
			bad = true
			break
		}
		g.Scope = core.ScopeID(text[at : at+n])
		at += n
		if i > 0 && compareGrants(last, g) >= 0 {
			bad = true
			break
		}
		if err := each(g); err != nil {
			return err
		}
		last = g
	}
	if bad || at != len(body) {
		return fmt.Errorf("policy: grants do not decode at byte %d of %d", at, len(body))
	}
	return nil
}
