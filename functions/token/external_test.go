package token_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/adapters/oidc"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
)

// foreignOP is a real OpenID provider as far as an ID token goes: a discovery document and keys.
type foreignOP struct {
	*rig
	workloads
	server *httptest.Server
	new    sso.New
}

func newForeignOP(t *testing.T, instances int) *foreignOP {
	t.Helper()
	p := &foreignOP{rig: newRig(t, instances), workloads: newWorkloads(t)}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		iss := p.server.URL
		_ = json.MarshalWrite(w, map[string]any{"issuer": iss, "authorization_endpoint": iss + "/authorize", "token_endpoint": iss + "/token", "jwks_uri": iss + "/jwks",
			"response_types_supported": []string{"code"}, "id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.jwks) })
	p.server = httptest.NewTLSServer(mux)
	t.Cleanup(p.server.Close)
	policy, err := outbound.ParsePolicy("p", "127.0.0.0/8,"+p.server.URL[strings.LastIndexByte(p.server.URL, ':'):])
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range p.instances {
		i.sso.Providers[sso.OIDC] = oidc.New(outbound.New(policy))
	}
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.server.Certificate().Raw}))
	p.new = sso.New{Alias: "corp", Name: "Corp", Kind: sso.OIDC, Domains: []string{"corp.example"}, CA: ca,
		OIDC: &sso.NewOIDC{DiscoveryURL: p.server.URL, ClientID: "fleetpass", ClientSecret: "secret", TokenExchange: true}}
	must(t)(p.first().sso.Create(t.Context(), p.actor("acme"), "acme", p.new))
	return p
}

// person is the claims of an ID token for grace.
func (p *foreignOP) person() jwt.MapClaims {
	now := p.clock.Now()
	return jwt.MapClaims{"iss": p.server.URL, "aud": "fleetpass", "sub": "subject-1", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": core.NewID(),
		"email": grace, "email_verified": true, "GROUPS": []string{"ops", "ml"}, "at_hash": "of-a-token-that-we-never-see", "nonce": "of-their-own"}
}

// signAs is sign with another typ in the header; "": with none.
func (p *foreignOP) signAs(typ string, claims jwt.MapClaims) string {
	p.rig.t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	tok.Header["kid"], tok.Header["typ"] = "k1", typ
	if typ == "" {
		delete(tok.Header, "typ")
	}
	raw, err := tok.SignedString(p.private)
	if err != nil {
		p.rig.t.Fatal(err)
	}
	return raw
}

func (p *foreignOP) bring(raw string) reply {
	p.rig.t.Helper()
	return p.post(p.client(), "/t/acme/token", url.Values{"grant_type": {oauth.GrantExchange}, "client_id": {"fleetpass-cli"}, "scope": {"openid offline_access email groups"},
		"subject_token": {raw}, "subject_token_type": {oauth.TypeIDToken}})
}

