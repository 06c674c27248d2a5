package token_test

import (
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/store"
)

// A code is redeemed once. Who presents it again ends what was made from it (OAU-001).
func TestCodeTwice(t *testing.T) {
	r := newRig(t, 2)
	c := r.client()
	other := r.tokens()
	code := r.code(c, request())
	got := r.post(c, "/t/acme/token", redemption(code)).want(200)
	app, secret := r.application("acme", "resource-server")
	active := func(token string) bool {
		return r.post(c, "/t/acme/introspect", url.Values{"token": {token}}, basic(app, secret)).want(200).json()["active"] == true
	}
	if !active(got.str("access_token")) {
		t.Fatal("not active to begin with")
	}
	r.clock.advance(30 * time.Minute) // long after the code's own life
	got = r.post(c, "/t/acme/token", refreshForm(got.str("refresh_token"))).want(200)
	r.post(c, "/t/acme/token", redemption(code)).refused(400, oauth.InvalidGrant)
	if active(got.str("access_token")) {
		t.Error("tokens of a code that was presented twice count")
	}
	r.do(c, withToken(t, r.base+"/t/acme/userinfo", got.str("access_token"))).want(401)
	r.post(c, "/t/acme/token", refreshForm(got.str("refresh_token"))).refused(400, oauth.InvalidGrant)
	r.post(c, "/t/acme/token", exchangeForm(got.str("access_token"), string(r.cluster("acme", "one")))).refused(400, oauth.InvalidRequest)
	r.post(c, "/t/acme/token", refreshForm(other.str("refresh_token"))).want(200)
}

