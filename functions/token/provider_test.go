package token_test

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// What a sign-in at an identity provider gave must not outlive what it rests on: the provider's word, where it can be asked
// again, the connection, and the end that the provider named.

const grace = "grace@corp.example"

// provider is an identity provider that vouches for grace until it is told otherwise.
type provider struct {
	mu    sync.Mutex
	ends  time.Time // of what it vouches for at a sign-in
	says  error     // nil: it vouches for her when it is asked again
	left  bool      // she is in no group any more
	asked int
}

// groups are those of grace.
func (p *provider) groups() []any {
	if p.left {
		return nil
	}
	return []any{"ops"}
}

func (p *provider) Load(context.Context, *sso.Connection, []byte) error { return nil }

func (p *provider) Start(_ context.Context, _ sso.Connection, _ sso.Secrets, j sso.Journey) (sso.Departure, error) {
	return sso.Departure{URL: "https://idp.example/?state=" + j.State}, nil
}

func (p *provider) Finish(_ context.Context, c sso.Connection, _ sso.Secrets, a sso.Arrival, r *sso.Report) (sso.Assertion, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Pass(sso.CheckSignature, "good")
	said := sso.Assertion{Attributes: map[string]any{"email": grace, "GROUPS": p.groups()}, AuthTime: a.Now, Ends: p.ends}
	if c.Kind == sso.SAML { // which cannot be asked again
		said.ID, said.Until = core.NewID(), a.Now.Add(time.Minute)
	} else {
		said.Kept = sso.Kept{Refresh: "r"}
	}
	return said, nil
}

func (p *provider) Ask(context.Context, sso.Connection, sso.Secrets, sso.Kept, time.Time) (sso.Assertion, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	return sso.Assertion{Attributes: map[string]any{"email": grace, "GROUPS": p.groups()}, Kept: sso.Kept{Refresh: "r"}}, p.says
}

func (p *provider) Leave(sso.Connection, sso.Kept, string) string { return "" }

