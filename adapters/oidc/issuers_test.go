package oidc_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/oidc"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/trust"
)

const audience = "https://fleet.example/t/acme"

// trusted is an op whose tokens for programs are trusted.
func trusted(t testing.TB) (*op, *oidc.Issuers, trust.Issuer) {
	t.Helper()
	o := newOP(t)
	o.key, o.alg = ecKey(), "ES256"
	o.claims = func(c m) { c["aud"] = audience }
	issuers := oidc.NewIssuers(outbound.New(must(outbound.ParsePolicy("p", "127.0.0.0/8,"+o.port()))))
	at, err := issuers.Locate(t.Context(), o.issuer(), "", o.ca)
	if err != nil || at != o.issuer()+"/jwks" {
		t.Fatalf("%q, %v", at, err)
	}
	return o, issuers, trust.Issuer{Name: "ci", Issuer: o.issuer(), JWKSURI: at, CA: o.ca, Enabled: true}
}

func (o *op) count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[path]
}

// JWT-007: keys are read when they are needed, and at most once a minute for tokens that none of them made.
func TestIssuersVerify(t *testing.T) {
	o, issuers, iss := trusted(t)
	judge := func(raw string, at time.Time) error {
		_, err := trust.Judge(t.Context(), issuers, iss, raw, at)
		return err
	}
	good := o.idToken("")
	before := o.count("jwks")
	for range 3 {
		if err := judge(good, now); err != nil {
			t.Fatal(err)
		}
	}
	if n := o.count("jwks") - before; n != 1 {
		t.Errorf("the keys were read %d times", n)
	}
	o.header = func(h m) { h["kid"] = "unknown" }
	junk := o.idToken("")
	for i := range 30 { // over half a minute
		if err := judge(junk, now.Add(time.Duration(i)*time.Second)); !errors.Is(err, core.Unauthenticated) || errors.Is(err, core.Unavailable) {
			t.Fatalf("%v, want a refusal", err)
		}
	}
	if n := o.count("jwks") - before; n > 2 {
		t.Errorf("30 tokens of an unknown key had the keys read %d times", n-1)
	}
	// A new key is found a minute later, and the old set serves while nobody answers.
	o.jwks = m{"keys": []any{edJWK("new", edKey()), ecJWK("e1", ecKey())}}
	o.alg, o.key, o.header = "EdDSA", edKey(), func(h m) { h["kid"] = "new" }
	if err := judge(o.idToken(""), now.Add(2*time.Minute)); err != nil {
		t.Errorf("a new key: %v", err)
	}
	o.jwks = m{"keys": "none"}
	if err := judge(good, now.Add(4*time.Minute)); err != nil {
		t.Errorf("while the set is broken: %v", err)
	}
}

// JWK-001: of the keys of trusted issuers.
func TestIssuersHostileKeySets(t *testing.T) {
	oct := m{"kty": "oct", "kid": "e1", "k": b64([]byte("secret"))}
	private := ecJWK("e1", ecKey())
	private["d"] = "AA"
	many := make([]any, 10_000)
	for i := range many {
		many[i] = edJWK("x", edKey())
	}
	for name, jwks := range map[string]any{
		"only a shared key": m{"keys": []any{oct}}, "only a private key": m{"keys": []any{private}}, "10,000 keys": m{"keys": many}, "10 MiB": m{"keys": []any{}, "x": strings.Repeat("x", 10<<20)},
		"a list": []any{}, "keys that are none": m{"keys": 1},
	} {
		o, issuers, iss := trusted(t)
		if err := verifies(t, o, issuers, iss); err != nil { // the positive twin
			t.Fatal(err)
		}
		o.jwks = jwks
		fresh := oidc.NewIssuers(outbound.New(must(outbound.ParsePolicy("p", "127.0.0.0/8,"+o.port()))))
		if err := verifies(t, o, fresh, iss); !errors.Is(err, core.Unavailable) || errors.Is(err, core.Unauthenticated) {
			t.Errorf("%s: %v, want core.Unavailable", name, err)
		}
		if _, err := fresh.Locate(t.Context(), o.issuer(), "", o.ca); err == nil {
			t.Errorf("%s: can be saved", name)
		}
	}
}

func verifies(t *testing.T, o *op, v trust.Verifier, iss trust.Issuer) error {
	t.Helper()
	_, err := trust.Judge(t.Context(), v, iss, o.idToken(""), now)
	return err
}

func TestIssuersLocate(t *testing.T) {
	o, issuers, _ := trusted(t)
	if at, err := issuers.Locate(t.Context(), "https://elsewhere.example", o.issuer()+"/jwks", o.ca); err != nil || at != o.issuer()+"/jwks" {
		t.Errorf("an address by hand: %q, %v", at, err)
	}
	for name, tt := range map[string]struct {
		edit   func(m)
		issuer string
		jwks   string
		field  string
	}{
		"another issuer's document": {edit: func(d m) { d["issuer"] = "https://other.example" }, field: "issuer"},
		"no issuer in it":           {edit: func(d m) { delete(d, "issuer") }, field: "issuer"},
		"no keys in it":             {edit: func(d m) { delete(d, "jwks_uri") }, field: "issuer"},
		"keys at the metadata":      {edit: func(d m) { d["jwks_uri"] = "https://169.254.169.254/jwks" }, field: "jwksUri"},
		"keys over HTTP":            {edit: func(d m) { d["jwks_uri"] = "http://ci.example/jwks" }, field: "jwksUri"},
		"this network":              {issuer: "https://10.0.0.1", field: "issuer"},
		"a private address of keys": {jwks: "https://10.0.0.1/jwks", field: "jwksUri"},
		"a page for keys":           {jwks: "DOC", field: "jwksUri"},
	} {
		was := o.doc
		o.doc = m{}
		for k, v := range was {
			o.doc[k] = v
		}
		if tt.edit != nil {
			tt.edit(o.doc)
		}
		issuer, jwks := tt.issuer, strings.Replace(tt.jwks, "DOC", o.issuer()+"/.well-known/openid-configuration", 1)
		if issuer == "" {
			issuer = o.issuer()
		}
		_, err := issuers.Locate(t.Context(), issuer, jwks, o.ca)
		if bad, ok := errors.AsType[*core.FieldError](err); !ok || bad.Field != tt.field {
			t.Errorf("%s: %v, want an error about %s", name, err, tt.field)
		}
		o.doc = was
	}
	if _, err := issuers.Locate(t.Context(), o.issuer()+"/nowhere", "", o.ca); err == nil {
		t.Error("nothing is there")
	}
}
