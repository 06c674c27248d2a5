package foreign_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"

	"github.com/fleetpass/fleetpass/localdev/e2e"
	"github.com/fleetpass/fleetpass/localdev/idp/foreign"
)

// relyingParty is coreos/go-oidc with golang.org/x/oauth2, at an address that its own browser alone knows.
type relyingParty struct {
	ctx      context.Context
	idp      *foreign.OIDC
	provider *oidc.Provider
	conf     oauth2.Config
	browser  *e2e.Browser
	at       *url.URL // where the browser was last sent to here
}

func newRelyingParty(t *testing.T, idp *foreign.OIDC, r foreign.Registration) *relyingParty {
	t.Helper()
	rp := &relyingParty{ctx: oidc.ClientContext(t.Context(), &http.Client{Transport: trusting(idp.CA)}), idp: idp}
	r.RedirectURIs, r.PostLogoutRedirectURIs = []string{"https://rp.example/callback"}, []string{"https://rp.example/bye"}
	client, err := idp.Register(t.Context(), r)
	must(t, err)
	rp.provider, err = oidc.NewProvider(rp.ctx, idp.Issuer)
	must(t, err)
	rp.conf = oauth2.Config{ClientID: client.ID, ClientSecret: client.Secret, Endpoint: rp.provider.Endpoint(), RedirectURL: r.RedirectURIs[0],
		Scopes: []string{"openid", "profile", "email", "groups", "offline_access"}}
	there := trusting(idp.CA)
	rp.browser = e2e.NewBrowser(roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "rp.example" {
			rp.at = r.URL
			answer := httptest.NewRecorder().Result()
			answer.Request = r
			return answer, nil
		}
		return there.RoundTrip(r)
	}))
	return rp
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// signIn brings tokens home. (OpenID Connect Core §11 wants consent where offline access is asked for.)
func (rp *relyingParty) signIn(t *testing.T, who foreign.Person, how ...oauth2.AuthCodeOption) *oauth2.Token {
	t.Helper()
	verifier, state := oauth2.GenerateVerifier(), rand.Text()
	if _, err := rp.browser.Visit(t.Context(), rp.conf.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("prompt", "consent"))); err != nil {
		t.Fatal(err)
	}
	if page, err := rp.idp.SignIn(t.Context(), rp.browser, who); err != nil {
		t.Fatalf("%v: %s", err, page)
	}
	got := rp.at.Query()
	if rp.at.Path != "/callback" || got.Get("state") != state || got.Get("iss") != rp.idp.Issuer {
		t.Fatalf("sent back to %s", rp.at)
	}
	tok, err := rp.conf.Exchange(rp.ctx, got.Get("code"), append(how, oauth2.VerifierOption(verifier))...)
	must(t, err)
	return tok
}

// says is what an ID token says about a person.
func (rp *relyingParty) says(t *testing.T, tok *oauth2.Token) (s said) {
	t.Helper()
	raw, _ := tok.Extra("id_token").(string)
	id, err := rp.provider.Verifier(&oidc.Config{ClientID: rp.conf.ClientID, SupportedSigningAlgs: []string{"RS256", "ES256"}}).Verify(rp.ctx, raw)
	must(t, err)
	must(t, id.Claims(&s))
	return s
}

type said struct {
	Sub, Email          string
	Verified            bool   `json:"email_verified"`
	Given               string `json:"given_name"`
	Family              string `json:"family_name"`
	Groups              []string
	UID, GID            int64
	SupplementaryGroups []int64 `json:"supplementary_groups"`
}

var ofAda = said{"ada", ada.Email, true, "Ada", "Lovelace", ada.Groups, 15001, 25001, []int64{30001, 30002}}

func TestOIDCProvider(t *testing.T) {
	t.Parallel()
	idp := foreign.NeedOIDCProvider(t, foreign.OIDCConfig{People: people})
	rp := newRelyingParty(t, idp, foreign.Registration{})
	tok := rp.signIn(t, ada)
	if diff := cmp.Diff(ofAda, rp.says(t, tok)); diff != "" {
		t.Errorf("ID token (-want +got): %s", diff)
	}
	info, err := rp.provider.UserInfo(rp.ctx, oauth2.StaticTokenSource(tok))
	must(t, err)
	var got said
	must(t, info.Claims(&got))
	if diff := cmp.Diff(ofAda, got); diff != "" {
		t.Errorf("userinfo (-want +got): %s", diff)
	}

	// A refresh says what is true then, and fails for somebody who is gone.
	moved := ada
	moved.Groups = []string{"alumni"}
	must(t, idp.Know(moved, bob))
	tok.Expiry = time.Now().Add(-time.Minute)
	next, err := rp.conf.TokenSource(rp.ctx, tok).Token()
	must(t, err)
	if got := rp.says(t, next); !slices.Equal(got.Groups, moved.Groups) {
		t.Errorf("after a refresh the groups are %q", got.Groups)
	}
	must(t, idp.Know(bob))
	next.Expiry = time.Now().Add(-time.Minute)
	if _, err := rp.conf.TokenSource(rp.ctx, next).Token(); err == nil {
		t.Error("somebody who is gone refreshes")
	}
}

func TestOIDCProviderSignsOut(t *testing.T) {
	t.Parallel()
	idp := foreign.NeedOIDCProvider(t, foreign.OIDCConfig{People: people})
	rp := newRelyingParty(t, idp, foreign.Registration{})
	tok := rp.signIn(t, bob)
	var discovered struct {
		EndSession string `json:"end_session_endpoint"`
	}
	must(t, rp.provider.Claims(&discovered))
	raw, _ := tok.Extra("id_token").(string)
	_, err := rp.browser.Visit(t.Context(), discovered.EndSession+"?"+url.Values{"id_token_hint": {raw}, "post_logout_redirect_uri": {"https://rp.example/bye"}, "state": {"s"}}.Encode())
	must(t, err)
	if page, err := idp.SignOut(t.Context(), rp.browser); err != nil || rp.at.String() != "https://rp.example/bye?state=s" {
		t.Errorf("%v, at %s: %s", err, rp.at, page)
	}
	rp.signIn(t, ada) // is asked again
}

// A client that proves itself with a key (RFC 7523), and an ID token signed with an elliptic curve.
func TestOIDCProviderPrivateKey(t *testing.T) {
	t.Parallel()
	idp := foreign.NeedOIDCProvider(t, foreign.OIDCConfig{People: people})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	point, err := key.PublicKey.Bytes()
	must(t, err)
	b64 := base64.RawURLEncoding.EncodeToString
	jwks := fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"k","use":"sig","alg":"ES256","x":%q,"y":%q}]}`, b64(point[1:33]), b64(point[33:]))
	rp := newRelyingParty(t, idp, foreign.Registration{Auth: "private_key_jwt", JWKS: json.RawMessage(jwks), IDTokenAlgorithm: "ES256"})
	if rp.conf.ClientSecret != "" {
		t.Error("the client was given a secret")
	}
	rp.conf.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	now := time.Now()
	proof := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.RegisteredClaims{Issuer: rp.conf.ClientID, Subject: rp.conf.ClientID, Audience: []string{idp.Issuer},
		ID: rand.Text(), IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute))})
	proof.Header["kid"] = "k"
	assertion, err := proof.SignedString(key)
	must(t, err)
	tok := rp.signIn(t, ada, oauth2.SetAuthURLParam("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), oauth2.SetAuthURLParam("client_assertion", assertion))
	if diff := cmp.Diff(ofAda, rp.says(t, tok)); diff != "" {
		t.Errorf("ID token (-want +got): %s", diff)
	}
}
