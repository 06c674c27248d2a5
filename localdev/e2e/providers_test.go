package e2e

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/localdev/idp/foreign"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// The providers here are other people's; localdev/idp/foreign shows that stock clients sign in at them too.

// maria works for the organization that a foreign provider is of, and has all that can be mapped. tom has as little as can be.
var (
	maria = foreign.Person{Login: "maria", Password: rand.Text(), Email: "maria@elsewhere.example", FirstName: "Maria", LastName: "Mayer",
		Groups: []string{"physics", "visiting scientists"}, UID: 17001, GID: 27001, SupplementaryGroups: []int64{37001, 37002}}
	tom = foreign.Person{Login: "tom", Password: rand.Text(), Email: "tom@elsewhere.example", FirstName: "Tom", LastName: "Young", UID: 17002, GID: 27001}
)

// abroad is a system with a tenant that is connected to a foreign provider as "abroad".
type abroad struct {
	t      *testing.T
	system *stack.Stack
	seed   stack.Seed
	clock  *clock
	last   *Browser  // that somebody signed in with
	client *goClient // fleetpass-cli
	admin  *api.Client
	made   api.IdP
	ca     []byte                                                          // of the provider
	there  func(ctx context.Context, b *Browser, who foreign.Person) error // signs in at the provider's own pages
}

// goAbroad starts a system that may visit the provider's port, and signs its tenant's administrator in.
func goAbroad(t *testing.T, port uint16, ca []byte) *abroad {
	t.Helper()
	clock := newClock()
	s, err := stack.New(stack.Options{Dir: filepath.Join(t.TempDir(), "system"), Log: slog.New(slog.DiscardHandler), Ports: []uint16{port}, Now: clock.now})
	must(t, err)
	t.Cleanup(s.Close)
	seed, err := s.Seed(t.Context())
	must(t, err)
	a := &abroad{t: t, system: s, seed: seed, clock: clock, client: newGoClient(t, s), ca: ca}
	tok, _ := a.client.signIn(t, seed.Admin)
	a.admin = a.as(tok)
	return a
}

// as is the API's client of whoever has the token.
func (a *abroad) as(tok *oauth2.Token) *api.Client {
	return &api.Client{Server: a.system.OAuth.Issuer(a.seed.Tenant), HTTP: trusting(a.t, a.system), Token: func(context.Context) (string, error) { return tok.AccessToken, nil }}
}

// request fills in what all connections have.
func (a *abroad) request(r api.IdPRequest) api.IdPRequest {
	r.Name, r.Alias, r.Domains, r.CA = "Elsewhere", "abroad", []string{"elsewhere.example"}, string(a.ca)
	return r
}

// connect makes the connection as the tenant's administrator.
func (a *abroad) connect(r api.IdPRequest) {
	a.t.Helper()
	made, err := a.admin.CreateIdP(a.t.Context(), a.request(r))
	must(a.t, err)
	a.made = made
}

// connectSAML connects a SAML provider by the address of its metadata, and shows it ours, as served.
func (a *abroad) connectSAML(p *foreign.SAML, r api.SAMLData) {
	a.t.Helper()
	r.MetadataURL = p.MetadataURL
	a.connect(api.IdPRequest{Type: api.IdPSAML, SAML: &r})
	res, err := http.Get(a.made.MetadataURL)
	must(a.t, err)
	defer res.Body.Close()
	metadata, err := io.ReadAll(res.Body)
	must(a.t, err)
	if res.StatusCode != http.StatusOK {
		a.t.Fatalf("%s: %s: %s", a.made.MetadataURL, res.Status, metadata)
	}
	must(a.t, p.Trust(a.t.Context(), metadata))
	a.there = func(ctx context.Context, b *Browser, who foreign.Person) error {
		_, err := p.SignIn(ctx, b, who)
		return err
	}
}

// browser is one that trusts the provider.
func (a *abroad) browser() *Browser {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.ca)
	return NewBrowser(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}})
}

