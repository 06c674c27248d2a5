package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

func someGrants(n int) []Grant {
	var all []Grant
	for i := range n {
		all = append(all, Grant{Rule: 1<<63 + core.RuleID(i), Role: 19, Scope: core.ScopeID(strings.Repeat("s", maxScope-3) + fmt.Sprintf("%03d", i)), Expires: 253402300799})
	}
	return all
}

func TestGrantsRoundTrip(t *testing.T) {
	in := []Grant{
		{Rule: 9, Role: 7, Scope: "b"},
		{Rule: 2, Role: 1, Scope: "acme", Expires: 1_800_000_000},
		{Rule: 1, Role: 999, Scope: "acme"}, // a role of a newer version is kept, and permits nothing
	}
	body, err := EncodeGrants(in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeGrants(body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Grant{in[2], in[1], in[0]}, got); diff != "" {
		t.Error(diff)
	}
	if got, err := DecodeGrants(nil); err != nil || got != nil {
		t.Errorf("an absent item: %v, %v", got, err)
	}
}

// A subject at the limit, with ids as long as they may be, fits one item; one more rule is the named limit.
func TestGrantsLimit(t *testing.T) {
	body, err := EncodeGrants(someGrants(MaxGrants))
	if err != nil || len(body) > store.MaxBody {
		t.Errorf("%d grants: %d bytes of %d, %v", MaxGrants, len(body), store.MaxBody, err)
	}
	if _, err := EncodeGrants(someGrants(MaxGrants + 1)); !errors.Is(err, core.Limit) {
		t.Errorf("%d grants: %v, want core.Limit", MaxGrants+1, err)
	}
}

// A damaged item is an error wherever it is cut or changed, and never looks like fewer grants (error is not empty).
func TestDamagedGrants(t *testing.T) {
	body, err := EncodeGrants([]Grant{{Rule: 300, Role: 7, Scope: "a", Expires: 5}, {Rule: 301, Role: 7, Scope: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(body); n++ {
		if _, err := DecodeGrants(body[:n]); err == nil {
			t.Errorf("cut after %d of %d bytes: no error", n, len(body))
		}
	}
	for name, bad := range map[string][]byte{
		"more behind":    append(slices.Clone(body), 0),
		"another format": append([]byte{2}, body[1:]...),
		"out of order":   {1, 2, 9, 7, 0, 1, 'b', 8, 7, 0, 1, 'a'},
		"twice":          {1, 2, 9, 7, 0, 1, 'b', 9, 7, 0, 1, 'b'},
		"no scope":       {1, 1, 9, 7, 0, 0},
		"long form":      {1, 1, 0x89, 0x00, 7, 0, 1, 'a'},
		"too many":       {1, 0xc9, 1},
	} {
		if got, err := DecodeGrants(bad); err == nil {
			t.Errorf("%s: %v, want an error", name, got)
		}
		var g Grants
		if err := g.Add(core.UserSubject("ada@example.com"), bad); err == nil {
			t.Errorf("%s: Add takes it", name)
		}
	}
	var g Grants
	if err := g.Add(core.UserSubject("ada@example.com"), body); err != nil || g.Len() != 2 {
		t.Errorf("the twin, undamaged: %d grants, %v", g.Len(), err)
	}
	if err := g.Add(core.UserSubject("ada@example.com"), body); err == nil {
		t.Error("the same item twice: no error")
	}
}

// FuzzDecodeGrants: whatever decodes encodes to the same bytes, so there is one spelling of everything.
func FuzzDecodeGrants(f *testing.F) {
	for _, grants := range [][]Grant{nil, {{Rule: 1, Role: 7, Scope: "acme"}}, someGrants(3)} {
		body, err := EncodeGrants(grants)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte{1, 2, 9, 7, 0, 1, 'b', 8, 7, 0, 1, 'a'})
	f.Add([]byte{1, 1, 0x89, 0x00, 7, 0, 1, 'a'})
	f.Fuzz(func(t *testing.T, body []byte) {
		grants, err := DecodeGrants(body)
		if err != nil || len(body) == 0 {
			return
		}
		again, err := EncodeGrants(grants)
		if err != nil {
			t.Fatalf("%v decodes and does not encode: %v", grants, err)
		}
		if string(again) != string(body) {
			t.Fatalf("%x decodes to %v, which encodes to %x", body, grants, again)
		}
	})
}
