package oidc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/oidc"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/sso"
)

// now is the time of every test.
var now = time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)

const (
	clientID = "fleetpass"
	secret   = "s3cr3t:CANARY/+ %"
	back     = "https://fleet.example/t/acme/oidc/corp/callback"
	state    = "the-state-of-this-sign-in"
	access   = "access-CANARY"
)

// Keys of providers and of attackers. They cost too much to be made for every test.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey    = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edKey    = sync.OnceValue(func() ed25519.PrivateKey { _, k, _ := ed25519.GenerateKey(rand.Reader); return k })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type m = map[string]any

// op is an OpenID provider that says what a test wants. Its fields are set before a sign-in begins, and read after it.
type op struct {
	*httptest.Server
	ca string

	doc      m                   // the discovery document
	jwks     any                 // the key set
	claims   func(m)             // changes an ID token's claims
	header   func(m)             // and its header
	payload  func(string) string // and its payload, as text
	alg      string              // it is signed with
	key      crypto.Signer
	raw      func(string) string // changes the token as it is sent
	answer   func(m)             // changes the token endpoint's answer
	token    http.HandlerFunc    // instead of the token endpoint
	info     any                 // userinfo's answer; nil: 404
	userinfo http.HandlerFunc    // instead of it

	nonce, challenge string
	mu               sync.Mutex
	seen             map[string]int // requests by path
	form             url.Values     // of the last token request
	basic            string         // its Authorization
}

func newOP(t testing.TB) *op {
	t.Helper()
	o := &op{seen: map[string]int{}, alg: "RS256", key: rsaKey()}
	mux := http.NewServeMux()
	mux.HandleFunc("/o/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(o.doc) })
	mux.HandleFunc("/o/jwks", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(o.jwks) })
	mux.HandleFunc("/o/token", o.tokens)
	mux.HandleFunc("/o/userinfo", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case o.userinfo != nil:
			o.userinfo(w, r)
		case o.info == nil || r.Header.Get("Authorization") != "Bearer "+access:
			http.NotFound(w, r)
		default:
			json.NewEncoder(w).Encode(o.info)
		}
	})
	o.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.seen[strings.TrimPrefix(r.URL.Path, "/o/")]++
		mux.ServeHTTP(w, r)
	}))
	o.Config.ErrorLog = log.New(io.Discard, "", 0)
	o.StartTLS()
	t.Cleanup(o.Close)
	o.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.Certificate().Raw}))
	iss := o.issuer()
	o.doc = m{
		"issuer": iss, "authorization_endpoint": iss + "/authorize?audience=x", "token_endpoint": iss + "/token", "jwks_uri": iss + "/jwks",
		"userinfo_endpoint": iss + "/userinfo", "end_session_endpoint": iss + "/logout", "response_types_supported": []string{"code"},
		"id_token_signing_alg_values_supported": []string{"HS256", "none", "RS256", "PS256", "ES256", "EdDSA"}, "subject_types_supported": []string{"public"},
		"code_challenge_methods_supported": []string{"S256", "plain"}, "token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic", "private_key_jwt"},
	}
	o.jwks = m{"keys": []any{rsaJWK("r1", rsaKey()), ecJWK("e1", ecKey()), edJWK("d1", edKey())}}
	return o
}

func (o *op) issuer() string { return o.URL + "/o" }

func (o *op) port() string { return o.URL[strings.LastIndexByte(o.URL, ':'):] }

