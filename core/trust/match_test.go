package trust_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trust"
)

// judged is a good token's claims.
func judged(t *testing.T, claims object) trust.Claims {
	t.Helper()
	k := keys().ed
	iss := trust.Issuer{Issuer: clusterIssuer, Enabled: true, Keys: published(t, k)}
	c, err := trust.Judge(t.Context(), nil, iss, k.sign(t, claims), now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func when(claim string, values ...string) trust.Condition {
	return trust.Condition{Claim: claim, Values: values}
}

func TestAdmits(t *testing.T) {
	said := judged(t, workload())
	const sub = "system:serviceaccount:ci:builder"
	for name, tt := range map[string]struct {
		audience   string
		conditions []trust.Condition
		want       bool
	}{
		"sub":                             {"", []trust.Condition{when("sub", sub)}, true},
		"sub by pointer":                  {"", []trust.Condition{when("/sub", sub)}, true},
		"the audience by name":            {ours, []trust.Condition{when("sub", sub)}, true},
		"another audience":                {"https://other.test", []trust.Condition{when("sub", sub)}, false},
		"a longer audience":               {ours + "/", []trust.Condition{when("sub", sub)}, false},
		"one of several":                  {"", []trust.Condition{when("sub", "x", sub)}, true},
		"none of several":                 {"", []trust.Condition{when("sub", "x", "y")}, false},
		"a longer value":                  {"", []trust.Condition{when("sub", sub+"-2")}, false},
		"a shorter value":                 {"", []trust.Condition{when("sub", sub[:len(sub)-1])}, false},
		"another case":                    {"", []trust.Condition{when("sub", strings.ToUpper(sub))}, false},
		"a beginning":                     {"", []trust.Condition{when("sub", "system:serviceaccount:ci:*")}, true},
		"another beginning":               {"", []trust.Condition{when("sub", "system:serviceaccount:prod:*")}, false},
		"all of several":                  {"", []trust.Condition{when("sub", sub), when("/kubernetes.io/namespace", "ci")}, true},
		"not all of several":              {"", []trust.Condition{when("sub", sub), when("/kubernetes.io/namespace", "prod")}, false},
		"a name with a dot":               {"", []trust.Condition{when("/kubernetes.io/serviceaccount/name", "builder")}, true},
		"a dot is no way in":              {"", []trust.Condition{when("kubernetes.io.namespace", "ci")}, false},
		"an object is no value":           {"", []trust.Condition{when("kubernetes.io", "ci")}, false},
		"one of a list":                   {"", []trust.Condition{when("groups", "deployers")}, true},
		"none of a list":                  {"", []trust.Condition{when("groups", "admins")}, false},
		"a list has no places":            {"", []trust.Condition{when("/groups/0", "deployers")}, false},
		"a number":                        {"", []trust.Condition{when("run", "17")}, true},
		"a number begins with nothing":    {"", []trust.Condition{when("run", "1*")}, false},
		"true":                            {"", []trust.Condition{when("protected", "true")}, true},
		"false":                           {"", []trust.Condition{when("protected", "false")}, false},
		"absent":                          {"", []trust.Condition{when("repository", "*", "")}, false},
		"no condition":                    {"", nil, false},
		"a star that slipped in":          {"", []trust.Condition{when("sub", "*")}, false},
		"no values":                       {"", []trust.Condition{when("sub")}, false},
		"a pointer to nothing":            {"", []trust.Condition{when("/kubernetes.io/pod/name", "builder")}, false},
		"a pointer through what is none":  {"", []trust.Condition{when("/sub/x", sub)}, false},
		"an audience that happens to fit": {ours, []trust.Condition{when("sub", "x")}, false},
	} {
		err := trust.Trust{Audience: tt.audience, Conditions: tt.conditions}.Admits(said, ours)
		if (err == nil) != tt.want {
			t.Errorf("%s: %v, want admitted %v", name, err, tt.want)
		}
		if err != nil {
			refusedAlike(t, name, err)
		}
	}
	if err := (trust.Trust{Conditions: []trust.Condition{when("sub", sub)}}).Admits(said, ""); err == nil {
		t.Error("a tenant without an issuer has an audience")
	}
	// A member is only ever looked for where the pointer leads: a name that escapes nothing stays whole.
	odd := judged(t, with(workload(), object{"a/b": "slash", "c~d": "tilde", "~1": "x", "": "nameless"}))
	for claim, value := range map[string]string{"a/b": "slash", "/a~1b": "slash", "c~d": "tilde", "/c~0d": "tilde", "/~01": "x", "/": "nameless"} {
		if err := (trust.Trust{Conditions: []trust.Condition{when(claim, value)}}).Admits(odd, ours); err != nil {
			t.Errorf("%q: %v", claim, err)
		}
	}
}

func TestParseTrusts(t *testing.T) {
	good := func(edit func(*trust.Trust)) []trust.Trust {
		tr := trust.Trust{Issuer: "gpu", Conditions: []trust.Condition{when("sub", "a", "b*")}}
		if edit != nil {
			edit(&tr)
		}
		return []trust.Trust{tr}
	}
	values := func(v ...string) func(*trust.Trust) {
		return func(tr *trust.Trust) { tr.Conditions[0].Values = v }
	}
	claim := func(s string) func(*trust.Trust) { return func(tr *trust.Trust) { tr.Conditions[0].Claim = s } }
	for _, list := range [][]trust.Trust{nil, {}, good(nil), good(values(many(trust.MaxValues)...)), good(claim("/kubernetes.io/namespace")), good(claim("a.b/c")), good(func(tr *trust.Trust) { tr.Audience = "sts.fleetpass" })} {
		if got, err := trust.ParseTrusts("trusts", list); err != nil || len(got) != len(list) {
			t.Errorf("%+v: %v, %v", list, got, err)
		}
	}
	// What a caller could slip in is not taken over.
	if got, err := trust.ParseTrusts("trusts", good(func(tr *trust.Trust) { tr.IssuerID = "stolen" })); err != nil || got[0].IssuerID != "" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, tt := range map[string]struct {
		list  []trust.Trust
		field string
	}{
		"eleven":               {slicesOf(good(nil)[0], trust.MaxTrusts+1), "trusts"},
		"no issuer":            {good(func(tr *trust.Trust) { tr.Issuer = "" }), "trusts[0].issuer"},
		"a URL for the name":   {good(func(tr *trust.Trust) { tr.Issuer = "https://x.test" }), "trusts[0].issuer"},
		"spaced audience":      {good(func(tr *trust.Trust) { tr.Audience = " x" }), "trusts[0].audience"},
		"long audience":        {good(func(tr *trust.Trust) { tr.Audience = strings.Repeat("x", 513) }), "trusts[0].audience"},
		"no condition":         {good(func(tr *trust.Trust) { tr.Conditions = nil }), "trusts[0].conditions"},
		"eleven conditions":    {good(func(tr *trust.Trust) { tr.Conditions = slicesOf(tr.Conditions[0], trust.MaxConditions+1) }), "trusts[0].conditions"},
		"no claim":             {good(claim("")), "trusts[0].conditions[0].claim"},
		"a claim of control":   {good(claim("su\x00b")), "trusts[0].conditions[0].claim"},
		"iss alone":            {good(claim("iss")), "trusts[0].conditions[0].claim"},
		"aud by pointer":       {good(claim("/aud")), "trusts[0].conditions[0].claim"},
		"a bad escape":         {good(claim("/a~2b")), "trusts[0].conditions[0].claim"},
		"an escape of nothing": {good(claim("/a~")), "trusts[0].conditions[0].claim"},
		"no values":            {good(values()), "trusts[0].conditions[0].values"},
		"101 values":           {good(values(many(trust.MaxValues + 1)...)), "trusts[0].conditions[0].values"},
		"an empty value":       {good(values("")), "trusts[0].conditions[0].values[0]"},
		"a star alone":         {good(values("a", "*")), "trusts[0].conditions[0].values[1]"},
		"two stars":            {good(values("a**")), "trusts[0].conditions[0].values[0]"},
		"a star within":        {good(values("repo:*:main")), "trusts[0].conditions[0].values[0]"},
		"a long value":         {good(values(strings.Repeat("x", 513))), "trusts[0].conditions[0].values[0]"},
		"too much together":    {good(values(padded(100)...)), "trusts"},
	} {
		_, err := trust.ParseTrusts("trusts", tt.list)
		wantField(t, name, err, tt.field)
	}
}

func slicesOf[T any](v T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func many(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("v", i)
	}
	return out
}

func padded(n int) []string {
	out := many(n)
	for i := range out {
		out[i] += strings.Repeat("x", 200)
	}
	return out
}

// wantField fails unless the error is about that field.
func wantField(t *testing.T, name string, err error, field string) {
	t.Helper()
	bad, ok := errors.AsType[*core.FieldError](err)
	if !ok || bad.Field != field {
		t.Errorf("%s: %v, want an error about %s", name, err, field)
	}
}

func TestParseIssuer(t *testing.T) {
	own := []string{"https://fleetpass.test", "http://localhost:8400"}
	for _, s := range []string{"https://token.actions.githubusercontent.com", "https://gitlab.test", "https://kubernetes.default.svc.cluster.local",
		"https://oidc.eks.eu-west-1.amazonaws.com/id/ABC", "https://accounts.test/", "https://fleetpass.test:8443", "https://not-fleetpass.test"} {
		if got, err := trust.ParseIssuer("issuer", s, own...); err != nil || got != s {
			t.Errorf("%s: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "kubernetes/serviceaccount", "http://ci.test", "https://", "https:///x", "https://u:p@ci.test", "https://ci.test?x=1", "https://ci.test#x",
		"https://ci.test/a b", "https://ci.test/*", "HTTPS://ci.test", "https://ci.test/\u00e9", "https://" + strings.Repeat("a", 600) + ".test",
		"https://fleetpass.test/t/acme", "https://fleetpass.test", "https://FLEETPASS.test/t/acme", "https://fleetpass.test.:443/x", "https://fleetpass.test:443/t/globex", "https://localhost:8400/t/acme"} {
		_, err := trust.ParseIssuer("issuer", s, own...)
		wantField(t, s, err, "issuer")
	}
}