// errBack says that the browser was sent back to the client.
var errBack = errors.New("sent back")

// signIn has a person sign in for the command line by way of the provider, and returns the tokens. Where that does not end
// with the command line, it returns the page that it ended with.
func (a *abroad) signIn(who foreign.Person) (*oauth2.Token, *oidc.IDToken, string) {
	t := a.t
	t.Helper()
	b := a.browser()
	a.last = b
	var back *url.URL
	b.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), redirect) {
			back = r.URL
			return errBack
		}
		return nil
	}
	verifier, state := oauth2.GenerateVerifier(), rand.Text()
	if _, err := b.Visit(t.Context(), a.client.conf.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier))); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Follow(t.Context(), "idp=abroad"); err != nil {
		t.Fatal(err)
	}
	if err := a.there(t.Context(), b, who); err != nil && !errors.Is(err, errBack) {
		t.Fatalf("at the provider: %v", err)
	}
	if back == nil {
		at, status := b.Page()
		return nil, nil, at.String() + ": " + http.StatusText(status) + ": " + b.body
	}
	if back.Query().Get("state") != state {
		t.Fatalf("sent back to %s", back)
	}
	tok, err := a.client.conf.Exchange(a.client.ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	must(t, err)
	raw, _ := tok.Extra("id_token").(string)
	id, err := a.client.provider.Verifier(&oidc.Config{ClientID: "fleetpass-cli", Now: a.clock.now}).Verify(a.client.ctx, raw)
	must(t, err)
	return tok, id, ""
}

// signsIn signs in somebody who must get in, and compares what the system says of them with what the provider says.
func (a *abroad) signsIn(who foreign.Person) *oauth2.Token {
	t := a.t
	t.Helper()
	tok, id, page := a.signIn(who)
	if tok == nil {
		t.Fatalf("%s does not get in: %.2000s: %+v", who.Login, page, a.lastTrace())
	}
	var claims struct{ Email string }
	must(t, id.Claims(&claims))
	if claims.Email != who.Email {
		t.Errorf("the ID token is of %s, want %s", claims.Email, who.Email)
	}
	me, err := a.as(tok).Me(t.Context())
	must(t, err)
	var groups []core.GroupName
	for _, g := range who.Groups {
		groups = append(groups, core.GroupName(a.made.GroupPrefix+g))
	}
	slices.Sort(groups)
	if me.Username != who.Email || me.FirstName != who.FirstName || me.LastName != who.LastName || me.IsLocal || !slices.Equal(me.Groups, groups) {
		t.Errorf("/me of %s: %+v, want groups %q", who.Login, me, groups)
	}
	var user api.User
	_, err = a.admin.Do(t.Context(), http.MethodGet, "/api/v1/users/"+me.ID, nil, nil, &user)
	must(t, err)
	type posix struct {
		UID, GID *int64
		GIDs     []int64
	}
	if diff := cmp.Diff(posix{&who.UID, &who.GID, who.SupplementaryGroups}, posix{user.UID, user.GID, user.GIDs}); diff != "" {
		t.Errorf("%s (-want +got): %s", who.Login, diff)
	}
	return tok
}

// lastTrace is what was noted about the last sign-in.
func (a *abroad) lastTrace() api.Trace {
	a.t.Helper()
	page, err := a.admin.Traces(a.t.Context(), 1, "")
	must(a.t, err)
	if len(page.Traces) == 0 {
		a.t.Fatal("there is no trace")
	}
	trace, err := a.admin.Trace(a.t.Context(), page.Traces[0].ID)
	must(a.t, err)
	return trace
}

