package oidc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/oidc"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/sso"
)

func jsonAnswer(status int, v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
}

func TestLoad(t *testing.T) {
	o := newOP(t)
	iss := o.issuer()
	o.doc["authorization_response_iss_parameter_supported"] = true
	for _, address := range []string{iss, iss + "/", iss + "/.well-known/openid-configuration"} {
		c := sso.Connection{CA: o.ca, OIDC: &sso.OIDCSettings{DiscoveryURL: address, ClientID: clientID}}
		before := c.OIDC
		if err := newProvider(t, o).Load(t.Context(), &c, nil); err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		if c.OIDC == before || before.Provider.Issuer != "" {
			t.Error("what the caller has elsewhere was changed")
		}
		got := *c.OIDC
		digest := got.Provider.Digest
		if len(digest) != 64 {
			t.Errorf("digest %q", digest)
		}
		got.Provider.Digest = ""
		want := sso.OIDCSettings{DiscoveryURL: iss + "/.well-known/openid-configuration", ClientID: clientID, Auth: sso.AuthBasic, Provider: sso.OIDCProvider{
			Issuer: iss, Authorization: iss + "/authorize?audience=x", Token: iss + "/token", UserInfo: iss + "/userinfo", JWKS: iss + "/jwks", EndSession: iss + "/logout",
			Algorithms: []string{"RS256", "PS256", "ES256", "EdDSA"}, IssParameter: true,
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", address, diff)
		}
	}
}

// Each row changes a good document, which is loaded first. NET-001, RP-003.
func TestLoadRefused(t *testing.T) {
	o := newOP(t)
	p := newProvider(t, o)
	iss := o.issuer()
	for _, tt := range []struct {
		name, member string
		value        any // nil: absent
		names        string
	}{
		{"another issuer", "issuer", "https://evil.example", "another issuer"},
		{"issuer above", "issuer", o.URL, "another issuer"},
		{"issuer in another case", "issuer", strings.ToUpper(iss), "another issuer"},
		{"issuer with a query", "issuer", iss + "?x", "another issuer"},
		{"no issuer", "issuer", nil, "issuer"},
		{"issuer is a number", "issuer", 1, "issuer"},
		{"no token endpoint", "token_endpoint", nil, "token_endpoint"},
		{"token endpoint without TLS", "token_endpoint", "http://127.0.0.1/token", "token_endpoint must begin with https"},
		{"metadata as keys", "jwks_uri", "https://169.254.169.254/latest/meta-data", "jwks_uri"},
		{"a private userinfo", "userinfo_endpoint", "https://10.0.0.1/userinfo", "userinfo_endpoint"},
		{"the runtime API as token endpoint", "token_endpoint", "https://localhost:9001/", "token_endpoint"},
		{"no keys", "jwks_uri", nil, "jwks_uri"},
		{"a script to authorize", "authorization_endpoint", "javascript:alert(1)", "authorization_endpoint"},
		{"userinfo is a list", "userinfo_endpoint", []string{}, "userinfo_endpoint"},
		{"no code flow", "response_types_supported", []string{"id_token"}, "code"},
		{"only plain PKCE", "code_challenge_methods_supported", []string{"plain"}, "S256"},
		{"only shared secrets", "id_token_signing_alg_values_supported", []string{"HS256", "none", "HS512"}, "RS256"},
		{"algorithms are text", "id_token_signing_alg_values_supported", "RS256", "id_token_signing_alg"},
		{"only public clients", "token_endpoint_auth_methods_supported", []string{"none"}, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := m{}
			for k, v := range o.doc {
				doc[k] = v
			}
			c := sso.Connection{CA: o.ca, OIDC: &sso.OIDCSettings{DiscoveryURL: iss, ClientID: clientID}}
			if err := p.Load(t.Context(), &c, must(json.Marshal(doc))); err != nil {
				t.Fatalf("the twin: %v", err)
			}
			if doc[tt.member] = tt.value; tt.value == nil {
				delete(doc, tt.member)
			}
			c = sso.Connection{CA: o.ca, OIDC: &sso.OIDCSettings{DiscoveryURL: iss, ClientID: clientID}}
			err := p.Load(t.Context(), &c, must(json.Marshal(doc)))
			var field *core.FieldError
			if !errors.As(err, &field) || !strings.HasPrefix(field.Field, "oidcData.") || !strings.Contains(field.Fix, tt.names) {
				t.Errorf("got %v", err)
			}
			if c.OIDC.Provider.Issuer != "" || c.OIDC.DiscoveryURL != iss {
				t.Errorf("the connection was changed: %+v", c.OIDC)
			}
		})
	}
}

