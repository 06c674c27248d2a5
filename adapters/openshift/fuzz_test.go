package openshift

import (
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/sso"
)

// FuzzUser: whatever the user API answers, what is asserted of it has the shape that the mapping is promised, comes from a
// document that says everything once, and holds no virtual group.
func FuzzUser(f *testing.F) {
	f.Add([]byte(`{"kind":"User","apiVersion":"user.openshift.io/v1","metadata":{"name":"ada","uid":"u"},"fullName":"Ada Lovelace","groups":["a","system:authenticated"]}`), "acme.test")
	f.Add([]byte(`{"kind":"User","apiVersion":"user.openshift.io/v1","metadata":{"name":"a@b","uid":"u"},"groups":null}`), "")
	f.Add([]byte(`{"kind":"User","kind":"User"}`), "x")
	f.Add([]byte(`{"kind":"User","apiVersion":"user.openshift.io/v1","metadata":{"name":"\ud800"}}`), "x")
	f.Add([]byte(strings.Repeat("[", 100)), "")
	f.Fuzz(func(t *testing.T, body []byte, domain string) {
		u, err := parseUser(body)
		if err != nil {
			return
		}
		c := sso.Connection{}
		if domain != "" {
			c.Domains = []string{domain}
		}
		var r sso.Report
		as := attributes(c, u, &r)
		groups, ok := as["GROUPS"].([]any)
		if !ok {
			t.Fatalf("groups are %T", as["GROUPS"])
		}
		for _, g := range groups {
			if name, ok := g.(string); !ok || name == "system:authenticated" {
				t.Fatalf("group %v", g)
			}
		}
		email, ok := as["email"].(string)
		if _, failed := r.Failure(); ok == failed {
			t.Fatalf("e-mail %q, failed %v", email, failed)
		}
		if ok && !strings.HasPrefix(email, u.Metadata.Name) {
			t.Fatalf("e-mail %q of %q", email, u.Metadata.Name)
		}
		_ = u.shown()
		_, _ = c.Mappers.Map(c, as, &r)
	})
}

// FuzzMetadata: what is read as metadata has the three addresses.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://o","authorization_endpoint":"https://o/a","token_endpoint":"https://o/t","code_challenge_methods_supported":["S256"]}`))
	f.Add([]byte(`{"issuer":"https://o","issuer":"https://o"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if m, err := parseMetadata(body); err == nil && (m.Issuer == "" || m.Authorization == "" || m.Token == "") {
			t.Fatalf("%+v", m)
		}
	})
}

// FuzzToken: what is taken for a token can be sent in a header.
func FuzzToken(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"sha256~x","token_type":"Bearer","expires_in":86400,"scope":"user:info"}`))
	f.Add(400, []byte(`{"error":"invalid_grant"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a, err := parseToken(status, body)
		if err == nil && (status != 200 || a.Access == "" || strings.ContainsAny(a.Access, " \r\n\t") || strings.Contains(a.shown(), a.Access) && len(a.Access) > 40) {
			t.Fatalf("%+v", a)
		}
	})
}