// Debian's SimpleSAMLphp, in each of the ways in which it signs and encrypts that are safe.
func TestSimpleSAMLphp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		theirs foreign.SAMLConfig
		ours   api.SAMLData
	}{
		"as it comes":          {},
		"signed responses":     {theirs: foreign.SAMLConfig{SignResponse: true}},
		"encrypted assertions": {theirs: foreign.SAMLConfig{Encrypt: foreign.AES128GCM}},
		"signed requests":      {ours: api.SAMLData{SignRequests: true}},
		"another entity ID":    {ours: api.SAMLData{EntityID: "urn:fleetpass:acme"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.theirs.People = []foreign.Person{maria, tom}
			p := foreign.NeedSimpleSAMLphp(t, tt.theirs)
			a := goAbroad(t, p.Port(), p.CA)
			a.connectSAML(p, tt.ours)
			a.signsIn(maria)
			a.signsIn(tom)
			a.signsIn(maria) // for the second time, as the same person
		})
	}
}

// SAML-143: what the version in Debian can encrypt with is not authenticated. The refusal says what to do.
func TestSimpleSAMLphpWithCBC(t *testing.T) {
	t.Parallel()
	p := foreign.NeedSimpleSAMLphp(t, foreign.SAMLConfig{People: []foreign.Person{maria}, Encrypt: foreign.AES128CBC})
	a := goAbroad(t, p.Port(), p.CA)
	a.connectSAML(p, api.SAMLData{})
	if tok, _, _ := a.signIn(maria); tok != nil {
		t.Fatal("AES-CBC is taken")
	}
	trace := a.lastTrace()
	failed := slices.IndexFunc(trace.Checks, func(c api.TraceCheck) bool { return c.Result == "failed" })
	if trace.Outcome != "refused" || trace.Failure != "encryption" || failed < 0 || !strings.Contains(trace.Checks[failed].Fix, "AES-GCM") {
		t.Errorf("the trace: %+v", trace)
	}
}

// What the provider begins is taken where the connection allows it, and once the person has said that it is they.
func TestSimpleSAMLphpBegins(t *testing.T) {
	t.Parallel()
	p := foreign.NeedSimpleSAMLphp(t, foreign.SAMLConfig{People: []foreign.Person{maria}})
	a := goAbroad(t, p.Port(), p.CA)
	a.connectSAML(p, api.SAMLData{IdPInitiated: true})
	begin := func() (*Browser, string) {
		b := a.browser()
		if _, err := b.Visit(t.Context(), p.Unasked(a.made.EntityID)); err != nil {
			t.Fatal(err)
		}
		page, err := p.SignIn(t.Context(), b, maria)
		must(t, err)
		return b, page
	}
	b, page := begin()
	if !strings.Contains(page, "Continue as "+maria.Email) {
		t.Fatalf("nobody asks: %s", b.Text())
	}
	_, err := b.Submit(t.Context(), nil)
	must(t, err)
	if at, _ := b.Page(); !strings.HasPrefix(at.String(), a.system.BrowserBase) || !strings.Contains(b.Text(), "You are signed in to Acme Research as "+maria.Email) {
		t.Errorf("at %s: %s", at, b.Text())
	}

	_, err = a.admin.UpdateIdP(t.Context(), a.made.Alias, a.request(api.IdPRequest{Type: api.IdPSAML, SAML: &api.SAMLData{MetadataURL: p.MetadataURL}}))
	must(t, err)
	if b, page := begin(); strings.Contains(page, maria.Email) || a.lastTrace().Outcome != "refused" {
		t.Errorf("it is taken though the connection does not allow it: %s", b.Text())
	}
}

// Debian's LemonLDAP::NG, which is built on another SAML library (Lasso).
func TestLemonLDAP(t *testing.T) {
	t.Parallel()
	p := foreign.NeedLemonLDAP(t, foreign.SAMLConfig{People: []foreign.Person{maria, tom}})
	a := goAbroad(t, p.Port(), p.CA)
	a.connectSAML(p, api.SAMLData{})
	a.signsIn(maria)
	a.signsIn(tom)
	a.signsIn(maria)
}