// tokens is the token endpoint: it wants the code, the verifier of its challenge and the redirect URI, as a good one does.
func (o *op) tokens(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	o.form, o.basic = r.PostForm, r.Header.Get("Authorization")
	if o.token != nil {
		o.token(w, r)
		return
	}
	if r.PostForm.Get("grant_type") == "authorization_code" {
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		if r.PostForm.Get("code") != "code-CANARY" || r.PostForm.Get("redirect_uri") != back || b64(sum[:]) != o.challenge {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":"invalid_grant"}`)
			return
		}
	}
	answer := m{"access_token": access, "token_type": "Bearer", "expires_in": 300, "refresh_token": "refresh-CANARY", "id_token": o.idToken(r.PostForm.Get("grant_type"))}
	if o.answer != nil {
		o.answer(answer)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

// idToken is a good ID token, but for what the test changes.
func (o *op) idToken(grant string) string {
	sum := sha256.Sum256([]byte(access))
	claims := m{
		"iss": o.issuer(), "aud": clientID, "sub": "subject-1", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "auth_time": now.Add(-time.Minute / 2).Unix(),
		"email": "ann@corp.example", "email_verified": true, "GROUPS": []string{"ml", "ops"}, "UID": 15001, "amr": []string{"pwd", "otp"}, "at_hash": b64(sum[:16]),
	}
	if grant == "authorization_code" {
		claims["nonce"] = o.nonce
	}
	if o.alg == "EdDSA" {
		delete(claims, "at_hash")
	}
	if o.claims != nil {
		o.claims(claims)
	}
	header := m{"alg": o.alg, "typ": "JWT", "kid": map[string]string{"RS256": "r1", "PS256": "r1", "ES256": "e1", "EdDSA": "d1"}[o.alg]}
	if o.header != nil {
		o.header(header)
	}
	payload := string(must(json.Marshal(claims)))
	if o.payload != nil {
		payload = o.payload(payload)
	}
	raw := signed(string(must(json.Marshal(header))), payload, o.alg, o.key)
	if o.raw != nil {
		raw = o.raw(raw)
	}
	return raw
}

// signed makes a JWS out of texts, so that they can be ones that no encoder would write.
func signed(header, payload, alg string, key crypto.Signer) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	sum := sha256.Sum256([]byte(input))
	var sig []byte
	switch alg {
	case "RS256":
		sig = must(rsa.SignPKCS1v15(nil, key.(*rsa.PrivateKey), crypto.SHA256, sum[:]))
	case "RS512":
		sum := sha512.Sum512([]byte(input))
		sig = must(rsa.SignPKCS1v15(nil, key.(*rsa.PrivateKey), crypto.SHA512, sum[:]))
	case "PS256":
		sig = must(rsa.SignPSS(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
	case "ES256":
		r, s, err := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), sum[:])
		if err != nil {
			panic(err)
		}
		sig = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case "EdDSA":
		sig = ed25519.Sign(key.(ed25519.PrivateKey), []byte(input))
	}
	return input + "." + b64(sig)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func rsaJWK(kid string, k *rsa.PrivateKey) m {
	return m{"kty": "RSA", "kid": kid, "use": "sig", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
}

func ecJWK(kid string, k *ecdsa.PrivateKey) m {
	point := must(k.PublicKey.Bytes())
	return m{"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": b64(point[1:33]), "y": b64(point[33:])}
}

func edJWK(kid string, k ed25519.PrivateKey) m {
	return m{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(k.Public().(ed25519.PublicKey))}
}

// rig is a provider of ours, connected to an op.
type rig struct {
	*op
	p *oidc.Provider
	c sso.Connection
	s sso.Secrets
}

func newRig(t testing.TB) *rig {
	t.Helper()
	o := newOP(t)
	return &rig{op: o, p: newProvider(t, o), c: connect(t, o), s: sso.Secrets{Client: secret}}
}

func newProvider(t testing.TB, o *op) *oidc.Provider {
	t.Helper()
	return oidc.New(outbound.New(must(outbound.ParsePolicy("p", "127.0.0.0/8,"+o.port()))))
}

// connect is a connection to an op, as Load leaves it.
func connect(t testing.TB, o *op) sso.Connection {
	t.Helper()
	c := sso.Connection{ID: "c1", Alias: "corp", Kind: sso.OIDC, Enabled: true, CA: o.ca, OIDC: &sso.OIDCSettings{DiscoveryURL: o.issuer(), ClientID: clientID}}
	if err := newProvider(t, o).Load(t.Context(), &c, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// start begins a sign-in, and tells the op what it must know of it.
func (r *rig) start(t testing.TB, login bool) (sso.Arrival, url.Values) {
	t.Helper()
	d, err := r.p.Start(t.Context(), r.c, r.s, sso.Journey{Addresses: sso.Addresses{Return: back}, State: state, Login: login, Hint: "ann@corp.example", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	q := must(url.Parse(d.URL)).Query()
	r.nonce, r.challenge = q.Get("nonce"), q.Get("code_challenge")
	return sso.Arrival{Addresses: sso.Addresses{Return: back}, Params: map[string]string{"code": "code-CANARY", "state": state}, Pending: &d.Pending, Now: now}, q
}

// signIn is a whole sign-in.
func (r *rig) signIn(t testing.TB) (sso.Assertion, *sso.Report, error) {
	t.Helper()
	a, _ := r.start(t, false)
	return r.finish(t, a)
}

// finish ends a sign-in, and sees to what is true of every end: nothing secret is reported, and nothing but a refusal or a
// provider that is away is an error.
func (r *rig) finish(t testing.TB, a sso.Arrival) (sso.Assertion, *sso.Report, error) {
	t.Helper()
	report := &sso.Report{}
	said, err := r.p.Finish(t.Context(), r.c, r.s, a, report)
	text := string(must(json.Marshal(report)))
	if err != nil {
		text += err.Error()
	}
	for _, secret := range []string{"CANARY", a.Pending.Nonce, a.Pending.Verifier, url.QueryEscape(secret)} {
		if strings.Contains(text, secret) {
			t.Errorf("the report holds a secret (%s): %s", secret, text)
		}
	}
	if _, failed := report.Failure(); (err == nil) == failed {
		t.Errorf("error %v beside %+v", err, report.Checks)
	}
	for _, c := range report.Checks {
		if c.Result == sso.Failed && c.Fix == "" {
			t.Errorf("%s fails without a fix", c.Name)
		}
	}
	if err != nil && (said.Subject != "" || said.Attributes != nil || said.Kept != (sso.Kept{})) {
		t.Errorf("refused, and %+v is said", said)
	}
	if len(report.Received) > sso.MaxReceived {
		t.Errorf("%d bytes received", len(report.Received))
	}
	return said, report, err
}
