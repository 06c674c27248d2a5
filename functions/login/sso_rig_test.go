package login_test

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/sso"
)

// oracle is a provider whose answers are what the test says: it is the pages around it that are tested.
type oracle struct {
	mu     sync.Mutex
	email  string                                         // of whom it vouches
	id     string                                         // of its assertion; "": it has none
	kept   sso.Kept                                       // of its assertion
	start  func(sso.Journey) (sso.Departure, error)       // nil: a redirect
	finish func(a sso.Arrival, r *sso.Report) (err error) // nil: it vouches
}

func (o *oracle) Load(_ context.Context, c *sso.Connection, _ []byte) error {
	if c.SAML != nil {
		c.SAML.IdP = sso.SAMLProvider{EntityID: "https://idp.example", Digest: "d"}
	}
	return nil
}

func (o *oracle) Start(_ context.Context, _ sso.Connection, _ sso.Secrets, j sso.Journey) (sso.Departure, error) {
	o.mu.Lock()
	start := o.start
	o.mu.Unlock()
	if start != nil {
		return start(j)
	}
	return sso.Departure{URL: "https://idp.example/?state=" + j.State, Pending: sso.Pending{Request: j.State}}, nil
}

func (o *oracle) Finish(_ context.Context, _ sso.Connection, _ sso.Secrets, a sso.Arrival, r *sso.Report) (sso.Assertion, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.finish != nil {
		if err := o.finish(a, r); err != nil {
			return sso.Assertion{ID: o.id}, err
		}
	}
	r.Pass(sso.CheckSignature, "good")
	return sso.Assertion{
		ID: o.id, Until: a.Now.Add(time.Minute), Kept: o.kept,
		Attributes: map[string]any{"email": o.email, "GROUPS": []any{"team-a"}, "UID": "4321"},
	}, nil
}

func (o *oracle) Ask(context.Context, sso.Connection, sso.Secrets, sso.Kept, time.Time) (sso.Assertion, error) {
	return sso.Assertion{}, core.Unavailable
}

func (o *oracle) Leave(_ sso.Connection, k sso.Kept, back string) string {
	if k.IDToken == "" {
		return ""
	}
	return "https://idp.example/leave?" + url.Values{"id_token_hint": {k.IDToken}, "post_logout_redirect_uri": {back}}.Encode()
}

func (o *oracle) set(change func(*oracle)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
}

const grace = "grace@corp.example" // whom a provider knows

// connect connects acme to both providers: corp by SAML, which owns corp.example, and cloud by OpenID Connect.
func (r *rig) connect(change ...func(*sso.New)) {
	r.t.Helper()
	for _, o := range []*oracle{r.saml, r.oidc} {
		o.set(func(o *oracle) { o.email = grace })
	}
	for _, n := range []sso.New{
		{Alias: "corp", Name: "Corp & Sons", Kind: sso.SAML, Domains: []string{"corp.example"}, SAML: &sso.NewSAML{MetadataURL: "https://idp.example/metadata"}},
		{Alias: "cloud", Name: "Cloud", Kind: sso.OIDC, Domains: []string{"cloud.example"}, OIDC: &sso.NewOIDC{DiscoveryURL: "https://idp.example", ClientID: "fleetpass", ClientSecret: "hush"}},
	} {
		for _, c := range change {
			c(&n)
		}
		if _, err := r.sso.Create(r.t.Context(), actor("acme"), "acme", n); err != nil {
			r.t.Fatal(err)
		}
	}
}

// secure changes how people of acme sign in. root@acme.example administers it.
func (r *rig) secure(change func(*org.Settings)) {
	r.t.Helper()
	if w := r.welcome["acme"]; w != "" {
		delete(r.welcome, "acme")
		if _, err := r.dir.RedeemWelcome(r.t.Context(), core.Actor{Tenant: "acme"}, w, root, password, r.access.FirstAdministrator); err != nil {
			r.t.Fatal(err)
		}
	}
	if _, err := r.sso.SetSecurity(r.t.Context(), actor("acme"), "acme", change); err != nil {
		r.t.Fatal(err)
	}
}

const root = "root@acme.example"

// handleOf is the handle of the sign-in that a page's form is for.
func (p page) handleOf() string {
	p.t.Helper()
	h := p.form().Get("login")
	if h == "" {
		p.t.Fatalf("no sign-in in %s", p.body)
	}
	return h
}

// begin begins a sign-in for the command line and returns its handle.
func (b *browser) begin() string {
	b.r.t.Helper()
	to := b.get("/t/acme/authorize?" + request("prompt", "login")).want(303).location()
	handle, ok := strings.CutPrefix(to, "/t/acme/login?login=")
	if !ok {
		b.r.t.Fatalf("to %s", to)
	}
	return handle
}

// to begins a sign-in at a connection, for the command line, and returns the state that the provider is given.
func (b *browser) to(alias string) (state string) {
	b.r.t.Helper()
	return b.depart("/t/acme/sso?idp=" + alias + "&login=" + b.begin())
}

// depart visits a page that leads to the provider.
func (b *browser) depart(path string) (state string) {
	b.r.t.Helper()
	to := b.get(path).want(303).location()
	state, ok := strings.CutPrefix(to, "https://idp.example/?state=")
	if !ok {
		b.r.t.Fatalf("to %s", to)
	}
	return state
}

// back brings the provider's answer, as it comes: from the provider's own site, without a cookie of ours if it is a post.
func (b *browser) back(alias, state string) page {
	b.r.t.Helper()
	if alias == "cloud" {
		return b.get("/t/acme/oidc/cloud/callback?"+url.Values{"state": {state}, "code": {"c"}}.Encode(), "Sec-Fetch-Site", "cross-site")
	}
	bare := b.r.browser()
	return bare.post("/t/acme/saml/"+alias+"/acs", url.Values{"RelayState": {state}, "SAMLResponse": {"good"}}, "Sec-Fetch-Site", "cross-site", "Origin", "https://idp.example")
}

// arriving takes a sign-in to where it ends.
func (b *browser) arriving(alias string) (finish string) {
	b.r.t.Helper()
	return b.back(alias, b.to(alias)).want(303).location()
}

// shown is the page without the style sheet, which has many words.
func (p page) shown() string {
	before, rest, _ := strings.Cut(p.body, "<style>")
	_, after, _ := strings.Cut(rest, "</style>")
	return before + after
}

func has(t *testing.T, p page, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !strings.Contains(p.shown(), s) {
			t.Errorf("the page lacks %q:\n%s", s, p.shown())
		}
	}
}

func lacks(t *testing.T, p page, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if strings.Contains(p.shown(), s) {
			t.Errorf("the page has %q:\n%s", s, p.shown())
		}
	}
}
