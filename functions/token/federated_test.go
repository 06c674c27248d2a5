package token_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/trust"
)

const (
	clusterIssuer = "https://kubernetes.default.svc.cluster.local"
	builder       = "system:serviceaccount:ci:builder"
	typeAssertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// workloads signs what programs prove themselves with.
type workloads struct {
	t       *testing.T
	private crypto.Signer
	jwks    []byte
}

func newWorkloads(t *testing.T) workloads {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	jwks, err := json.Marshal(map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "kid": "k1", "x": b64(point[1:33]), "y": b64(point[33:])}}})
	if err != nil {
		t.Fatal(err)
	}
	return workloads{t, private, jwks}
}

func (m workloads) sign(claims jwt.MapClaims) string {
	m.t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	tok.Header["kid"] = "k1"
	raw, err := tok.SignedString(m.private)
	if err != nil {
		m.t.Fatal(err)
	}
	return raw
}

// but is claims, changed; nil takes one out.
func but(claims, more jwt.MapClaims) jwt.MapClaims {
	out := maps.Clone(claims)
	maps.Copy(out, more)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

// federation is a tenant that trusts a cluster's issuer, with an application that one of its service accounts stands for.
type federation struct {
	*rig
	workloads
	trust  *trust.Service
	app    core.ApplicationID
	secret string
	target core.ClusterID
}

func newFederation(t *testing.T, instances int) *federation {
	t.Helper()
	f := &federation{rig: newRig(t, instances), workloads: newWorkloads(t)}
	f.rig.t = t
	f.trust = &trust.Service{DB: f.db, Now: f.clock.Now, Base: f.base}
	for _, tenant := range []core.TenantID{"acme", "other"} {
		if _, err := f.trust.Create(t.Context(), f.actor(tenant), tenant, trust.Settings{Name: "gpu", Issuer: clusterIssuer, JWKS: f.jwks, Enabled: true}); err != nil {
			t.Fatal(err)
		}
	}
	app, secret, err := f.first().dir.CreateApplication(t.Context(), f.actor("acme"), "acme", directory.NewApplication{Name: "ci", JWKS: f.jwks, Trusts: f.trusts()})
	if err != nil {
		t.Fatal(err)
	}
	f.app, f.secret, f.target = app.ID, secret, f.rig.cluster("acme", "gpu")
	return f
}

func (f *federation) trusts(more ...trust.Condition) []trust.Trust {
	return []trust.Trust{{Issuer: "gpu", Conditions: append([]trust.Condition{{Claim: "sub", Values: []string{builder}}}, more...)}}
}

// workload is the claims of a service account's token for us.
func (f *federation) workload() jwt.MapClaims {
	now := f.clock.Now()
	return jwt.MapClaims{"iss": clusterIssuer, "sub": builder, "aud": []string{f.issuer("acme")}, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "ci"}}
}