// answer sets what the provider says from now on, and forgets how often it was asked.
func (p *provider) answer(says error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.says, p.asked = says, 0
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// connection is the one of acme for corp.example.
func connection(k sso.Kind) sso.New {
	n := sso.New{Alias: "corp", Name: "Corp", Kind: k, Domains: []string{"corp.example"}}
	if k == sso.SAML {
		n.SAML = &sso.NewSAML{MetadataURL: "https://idp.example/metadata"}
	} else {
		n.OIDC = &sso.NewOIDC{DiscoveryURL: "https://idp.example", ClientID: "fleetpass", ClientSecret: "secret"}
	}
	return n
}

func (r *rig) connect(k sso.Kind) {
	r.t.Helper()
	if _, err := r.first().sso.Create(r.t.Context(), r.actor("acme"), "acme", connection(k)); err != nil {
		r.t.Fatal(err)
	}
}

// arrive signs grace in at the provider, for an authorization request, and returns her browser and her code.
func (r *rig) arrive(q url.Values) (*http.Client, string) {
	r.t.Helper()
	i, ctx, who := r.first(), r.t.Context(), core.Actor{Tenant: "acme", Request: "req", Address: "192.0.2.7"}
	handle, cookie, err := i.sessions.StartLogin(ctx, who, "", q.Encode())
	if err != nil {
		r.t.Fatal(err)
	}
	login, err := i.sessions.Login(ctx, "acme", handle, cookie)
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := i.sso.Start(ctx, who, "corp", login, cookie, false, "")
	if err != nil {
		r.t.Fatal(err)
	}
	_, state, _ := strings.Cut(d.URL, "state=")
	handle, err = i.sso.Receive(ctx, who, "corp", []sso.Kind{sso.SAML, sso.OIDC}, state, map[string]string{"state": state})
	if err != nil {
		r.t.Fatal(err)
	}
	a, err := i.sso.Arrive(ctx, who, handle, cookie)
	if err != nil {
		r.t.Fatal(err)
	}
	done, err := i.server.Finish(ctx, who, a.Login, a.Proof, a.Ops...)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.browser(done)
}

// browser is the browser of a sign-in that was finished, and the code that it was sent back with.
func (r *rig) browser(done oauth.Finished) (*http.Client, string) {
	r.t.Helper()
	c := r.client()
	home, err := url.Parse(r.base)
	if err != nil {
		r.t.Fatal(err)
	}
	c.Jar.SetCookies(home, []*http.Cookie{{Name: "__Host-fleetpass-acme", Value: done.Cookie, Path: "/", Secure: true}})
	back, err := url.Parse(done.Location)
	if err != nil || back.Query().Get("code") == "" {
		r.t.Fatalf("no code: %q, %v", done.Location, err)
	}
	return c, back.Query().Get("code")
}

// settled is the code that the browser's session gives without a page; empty if there is no session that does.
func (r *rig) settled(c *http.Client, edit ...func(url.Values)) string {
	r.t.Helper()
	_, back := r.get(c, "/t/acme/authorize?"+request(append(edit, set("prompt", "none"))...).Encode()).want(303).location()
	if back.Get("code") == "" && back.Get("error") != string(oauth.LoginRequired) {
		r.t.Fatalf("neither a code nor login_required: %v", back)
	}
	return back.Get("code")
}

func (r *rig) redeem(code string) reply {
	r.t.Helper()
	return r.post(r.client(), "/t/acme/token", redemption(code))
}

func (r *rig) refresh(a reply) reply {
	r.t.Helper()
	return r.post(r.client(), "/t/acme/token", refreshForm(a.str("refresh_token")))
}

// revoked counts the records of sign-ins that ended for a reason.
func (r *rig) revoked(reason string) (n int) {
	r.t.Helper()
	for _, rec := range r.audits("acme", audit.SignOut) {
		if strings.Contains(rec.Reason, reason) {
			n++
		}
	}
	return n
}

// Whom the provider refuses at a refresh has no browser session either, out of which to make another sign-in (RP-009).
func TestRefusedAtRefreshIsSignedOut(t *testing.T) {
	r := newRig(t, 2)
	r.connect(sso.OIDC)
	browser, code := r.arrive(request())
	got := r.redeem(code).want(200)
	local := r.client()
	r.code(local, request())
	r.clock.advance(time.Minute)
	got = r.refresh(got).want(200)
	if r.idp.count() != 1 || r.settled(browser) == "" {
		t.Fatalf("asked %d times; while the provider vouches everything must go on", r.idp.count())
	}
	r.clock.advance(time.Minute)
	r.idp.answer(sso.ErrRefused)
	r.refresh(got).refused(400, oauth.InvalidGrant)
	if r.settled(browser) != "" {
		t.Error("the browser's session still gives codes")
	}
	r.get(browser, "/t/acme/").want(303) // to sign in
	if r.revoked("does not vouch") != 1 {
		t.Error("no record of why the sign-in ended")
	}
	if r.settled(local) == "" {
		t.Error("a local person's session ended with it")
	}
	r.idp.answer(nil)
	r.refresh(got).refused(400, oauth.InvalidGrant)
	if r.settled(browser) != "" {
		t.Error("the session came back to life")
	}
	browser, code = r.arrive(request())
	r.redeem(code).want(200)
	if r.settled(browser) == "" {
		t.Error("a new sign-in gives no session")
	}
}

// A code is not redeemed for whom the provider does not vouch for at that time; right after a sign-in it is not asked, for it
// has just spoken (RP-009).
func TestRefusedAtRedemption(t *testing.T) {
	r := newRig(t, 2)
	r.connect(sso.OIDC)
	browser, code := r.arrive(request())
	r.redeem(code).want(200)
	if n := r.idp.count(); n != 0 {
		t.Errorf("asked %d times right after the sign-in", n)
	}
	r.clock.advance(time.Minute)
	code = r.settled(browser)
	r.idp.answer(core.Unavailable)
	r.redeem(code).want(503)
	r.idp.answer(nil)
	r.redeem(code).want(200) // what could not be asked used nothing up
	if n := r.idp.count(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	r.clock.advance(time.Minute)
	code = r.settled(browser)
	r.idp.answer(sso.ErrRefused)
	r.post(r.client(), "/t/acme/token", redemption(code, set("code_verifier", strings.Repeat("x", 43)))).refused(400, oauth.InvalidGrant)
	if n := r.idp.count(); n != 0 {
		t.Errorf("asked %d times for a code in wrong hands", n)
	}
	code = r.settled(browser)
	r.redeem(code).refused(400, oauth.InvalidGrant)
	r.idp.answer(nil)
	r.redeem(code).refused(400, oauth.InvalidGrant)
	if r.settled(browser) != "" {
		t.Error("the session still gives codes")
	}
}

// Disabling or deleting a connection ends what was signed in by it, whether or not its provider can be asked (SAML-131).
func TestConnectionEnds(t *testing.T) {
	for _, kind := range []sso.Kind{sso.SAML, sso.OIDC} {
		for how, end := range map[string]func(*testing.T, *rig){
			"disabled": func(t *testing.T, r *rig) { r.enable(kind, false) },
			"deleted": func(t *testing.T, r *rig) {
				must(t)(nil, r.first().sso.Delete(t.Context(), r.actor("acme"), "acme", "corp"))
			},
			"another of the same name": func(t *testing.T, r *rig) {
				must(t)(nil, r.first().sso.Delete(t.Context(), r.actor("acme"), "acme", "corp"))
				r.connect(kind)
			},
		} {
			t.Run(string(kind)+", "+how, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, 1)
				r.connect(kind)
				browser, code := r.arrive(request())
				got := r.redeem(code).want(200)
				got = r.refresh(got).want(200)
				local := r.client()
				own := r.redeem(r.code(local, request())).want(200)
				code = r.settled(browser)
				if code == "" {
					t.Fatal("the session does not hold to begin with")
				}
				end(t, r)
				r.redeem(code).refused(400, oauth.InvalidGrant)
				if r.settled(browser) != "" {
					t.Error("the browser's session still gives codes")
				}
				r.refresh(got).refused(400, oauth.InvalidGrant)
				if r.revoked("the identity provider") != 1 {
					t.Error("no record of why the sign-in ended")
				}
				r.refresh(own).want(200)
				if r.settled(local) == "" {
					t.Error("a local person's session ended with it")
				}
				if how != "disabled" {
					return
				}
				r.enable(kind, true)
				r.refresh(got).refused(400, oauth.InvalidGrant) // what was revoked stays so
				r.redeem(r.settled(browser)).want(200)
			})
		}
	}
}

