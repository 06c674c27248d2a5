package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/oauth2"

	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// trusting is an HTTP client that trusts the system's certificate authority.
func trusting(t *testing.T, s *stack.Stack) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(s.CAFile)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
}

// redirect is a loopback address to be sent back to: any port is one of the command line's (RFC 8252 §7.3).
const redirect = "http://127.0.0.1:54545/callback"

// consent signs in with a browser and returns where it was sent back to, without going there.
func consent(t *testing.T, who stack.Person, address string) *url.URL {
	t.Helper()
	stopped := errors.New("sent back")
	b := NewBrowser(nil)
	var back *url.URL
	b.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), redirect) {
			back = r.URL
			return stopped
		}
		return nil
	}
	if _, err := b.Visit(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	if body, err := b.Submit(t.Context(), map[string]string{"username": who.Email, "password": who.Password}); !errors.Is(err, stopped) {
		at, status := b.Page()
		t.Fatalf("the browser was not sent back: %v, at %s (%d): %.500s", err, at, status, body)
	}
	return back
}

// goClient is coreos/go-oidc with golang.org/x/oauth2.
type goClient struct {
	ctx      context.Context
	provider *oidc.Provider
	conf     oauth2.Config
	now      func() time.Time
}

func newGoClient(t *testing.T, s *stack.Stack) *goClient {
	t.Helper()
	ctx := oidc.ClientContext(t.Context(), trusting(t, s))
	provider, err := oidc.NewProvider(ctx, s.OAuth.Issuer("acme"))
	must(t, err)
	endpoint := provider.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	return &goClient{ctx, provider, oauth2.Config{ClientID: "fleetpass-cli", Endpoint: endpoint, RedirectURL: redirect,
		Scopes: []string{oidc.ScopeOpenID, oidc.ScopeOfflineAccess, "email", "groups"}}, s.Now}
}

func (c *goClient) signIn(t *testing.T, who stack.Person) (*oauth2.Token, *oidc.IDToken) {
	t.Helper()
	verifier, state, nonce := oauth2.GenerateVerifier(), rand.Text(), rand.Text()
	back := consent(t, who, c.conf.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier), oidc.Nonce(nonce)))
	if got := back.Query(); got.Get("state") != state || got.Get("iss") != c.conf.Endpoint.TokenURL[:strings.LastIndex(c.conf.Endpoint.TokenURL, "/")] {
		t.Fatalf("sent back to %s", back)
	}
	tok, err := c.conf.Exchange(c.ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	must(t, err)
	raw, _ := tok.Extra("id_token").(string)
	id, err := c.provider.Verifier(&oidc.Config{ClientID: "fleetpass-cli", Now: c.now}).Verify(c.ctx, raw)
	must(t, err)
	if id.Nonce != nonce {
		t.Errorf("nonce %q, want %q", id.Nonce, nonce)
	}
	return tok, id
}

func TestGoOIDC(t *testing.T) {
	s, seed := system(t)
	c := newGoClient(t, s)
	tok, id := c.signIn(t, seed.Researcher)
	var claims struct {
		Email  string   `json:"email"`
		Groups []string `json:"groups"`
	}
	must(t, id.Claims(&claims))
	if claims.Email != seed.Researcher.Email || len(claims.Groups) != 1 || claims.Groups[0] != seed.Group {
		t.Errorf("ID token: %+v", claims)
	}
	info, err := c.provider.UserInfo(c.ctx, oauth2.StaticTokenSource(tok))
	must(t, err)
	if info.Subject != id.Subject || info.Email != seed.Researcher.Email {
		t.Errorf("userinfo: %+v", info)
	}
	tok.Expiry = time.Now().Add(-time.Minute) // x/oauth2 refreshes by itself
	next, err := c.conf.TokenSource(c.ctx, tok).Token()
	must(t, err)
	if next.RefreshToken == "" || next.RefreshToken == tok.RefreshToken || next.AccessToken == tok.AccessToken {
		t.Error("the refresh did not rotate")
	}
}

// golang-jwt verifies an access token with nothing but the published keys.
func TestGolangJWT(t *testing.T) {
	s, seed := system(t)
	tok, _ := newGoClient(t, s).signIn(t, seed.Researcher)
	set := &remoteKeys{t: t, client: trusting(t, s), url: s.OAuth.Issuer("acme") + "/jwks"}
	parsed, err := jwt.Parse(tok.AccessToken, set.find, jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(s.OAuth.Issuer("acme")),
		jwt.WithAudience(s.OAuth.Issuer("acme")), jwt.WithExpirationRequired())
	if err != nil || parsed.Header["typ"] != "at+jwt" {
		t.Errorf("%v %v", parsed, err)
	}
	if _, err := jwt.Parse(tok.AccessToken[:len(tok.AccessToken)-8]+"AAAAAAAA", set.find); err == nil {
		t.Error("a token with another signature was taken")
	}
}

// installWithin bounds an installation by npm: a few packages, a few seconds where the registry answers.
const installWithin = 3 * time.Minute