// What is optional is left out where it is bad: people can sign in without it. NET-001
func TestLoadBadSignOut(t *testing.T) {
	o := newOP(t)
	for _, bad := range []any{"javascript:alert(1)", "http://idp.example/logout", 1, nil} {
		o.doc["end_session_endpoint"] = bad
		c := sso.Connection{CA: o.ca, OIDC: &sso.OIDCSettings{DiscoveryURL: o.issuer(), ClientID: clientID}}
		if err := newProvider(t, o).Load(t.Context(), &c, nil); err != nil || c.OIDC.Provider.EndSession != "" || newProvider(t, o).Leave(c, sso.Kept{}, back) != "" {
			t.Errorf("%v: %v, %+v", bad, err, c.OIDC.Provider)
		}
	}
}

// RFC 9864 gives EdDSA a second name, by which a provider may promise it.
func TestLoadEd25519(t *testing.T) {
	o := newOP(t)
	for promised, want := range map[string][]string{"Ed25519": {"EdDSA"}, "EdDSA": {"EdDSA"}, "Ed448": nil} {
		o.doc["id_token_signing_alg_values_supported"] = []string{promised}
		c := sso.Connection{CA: o.ca, OIDC: &sso.OIDCSettings{DiscoveryURL: o.issuer(), ClientID: clientID}}
		err := newProvider(t, o).Load(t.Context(), &c, nil)
		if (err == nil) != (want != nil) || !cmp.Equal(c.OIDC.Provider.Algorithms, want) {
			t.Errorf("%s: %v, %v", promised, err, c.OIDC.Provider.Algorithms)
		}
	}
}

func TestLoadAuth(t *testing.T) {
	o := newOP(t)
	p := newProvider(t, o)
	for _, tt := range []struct {
		taken  []string
		wanted sso.ClientAuth
		key    bool
		got    sso.ClientAuth // "": refused
		fix    string
	}{
		{nil, "", false, sso.AuthBasic, ""}, {nil, sso.AuthPost, false, "", "client_secret_basic"}, {[]string{"client_secret_post"}, "", true, sso.AuthPost, ""},
		{[]string{"client_secret_post"}, sso.AuthBasic, false, "", ""}, {[]string{"private_key_jwt"}, sso.AuthPrivateKey, false, sso.AuthPrivateKey, ""},
		{[]string{"private_key_jwt"}, "", false, "", "must be private_key_jwt"}, {[]string{"tls_client_auth", "private_key_jwt"}, "", true, sso.AuthPrivateKey, ""},
		{[]string{"x"}, "x", false, "", ""}, {[]string{"x"}, "", true, "", ""},
	} {
		if o.doc["token_endpoint_auth_methods_supported"] = tt.taken; tt.taken == nil {
			delete(o.doc, "token_endpoint_auth_methods_supported")
		}
		c := sso.Connection{CA: o.ca, OIDC: &sso.OIDCSettings{DiscoveryURL: o.issuer(), ClientID: clientID, Auth: tt.wanted}}
		if tt.key {
			c.OIDC.Key = &sso.SPKey{ID: "ours"}
		}
		err := p.Load(t.Context(), &c, nil)
		if tt.fix != "" && !strings.Contains(fmt.Sprint(err), tt.fix) {
			t.Errorf("%v wanting %q: %v", tt.taken, tt.wanted, err)
		}
		if tt.got == "" && !errors.Is(err, core.Invalid) || tt.got != "" && (err != nil || c.OIDC.Auth != tt.got) {
			t.Errorf("%v wanting %q: %v, %q", tt.taken, tt.wanted, err, c.OIDC.Auth)
		}
	}
}

// Where a document cannot be had, and where it must not be fetched from.
func TestLoadAway(t *testing.T) {
	o := newOP(t)
	load := func(p *oidc.Provider, address, ca string) error {
		c := sso.Connection{CA: ca, OIDC: &sso.OIDCSettings{DiscoveryURL: address, ClientID: clientID}}
		return p.Load(t.Context(), &c, nil)
	}
	if err := load(newProvider(t, o), o.issuer()+"/absent", o.ca); !errors.Is(err, core.Unavailable) {
		t.Errorf("404: %v", err)
	}
	if err := load(newProvider(t, o), o.issuer(), ""); !errors.Is(err, core.Unavailable) || !strings.Contains(err.Error(), "authority") {
		t.Errorf("without its CA: %v", err)
	}
	before := o.seen[".well-known/openid-configuration"]
	for _, address := range []string{o.issuer(), "https://localhost/", "http://idp.example", "https://169.254.169.254", "https://user@idp.example", "https://idp.example#x"} {
		if err := load(oidc.New(outbound.New(outbound.Policy{})), address, o.ca); !errors.Is(err, core.Invalid) || !strings.Contains(err.Error(), "oidcData.discoverDocumentUrl") {
			t.Errorf("%s: %v", address, err)
		}
	}
	if o.seen[".well-known/openid-configuration"] != before {
		t.Error("a refused address was asked")
	}
}
