package token_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/token"
)

const (
	acme     core.TenantID = "acme"
	umbrella core.TenantID = "umbrella"
	issuer                 = "https://fleet.example/t/acme"
	theirs                 = "https://fleet.example/t/umbrella"
	cluster                = "0191d6b0-7c1a-4c7e-9a53-0f5e6a1b2c3d"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// world is two tenants with keys of both algorithms, made once: RSA keys take long.
var world = sync.OnceValues(func() (*keys.Ring, error) {
	dir, err := os.MkdirTemp("", "token")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // the open file lives on
	clock := func() time.Time { return now }
	db, err := bolt.Open(filepath.Join(dir, "db"), bolt.Options{Now: clock, NoSync: true})
	if err != nil {
		return nil, err
	}
	w, err := localkeys.New(bytes.Repeat([]byte{9}, localkeys.KeySize))
	if err != nil {
		return nil, err
	}
	ring := keys.NewRing(db, w, clock)
	for _, t := range []core.TenantID{acme, umbrella} {
		ops, err := ring.Init(context.Background(), t)
		if err == nil {
			err = db.Commit(context.Background(), ops...)
		}
		if err == nil {
			err = ring.Ensure(context.Background(), t, keys.RS256)
		}
		if err != nil {
			return nil, err
		}
	}
	return ring, nil
})

func newRing(t testing.TB) *keys.Ring {
	t.Helper()
	ring, err := world()
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func access() token.Access {
	return token.Access{
		Issuer: issuer, Subject: "u4w7kq2m", Audience: issuer, Client: "fleetpass-cli", Scope: "openid offline_access",
		Email: "ada@example.com", Kind: core.User, Family: "f9x2", ID: "j1",
		IssuedAt: now, Expires: now.Add(10 * time.Minute), AuthTime: now.Add(-time.Hour),
	}
}

func idToken() token.ID {
	return token.ID{
		Issuer: issuer, Subject: "u4w7kq2m", Audience: "fleetpass-cli", IssuedAt: now, Expires: now.Add(10 * time.Minute),
		AuthTime: now.Add(-time.Hour), Nonce: "n-0S6", AccessHash: "77QmUPtjPfzWtF2AnpK9RQ", AMR: []string{"pwd"},
		Email: "ada@example.com", EmailVerified: true, Name: "Ada Lovelace", GivenName: "Ada", FamilyName: "Lovelace",
		PreferredUsername: "ada@example.com", Groups: []string{"ml-research", "Équipe 7"}, Family: "f9x2",
	}
}

func clusterToken() token.Cluster {
	uid, gid := int64(15001), int64(0)
	return token.Cluster{
		Issuer: issuer, Subject: "u4w7kq2m", Audience: cluster, IssuedAt: now, Expires: now.Add(5 * time.Minute), ID: "j2",
		PreferredUsername: "ada@example.com", Email: "ada@example.com", EmailVerified: true,
		Groups: []string{"ml-research", `quo"te\and/slash`}, UID: &uid, GID: &gid, SupplementaryGroups: []int64{100, 2000},
	}
}

func mint(t testing.TB, ring *keys.Ring, tenant core.TenantID, alg keys.Algorithm, c token.Claims) string {
	t.Helper()
	raw, err := token.Mint(t.Context(), ring, tenant, alg, c)
	if err != nil {
		t.Fatalf("Mint: %v", err)
	}
	return raw
}

// A person's token for a client opens nothing of ours. Only who asks for it gets it verified, and only as what we mint: for
// the very client that it was given to, and of a person.
func TestClientAudience(t *testing.T) {
	ring := newRing(t)
	for name, tt := range map[string]struct {
		edit  func(*token.Access)
		ours  bool
		known bool
	}{
		"ours":             {func(*token.Access) {}, true, true},
		"the client's":     {func(a *token.Access) { a.Audience = a.Client }, false, true},
		"another client's": {func(a *token.Access) { a.Audience = "another" }, false, false},
		"an application's own, for itself": {func(a *token.Access) {
			a.Kind, a.Email, a.Subject, a.Audience = core.Application, "", a.Client, a.Client
		}, false, false},
	} {
		a := access()
		tt.edit(&a)
		raw := mint(t, ring, acme, keys.ES256, a)
		if _, err := token.ParseAccess(t.Context(), ring, acme, issuer, raw, now); (err == nil) != tt.ours || err != nil && token.Reason(err) != "another audience" {
			t.Errorf("%s, at our APIs: %v (%s)", name, err, token.Reason(err))
		}
		got, err := token.ParseAnyAccess(t.Context(), ring, acme, issuer, raw, now)
		if (err == nil) != tt.known || err == nil && got != a || err != nil && token.Reason(err) != "another audience" {
			t.Errorf("%s, at userinfo: %+v, %v (%s)", name, got, err, token.Reason(err))
		}
	}
}

var algorithms = []keys.Algorithm{keys.ES256, keys.RS256}

func TestRoundTrip(t *testing.T) {
	ring := newRing(t)
	for _, alg := range algorithms {
		a, err := token.ParseAccess(t.Context(), ring, acme, issuer, mint(t, ring, acme, alg, access()), now)
		if err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		if diff := cmp.Diff(access(), a); diff != "" {
			t.Errorf("%s: access token (-minted +parsed):\n%s", alg, diff)
		}
		i, err := token.ParseHint(t.Context(), ring, acme, issuer, mint(t, ring, acme, alg, idToken()), now)
		if err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		if diff := cmp.Diff(idToken(), i); diff != "" {
			t.Errorf("%s: ID token (-minted +parsed):\n%s", alg, diff)
		}
	}
	application := access()
	application.Kind, application.Email, application.Family, application.AuthTime, application.Scope = core.Application, "", "", time.Time{}, ""
	a, err := token.ParseAccess(t.Context(), ring, acme, issuer, mint(t, ring, acme, keys.ES256, application), now)
	if diff := cmp.Diff(application, a); err != nil || diff != "" {
		t.Errorf("application: %v (-minted +parsed):\n%s", err, diff)
	}
}

// What is on the wire, to the byte: clusters are configured for these names.
func TestWire(t *testing.T) {
	ring := newRing(t)
	for _, tt := range []struct {
		claims       token.Claims
		typ, payload string
	}{
		{access(), "at+jwt", `{"iss":"https://fleet.example/t/acme","sub":"u4w7kq2m","aud":"https://fleet.example/t/acme","client_id":"fleetpass-cli",` +
			`"scope":"openid offline_access","email":"ada@example.com","kind":"user","sid":"f9x2","iat":1893553445,"nbf":1893553445,"exp":1893554045,` +
			`"auth_time":1893549845,"jti":"j1"}`},
		{idToken(), "JWT", `{"iss":"https://fleet.example/t/acme","sub":"u4w7kq2m","aud":"fleetpass-cli","iat":1893553445,"exp":1893554045,"auth_time":1893549845,` +
			`"nonce":"n-0S6","at_hash":"77QmUPtjPfzWtF2AnpK9RQ","amr":["pwd"],"email":"ada@example.com","email_verified":true,"name":"Ada Lovelace",` +
			`"given_name":"Ada","family_name":"Lovelace","preferred_username":"ada@example.com","groups":["ml-research","Équipe 7"],"sid":"f9x2"}`},
		{clusterToken(), "JWT", `{"iss":"https://fleet.example/t/acme","sub":"u4w7kq2m","aud":"0191d6b0-7c1a-4c7e-9a53-0f5e6a1b2c3d","iat":1893553445,"nbf":1893553445,` +
			`"exp":1893553745,"jti":"j2","preferred_username":"ada@example.com","email":"ada@example.com","email_verified":true,` +
			`"groups":["ml-research","quo\"te\\and/slash"],"uid":15001,"gid":0,"supplementary_groups":[100,2000]}`},
	} {
		raw := mint(t, ring, acme, keys.ES256, tt.claims)
		parts := strings.Split(raw, ".")
		header, _ := base64.RawURLEncoding.DecodeString(parts[0])
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		k, err := ring.Signer(t.Context(), acme, keys.ES256)
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"alg":"ES256","kid":"` + k.ID + `","typ":"` + tt.typ + `"}`; string(header) != want {
			t.Errorf("header %s\n  want %s", header, want)
		}
		if string(payload) != tt.payload {
			t.Errorf("payload %s\n   want %s", payload, tt.payload)
		}
	}
}

// Every token has an id of its own, and needs nobody to think of one.
func TestTokenIDs(t *testing.T) {
	ring := newRing(t)
	seen := make(map[string]bool)
	a := access()
	a.ID = ""
	for range 100 {
		got, err := token.ParseAccess(t.Context(), ring, acme, issuer, mint(t, ring, acme, keys.ES256, a), now)
		if err != nil || len(got.ID) < 20 || seen[got.ID] {
			t.Fatalf("id %q, %v", got.ID, err)
		}
		seen[got.ID] = true
	}
}

// Foreign verifiers accept our tokens and our JWKS: golang-jwt by itself, and go-oidc, which Kubernetes uses.
func TestForeignVerifiers(t *testing.T) {
	ring := newRing(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set, err := ring.JWKS(r.Context(), acme)
		if err != nil {
			t.Errorf("JWKS: %v", err)
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Write(set.Body)
	}))
	defer server.Close()
	set := oidc.NewRemoteKeySet(t.Context(), server.URL)
	for _, alg := range algorithms {
		raw := mint(t, ring, acme, alg, clusterToken())
		verifier := oidc.NewVerifier(issuer, set, &oidc.Config{ClientID: cluster, SupportedSigningAlgs: []string{string(alg)}, Now: func() time.Time { return now }})
		got, err := verifier.Verify(t.Context(), raw)
		if err != nil {
			t.Fatalf("go-oidc, %s: %v", alg, err)
		}
		var claims struct {
			Name   string   `json:"preferred_username"`
			Groups []string `json:"groups"`
			UID    int64    `json:"uid"`
		}
		if err := got.Claims(&claims); err != nil || claims.Name != "ada@example.com" || len(claims.Groups) != 2 || claims.UID != 15001 {
			t.Errorf("go-oidc, %s: claims %+v, %v", alg, claims, err)
		}
		if _, err := verifier.Verify(t.Context(), mint(t, ring, umbrella, alg, clusterToken())); err == nil {
			t.Errorf("go-oidc, %s: accepts what another tenant signed", alg)
		}
		parsed, err := jwt.Parse(raw, func(tok *jwt.Token) (any, error) {
			k, err := ring.Public(t.Context(), acme, tok.Header["kid"].(string))
			return k.Key, err
		}, jwt.WithValidMethods([]string{string(alg)}), jwt.WithAudience(cluster), jwt.WithIssuer(issuer), jwt.WithExpirationRequired(),
			jwt.WithTimeFunc(func() time.Time { return now }))
		if err != nil || !parsed.Valid {
			t.Errorf("golang-jwt, %s: %v", alg, err)
		}
	}
}

func TestHash(t *testing.T) { // the example of OpenID Connect Core, appendix A.3
	if got := token.Hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"); got != "77QmUPtjPfzWtF2AnpK9RQ" {
		t.Errorf("at_hash %s", got)
	}
}

// Mint is the last gate before a name reaches a cluster.
func TestMintRefuses(t *testing.T) {
	ring := newRing(t)
	long := strings.Repeat("a", 257)
	for _, tt := range []struct {
		field string
		bad   token.Claims
	}{
		{"sub", edit(access(), func(a *token.Access) { a.Subject = "" })},
		{"sub", edit(access(), func(a *token.Access) { a.Subject = "system:kube-controller-manager" })},
		{"sub", edit(access(), func(a *token.Access) { a.Subject = long })},
		{"sub", edit(access(), func(a *token.Access) { a.Subject = "u\x00" })},
		{"sub", edit(access(), func(a *token.Access) { a.Subject = " u" })},
		{"sub", edit(access(), func(a *token.Access) { a.Subject = "*" })},
		{"iss, aud", edit(access(), func(a *token.Access) { a.Issuer = "" })},
		{"iss, aud", edit(access(), func(a *token.Access) { a.Audience = "" })},
		{"client_id", edit(access(), func(a *token.Access) { a.Client = "" })},
		{"kind", edit(access(), func(a *token.Access) { a.Kind = core.Group })},
		{"kind", edit(access(), func(a *token.Access) { a.Kind = "" })},
		{"email", edit(access(), func(a *token.Access) { a.Email = "system:masters" })},
		{"scope", edit(access(), func(a *token.Access) { a.Scope = "openid\nadmin" })},
		{"sid", edit(access(), func(a *token.Access) { a.Family = strings.Repeat("a", 1025) })},
		{"iat", edit(access(), func(a *token.Access) { a.IssuedAt = time.Time{} })},
		{"exp", edit(access(), func(a *token.Access) { a.Expires = time.Time{} })},
		{"exp", edit(access(), func(a *token.Access) { a.Expires = a.IssuedAt })},
		{"exp", edit(access(), func(a *token.Access) { a.Expires = a.IssuedAt.Add(keys.MaxTokenLife + time.Second) })},
		{"at_hash", edit(idToken(), func(i *token.ID) { i.AccessHash = "" })},
		{"email", edit(idToken(), func(i *token.ID) { i.Email = "SYSTEM:masters" })},
		{"preferred_username", edit(idToken(), func(i *token.ID) { i.PreferredUsername = "kube:admin" })},
		{"groups", edit(idToken(), func(i *token.ID) { i.Groups = []string{"good", "system:masters"} })},
		{"nonce", edit(idToken(), func(i *token.ID) { i.Nonce = strings.Repeat("n", 1025) })},
		{"amr", edit(idToken(), func(i *token.ID) { i.AMR = []string{"p\u202ewd"} })},
		{"name", edit(idToken(), func(i *token.ID) { i.Name = "Ada\xff" })},
		{"preferred_username", edit(clusterToken(), func(k *token.Cluster) { k.PreferredUsername = "" })},
		{"preferred_username", edit(clusterToken(), func(k *token.Cluster) { k.PreferredUsername = "bob@example.com" })},
		{"preferred_username", edit(clusterToken(), func(k *token.Cluster) { k.PreferredUsername = "sync" })},
		{"preferred_username", edit(clusterToken(), func(k *token.Cluster) { k.PreferredUsername = "app:x" })},
		{"preferred_username", edit(clusterToken(), func(k *token.Cluster) { k.PreferredUsername, k.Email = "root", "" })},
		{"preferred_username", edit(clusterToken(), func(k *token.Cluster) { k.PreferredUsername, k.Email = "ada@example.com", "" })},
		{"uid", edit(clusterToken(), func(k *token.Cluster) { *k.UID = 0 })},
		{"uid", edit(clusterToken(), func(k *token.Cluster) { *k.UID = -1 })},
		{"uid", edit(clusterToken(), func(k *token.Cluster) { *k.UID = 1<<32 - 1 })},
		{"gid", edit(clusterToken(), func(k *token.Cluster) { *k.GID = -1 })},
		{"supplementary_groups", edit(clusterToken(), func(k *token.Cluster) { k.SupplementaryGroups[1] = 1 << 32 })},
		{"groups", edit(clusterToken(), func(k *token.Cluster) { k.Groups[0] = "" })},
		{"groups", edit(clusterToken(), func(k *token.Cluster) { k.Groups[0] = "*" })},
		{"groups", edit(clusterToken(), func(k *token.Cluster) { k.Groups[0] = long })},
		{"groups", edit(clusterToken(), func(k *token.Cluster) { k.Groups[0] = "e\u0301quipe" })}, // not NFC
		{"groups", edit(clusterToken(), func(k *token.Cluster) { k.Groups[0] = "a\u200bb" })},     // a space of no width
	} {
		raw, err := token.Mint(t.Context(), ring, acme, keys.ES256, tt.bad)
		field, _ := errors.AsType[*core.FieldError](err)
		if !errors.Is(err, core.Invalid) || field == nil || field.Field != tt.field || raw != "" {
			t.Errorf("%T, bad %s: %v", tt.bad, tt.field, err)
		}
	}
	mint(t, ring, acme, keys.ES256, access()) // the positive twins
	mint(t, ring, acme, keys.ES256, idToken())
	mint(t, ring, acme, keys.ES256, clusterToken())
	for _, name := range []string{"sync", "app:k3x9"} {
		mint(t, ring, acme, keys.ES256, edit(clusterToken(), func(k *token.Cluster) { k.PreferredUsername, k.Email = name, "" }))
	}

	if _, err := token.Mint(t.Context(), ring, acme, "none", access()); !errors.Is(err, core.Unsupported) {
		t.Errorf("algorithm none: %v, want core.Unsupported", err)
	}
	if _, err := token.Mint(t.Context(), ring, "nobody", keys.ES256, access()); !errors.Is(err, core.NotFound) {
		t.Errorf("tenant without keys: %v, want core.NotFound", err)
	}
}

// No spelling of a name that a cluster gives a meaning to is ever signed.
func TestMintRefusesReservedNames(t *testing.T) {
	ring := newRing(t)
	for _, name := range []string{
		"system:masters", "System:Masters", "SYSTEM:AUTHENTICATED", "system:serviceaccounts", "system:nodes", "system:bootstrappers",
		"system:serviceaccount:kube-system:default", "kube:admin", "openshift:anything", "fleetpass-id:uid:0", "fleetpass:sync",
		"cluster-admins", "dedicated-admins", "ｓｙｓｔｅｍ：masters", "ſystem:masters", "sy\u00adstem:masters", "system\uff1amasters", "𝓼𝔂𝓼𝓽𝓮𝓶:masters",
	} {
		for claim, c := range map[string]token.Claims{
			"sub of an access token":  edit(access(), func(a *token.Access) { a.Subject = name }),
			"email":                   edit(access(), func(a *token.Access) { a.Email = name }),
			"client_id":               edit(access(), func(a *token.Access) { a.Client = name }),
			"groups of an ID token":   edit(idToken(), func(i *token.ID) { i.Groups = []string{name} }),
			"name of an ID token":     edit(idToken(), func(i *token.ID) { i.PreferredUsername = name }),
			"sub of a cluster's":      edit(clusterToken(), func(k *token.Cluster) { k.Subject = name }),
			"username of a cluster's": edit(clusterToken(), func(k *token.Cluster) { k.PreferredUsername, k.Email = name, "" }),
			"groups of a cluster's":   edit(clusterToken(), func(k *token.Cluster) { k.Groups = []string{"good", name} }),
		} {
			if _, err := token.Mint(t.Context(), ring, acme, keys.ES256, c); !errors.Is(err, core.Invalid) {
				t.Errorf("%q as %s: %v, want core.Invalid", name, claim, err)
			}
		}
	}
	for _, good := range []string{"systems:masters", "my-system:x", "masters", "kubernetes-users"} {
		mint(t, ring, acme, keys.ES256, edit(clusterToken(), func(k *token.Cluster) { k.Groups = []string{good} }))
	}
}

// A token that no header would carry is a named limit, not a truncated list.
func TestMintLimit(t *testing.T) {
	ring := newRing(t)
	groups := func(n int) token.Cluster {
		return edit(clusterToken(), func(k *token.Cluster) {
			for i := range n {
				k.Groups = append(k.Groups, fmt.Sprintf("a-group-with-quite-a-long-name-%04d", i))
			}
		})
	}
	fits := 0
	for ; fits < 1000; fits++ {
		raw, err := token.Mint(t.Context(), ring, acme, keys.RS256, groups(fits))
		if err != nil {
			if !errors.Is(err, core.Limit) || raw != "" {
				t.Fatalf("%d groups: %v, want core.Limit", fits, err)
			}
			break
		}
		if len(raw) > token.MaxLength {
			t.Fatalf("a token of %d bytes", len(raw))
		}
	}
	if fits < 100 || fits > 300 {
		t.Errorf("%d groups fit", fits)
	}
}

func edit[T any](v T, change func(*T)) T {
	// A copy deep enough for the pointers and lists of claims.
	if c, ok := any(&v).(*token.Cluster); ok {
		*c = clusterToken()
	}
	change(&v)
	return v
}

func sign(t testing.TB, alg string, key crypto.Signer, header, payload string) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(header)) + "." + b64([]byte(payload))
	signature, err := jwt.GetSigningMethod(alg).Sign(signed, key)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(signature)
}
