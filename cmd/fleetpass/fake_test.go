package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core/api"
)

// fakeIssuer is an authorization server that can misbehave. It is strict where the real one forgives (a refresh token
// works once, with no grace), so that what passes here is right and not merely forgiven; the scripts run against the real
// one.
type fakeIssuer struct {
	*httptest.Server
	pem []byte

	mu                      sync.Mutex
	challenge, nonceSent    string
	refresh                 string // the one that is good
	generation              int
	refreshes, exchanges    int
	failExchange            int // status
	ended                   bool
	nonce, audience         string
	tokenIssuer             string
	lifetime, tokenLifetime time.Duration
	silent                  bool
}

func newFakeIssuer(t *testing.T) *fakeIssuer {
	f := &fakeIssuer{}
	f.reset()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /t/acme/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		is := f.issuer()
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": is, "authorization_endpoint": is + "/authorize", "token_endpoint": is + "/token",
			"revocation_endpoint": is + "/revoke", "jwks_uri": is + "/jwks", "authorization_response_iss_parameter_supported": true})
	})
	mux.HandleFunc("GET /t/acme/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		f.mu.Lock()
		f.challenge, f.nonceSent = q.Get("code_challenge"), q.Get("nonce")
		f.mu.Unlock()
		http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {"the-code"}, "state": {q.Get("state")}, "iss": {f.issuer()}}.Encode(), http.StatusSeeOther)
	})
	mux.HandleFunc("POST /t/acme/token", f.token)
	f.Server = httptest.NewTLSServer(mux)
	t.Cleanup(f.Close)
	f.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	return f
}

func (f *fakeIssuer) issuer() string { return f.URL + "/t/acme" }

func (f *fakeIssuer) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh, f.generation, f.refreshes, f.exchanges, f.failExchange, f.ended = "refresh-0", 0, 0, 0, 0, false
	f.nonce, f.audience, f.tokenIssuer, f.lifetime, f.tokenLifetime, f.silent = "", "", "", time.Hour, 5*time.Minute, false
}

func (f *fakeIssuer) client(t *testing.T) *http.Client {
	h, err := api.NewHTTPClient(f.pem)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	return h
}

// browse is a browser: it follows redirects, also to the loopback listener.
func (f *fakeIssuer) browse(t *testing.T, address string) {
	resp, err := f.Client().Get(address)
	if err != nil {
		t.Error(err)
		return
	}
	resp.Body.Close()
}

func (f *fakeIssuer) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	f.mu.Lock()
	defer f.mu.Unlock()
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":%q}`, code)
	}
	answer := map[string]any{"token_type": "Bearer", "expires_in": int(f.tokenLifetime / time.Second)}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if r.PostForm.Get("code") != "the-code" || base64.RawURLEncoding.EncodeToString(sum[:]) != f.challenge {
			refuse(400, "invalid_grant")
			return
		}
		f.refresh = "refresh-signed-in"
		answer["id_token"] = jwtOf(map[string]any{"iss": orElse(f.tokenIssuer, f.issuer()), "aud": orElse(f.audience, api.ClientID), "nonce": orElse(f.nonce, f.nonceSent),
			"email": "ada@example.com", "exp": time.Now().Add(f.lifetime).Unix()})
		answer["access_token"], answer["refresh_token"] = "access-signed-in", f.refresh
	case "refresh_token":
		f.refreshes++
		if f.ended || r.PostForm.Get("refresh_token") != f.refresh {
			refuse(400, "invalid_grant")
			return
		}
		f.generation++
		f.refresh = fmt.Sprintf("refresh-%d", f.generation)
		answer["access_token"], answer["refresh_token"] = fmt.Sprintf("access-%d", f.generation), f.refresh
	default:
		f.exchanges++
		if f.failExchange != 0 {
			refuse(f.failExchange, "temporarily_unavailable")
			return
		}
		answer["access_token"] = fmt.Sprintf("cluster-%d", f.exchanges)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func jwtOf(claims map[string]any) string {
	data, _ := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256"}`)) + "." + base64.RawURLEncoding.EncodeToString(data) + ".c2ln"
}

// account is an account at the fake issuer, in a folder of its own.
func (f *fakeIssuer) account(t *testing.T, s session) *account {
	root := folder(filepath.Join(t.TempDir(), "config"))
	root, err := root.make("")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := root.make("acme")
	if err != nil {
		t.Fatal(err)
	}
	c := &account{profile: profile{Server: f.issuer(), CA: string(f.pem)}, dir: dir, root: root, now: time.Now, http: f.client(t), say: t.Logf}
	if err := c.save(&s); err != nil {
		t.Fatal(err)
	}
	return c
}