// npm's oidc-provider, a certified one. A refresh here asks there: groups follow, and whoever is gone there is signed out here.
func TestOIDCProvider(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"client_secret_basic", "client_secret_post", "private_key_jwt"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p := foreign.NeedOIDCProvider(t, foreign.OIDCConfig{People: []foreign.Person{maria, tom}})
			a := goAbroad(t, p.Port(), p.CA)
			a.connectOIDC(p, method, "groups", "offline_access")
			a.signsIn(tom)
			tok := a.signsIn(maria)

			moved := maria
			moved.Groups = []string{"chemistry"}
			must(t, p.Know(moved, tom))
			a.clock.advance(time.Minute) // what was said just now is not asked again
			next, err := a.client.conf.TokenSource(a.client.ctx, &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
			must(t, err)
			me, err := a.as(next).Me(t.Context())
			must(t, err)
			if !slices.Equal(me.Groups, []core.GroupName{core.GroupName(a.made.GroupPrefix + "chemistry")}) {
				t.Errorf("after a refresh the groups are %q", me.Groups)
			}

			must(t, p.Know(tom))
			a.clock.advance(time.Minute)
			_, err = a.client.conf.TokenSource(a.client.ctx, &oauth2.Token{RefreshToken: next.RefreshToken}).Token()
			if refused, ok := errors.AsType[*oauth2.RetrieveError](err); !ok || refused.ErrorCode != "invalid_grant" {
				t.Errorf("somebody who is gone there refreshes here: %v", err)
			}
		})
	}
}