func (r *rig) enable(k sso.Kind, on bool) {
	r.t.Helper()
	n := connection(k)
	n.Enabled = &on
	if _, err := r.first().sso.Update(r.t.Context(), r.actor("acme"), "acme", "corp", n); err != nil {
		r.t.Fatal(err)
	}
}

// A refresh costs local people no round trip for all that, and people of a provider that cannot be asked one.
func TestRefreshRoundTrips(t *testing.T) {
	r := newRig(t, 1)
	r.connect(sso.SAML)
	_, code := r.arrive(request())
	for name, tt := range map[string]struct {
		tokens reply
		want   int
	}{"local": {r.tokens(), 2}, "SAML": {r.redeem(code).want(200), 3}} {
		r.first().counter.Reset()
		r.refresh(tt.tokens).want(200)
		if n := r.first().counter.Reset(); n.Gets+n.Commits != tt.want {
			t.Errorf("%s: %+v, want %d", name, n, tt.want)
		}
	}
}

// What is said of a refresh token is true: when it ends, and that it does not count once its connection is gone.
func TestIntrospectProvidersPeople(t *testing.T) {
	r := newRig(t, 1)
	r.connect(sso.SAML)
	r.idp.ends = r.clock.Now().Add(time.Hour)
	app, secret := r.application("acme", "web", "https://app.example/cb")
	_, code := r.arrive(request(set("client_id", string(app)), set("redirect_uri", "https://app.example/cb")))
	form := redemption(code, set("redirect_uri", "https://app.example/cb"))
	form.Del("client_id")
	token := r.post(r.client(), "/t/acme/token", form, basic(app, secret)).want(200).str("refresh_token")
	ask := func() reply {
		return r.post(r.client(), "/t/acme/introspect", url.Values{"token": {token}}, basic(app, secret)).want(200)
	}
	if a := ask().json(); a["active"] != true || a["exp"] != float64(r.idp.ends.Unix()) {
		t.Errorf("%v, want the provider's end %d", a, r.idp.ends.Unix())
	}
	r.enable(sso.SAML, false)
	if a := ask(); a.body != `{"active":false}` {
		t.Errorf("its connection is disabled: %s", a.body)
	}
}

