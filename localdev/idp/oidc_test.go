package idp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/fleetpass/fleetpass/localdev/idp"
)

const callback = "https://rp.example/callback?tenant=acme"

// clock is a time that a test moves.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time      { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) add(d time.Duration) { c.ahead.Add(int64(d)) }

// party is a foreign OpenID Connect client: x/oauth2 and go-oidc.
type party struct {
	t        *testing.T
	p        *idp.Provider
	b        *browser
	provider *oidc.Provider
	config   oauth2.Config
	now      func() time.Time
}

func newParty(t *testing.T, p *idp.Provider, c idp.Client, now func() time.Time) *party {
	t.Helper()
	c.ID, c.RedirectURIs, c.PostLogoutURIs = "fleet client", []string{callback}, []string{"https://rp.example/bye"}
	if c.Keys == nil {
		c.Secret = "a secret: with/odd+characters"
	}
	if err := p.AddClient(c); err != nil {
		t.Fatal(err)
	}
	provider, err := oidc.NewProvider(t.Context(), p.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	return &party{t, p, newBrowser(t), provider, oauth2.Config{
		ClientID: c.ID, ClientSecret: c.Secret, Endpoint: provider.Endpoint(), RedirectURL: callback, Scopes: []string{"openid", "email", "profile", "offline_access"},
	}, now}
}

// answer is what comes back to the callback, and what was sent before.
type answer struct {
	url.Values
	state, nonce, verifier string
}

// authorize takes the browser through the provider, with a password if it is asked for.
func (rp *party) authorize(more ...oauth2.AuthCodeOption) answer {
	rp.t.Helper()
	a := answer{state: rand.Text(), nonce: rand.Text(), verifier: oauth2.GenerateVerifier()}
	page := rp.b.get(rp.config.AuthCodeURL(a.state, append([]oauth2.AuthCodeOption{oidc.Nonce(a.nonce), oauth2.S256ChallengeOption(a.verifier)}, more...)...))
	if page.isLogin() {
		page = rp.b.signIn(page)
	}
	return rp.arrive(a, page)
}

func (rp *party) arrive(a answer, page page) answer {
	rp.t.Helper()
	if page.left == nil || !strings.HasPrefix(page.left.String(), callback+"&") {
		rp.t.Fatalf("nothing came back: %d at %s, %s", page.status, page.left, page.body)
	}
	a.Values = page.left.Query()
	return a
}

func (rp *party) exchange(a answer) (*oauth2.Token, error) {
	return rp.config.Exchange(rp.t.Context(), a.Get("code"), oauth2.VerifierOption(a.verifier))
}

func (rp *party) verify(tok *oauth2.Token) (*oidc.IDToken, error) {
	raw, _ := tok.Extra("id_token").(string)
	return rp.provider.VerifierContext(rp.t.Context(), &oidc.Config{ClientID: rp.config.ClientID, Now: rp.now, SupportedSigningAlgs: []string{"RS256", "ES256"}}).Verify(rp.t.Context(), raw)
}

// signIn is the whole way.
func (rp *party) signIn(more ...oauth2.AuthCodeOption) (*oauth2.Token, *oidc.IDToken) {
	rp.t.Helper()
	a := rp.authorize(more...)
	tok, err := rp.exchange(a)
	if err != nil {
		rp.t.Fatal(err)
	}
	id, err := rp.verify(tok)
	if err != nil {
		rp.t.Fatal(err)
	}
	if a.Get("state") != a.state || a.Get("iss") != rp.p.Issuer() || id.Nonce != a.nonce {
		rp.t.Fatalf("state %q, iss %q, nonce %q", a.Get("state"), a.Get("iss"), id.Nonce)
	}
	return tok, id
}

func claimsOf(t *testing.T, id interface{ Claims(any) error }) map[string]any {
	t.Helper()
	all := map[string]any{}
	if err := id.Claims(&all); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"iss", "aud", "exp", "iat", "auth_time", "nonce", "amr"} {
		delete(all, name)
	}
	return all
}

func first[A, B any](a A, _ B) A { return a }

func isGrantRefused(err error) bool {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	return ok && refused.ErrorCode == "invalid_grant"
}