func (p *foreignOP) bringJSON(raw string) reply {
	p.rig.t.Helper()
	body, err := json.Marshal(map[string]string{"grantType": "external_token_exchange", "externalToken": raw})
	if err != nil {
		p.rig.t.Fatal(err)
	}
	q, err := http.NewRequest("POST", p.base+"/t/acme/api/v1/token", strings.NewReader(string(body)))
	if err != nil {
		p.rig.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	return p.do(p.client(), q)
}

func TestExternalTokenExchange(t *testing.T) {
	p := newForeignOP(t, 2)
	got := p.bringJSON(p.sign(p.person())).want(200)
	said := claims(t, got.str("accessToken"))
	if said["email"] != grace || said["kind"] != "user" || said["aud"] != p.issuer("acme") || got.str("refreshToken") == "" || got.str("idToken") == "" {
		t.Errorf("%s: %v", got.body, said)
	}
	if groups, _ := claims(t, got.str("idToken"))["groups"].([]any); len(groups) != 2 {
		t.Errorf("groups %v", groups)
	}
	again := p.bring(p.sign(p.person())).want(200) // another token of the same person
	if claims(t, again.str("access_token"))["sub"] != said["sub"] || again.str("issued_token_type") == "" {
		t.Errorf("%s", again.body)
	}
	id := claims(t, p.bring(p.sign(but(p.person(), jwt.MapClaims{"GROUPS": []string{"ops"}}))).want(200).str("id_token"))
	if groups, _ := id["groups"].([]any); len(groups) != 1 {
		t.Errorf("a token that says fewer groups left them: %v", id)
	}
	id = claims(t, p.bring(p.sign(but(p.person(), jwt.MapClaims{"GROUPS": nil}))).want(200).str("id_token"))
	if groups, _ := id["groups"].([]any); len(groups) != 0 {
		t.Errorf("a token that does not speak of groups left them: %v", id)
	}
	if n := len(p.audits("acme", audit.SignIn)); n < 4 {
		t.Errorf("%d sign-ins recorded", n)
	}

	// It lasts as long as a sign-in, and no longer than the connection.
	p.clock.advance(30 * time.Minute)
	next := p.post(p.client(), "/t/acme/token", refreshForm(again.str("refresh_token"))).want(200)
	off := false
	n := p.new
	n.Enabled = &off
	must(t)(p.first().sso.Update(t.Context(), p.actor("acme"), "acme", "corp", n))
	p.post(p.client(), "/t/acme/token", refreshForm(next.str("refresh_token"))).refused(400, oauth.InvalidGrant)
	p.bring(p.sign(p.person())).refused(400, oauth.InvalidRequest)
}

// What the provider does not say any more is gone at once, with the access that it gave: an exchange never tells old news as new.
// uid, gid and names follow the rule of a browser's sign-in.
func TestExternalTokenSaysAll(t *testing.T) {
	p := newForeignOP(t, 1)
	record := func() directory.User {
		t.Helper()
		rec, err := p.first().dir.User(t.Context(), "acme", grace)
		if err != nil {
			t.Fatal(err)
		}
		return rec.Value
	}
	number := func(n *int64) int64 {
		if n == nil {
			return 0
		}
		return *n
	}
	groups := func(raw string) string {
		t.Helper()
		p.clock.advance(time.Second)
		id := claims(t, p.bring(raw).want(200).str("id_token"))
		listed, _ := id["groups"].([]any)
		if u := record(); len(u.IDPGroups) != len(listed) || !u.LastLogin.Equal(p.clock.Now()) {
			t.Errorf("the token says %v, the record %v at %v", listed, u.IDPGroups, u.LastLogin)
		}
		return fmt.Sprint(listed)
	}
	full := jwt.MapClaims{"UID": 4711, "GID": 4712, "SUPPLEMENTARYGROUPS": []int{7}, "firstName": "Grace"}
	if got := groups(p.sign(but(p.person(), full))); got != "[ml ops]" {
		t.Fatalf("the twin: groups %s", got)
	}
	if u := record(); number(u.UID) != 4711 || number(u.GID) != 4712 || len(u.SupplementaryGroups) != 1 || u.FirstName != "Grace" {
		t.Fatalf("the twin: %+v", u)
	}
	session := p.bring(p.sign(but(p.person(), full))).want(200)
	for name, without := range map[string]jwt.MapClaims{"left out": {"GROUPS": nil}, "null": {"GROUPS": (*int)(nil)}, "empty": {"GROUPS": []string{}}} {
		if got := groups(p.sign(but(p.person(), full))); got != "[ml ops]" {
			t.Fatalf("%s: groups %s before", name, got)
		}
		for range 2 { // once is enough, and again changes nothing
			if got := groups(p.sign(but(p.person(), without))); got != "[]" {
				t.Errorf("%s: the person still has the groups %s", name, got)
			}
		}
		if u := record(); u.UID != nil || u.GID != nil || u.SupplementaryGroups != nil || u.FirstName != "" {
			t.Errorf("%s: what the provider says no more is still there: %+v", name, u)
		}
	}
	// Nor are they in what an earlier token had begun.
	later := claims(t, p.post(p.client(), "/t/acme/token", refreshForm(session.str("refresh_token"))).want(200).str("id_token"))
	if listed, _ := later["groups"].([]any); len(listed) != 0 {
		t.Errorf("an earlier sign-in still has the groups %v", listed)
	}
	// Somebody can see why.
	traces, _, err := p.first().sso.Traces(t.Context(), "acme", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	noted := slices.ContainsFunc(traces, func(tr sso.Trace) bool {
		return slices.ContainsFunc(tr.Checks, func(c sso.Check) bool {
			return c.Name == sso.CheckGroups && c.Result == sso.Noted && strings.Contains(c.Found, "GROUPS")
		})
	})
	if !noted {
		t.Error("no trace says that the token had no groups")
	}
}

// RP-005, JWT-001, JWT-005, JWT-009, JWT-013, JWT-015: of ID tokens that are brought by themselves. Each once, and all alike.
func TestExternalTokensAreRefused(t *testing.T) {
	p := newForeignOP(t, 4)
	stranger := newWorkloads(t)
	wording := p.bring(p.sign(but(p.person(), jwt.MapClaims{"aud": "another"}))).refused(400, oauth.InvalidRequest).str("error_description")
	now := p.clock.Now()
	users := func() (n int) {
		for _, err := range p.first().dir.Users(t.Context(), "acme") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	// What a provider signs for the client beside ID tokens, each with the ID token that it would be but for one thing.
	logout := map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}
	keycloak, cognito, rfc9068 := jwt.MapClaims{"azp": "fleetpass", "sid": "s"}, jwt.MapClaims{"cognito:username": "grace"}, jwt.MapClaims{"client_id": "fleetpass"}
	others := []struct {
		name            string
		typ, twinTyp    string // of the header
		claims          jwt.MapClaims
		differ, twinDif jwt.MapClaims
	}{
		{"Keycloak's access token", "JWT", "JWT", keycloak, jwt.MapClaims{"typ": "Bearer"}, jwt.MapClaims{"typ": "ID"}},
		{"Keycloak's logout token", "JWT", "JWT", keycloak, jwt.MapClaims{"typ": "Logout"}, nil},
		{"a typ in another case", "JWT", "JWT", keycloak, jwt.MapClaims{"typ": "id"}, jwt.MapClaims{"typ": "ID"}},
		{"several typ", "JWT", "JWT", keycloak, jwt.MapClaims{"typ": []string{"ID"}}, jwt.MapClaims{"typ": "ID"}},
		{"Cognito's access token", "", "", cognito, jwt.MapClaims{"token_use": "access"}, jwt.MapClaims{"token_use": "id"}},
		{"an access token without a typ", "", "", rfc9068, jwt.MapClaims{"scope": "openid email"}, nil},
		{"an access token with an empty scope", "", "", rfc9068, jwt.MapClaims{"scope": ""}, nil},
		{"an access token with scp", "JWT", "jwt", nil, jwt.MapClaims{"scp": []string{"openid"}}, nil},
		{"an access token by its header", "at+jwt", "JWT", rfc9068, nil, nil},
		{"a logout token", "JWT", "JWT", jwt.MapClaims{"sid": "s", "nonce": nil}, jwt.MapClaims{"events": logout}, nil},
		{"a logout token by its header", "logout+jwt", "", jwt.MapClaims{"sid": "s", "nonce": nil}, nil, nil},
		{"azp of another", "JWT", "JWT", nil, jwt.MapClaims{"azp": "another"}, jwt.MapClaims{"azp": "fleetpass"}},
	}
	before := users()
	for _, o := range others {
		got := p.bring(p.signAs(o.typ, but(but(p.person(), o.claims), o.differ))).refused(400, oauth.InvalidRequest)
		if got.str("error_description") != wording {
			t.Errorf("%s: the wording tells it apart: %s", o.name, got.body)
		}
	}
	for name, raw := range map[string]string{
		"another key":         stranger.sign(p.person()),
		"another issuer":      p.sign(but(p.person(), jwt.MapClaims{"iss": "https://other.example"})),
		"another client":      p.sign(but(p.person(), jwt.MapClaims{"aud": []string{"another"}})),
		"two clients, no azp": p.sign(but(p.person(), jwt.MapClaims{"aud": []string{"fleetpass", "another"}})),
		"expired":             p.sign(but(p.person(), jwt.MapClaims{"exp": now.Add(-time.Minute).Unix()})),
		"eleven minutes old":  p.sign(but(p.person(), jwt.MapClaims{"iat": now.Add(-11 * time.Minute).Unix()})),
		"without iat":         p.sign(but(p.person(), jwt.MapClaims{"iat": nil})),
		"of the future":       p.sign(but(p.person(), jwt.MapClaims{"iat": now.Add(2 * time.Minute).Unix()})),
		"without sub":         p.sign(but(p.person(), jwt.MapClaims{"sub": nil})),
		"without e-mail":      p.sign(but(p.person(), jwt.MapClaims{"email": nil})),
		"unverified e-mail":   p.sign(but(p.person(), jwt.MapClaims{"email_verified": false})),
		"another domain":      p.sign(but(p.person(), jwt.MapClaims{"email": "grace@other.example"})),
		"a reserved name":     p.sign(but(p.person(), jwt.MapClaims{"email": "system:masters"})),
		"no signature":        p.sign(p.person())[:strings.LastIndexByte(p.sign(p.person()), '.')+1],
		"nothing of a token":  "hello",
	} {
		got := p.bring(raw).refused(400, oauth.InvalidRequest)
		if got.str("error_description") != wording {
			t.Errorf("%s: the wording tells it apart: %s", name, got.body)
		}
	}
	if after := users(); after != before {
		t.Errorf("%d people were made by tokens that were not taken", after-before)
	}
	for _, o := range others {
		if got := p.bring(p.signAs(o.twinTyp, but(but(p.person(), o.claims), o.twinDif))); got.status != 200 {
			t.Errorf("the twin of %s: %s", o.name, got.body)
		}
	}
	// The local administrator is not taken over.
	n := p.new
	n.Domains = []string{"corp.example", "acme.example"}
	must(t)(p.first().sso.Update(t.Context(), p.actor("acme"), "acme", "corp", n))
	p.bring(p.sign(but(p.person(), jwt.MapClaims{"email": admin}))).refused(400, oauth.InvalidRequest)

	raw := p.sign(p.person())
	var wins, losses int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			got := p.bring(raw)
			mu.Lock()
			defer mu.Unlock()
			switch got.status {
			case 200:
				wins++
			case 400:
				losses++
			default:
				t.Errorf("status %d: %s", got.status, got.body)
			}
		})
	}
	all.Wait()
	if wins != 1 || losses != 11 {
		t.Errorf("%d took it and %d were refused; want 1 and 11", wins, losses)
	}
	// Each refusal leaves its trace, and they are bounded.
	traced := 0
	for _, err := range p.db.List(t.Context(), store.Traces("acme")) {
		if err != nil {
			t.Fatal(err)
		}
		traced++
	}
	if traced < 20 {
		t.Errorf("%d traces", traced)
	}

	n.OIDC = &sso.NewOIDC{DiscoveryURL: p.server.URL, ClientID: "fleetpass"}
	must(t)(p.first().sso.Update(t.Context(), p.actor("acme"), "acme", "corp", n))
	p.bring(p.sign(p.person())).refused(400, oauth.InvalidRequest) // off again, as it is by itself
	p.post(p.client(), "/t/other/token", url.Values{"grant_type": {oauth.GrantExchange}, "client_id": {"fleetpass-cli"}, "subject_token": {p.sign(p.person())}, "subject_token_type": {oauth.TypeIDToken}}).refused(400, oauth.InvalidRequest)
}