// npm's openid-client, a certified relying party, run by Node.js.
func TestOpenIDClient(t *testing.T) {
	node, err := exec.LookPath("node")
	npm, err2 := exec.LookPath("npm")
	if err := errors.Join(err, err2); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI needs Node.js: %v", err)
		}
		t.Skipf("SKIPPED, NOTHING WAS TESTED: no Node.js: %v", err)
	}
	dir := t.TempDir()
	for _, f := range []string{"package.json", "package-lock.json", "client.mjs"} {
		data, err := os.ReadFile(filepath.Join("foreign", f))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, f), data, 0o600))
	}
	installing, done := context.WithTimeout(t.Context(), installWithin)
	defer done()
	install := exec.CommandContext(installing, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir, install.WaitDelay = dir, 5*time.Second // what npm started may hold its output open
	if out, err := install.CombinedOutput(); installing.Err() != nil {
		t.Fatalf("npm ci was not done within %v, so the package registry hardly answers: %v: %s", installWithin, err, out)
	} else if err != nil {
		t.Fatalf("npm ci: %v: %s", err, out)
	}
	s, seed := system(t)
	cmd := exec.CommandContext(t.Context(), node, "client.mjs", s.OAuth.Issuer("acme"), redirect)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), "NODE_EXTRA_CA_CERTS="+s.CAFile), os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewReader(out)
	address, err := lines.ReadString('\n')
	must(t, err)
	_, err = io.WriteString(in, consent(t, seed.Researcher, strings.TrimSpace(address)).String()+"\n")
	must(t, err)
	result, _ := lines.ReadString('\n')
	must(t, cmd.Wait())
	var got struct {
		Claims, Userinfo struct {
			Sub, Email string
			Groups     []string
		}
		RefreshedSubject string
		Rotated          bool
	}
	must(t, json.Unmarshal([]byte(result), &got))
	if got.Claims.Email != seed.Researcher.Email || got.Userinfo.Sub != got.Claims.Sub || got.RefreshedSubject != got.Claims.Sub || !got.Rotated || len(got.Claims.Groups) != 1 {
		t.Errorf("%s", result)
	}
}

// Two refreshes at once with one token both succeed, with one successor; a third after the grace revokes the family.
func TestParallelRefreshAndReuse(t *testing.T) {
	clock := newClock()
	s, err := stack.New(stack.Options{Dir: filepath.Join(t.TempDir(), "system"), Now: clock.now})
	must(t, err)
	t.Cleanup(s.Close)
	seed, err := s.Seed(t.Context())
	must(t, err)
	tok, _ := newGoClient(t, s).signIn(t, seed.Researcher)
	refresh := func(token string) (string, int) {
		res, err := trusting(t, s).PostForm(s.OAuth.Issuer("acme")+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {"fleetpass-cli"}})
		if err != nil {
			t.Error(err)
			return "", 0
		}
		defer res.Body.Close()
		var body struct {
			Refresh string `json:"refresh_token"`
		}
		if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		return body.Refresh, res.StatusCode
	}
	var next [2]string
	var both sync.WaitGroup
	for i := range next {
		both.Go(func() {
			var status int
			if next[i], status = refresh(tok.RefreshToken); status != http.StatusOK {
				t.Errorf("refresh %d: %d", i, status)
			}
		})
	}
	both.Wait()
	if next[0] == "" || next[0] != next[1] {
		t.Fatalf("two successors: %q and %q", next[0], next[1])
	}
	clock.advance(time.Minute)
	after, status := refresh(next[0]) // the positive twin: the successor works, however late
	if status != http.StatusOK {
		t.Fatalf("the successor: %d", status)
	}
	clock.advance(time.Minute)
	if _, status := refresh(tok.RefreshToken); status != http.StatusBadRequest {
		t.Errorf("a token used long ago: %d, want 400", status)
	}
	if _, status := refresh(after); status != http.StatusBadRequest {
		t.Errorf("its family lives on: %d, want 400", status)
	}
}

// After a rotation old tokens still verify, and new ones bear the new key.
func TestKeyRotation(t *testing.T) {
	clock := newClock()
	s, err := stack.New(stack.Options{Dir: filepath.Join(t.TempDir(), "system"), Now: clock.now})
	must(t, err)
	t.Cleanup(s.Close)
	seed, err := s.Seed(t.Context())
	must(t, err)
	c := newGoClient(t, s)
	old, _ := c.signIn(t, seed.Researcher)
	oldKey := header(t, old.AccessToken)
	set := &remoteKeys{t: t, client: trusting(t, s), url: s.OAuth.Issuer("acme") + "/jwks"}
	verify := func(raw string) error {
		_, err := jwt.Parse(raw, set.find, jwt.WithValidMethods([]string{"ES256"}), jwt.WithTimeFunc(clock.now))
		return err
	}
	must(t, verify(old.AccessToken))
	clock.advance(keys.DefaultPeriod - 2*time.Hour)
	first := set.keys
	var fresh *oauth2.Token
	published := 0 // steps between the publication of the next key and its first signature
	for range 40 {
		clock.advance(5 * time.Minute)
		must(t, s.Maintain(t.Context(), clock.now()))
		if set.read(); len(set.keys) > len(first) {
			published++
		}
		if fresh, _ = c.signIn(t, seed.Researcher); header(t, fresh.AccessToken) != oldKey {
			break
		}
		old = fresh
	}
	if header(t, fresh.AccessToken) == oldKey {
		t.Fatal("the new key never signs")
	}
	if published < 2 {
		t.Errorf("the new key signs %d steps after it was published: no verifier can have read it", published)
	}
	must(t, verify(fresh.AccessToken))
	if err := verify(old.AccessToken); err != nil {
		t.Errorf("the last token of the old key: %v", err)
	}
}
