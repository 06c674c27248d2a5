package core_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
)

func TestReserved(t *testing.T) {
	for _, name := range []string{
		"system:masters", "SYSTEM:masters", "System:Masters", " system:masters", "\tsystem:x", "ｓｙｓｔｅｍ:masters", // full width
		"ſystem:masters",                                                                                         // long s folds to s
		"system：masters",                                                                                         // full-width colon
		"sys\u200btem:masters",                                                                                   // zero width space
		"s\u00ADystem:masters",                                                                                   // soft hyphen
		"s\u0301ystem:masters",                                                                                   // combining accent
		"\u3164system:masters", "sys\u115ftem:masters", "syste\uffa0m:x", "sy\u034fstem:x", "s\U000E0100ystem:x", // letters and marks that show nothing
		"ⓢⓨⓢⓣⓔⓜ:masters", "𝐬𝐲𝐬𝐭𝐞𝐦:masters", "\u202esystem:x", "KUBE\uFE55x", "\u212Aube:x", // circled, bold, overridden, small colon, Kelvin
		"kube:x", "kube:", "Kube:X", "openshift:x", "fleetpass-id:uid:0", "fleetpass:sync", "system", "system:",
		"system:serviceaccount:kube-system:default", "cluster-admins", "Dedicated-Admins",
	} {
		if !core.Reserved(name) {
			t.Errorf("Reserved(%q) = false", name)
		}
	}
	for _, name := range []string{"ada@example.com", "systems:x", "my-system", "kubernetes", "researchers", "system-admins", "a:system:masters"} {
		if core.Reserved(name) {
			t.Errorf("Reserved(%q) = true", name)
		}
	}
}

func TestParseEmail(t *testing.T) {
	for in, want := range map[string]core.Email{
		"ada@example.com":         "ada@example.com",
		" Ada@Example.COM\r\n":    "ada@example.com",
		"a.b+c@x.y":               "a.b+c@x.y",
		"ju\u0308rgen@example.de": "jürgen@example.de", // composed
		"o'hara@example.com":      "o'hara@example.com",
	} {
		got, err := core.ParseEmail("email", in)
		if got != want || err != nil {
			t.Errorf("ParseEmail(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", " ", "ada", "@x", "ada@", "a@b@c", "a@b,c@d", `"x"@evil@corp`, `"a b"@x.y`, "system:masters", "SYSTEM:masters@x.y", "a@system:x",
		"a\x00@b.c", "a\u202e@b.c", "a\u200b@b.c", "ａ@b.c", "a@.b", "a@b.", "a@b..c", "a..b@c", strings.Repeat("a", 251) + "@b.c", "a@b c", "*@b.c", "a@b/c", "a\xff@b.c",
		"a@b\nc",
	} {
		got, err := core.ParseEmail("email", in)
		if !errors.Is(err, core.Invalid) {
			t.Errorf("ParseEmail(%q) = %q, %v; want Invalid", in, got, err)
		}
		var field *core.FieldError
		if !errors.As(err, &field) || field.Field != "email" {
			t.Errorf("ParseEmail(%q): error %v does not name the field", in, err)
		}
	}
}

func TestParseNames(t *testing.T) {
	bad := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, core.Invalid) {
			t.Errorf("%s: %v, want Invalid", what, err)
		}
	}
	good := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, g := range []string{"researchers", "Team A (EU)", "CN=ml,OU=groups,DC=corp", "組織"} {
		_, err := core.ParseGroupName("groups", g)
		good("group "+g, err)
	}
	for _, g := range []string{"", "*", "system:masters", "ſystem:nodes", "a\x1fb", strings.Repeat("g", 257), "a\u202eb"} {
		_, err := core.ParseGroupName("groups", g)
		bad("group "+g, err)
	}
	for _, n := range []string{"team-a", "fleetpass-team-a", "x"} {
		_, err := core.ParseNamespace("namespace", n)
		good("namespace "+n, err)
	}
	for _, n := range []string{"", "default", "kube-system", "kube-x", "openshift-y", "openshift", "fleetpass-system", "A", "a/b", "a.b", "-a", "a-", strings.Repeat("a", 64), "system:x"} {
		_, err := core.ParseNamespace("namespace", n)
		bad("namespace "+n, err)
	}
	for _, n := range []string{"", "a", "A", "-a", "a-", "a/b", "a#b", "tenant\x1fx", strings.Repeat("a", 33)} {
		_, err := core.ParseTenantID("tenant", n)
		bad("tenant "+n, err)
	}
	_, err := core.ParseTenantID("tenant", "acme-2")
	good("tenant", err)
	for _, n := range []string{"", "A", "a b", "system:x", "system", "kube:x"} {
		_, err := core.ParseApplicationName("name", n)
		bad("application "+n, err)
		_, err = core.ParseProjectName("name", n)
		bad("project "+n, err)
	}
	_, err = core.ParseApplicationName("name", "ci_runner-1")
	good("application", err)
}

func TestScopeIDCarriesItsCluster(t *testing.T) {
	c := core.NewClusterID()
	for _, s := range []core.ScopeID{core.ClusterScope(c), core.NewScopeID(c)} {
		if got, ok := s.ClusterOf(); got != c || !ok {
			t.Errorf("%s.ClusterOf() = %q, %v", s, got, ok)
		}
	}
	if _, ok := core.AccountScope("acme").ClusterOf(); ok {
		t.Error("an account lies in no cluster")
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"ada@example.com", "system:masters", "ſystem:x", "a@b,c@d", "*", "\x1f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if e, err := core.ParseEmail("f", s); err == nil {
			again, err := core.ParseEmail("f", string(e))
			if err != nil || again != e {
				t.Errorf("canonical form %q of %q is not stable: %q, %v", e, s, again, err)
			}
			if core.Reserved(string(e)) || strings.Count(string(e), "@") != 1 {
				t.Errorf("accepted %q", e)
			}
		}
		if g, err := core.ParseGroupName("f", s); err == nil && core.Reserved(string(g)) {
			t.Errorf("accepted group %q", g)
		}
	})
}