// assertion is the claims of the application's own.
func (f *federation) assertion() jwt.MapClaims {
	now := f.clock.Now()
	return jwt.MapClaims{"iss": string(f.app), "sub": string(f.app), "aud": f.issuer("acme"), "jti": core.NewID(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
}

func (f *federation) ask(pairs ...string) reply {
	f.rig.t.Helper()
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return f.post(f.client(), "/t/acme/token", v)
}

func (f *federation) asserting(raw string) reply {
	f.rig.t.Helper()
	return f.ask("grant_type", "client_credentials", "client_id", string(f.app), "client_assertion_type", typeAssertion, "client_assertion", raw)
}

func (f *federation) bearing(raw string) reply {
	f.rig.t.Helper()
	return f.ask("grant_type", oauth.GrantJWTBearer, "client_id", string(f.app), "assertion", raw)
}

func (f *federation) swapping(raw, audience string) reply {
	f.rig.t.Helper()
	return f.ask("grant_type", oauth.GrantExchange, "client_id", string(f.app), "subject_token", raw, "subject_token_type", oauth.TypeJWT, "audience", audience)
}

// Every way in which an application may bring the token of an issuer that it trusts.
func (f *federation) ways() map[string]func(raw string) reply {
	return map[string]func(string) reply{
		"client_credentials": f.asserting, "jwt-bearer": f.bearing,
		"exchange":              func(raw string) reply { return f.swapping(raw, "") },
		"exchange to a cluster": func(raw string) reply { return f.swapping(raw, string(f.target)) },
		"JSON":                  func(raw string) reply { return f.json(raw, string(f.app)) },
	}
}

func (f *federation) json(raw, client string) reply {
	f.rig.t.Helper()
	body, err := json.Marshal(map[string]string{"grantType": "external_token_exchange", "externalToken": raw, "clientID": client})
	if err != nil {
		f.rig.t.Fatal(err)
	}
	q, err := http.NewRequest("POST", f.base+"/t/acme/api/v1/token", bytes.NewReader(body))
	if err != nil {
		f.rig.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	return f.do(f.client(), q)
}

func TestFederatedTokens(t *testing.T) {
	f := newFederation(t, 2)
	for way, bring := range f.ways() {
		raw := f.sign(f.workload())
		for range 2 { // a workload brings its token until that is renewed
			got := bring(raw).want(200)
			access := got.str("access_token")
			if way == "JSON" {
				access = got.str("accessToken")
			}
			said := claims(t, access)
			want := map[string]any{"sub": string(f.app), "client_id": string(f.app), "kind": "application", "aud": f.issuer("acme")}
			if way == "exchange to a cluster" {
				want = map[string]any{"sub": string(f.app), "preferred_username": "app:" + string(f.app), "aud": string(f.target)}
			}
			for name, v := range want {
				if said[name] != v {
					t.Errorf("%s: %s is %v, want %v", way, name, said[name], v)
				}
			}
			if got.str("refresh_token")+got.str("refreshToken")+got.str("id_token")+got.str("idToken") != "" || said["groups"] != nil {
				t.Errorf("%s: more than an application gets: %s", way, got.body)
			}
		}
	}
	// RFC 8693 §2.2.1: the type of what was issued.
	if got := f.swapping(f.sign(f.workload()), "").want(200).str("issued_token_type"); got != "urn:ietf:params:oauth:token-type:access_token" {
		t.Errorf("issued_token_type %q", got)
	}
}

// TEN-015, JWT-015, JWT-017: what another issuer, tenant or application would take is not taken, in any way; and what an
// administrator takes away is gone at the next request.
func TestFederatedTokensAreRefused(t *testing.T) {
	f := newFederation(t, 2)
	stranger := newWorkloads(t)
	other, _ := f.application("acme", "another")
	refusals := map[string]string{}
	refused := func(name string, bring func(string) reply, raw string) {
		t.Helper()
		got := bring(raw)
		if got.status != 400 && got.status != 401 {
			t.Errorf("%s: status %d, %s", name, got.status, got.body)
		}
		if strings.Contains(got.body, "ccess_token\"") || strings.Contains(got.body, "accessToken") {
			t.Errorf("%s: a token came with it: %s", name, got.body)
		}
		way, _, _ := strings.Cut(name, ": ")
		text := got.str("error_description") + got.str("message")
		if was := refusals[way]; was != "" && was != text {
			t.Errorf("%s: the wording tells it apart: %q, %q", name, text, was)
		}
		refusals[way] = text
	}
	for way, bring := range f.ways() {
		good := f.workload()
		bring(f.sign(good)).want(200) // the positive twin
		for name, raw := range map[string]string{
			"another key":           stranger.sign(good),
			"another tenant's":      f.sign(but(good, jwt.MapClaims{"aud": f.issuer("other")})),
			"for the API server":    f.sign(but(good, jwt.MapClaims{"aud": clusterIssuer})),
			"for two":               f.sign(but(good, jwt.MapClaims{"aud": []string{f.issuer("acme"), clusterIssuer}})),
			"another issuer":        f.sign(but(good, jwt.MapClaims{"iss": "https://other.test"})),
			"another account":       f.sign(but(good, jwt.MapClaims{"sub": "system:serviceaccount:ci:other"})),
			"expired":               f.sign(but(good, jwt.MapClaims{"exp": f.clock.Now().Unix()})),
			"without an end":        f.sign(but(good, jwt.MapClaims{"exp": nil})),
			"without an account":    f.sign(but(good, jwt.MapClaims{"sub": nil})),
			"valid too long":        f.sign(but(good, jwt.MapClaims{"exp": f.clock.Now().Add(25 * time.Hour).Unix()})),
			"of tomorrow":           f.sign(but(good, jwt.MapClaims{"iat": f.clock.Now().Add(2 * time.Minute).Unix()})),
			"with another kid":      strings.Replace(f.sign(good), ".", "x.", 1),
			"with a cut signature":  f.sign(good)[:len(f.sign(good))-4],
			"without its signature": f.sign(good)[:strings.LastIndexByte(f.sign(good), '.')+1],
		} {
			refused(way+": "+name, bring, raw)
		}
	}
	// Another application of the tenant is not this one.
	raw := f.sign(f.workload())
	f.ask("grant_type", oauth.GrantJWTBearer, "client_id", string(other), "assertion", raw).refused(400, oauth.InvalidGrant)
	f.ask("grant_type", "client_credentials", "client_id", string(other), "client_assertion_type", typeAssertion, "client_assertion", raw).refused(401, oauth.InvalidClient)
	f.ask("grant_type", oauth.GrantJWTBearer, "client_id", "fleetpass-cli", "assertion", raw).refused(400, oauth.UnauthorizedClient)
	f.ask("grant_type", oauth.GrantJWTBearer, "client_id", "no-such-application", "assertion", raw).refused(400, oauth.InvalidGrant)
	f.ask("grant_type", oauth.GrantJWTBearer, "client_id", string(f.app), "client_secret", f.secret, "assertion", raw).refused(400, oauth.InvalidRequest)
	f.ask("grant_type", oauth.GrantJWTBearer, "client_id", string(f.app)).refused(400, oauth.InvalidRequest)
	f.ask("grant_type", "client_credentials", "client_assertion_type", typeAssertion, "client_assertion", raw).refused(401, oauth.InvalidClient)
	f.swapping(raw, "6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e5f").refused(400, oauth.InvalidTarget)
	f.swapping(raw, string(f.rig.cluster("other", "gpu"))).refused(400, oauth.InvalidTarget)
	f.swapping(raw, string(f.target)).want(200)

	dir, ctx, actor := f.first().dir, t.Context(), f.actor("acme")
	edit := func(trusts []trust.Trust) {
		t.Helper()
		must(t)(dir.EditApplication(ctx, actor, "acme", f.app, directory.Edit{Trusts: trusts}))
	}
	for name, change := range map[string]struct{ away, back func() }{
		"a condition more": {
			func() { edit(f.trusts(trust.Condition{Claim: "/kubernetes.io/namespace", Values: []string{"prod"}})) },
			func() { edit(f.trusts(trust.Condition{Claim: "/kubernetes.io/namespace", Values: []string{"c*"}})) }},
		"no trust": {func() { edit([]trust.Trust{}) }, func() { edit(f.trusts()) }},
		"the application is disabled": {
			func() { must(t)(dir.SetEnabled(ctx, actor, "acme", f.app, false)) }, func() { must(t)(dir.SetEnabled(ctx, actor, "acme", f.app, true)) }},
		"the issuer is disabled":    {func() { f.replace(false, f.jwks) }, func() { f.replace(true, f.jwks) }},
		"the issuer has other keys": {func() { f.replace(true, stranger.jwks) }, func() { f.replace(true, f.jwks) }},
	} {
		change.away()
		for way, bring := range f.ways() {
			refused(way+": "+name, bring, raw)
		}
		change.back()
		for _, bring := range f.ways() {
			bring(raw).want(200)
		}
	}
	// Who comes to have the name is not who was trusted.
	if err := f.trust.Delete(ctx, actor, "acme", "gpu"); err != nil {
		t.Fatal(err)
	}
	for way, bring := range f.ways() {
		refused(way+": the issuer is deleted", bring, raw)
	}
	must(t)(f.trust.Create(ctx, actor, "acme", trust.Settings{Name: "gpu", Issuer: clusterIssuer, JWKS: f.jwks, Enabled: true}))
	for way, bring := range f.ways() {
		refused(way+": another issuer of the name", bring, raw)
	}
	edit(f.trusts())
	for _, bring := range f.ways() {
		bring(raw).want(200)
	}
}

func (f *federation) replace(enabled bool, jwks []byte) {
	f.rig.t.Helper()
	must(f.rig.t)(f.trust.Replace(f.rig.t.Context(), f.actor("acme"), "acme", trust.Settings{Name: "gpu", Issuer: clusterIssuer, JWKS: jwks, Enabled: enabled}))
}

// published stands for the keys that an issuer publishes.
type published struct{ err error }

func (p *published) Verify(context.Context, trust.Issuer, string, string, string, time.Time) error {
	return p.err
}

func (*published) Locate(context.Context, string, string, string) (string, error) {
	return "https://ci.test/jwks", nil
}

// A failure to read an issuer's keys is no verdict: the same token is good when they can be read again.
func TestFederatedKeysUnavailable(t *testing.T) {
	f := newFederation(t, 1)
	keys := &published{}
	f.first().server.Issuers, f.trust.Verifier = keys, keys
	must(t)(f.trust.Replace(t.Context(), f.actor("acme"), "acme", trust.Settings{Name: "gpu", Issuer: clusterIssuer, Enabled: true}))
	raw := f.sign(f.workload())
	for way, bring := range f.ways() {
		for _, tt := range []struct {
			err    error
			status []int
		}{{nil, []int{200}}, {core.Unavailable, []int{503}}, {core.Unauthenticated, []int{400, 401}}, {nil, []int{200}}} {
			keys.err = tt.err
			if got := bring(raw); !slices.Contains(tt.status, got.status) {
				t.Errorf("%s, keys %v: status %d, want %d: %s", way, tt.err, got.status, tt.status, got.body)
			}
		}
	}
}

// What a token of an issuer costs: one round trip where the instance knows the application, else two, and once an hour a write.
func TestFederatedRoundTrips(t *testing.T) {
	f := newFederation(t, 2)
	f.warm()
	for way, bring := range f.ways() {
		raw := f.sign(f.workload())
		for _, i := range f.instances {
			i.counter.Reset()
		}
		bring(raw).want(200) // one of the two instances
		total := 0
		for _, i := range f.instances {
			total += i.counter.Reset().RoundTrips()
		}
		if total != 1 {
			t.Errorf("%s: %d round trips, want 1", way, total)
		}
	}
	cold := newFederation(t, 1)
	cold.first().counter.Reset()
	cold.bearing(cold.sign(cold.workload())).want(200)
	if n := cold.first().counter.Reset().RoundTrips(); n != 3 {
		t.Errorf("the first one of an instance, and in an hour: %d round trips, want 3", n)
	}
	cold.first().counter.Reset()
	cold.asserting(cold.sign(cold.assertion())).want(200)
	if n := cold.first().counter.Reset().RoundTrips(); n != 2 {
		t.Errorf("private_key_jwt: %d round trips, want 2", n)
	}
}

// warm has every instance know the application, and its keys.
func (f *federation) warm() {
	f.rig.t.Helper()
	for range 2 * len(f.instances) {
		f.bearing(f.sign(f.workload())).want(200)
		f.swapping(f.sign(f.workload()), string(f.target)).want(200)
	}
	for range 2 * len(f.instances) {
		f.bearing(f.sign(f.workload())).want(200)
	}
}

// OAU-029, OAU-033: private_key_jwt, with its assertion taken once, however many come at the same time and wherever.
func TestPrivateKeyJWT(t *testing.T) {
	f := newFederation(t, 4)
	raw := f.sign(f.assertion())
	got := f.asserting(raw).want(200)
	if got.str("id_token")+got.str("refresh_token")+got.str("scope") != "" {
		t.Errorf("%s", got.body)
	}
	f.asserting(raw).refused(401, oauth.InvalidClient)
	f.ask("grant_type", "client_credentials", "client_assertion_type", typeAssertion, "client_assertion", f.sign(f.assertion())).want(200) // it names the client
	f.asserting(f.sign(but(f.assertion(), jwt.MapClaims{"aud": f.issuer("acme") + "/token"}))).want(200)

	raw = f.sign(f.assertion())
	var wins, losses int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			got := f.asserting(raw)
			mu.Lock()
			defer mu.Unlock()
			switch got.status {
			case 200:
				wins++
			case 401:
				losses++
			}
		})
	}
	all.Wait()
	if wins != 1 || losses != 19 {
		t.Errorf("%d took it, and %d were refused; want 1 and 19", wins, losses)
	}
	// It stays used up until it has expired, and then is nothing.
	f.clock.advance(4 * time.Minute)
	f.asserting(raw).refused(401, oauth.InvalidClient)
	f.clock.advance(2 * time.Minute)
	f.asserting(raw).refused(401, oauth.InvalidClient)

	stranger := newWorkloads(t)
	for name, raw := range map[string]string{
		"another key":       stranger.sign(f.assertion()),
		"another tenant":    f.sign(but(f.assertion(), jwt.MapClaims{"aud": f.issuer("other")})),
		"no jti":            f.sign(but(f.assertion(), jwt.MapClaims{"jti": nil})),
		"no exp":            f.sign(but(f.assertion(), jwt.MapClaims{"exp": nil})),
		"eleven minutes":    f.sign(but(f.assertion(), jwt.MapClaims{"exp": f.clock.Now().Add(11 * time.Minute).Unix()})),
		"another subject":   f.sign(but(f.assertion(), jwt.MapClaims{"sub": "other"})),
		"our access token":  got.str("access_token"),
		"a service account": f.sign(but(f.workload(), jwt.MapClaims{"sub": "other"})),
	} {
		if got := f.asserting(raw); got.status != 401 || got.str("error") != "invalid_client" {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	good := f.sign(f.assertion())
	f.ask("grant_type", "client_credentials", "client_id", string(f.app), "client_secret", f.secret, "client_assertion_type", typeAssertion, "client_assertion", good).refused(400, oauth.InvalidRequest)
	f.post(f.client(), "/t/acme/token", url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {typeAssertion}, "client_assertion": {good}}, basic(f.app, f.secret)).refused(400, oauth.InvalidRequest)
	f.ask("grant_type", "client_credentials", "client_id", string(f.app), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "client_assertion", good).refused(400, oauth.InvalidRequest)
	f.ask("grant_type", "client_credentials", "client_id", string(f.app), "client_assertion", good).refused(400, oauth.InvalidRequest)
	f.asserting(good).want(200) // none of these used it up
	must(t)(f.first().dir.SetEnabled(t.Context(), f.actor("acme"), "acme", f.app, false))
	f.asserting(f.sign(f.assertion())).refused(401, oauth.InvalidClient)
}

// A client that proves itself with its key does so everywhere that clients prove themselves.
func TestPrivateKeyJWTElsewhere(t *testing.T) {
	f := newFederation(t, 1)
	access := f.asserting(f.sign(f.assertion())).want(200).str("access_token")
	proof := func() url.Values {
		return url.Values{"client_assertion_type": {typeAssertion}, "client_assertion": {f.sign(f.assertion())}, "token": {access}}
	}
	if got := f.post(f.client(), "/t/acme/introspect", proof()).want(200).json(); got["active"] != true {
		t.Errorf("%v", got)
	}
	v := proof()
	v.Del("token")
	for name, value := range map[string]string{"grant_type": oauth.GrantExchange, "subject_token": access, "subject_token_type": "urn:ietf:params:oauth:token-type:access_token", "audience": string(f.target)} {
		v.Set(name, value)
	}
	f.post(f.client(), "/t/acme/token", v).want(200)
	f.post(f.client(), "/t/acme/token", v).refused(401, oauth.InvalidClient)
	f.post(f.client(), "/t/acme/revoke", proof()).refused(400, oauth.UnsupportedTokenType) // it was let in, to be told so
}

// The old secret serves as long as the caller said, to the second, at the endpoint.
func TestSecretGrace(t *testing.T) {
	f := newFederation(t, 2)
	ask := func(secret string) int {
		return f.ask("grant_type", "client_credentials", "client_id", string(f.app), "client_secret", secret).status
	}
	if ask(f.secret) != 200 {
		t.Fatal("the secret does not serve")
	}
	next := must(t)(f.first().dir.RotateSecret(t.Context(), f.actor("acme"), "acme", f.app, 90*time.Second)).(string)
	f.clock.advance(90*time.Second - time.Second)
	if ask(f.secret) != 200 || ask(next) != 200 {
		t.Error("a second before the end of the grace both serve")
	}
	f.clock.advance(time.Second - time.Nanosecond)
	if ask(f.secret) != 200 {
		t.Error("the grace ends too early")
	}
	f.clock.advance(time.Nanosecond)
	if ask(f.secret) != 401 || ask(next) != 200 {
		t.Error("at the end of the grace the old one serves no more")
	}
}