// Enforced single sign-on ends what local people hold, but for those few; nothing is deleted for it (SAML-159).
func TestEnforcedSSO(t *testing.T) {
	r := newRig(t, 1)
	const bob = "bob@acme.example"
	r.user("acme", bob)
	cluster := string(r.cluster("acme", "gpu"))
	type held struct {
		browser *http.Client
		tokens  reply
		code    string // not redeemed yet
	}
	of := func(email string) held {
		c := r.client()
		_, back := r.signIn(c, "acme", email, password, request()).want(303).location()
		return held{c, r.redeem(back.Get("code")).want(200), r.settled(c)}
	}
	theirs, mine := of(bob), of(admin)
	enforce := func(on bool) {
		r.settings("acme", func(t *org.Tenant) {
			t.Settings.EnforceSSO, t.Settings.BreakGlass = on, []core.Email{admin}
		})
	}
	enforce(true)
	r.redeem(theirs.code).refused(400, oauth.InvalidGrant)
	r.refresh(theirs.tokens).refused(400, oauth.InvalidGrant)
	r.post(r.client(), "/t/acme/token", exchangeForm(theirs.tokens.str("access_token"), cluster)).refused(400, oauth.InvalidRequest)
	r.do(r.client(), withToken(t, r.base+"/t/acme/userinfo", theirs.tokens.str("access_token"))).want(401)
	if r.settled(theirs.browser) != "" {
		t.Error("the session still gives codes")
	}

	r.redeem(mine.code).want(200)
	mine.tokens = r.refresh(mine.tokens).want(200)
	r.post(r.client(), "/t/acme/token", exchangeForm(mine.tokens.str("access_token"), cluster)).want(200)
	if r.settled(mine.browser) == "" {
		t.Error("the session of who may use a password ended")
	}

	enforce(false)
	r.refresh(theirs.tokens).want(200)
	r.redeem(r.settled(theirs.browser)).want(200)
}

// A cluster's token does not outlive the end that the provider named (SAML's SessionNotOnOrAfter).
func TestClusterTokenEndsWithTheProvider(t *testing.T) {
	r := newRig(t, 1)
	r.connect(sso.SAML)
	cluster := string(r.cluster("acme", "gpu"))
	life := func() any {
		t.Helper()
		_, code := r.arrive(request())
		return r.post(r.client(), "/t/acme/token", exchangeForm(r.redeem(code).want(200).str("access_token"), cluster)).want(200).json()["expires_in"]
	}
	if got := life(); got != 300.0 {
		t.Fatalf("%v s without an end of the provider's", got)
	}
	r.idp.ends = r.clock.Now().Add(2 * time.Minute)
	if got := life(); got != 120.0 {
		t.Errorf("%v s, want 120: the provider ends it then", got)
	}
}

