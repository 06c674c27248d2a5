package kube

import (
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
)

// FuzzPrefixesParse: a name found in a cluster is nobody's of ours, or exactly the one that we would write for who it is,
// and never one that the cluster gives a meaning of its own.
func FuzzPrefixesParse(f *testing.F) {
	f.Add("User", "fleetpass:ada@example.com", "fleetpass:")
	f.Add("Group", "system:masters", "")
	f.Add("User", "sync", "")
	f.Add("User", "fleetpass:app:x", "fleetpass:")
	f.Add("Group", "ſystem:masters", "")
	f.Fuzz(func(t *testing.T, kind, name, prefix string) {
		p := Prefixes{User: prefix, Group: prefix}
		s := Subject{Kind: SubjectKind(kind), Name: name}
		who, ok := p.Parse(s)
		if !ok {
			return
		}
		if again, err := p.Subject(who); err != nil || again != s {
			t.Fatalf("%v is %v, who is written %v, %v", s, who, again, err)
		}
		if rest := strings.TrimPrefix(name, prefix); core.Reserved(rest) || rest == SyncUser && s.Kind == UserKind {
			t.Fatalf("%q is taken for one of ours", name)
		}
	})
}

// FuzzParseRef: what is read as an object's name is written the same again.
func FuzzParseRef(f *testing.F) {
	f.Add("RoleBinding/team-a/fleetpass-viewer-ns")
	f.Add("Namespace//x")
	f.Add("//")
	f.Fuzz(func(t *testing.T, s string) {
		if r, ok := ParseRef(s); ok && r.String() != s {
			t.Fatalf("%q is %+v", s, r)
		}
	})
}