// A foreign client signs somebody in, whichever key signs and wherever the claims are.
func TestOIDC(t *testing.T) {
	p := serve(t, idp.Options{Base: "/idp"})
	for name, c := range map[string]idp.Client{"RS256": {}, "ES256": {Algorithm: "ES256"}, "claims at userinfo": {UserInfoOnly: true}, "groups as a map": {GroupsAsMap: true}} {
		t.Run(name, func(t *testing.T) {
			rp := newParty(t, p, c, time.Now)
			tok, id := rp.signIn()
			want := map[string]any{
				"sub": id.Subject, "email": "alice@acme.example", "email_verified": true, "given_name": "Alice", "family_name": "Liddell", "name": "Alice Liddell",
				"firstName": "Alice", "lastName": "Liddell", "GROUPS": []any{"researchers", "ml & more"}, "UID": 15001.0, "GID": 25001.0, "SUPPLEMENTARYGROUPS": []any{30001.0, 30002.0},
			}
			if c.GroupsAsMap {
				want["GROUPS"] = map[string]any{"0": "researchers", "1": "ml & more"}
			}
			info, err := rp.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(tok))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, claimsOf(t, info)); diff != "" {
				t.Errorf("userinfo (-want +got):\n%s", diff)
			}
			if c.UserInfoOnly {
				want = map[string]any{"sub": id.Subject}
			}
			if diff := cmp.Diff(want, claimsOf(t, id)); diff != "" {
				t.Errorf("ID token (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := newParty(t, p, idp.Client{}, time.Now).provider.UserInfo(t.Context(), oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "x"})); err == nil {
		t.Error("userinfo answers anybody")
	}
	// A scope that is not asked for is not answered.
	rp := newParty(t, p, idp.Client{}, time.Now)
	rp.config.Scopes = []string{"openid"}
	tok, id := rp.signIn()
	if c := claimsOf(t, id); c["email"] != nil || c["name"] != nil || c["GROUPS"] == nil || tok.RefreshToken != "" {
		t.Errorf("with the scope openid alone: %v, refresh token %t", c, tok.RefreshToken != "")
	}
}

// What a fault changes, as in TestSAMLFaults.
func (rp *party) facts(a answer) map[string]string {
	f := map[string]string{
		"error": a.Get("error"), "code": fmt.Sprint(a.Get("code") != ""), "iss": a.Get("iss"),
		"state": fmt.Sprint(a.Get("state") == a.state), "exchange": "", "verified": "",
	}
	tok, err := rp.exchange(a)
	if err != nil {
		f["exchange"] = "refused"
		return f
	}
	if _, err := rp.verify(tok); err != nil {
		f["verified"] = "no"
	}
	parts := strings.Split(tok.Extra("id_token").(string), ".")
	head, claims := map[string]any{}, map[string]any{}
	for i, v := range []*map[string]any{&head, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			rp.t.Fatal(err)
		}
	}
	f["alg"], f["nonce"] = fmt.Sprint(head["alg"]), fmt.Sprint(claims["nonce"] == a.nonce)
	for _, name := range []string{"iss", "aud", "sub", "email", "GROUPS"} {
		f["token "+name] = fmt.Sprint(claims[name])
	}
	for _, name := range []string{"exp", "iat"} {
		f["token "+name] = time.Until(time.Unix(int64(claims[name].(float64)), 0)).Round(time.Minute).String()
	}
	return f
}

func TestOIDCFaults(t *testing.T) {
	p := serve(t, idp.Options{})
	rp := newParty(t, p, idp.Client{}, time.Now)
	want := rp.facts(rp.authorize())
	if want["exchange"] != "" || want["verified"] != "" {
		t.Fatalf("without a fault: %v", want)
	}
	token := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(s string) bool { return !strings.HasPrefix(s, "token ") && s != "alg" && s != "nonce" })
	gone := func(more ...string) []string {
		all := append(more, token...)
		slices.Sort(all)
		return all
	}
	tests := map[idp.Fault][]string{
		idp.WrongAudience: {"token aud", "verified"},
		idp.WrongIssuer:   {"token iss", "verified"},
		idp.MixUp:         {"iss"},
		idp.OtherState:    {"state"},
		idp.WrongNonce:    {"nonce"},
		idp.Unsigned:      {"alg", "verified"},
		idp.OtherKey:      {"verified"},
		idp.Clock:         {"token exp", "token iat", "verified"},
		idp.MissingEmail:  {"token email"},
		idp.Cancelled:     gone("code", "error", "exchange"),
		idp.Replay:        gone("exchange"),
	}
	for _, m := range idp.Faults() {
		if m.Protocol != idp.OIDC {
			continue
		}
		changes, ok := tests[m.Fault]
		if !ok {
			t.Errorf("no test of %s", m.Fault)
			continue
		}
		t.Run(string(m.Fault), func(t *testing.T) {
			got := rp.facts(rp.authorize(oauth2.SetAuthURLParam("misbehave", string(m.Fault))))
			var changed []string
			for _, name := range slices.Sorted(maps.Keys(want)) {
				if got[name] != want[name] {
					changed = append(changed, name)
				}
			}
			if diff := cmp.Diff(changes, changed); diff != "" {
				t.Errorf("changes (-want +got):\n%s\nfrom %v\nto %v", diff, want, got)
			}
			if err := p.SetFault(m.Fault); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, rp.facts(rp.authorize())); diff != "" {
				t.Errorf("set for all (-by request +for all):\n%s", diff)
			}
			if err := p.SetFault(idp.Behave); err != nil {
				t.Fatal(err)
			}
		})
	}
	// A fault of SAML alone changes nothing here, and a fault of the refresh is one too.
	tok, _ := rp.signIn()
	if err := p.SetFault(idp.WrongRecipient); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, rp.facts(rp.authorize())); diff != "" {
		t.Errorf("a fault of SAML (-want +got):\n%s", diff)
	}
	if err := p.SetFault(idp.WrongAudience); err != nil {
		t.Fatal(err)
	}
	if tok, err := rp.renew(tok); err != nil {
		t.Error(err)
	} else if _, err := rp.verify(tok); err == nil {
		t.Error("the refreshed ID token is right")
	}
}