// A stolen refresh token ends its family even while the provider is away, and costs the provider no question (OAU-035).
func TestReuseWhileTheProviderIsAway(t *testing.T) {
	r := newRig(t, 2)
	r.connect(sso.OIDC)
	_, code := r.arrive(request())
	first := r.redeem(code).want(200)
	_, code = r.arrive(request())
	sibling := r.redeem(code).want(200)
	next := r.refresh(first).want(200)
	r.clock.advance(session.Grace + time.Second)
	r.idp.answer(core.Unavailable)
	r.refresh(sibling).want(503)
	asked := r.idp.count()
	r.refresh(first).refused(400, oauth.InvalidGrant)
	if n := r.idp.count(); n != asked {
		t.Errorf("the provider was asked %d times for a thief", n-asked)
	}
	if r.revoked("used again") != 1 {
		t.Error("no record of the reuse")
	}
	r.idp.answer(nil)
	r.refresh(next).refused(400, oauth.InvalidGrant)
	r.refresh(sibling).want(200)
}

// Where nobody knows when the person proved who they are, nothing says that it was now: no auth_time, and no max_age is met
// (OAU-051). What was asked with max_age is answered all the same, or the browser would go round for ever.
func TestNoAuthTime(t *testing.T) {
	for name, known := range map[string]bool{"known": true, "unknown": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			i, who := r.first(), core.Actor{Tenant: "acme", Request: "req"}
			handle, cookie, err := i.sessions.StartLogin(t.Context(), who, "", request(set("max_age", "60")).Encode())
			must(t)(nil, err)
			login, err := i.sessions.Login(t.Context(), "acme", handle, cookie)
			must(t)(nil, err)
			person, err := i.dir.User(t.Context(), "acme", admin)
			must(t)(nil, err)
			proof := session.Proof{User: person.Value, Methods: []string{"fed"}}
			if known {
				proof.At = r.clock.Now()
			}
			done, err := i.server.Finish(t.Context(), who, login, proof)
			must(t)(nil, err)
			browser, code := r.browser(done)
			got := r.redeem(code).want(200)
			again := r.refresh(got).want(200)
			for _, raw := range []string{got.str("id_token"), got.str("access_token"), again.str("id_token"), again.str("access_token")} {
				at, there := claims(t, raw)["auth_time"]
				if there != known || known && at != float64(proof.At.Unix()) {
					t.Errorf("auth_time %v", at)
				}
			}
			for _, age := range []string{"60", "2147483647"} {
				if got := r.settled(browser, set("max_age", age)) != ""; got != known {
					t.Errorf("max_age %s is met: %v", age, got)
				}
			}
			if r.settled(browser) == "" || r.settled(browser, set("id_token_hint", got.str("id_token"))) == "" {
				t.Error("the session settles nothing, or its ID token is no hint")
			}
			if home := r.get(browser, "/t/acme/").want(200); !strings.Contains(home.body, "2026-11-22T08:00:00Z") {
				t.Errorf("the page does not say since when: %s", home.body)
			}
		})
	}
}

// What a store that does not answer leaves open is no verdict: nothing is burned, revoked or granted for it.
func TestConnectionUnreadable(t *testing.T) {
	r := newRig(t, 1)
	r.connect(sso.SAML)
	browser, code := r.arrive(request())
	got := r.redeem(code).want(200)
	code = r.settled(browser)
	i := r.first()
	i.faulty.Plan = func(c storetest.Call) storetest.Fault {
		if slices.Contains(c.Keys, store.Connection("acme", "corp")) {
			return storetest.Refuse
		}
		return storetest.NoFault
	}
	r.redeem(code).want(503)
	r.refresh(got).want(503)
	r.get(browser, "/t/acme/authorize?"+request(set("prompt", "none")).Encode()).want(503)
	i.faulty.Plan = nil
	r.redeem(code).want(200)
	r.refresh(got).want(200)
	if r.settled(browser) == "" {
		t.Error("the session ended")
	}
}