// 200 redemptions at once on 10 instances: one succeeds, and the reuse ends it (OAU-003).
func TestCodeInParallel(t *testing.T) {
	r := newRig(t, 10)
	code := r.code(r.client(), request())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []reply
	for range 200 {
		wg.Go(func() {
			a := r.post(r.client(), "/t/acme/token", redemption(code))
			mu.Lock()
			defer mu.Unlock()
			if a.status == 200 {
				won = append(won, a)
			} else if a.status != 400 || !strings.Contains(a.body, "invalid_grant") {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d redemptions succeeded", len(won))
	}
	r.post(r.client(), "/t/acme/token", refreshForm(won[0].str("refresh_token"))).refused(400, oauth.InvalidGrant)
}

// Everything that a code is bound to. Each row presents a fresh code wrongly, and then rightly: it is burned.
func TestCodeBinding(t *testing.T) {
	r := newRig(t, 1)
	app, secret := r.application("acme", "web", "https://app.example/cb")
	foreign, foreignSecret := r.application("other", "web", "https://app.example/cb")
	asApp := func(q url.Values) {
		q.Set("client_id", string(app))
		q.Set("client_secret", secret)
		q.Set("redirect_uri", "https://app.example/cb")
	}
	for name, tt := range map[string]struct {
		tenant string
		edit   func(url.Values)
		code   oauth.Code
		burned bool
	}{
		"OAU-005 another client":            {"acme", func(q url.Values) { q.Set("client_id", string(app)); q.Set("client_secret", secret) }, oauth.InvalidGrant, true},
		"OAU-007 no redirect_uri":           {"acme", func(q url.Values) { q.Del("redirect_uri") }, oauth.InvalidRequest, false},
		"OAU-007 another redirect_uri":      {"acme", set("redirect_uri", "http://127.0.0.1:43122/callback"), oauth.InvalidGrant, true},
		"OAU-009 truncated":                 {"acme", func(q url.Values) { q.Set("code", q.Get("code")[:51]) }, oauth.InvalidGrant, false},
		"OAU-009 extended":                  {"acme", func(q url.Values) { q.Set("code", q.Get("code")+"a") }, oauth.InvalidGrant, false},
		"OAU-009 case":                      {"acme", func(q url.Values) { q.Set("code", strings.ToUpper(q.Get("code"))) }, oauth.InvalidGrant, false},
		"OAU-013 no verifier":               {"acme", func(q url.Values) { q.Del("code_verifier") }, oauth.InvalidRequest, false},
		"another verifier":                  {"acme", set("code_verifier", strings.Repeat("a", 43)), oauth.InvalidGrant, true},
		"OAU-015 the challenge":             {"acme", set("code_verifier", challenge(verifier)), oauth.InvalidGrant, true},
		"OAU-015 42 characters":             {"acme", set("code_verifier", verifier[:42]), oauth.InvalidGrant, true},
		"OAU-015 129 characters":            {"acme", set("code_verifier", strings.Repeat("a", 129)), oauth.InvalidGrant, true},
		"another tenant":                    {"other", func(url.Values) {}, oauth.InvalidGrant, false},
		"another tenant's client":           {"acme", func(q url.Values) { q.Set("client_id", string(foreign)); q.Set("client_secret", foreignSecret) }, oauth.InvalidClient, false},
		"OAU-031 a secret for a public one": {"acme", set("client_secret", secret), oauth.InvalidClient, false},
		"no client":                         {"acme", func(q url.Values) { q.Del("client_id") }, oauth.InvalidClient, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := r.client()
			code := r.code(c, request())
			status := 400
			if tt.code == oauth.InvalidClient {
				status = 401
			}
			r.post(c, "/t/"+tt.tenant+"/token", redemption(code, tt.edit)).refused(status, tt.code)
			if again := r.post(c, "/t/acme/token", redemption(code)); (again.status == 200) == tt.burned {
				t.Errorf("presented rightly afterwards: %d, burned should be %v", again.status, tt.burned)
			}
		})
	}
	// OAU-031: a public client, or one with a wrong secret, gets nothing for a confidential client's code.
	q := request(func(q url.Values) { q.Set("client_id", string(app)); q.Set("redirect_uri", "https://app.example/cb") })
	for name, tt := range map[string]struct {
		edit func(url.Values)
		code oauth.Code
	}{
		"public":       {set("redirect_uri", "https://app.example/cb"), oauth.InvalidGrant},
		"no secret":    {func(q url.Values) { asApp(q); q.Del("client_secret") }, oauth.InvalidClient},
		"wrong secret": {func(q url.Values) { asApp(q); q.Set("client_secret", core.NewSecret()) }, oauth.InvalidClient},
		"right":        {asApp, ""},
	} {
		c := r.client()
		got := r.post(c, "/t/acme/token", redemption(r.code(c, q), tt.edit))
		switch tt.code {
		case "":
			got.want(200)
		case oauth.InvalidClient:
			if got.refused(401, tt.code); got.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: no challenge", name)
			}
		default:
			got.refused(400, tt.code)
		}
	}
}

func TestCodeExpires(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	code := r.code(c, request())
	r.clock.advance(59 * time.Second)
	r.post(c, "/t/acme/token", redemption(code)).want(200)
	code = r.code(c, request(set("prompt", "login")))
	r.clock.advance(60 * time.Second)
	r.post(c, "/t/acme/token", redemption(code)).refused(400, oauth.InvalidGrant)
}

// A code is worth nothing once its person was disabled, and nothing of it is stored that could be redeemed.
func TestCodeOfDisabled(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	code := r.code(c, request())
	items, err := r.db.Get(t.Context(), store.Code("acme", code))
	if err != nil || items[0].Version != 0 {
		t.Errorf("the code is stored as it is: %v", err)
	}
	if _, err := r.first().dir.Disable(t.Context(), r.actor("acme"), "acme", admin); err != nil {
		t.Fatal(err)
	}
	r.post(c, "/t/acme/token", redemption(code)).refused(400, oauth.InvalidGrant)
}

// Codes, sessions and tokens do not repeat and are balanced in their bits (OAU-063; 10^5 here, the generator is crypto/rand).
func TestEntropy(t *testing.T) {
	seen := make(map[string]bool, 100_000)
	ones := [52 * 5]int{}
	const alphabet = "abcdefghijkmnpqrstuvwxyz23456789"
	for range 100_000 {
		s := core.NewSecret()
		if seen[s] || len(s) != 52 {
			t.Fatalf("%q", s)
		}
		seen[s] = true
		for i, c := range []byte(s) {
			v := strings.IndexByte(alphabet, c)
			for b := range 5 {
				ones[i*5+b] += v >> b & 1
			}
		}
	}
	for i, n := range ones {
		if n < 49_000 || n > 51_000 { // more than six standard deviations
			t.Errorf("bit %d is set in %d of 100000", i, n)
		}
	}
}