// renew swaps a refresh token, whether or not the access token is good still.
func (rp *party) renew(tok *oauth2.Token) (*oauth2.Token, error) {
	return rp.config.TokenSource(rp.t.Context(), &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
}

// A refresh says what is so now; each refresh token is good once.
func TestOIDCRefresh(t *testing.T) {
	c := new(clock)
	p := serve(t, idp.Options{Now: c.now})
	rp := newParty(t, p, idp.Client{}, c.now)
	first, id := rp.signIn()
	if err := p.SetGroups("alice@acme.example", "operators"); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	if _, err := rp.verify(first); err == nil {
		t.Error("an ID token is good for more than an hour")
	}
	next, err := rp.renew(first)
	if err != nil {
		t.Fatal(err)
	}
	again, err := rp.verify(next)
	if err != nil {
		t.Fatal(err)
	}
	var was, is struct {
		AuthTime int64    `json:"auth_time"`
		Groups   []string `json:"GROUPS"`
	}
	if err := errors.Join(id.Claims(&was), again.Claims(&is)); err != nil {
		t.Fatal(err)
	}
	if again.Subject != id.Subject || again.Nonce != "" || is.AuthTime != was.AuthTime || !slices.Equal(is.Groups, []string{"operators"}) {
		t.Errorf("refreshed: %+v %+v", again, is)
	}

	// Once disabled, nothing is refreshed, nor after it.
	if err := p.Disable("alice@acme.example"); err != nil {
		t.Fatal(err)
	}
	if _, err := rp.renew(next); !isGrantRefused(err) {
		t.Errorf("of a disabled person: %v", err)
	}
	if err := p.Enable("alice@acme.example"); err != nil {
		t.Fatal(err)
	}
	if _, err := rp.renew(next); !isGrantRefused(err) {
		t.Errorf("after that: %v", err)
	}

	// One that is used twice ends all that came of its sign-in.
	first, _ = rp.signIn()
	next, err = rp.renew(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.renew(first); !isGrantRefused(err) {
		t.Errorf("used twice: %v", err)
	}
	if _, err := rp.renew(next); !isGrantRefused(err) {
		t.Errorf("its successor: %v", err)
	}
	if _, err := rp.provider.UserInfo(t.Context(), oauth2.StaticTokenSource(next)); err == nil {
		t.Error("its access token is good")
	}
}

// A code is good once, soon, for its client, with its verifier.
func TestOIDCCodes(t *testing.T) {
	c := new(clock)
	p := serve(t, idp.Options{Now: c.now})
	rp := newParty(t, p, idp.Client{}, c.now)
	for name, spoil := range map[string]func(a *answer) *oauth2.Config{
		"another verifier": func(a *answer) *oauth2.Config { a.verifier += "x"; return &rp.config },
		"another redirect": func(*answer) *oauth2.Config { c := rp.config; c.RedirectURL += "x"; return &c },
		"too late":         func(*answer) *oauth2.Config { c.add(2 * time.Minute); return &rp.config },
		"unknown":          func(a *answer) *oauth2.Config { a.Set("code", "x"); return &rp.config },
	} {
		a := rp.authorize()
		config := spoil(&a)
		if _, err := config.Exchange(t.Context(), a.Get("code"), oauth2.VerifierOption(a.verifier)); !isGrantRefused(err) {
			t.Errorf("%s: %v, want invalid_grant", name, err)
		}
	}
	a := rp.authorize()
	tok, err := rp.exchange(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rp.exchange(a); !isGrantRefused(err) {
		t.Errorf("a code twice: %v", err)
	}
	if _, err := rp.renew(tok); !isGrantRefused(err) {
		t.Errorf("what came of a code that was sent twice: %v", err)
	}
	// Another client has no use for what was given to this one.
	if err := p.AddClient(idp.Client{ID: "other", Secret: "s", RedirectURIs: []string{callback}}); err != nil {
		t.Fatal(err)
	}
	tok, _ = rp.signIn()
	other := *rp
	other.config.ClientID, other.config.ClientSecret = "other", "s"
	if _, err := other.exchange(rp.authorize()); !isGrantRefused(err) {
		t.Errorf("another client's code: %v", err)
	}
	if _, err := other.renew(tok); !isGrantRefused(err) {
		t.Errorf("another client's refresh token: %v", err)
	}
	if _, err := rp.renew(tok); err != nil {
		t.Errorf("its own: %v", err)
	}
	// Two proofs of the client at once, a refresh for more than was granted, and a verifier of a code that has no challenge.
	for name, form := range map[string]url.Values{
		"invalid_client": {"client_id": {"fleet client"}, "client_secret": {rp.config.ClientSecret}, "grant_type": {"refresh_token"}},
		"invalid_scope":  {"grant_type": {"refresh_token"}, "refresh_token": {first(rp.signIn()).RefreshToken}, "scope": {"openid admin"}},
		"invalid_grant":  {"grant_type": {"authorization_code"}, "code": {rp.arrive(answer{}, rp.b.get(rp.config.AuthCodeURL("s"))).Get("code")}, "redirect_uri": {callback}, "code_verifier": {"v"}},
	} {
		r, err := http.NewRequest(http.MethodPost, rp.config.Endpoint.TokenURL, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(url.QueryEscape("fleet client"), url.QueryEscape(rp.config.ClientSecret))
		if page := rp.b.read(rp.b.client.Do(r)); page.status < 400 || !strings.Contains(page.body, `"error":"`+name+`"`) {
			t.Errorf("want %s: %d %s", name, page.status, page.body)
		}
	}
	config := rp.config
	config.ClientSecret = "wrong"
	a = rp.authorize()
	if _, err := config.Exchange(t.Context(), a.Get("code"), oauth2.VerifierOption(a.verifier)); err == nil || isGrantRefused(err) {
		t.Errorf("with a wrong secret: %v", err)
	}
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		rp.config.Endpoint.AuthStyle = style
		rp.signIn()
	}
}

// private_key_jwt is taken once, for this provider, of the client's key.
func TestOIDCPrivateKeyJWT(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, idp.Options{})
	rp := newParty(t, p, idp.Client{Keys: []any{&other.PublicKey, &key.PublicKey}}, time.Now)
	rp.config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	rp.config.ClientSecret = ""
	proof := func(signer *ecdsa.PrivateKey, change func(jwt.MapClaims)) string {
		c := jwt.MapClaims{"iss": "fleet client", "sub": "fleet client", "aud": rp.config.Endpoint.TokenURL, "exp": time.Now().Add(time.Minute).Unix(), "jti": rand.Text()}
		if change != nil {
			change(c)
		}
		s, err := jwt.NewWithClaims(jwt.SigningMethodES256, c).SignedString(signer)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	exchange := func(proof string) error {
		a := rp.authorize()
		_, err := rp.config.Exchange(t.Context(), a.Get("code"), oauth2.VerifierOption(a.verifier), oauth2.SetAuthURLParam("client_assertion", proof),
			oauth2.SetAuthURLParam("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"))
		return err
	}
	good := proof(key, nil)
	if err := exchange(good); err != nil {
		t.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"used":             good,
		"another's key":    proof(stranger, nil),
		"another audience": proof(key, func(c jwt.MapClaims) { c["aud"] = "https://elsewhere.example/token" }),
		"another issuer":   proof(key, func(c jwt.MapClaims) { c["iss"] = "x" }),
		"another subject":  proof(key, func(c jwt.MapClaims) { c["sub"] = "x" }),
		"expired":          proof(key, func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Minute).Unix() }),
		"for ever":         proof(key, func(c jwt.MapClaims) { delete(c, "exp") }),
		"without an id":    proof(key, func(c jwt.MapClaims) { delete(c, "jti") }),
	} {
		if err := exchange(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// What is wrong with a request is said on a page as long as it is not known who asks, and to the client then.
func TestOIDCRequests(t *testing.T) {
	p := serve(t, idp.Options{})
	rp := newParty(t, p, idp.Client{}, time.Now)
	set := oauth2.SetAuthURLParam
	for name, o := range map[string]oauth2.AuthCodeOption{
		"other redirect": set("redirect_uri", callback+"x"), "no redirect": set("redirect_uri", ""), "other client": set("client_id", "x"), "other fault": set("misbehave", "sha1"),
	} {
		if page := rp.b.get(rp.config.AuthCodeURL("s", o)); page.status != http.StatusBadRequest || page.left != nil {
			t.Errorf("%s: %d to %v", name, page.status, page.left)
		}
	}
	if page := rp.b.get(rp.config.AuthCodeURL("s") + "&state=t"); page.status != http.StatusBadRequest {
		t.Errorf("a parameter twice: %d", page.status)
	}
	for want, options := range map[string][]oauth2.AuthCodeOption{
		"unsupported_response_type": {set("response_type", "token")},
		"invalid_scope":             {set("scope", "email")},
		"request_not_supported":     {set("request", "x")},
		"request_uri_not_supported": {set("request_uri", "https://x.example")},
		"login_required":            {set("prompt", "none")},
		"invalid_request":           {set("code_challenge_method", "plain")},
		"invalid_request ":          {set("max_age", "-1")},
		"invalid_request  ":         {set("prompt", "none login")},
		"invalid_request   ":        {set("response_mode", "fragment")},
		"invalid_request    ":       {set("code_challenge", "short")},
		"invalid_request     ":      {set("code_challenge", "")},
	} {
		if a := rp.authorize(options...); a.Get("error") != strings.TrimSpace(want) || a.Get("state") != a.state || a.Get("iss") != p.Issuer() || a.Has("code") {
			t.Errorf("want %s: %v", want, a.Values)
		}
	}
	page := rp.b.get(rp.config.AuthCodeURL("s", set("login_hint", "alice@acme.example")))
	if page.fields.Get("email") != "alice@acme.example" {
		t.Errorf("login_hint: %v", page.fields)
	}
	if a := rp.arrive(answer{}, rp.b.submit(page, "cancel", "yes")); a.Get("error") != "access_denied" {
		t.Errorf("cancelled: %v", a.Values)
	}
}

// prompt and max_age ask for the password again.
func TestOIDCFreshProof(t *testing.T) {
	c := new(clock)
	p := serve(t, idp.Options{Now: c.now})
	rp := newParty(t, p, idp.Client{}, c.now)
	rp.signIn()
	c.add(10 * time.Minute)
	set := oauth2.SetAuthURLParam
	for _, tt := range []struct {
		option oauth2.AuthCodeOption
		asks   bool
	}{
		{set("prompt", ""), false}, {set("prompt", "login"), true}, {set("max_age", "0"), true}, {set("max_age", "60"), true}, {set("max_age", "3600"), false}, {set("prompt", "none"), false},
	} {
		if page := rp.b.get(rp.config.AuthCodeURL("s", tt.option)); page.isLogin() != tt.asks {
			t.Errorf("%v: asks %t, want %t", tt.option, page.isLogin(), tt.asks)
		}
	}
	_, id := rp.signIn(set("prompt", "login"))
	var got struct {
		AuthTime int64 `json:"auth_time"`
	}
	if err := id.Claims(&got); err != nil || c.now().Sub(time.Unix(got.AuthTime, 0)) > time.Minute {
		t.Errorf("auth_time %v: %v", got, err)
	}
}

// Signing out ends the session here and comes back to where the client registered; without a hint the person is asked.
func TestOIDCLogout(t *testing.T) {
	c := new(clock)
	p := serve(t, idp.Options{Now: c.now})
	rp := newParty(t, p, idp.Client{}, c.now)
	var found struct {
		EndSession string `json:"end_session_endpoint"`
		Iss        bool   `json:"authorization_response_iss_parameter_supported"`
	}
	if err := rp.provider.Claims(&found); err != nil || !found.Iss {
		t.Fatalf("%+v, %v", found, err)
	}
	signedIn := func() bool { return !rp.b.get(rp.config.AuthCodeURL("s")).isLogin() }
	tok, _ := rp.signIn()
	hint := tok.Extra("id_token").(string)
	alien, err := rp.exchange(rp.authorize(oauth2.SetAuthURLParam("misbehave", string(idp.WrongIssuer))))
	if err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	q := url.Values{"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://rp.example/bye"}, "state": {"s1"}}
	for name, bad := range map[string]url.Values{
		"another address": {"id_token_hint": {hint}, "post_logout_redirect_uri": {"https://elsewhere.example"}},
		"no client":       {"post_logout_redirect_uri": {"https://rp.example/bye"}},
		"another client":  {"id_token_hint": {hint}, "client_id": {"x"}},
		"another issuer":  {"id_token_hint": {alien.Extra("id_token").(string)}},
		"a forged hint":   {"id_token_hint": {hint[:len(hint)-8] + "AAAAAAAA"}},
	} {
		if page := rp.b.get(found.EndSession + "?" + bad.Encode()); page.status != http.StatusBadRequest || !signedIn() {
			t.Errorf("%s: %d, signed in %t", name, page.status, signedIn())
		}
	}
	if page := rp.b.get(found.EndSession + "?" + q.Encode()); page.left == nil || page.left.String() != "https://rp.example/bye?state=s1" || signedIn() {
		t.Errorf("%d to %v, signed in %t", page.status, page.left, signedIn())
	}
	rp.signIn()
	q.Del("id_token_hint")
	q.Set("client_id", "fleet client")
	asked := rp.b.get(found.EndSession + "?" + q.Encode())
	if !signedIn() || asked.left != nil {
		t.Error("signed out without being asked")
	}
	if page := rp.b.submit(asked); page.left == nil || page.left.String() != "https://rp.example/bye?state=s1" || signedIn() {
		t.Errorf("%d to %v, signed in %t", page.status, page.left, signedIn())
	}
}

// Keys roll over in order, or at once; who reads the JWKS when a name is new to them follows both.
func TestOIDCKeys(t *testing.T) {
	p := serve(t, idp.Options{})
	rp := newParty(t, p, idp.Client{}, time.Now)
	old, _ := rp.signIn()
	for _, step := range []func() error{p.PublishNext, p.UseNext, p.RotateKeys} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		rp.signIn()
	}
	// What an old key signed is not verified any more by who reads anew.
	fresh, err := oidc.NewProvider(context.WithoutCancel(t.Context()), p.Issuer())
	if err != nil {
		t.Fatal(err)
	}
	rp.provider = fresh
	if _, err := rp.verify(old); err == nil {
		t.Error("a token of a key that was replaced is good")
	}
}
