package oauth

import (
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/strict"
)

// FuzzParseCredentials: whatever the header and the form, a client that comes out could be one, with its secret from one
// place, and nothing that was sent is quoted in an error; scopes and targets of the same form are sane or refused.
func FuzzParseCredentials(f *testing.F) {
	f.Add("Basic Y2xpZW50OnNlY3JldA==", "grant_type=client_credentials")
	f.Add("", "client_id=x&client_secret=CANARY-secret")
	f.Add("Basic Y2xpZW50OnNlY3JldA==", "client_id=other&client_secret=x")
	f.Add("Basic JTAwOiUwMA==", "scope=openid+email&audience=6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e5f")
	f.Add("basic \x00", "resource=urn:uuid:6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e5f&scope=a%0ab")
	f.Fuzz(func(t *testing.T, header, body string) {
		form, err := strict.Form(body, 32<<10)
		if err != nil {
			return
		}
		var headers []string
		if header != "" {
			headers = []string{header}
		}
		c, err := ParseCredentials(headers, form)
		if err == nil && (!clientIDForm(string(c.ID)) || c.Basic && form["client_secret"] != "" || len(c.Secret) > 1024) {
			t.Fatalf("%q, %q: %+v", header, body, c)
		}
		if secret := form["client_secret"]; err != nil && len(secret) > 12 && strings.Contains(err.Error(), secret) {
			t.Fatalf("the error quotes the secret: %v", err)
		}
		if s, err := parseScope(form["scope"]); err == nil {
			if again, err := parseScope(s.String()); err != nil || again.String() != s.String() {
				t.Fatalf("scope %q reads as %q, and that as %q, %v", form["scope"], s, again, err)
			}
		}
		if id, err := target(form); err == nil && !uuidForm(string(id)) {
			t.Fatalf("%q is for %q", body, id)
		}
	})
}