// Whoever signs out here may sign out there as well (OpenID Connect RP-Initiated Logout 1.0), and is brought back.
func TestOIDCProviderSignsOut(t *testing.T) {
	t.Parallel()
	p := foreign.NeedOIDCProvider(t, foreign.OIDCConfig{People: []foreign.Person{maria}})
	a := goAbroad(t, p.Port(), p.CA)
	a.connectOIDC(p, "client_secret_basic", "groups", "offline_access")
	a.signsIn(maria)
	b := a.last
	b.client.CheckRedirect = nil
	if _, err := b.Visit(t.Context(), a.system.BrowserBase+"/t/acme/logout"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Submit(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Follow(t.Context(), p.Base); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SignOut(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if at, status := b.Page(); !strings.HasPrefix(at.String(), a.system.BrowserBase) || status != http.StatusOK {
		t.Errorf("brought to %s (%d): %s", at, status, b.Text())
	}
}

// The same in a real browser, which holds our pages to their policies: where a form may lead, it says.
func TestChromiumSignsOutAtAForeignProvider(t *testing.T) {
	p := foreign.NeedOIDCProvider(t, foreign.OIDCConfig{People: []foreign.Person{maria}})
	a := goAbroad(t, p.Port(), p.CA)
	a.connectOIDC(p, "client_secret_basic", "groups", "offline_access")
	ctx := chromium(t, chromedp.Flag("ignore-certificate-errors", true)) // the provider's is of no authority that it knows
	home := a.system.BrowserBase + "/t/acme/"
	type do []chromedp.Action[chromedp.Void]
	must(t, chromedp.Do(ctx)) // it ends with the context that it is first used with
	steps := []struct {
		name string
		do   do
	}{
		{"our login page", do{chromedp.Navigate(home + "login"), chromedp.Click(chromedp.CSS(`a[href*="idp=abroad"]`))}},
		{"the provider's", do{chromedp.SendKeys(chromedp.CSS("[name=login]"), maria.Login), chromedp.SendKeys(chromedp.CSS("[name=password]"), maria.Password), chromedp.Submit(chromedp.CSS("form"))}},
		{"its consent", do{chromedp.WaitVisible(chromedp.CSS("[autofocus].login-submit")), chromedp.Submit(chromedp.CSS("form"))}},
		{"our home page", do{chromedp.WaitVisible(chromedp.CSS(`form[action$="/logout"] button`)), chromedp.Click(chromedp.CSS(`form[action$="/logout"] button`))}},
		{"the provider's question", do{chromedp.Click(chromedp.CSS("[name=logout]"))}},
		{"our last page", do{chromedp.WaitVisible(chromedp.CSS("main h1"))}},
	}
	for _, step := range steps {
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := chromedp.Do(within, step.do...)
		cancel()
		if err != nil {
			at, _ := chromedp.Run(ctx, chromedp.Location())
			t.Fatalf("%s does not come: %v; the browser is at %s", step.name, err, at)
		}
	}
	if at, err := chromedp.Run(ctx, chromedp.Location()); err != nil || !strings.HasPrefix(at, home) {
		t.Errorf("the browser ends at %s, %v", at, err)
	}
}

// Where the provider is not asked for offline access, it gives nothing to ask again with: sessions last here, on what it said.
func TestOIDCProviderWithoutOfflineAccess(t *testing.T) {
	t.Parallel()
	p := foreign.NeedOIDCProvider(t, foreign.OIDCConfig{People: []foreign.Person{maria}})
	a := goAbroad(t, p.Port(), p.CA)
	a.connectOIDC(p, "client_secret_basic", "groups")
	tok := a.signsIn(maria)
	must(t, p.Know())
	a.clock.advance(time.Minute)
	next, err := a.client.conf.TokenSource(a.client.ctx, &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
	must(t, err)
	me, err := a.as(next).Me(t.Context())
	must(t, err)
	if len(me.Groups) != len(maria.Groups) {
		t.Errorf("after a refresh the groups are %q", me.Groups)
	}
}

// connectOIDC connects an OpenID provider whose claims have their own names.
func (a *abroad) connectOIDC(p *foreign.OIDC, method string, scopes ...string) {
	t := a.t
	t.Helper()
	us := foreign.Registration{Auth: method,
		RedirectURIs: []string{a.system.BrowserBase + "/t/acme/oidc/abroad/callback"}, PostLogoutRedirectURIs: []string{a.system.BrowserBase + "/t/acme/signed-out"}}
	r := api.IdPRequest{Type: api.IdPOIDC,
		OIDC:    &api.OIDCData{ClientID: "not known yet", DiscoveryURL: p.DiscoveryURL, AuthMethod: method, Scopes: scopes},
		Mappers: &api.Mappers{Groups: "groups", UID: "uid", GID: "gid", SupplementaryGroups: "supplementary_groups", FirstName: "given_name", LastName: "family_name"},
	}
	if method == "private_key_jwt" { // the key is made here, and the provider told of it (RFC 7523)
		a.connect(r)
		us.JWKS = keySet(t, a.made.OIDC.Keys)
	}
	client, err := p.Register(t.Context(), us)
	must(t, err)
	r.OIDC.ClientID, r.OIDC.ClientSecret = client.ID, client.Secret
	if method == "private_key_jwt" {
		a.made, err = a.admin.UpdateIdP(t.Context(), a.made.Alias, a.request(r))
		must(t, err)
	} else {
		a.connect(r)
	}
	if a.made.RedirectURI != us.RedirectURIs[0] {
		t.Errorf("the redirect URI is %s, want %s", a.made.RedirectURI, us.RedirectURIs[0])
	}
	a.there = func(ctx context.Context, b *Browser, who foreign.Person) error {
		_, err := p.SignIn(ctx, b, who)
		return err
	}
}

// keySet is a JWK Set (RFC 7517 §5) of the keys in certificates.
func keySet(t *testing.T, certificates []api.Certificate) json.RawMessage {
	t.Helper()
	var keys []map[string]string
	for _, c := range certificates {
		cert, err := x509.ParseCertificate(c.DER)
		must(t, err)
		key, ok := cert.PublicKey.(*rsa.PublicKey)
		if !ok {
			t.Fatalf("a key is %T", cert.PublicKey)
		}
		b64 := base64.RawURLEncoding.EncodeToString
		keys = append(keys, map[string]string{"kty": "RSA", "use": "sig", "kid": c.KeyID, "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())})
	}
	set, err := json.Marshal(map[string]any{"keys": keys})
	must(t, err)
	return set
}
