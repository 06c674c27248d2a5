package idp

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"
)

// How long what is issued is good.
const (
	codeLife    = time.Minute
	tokenLife   = 5 * time.Minute // ID tokens and access tokens
	refreshLife = 30 * day
)

// grant is what a code, an access token or a refresh token stands for.
type grant struct {
	client, redirect, challenge, nonce string
	scopes                             []string
	email                              string
	authTime                           time.Time
	fault                              Fault
	used                               bool
	family                             *family
}

// family is all that came of one sign-in.
type family struct{ revoked bool }

// oauthError is an error of the token endpoint (RFC 6749 §5.2).
type oauthError struct{ code, why string }

func (e *oauthError) Error() string { return e.code + ": " + e.why }

// token is the token endpoint (RFC 6749 §3.2).
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	answer, err := p.grants(r)
	if err == nil {
		writeJSON(w, http.StatusOK, answer)
		return
	}
	said, ok := errors.AsType[*oauthError](err)
	if !ok {
		said = &oauthError{"server_error", err.Error()}
	}
	status := http.StatusBadRequest
	if said.code == "invalid_client" {
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="`+p.Issuer()+`"`)
	}
	writeJSON(w, status, map[string]string{"error": said.code, "error_description": said.why})
}

func (p *Provider) grants(r *http.Request) (map[string]any, error) {
	if err := r.ParseForm(); err != nil {
		return nil, &oauthError{"invalid_request", "the body does not read"}
	}
	for name, values := range r.PostForm {
		if len(values) > 1 {
			return nil, &oauthError{"invalid_request", "the parameter " + name + " is there twice"}
		}
	}
	client, err := p.authenticated(r)
	if err != nil {
		return nil, &oauthError{"invalid_client", err.Error()}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		return p.redeem(client, r.PostForm)
	case "refresh_token":
		return p.renew(client, r.PostForm)
	}
	return nil, &oauthError{"unsupported_grant_type", "authorization_code or refresh_token"}
}

// redeem swaps a code. The caller holds p.mu, here and below.
func (p *Provider) redeem(client Client, form url.Values) (map[string]any, error) {
	g, ok := p.codes.get(p.now(), form.Get("code"))
	if ok && g.used {
		g.family.revoked = true // RFC 6749 §4.1.2
	}
	verifier := form.Get("code_verifier")
	sum := sha256.Sum256([]byte(verifier))
	switch {
	case !ok || g.used || g.client != client.ID:
		return nil, &oauthError{"invalid_grant", "the code is unknown, expired, used, or another client's"}
	case g.redirect != form.Get("redirect_uri"):
		return nil, &oauthError{"invalid_grant", "the redirect_uri is another one"}
	case g.challenge == "" && verifier != "", g.challenge != "" && base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge:
		return nil, &oauthError{"invalid_grant", "the code_verifier does not fit"}
	}
	g.used = true
	return p.issue(client, *g, g.nonce)
}

// renew swaps a refresh token for the next. One that is used again was stolen, or the next one was: all of its family ends
// (RFC 9700 §4.14.2).
func (p *Provider) renew(client Client, form url.Values) (map[string]any, error) {
	g, ok := p.refresh.get(p.now(), form.Get("refresh_token"))
	if !ok || g.client != client.ID {
		return nil, &oauthError{"invalid_grant", "the refresh token is unknown, expired, or another client's"}
	}
	if g.used {
		g.family.revoked = true
	}
	if g.family.revoked {
		return nil, &oauthError{"invalid_grant", "the refresh token was used, or revoked"}
	}
	next := *g
	if asked := strings.Fields(form.Get("scope")); len(asked) > 0 {
		for _, scope := range asked {
			if !slices.Contains(g.scopes, scope) {
				return nil, &oauthError{"invalid_scope", "more than was granted"}
			}
		}
		next.scopes = asked
	}
	if _, ok := p.person(g.email); !ok {
		g.family.revoked = true
		return nil, &oauthError{"invalid_grant", "the person is gone or disabled"}
	}
	g.used = true
	next.fault = Behave
	if OIDC.has(p.fault) {
		next.fault = p.fault
	}
	return p.issue(client, next, "") // OpenID Connect Core §12.2: no nonce
}

// issue answers with tokens for a grant.
func (p *Provider) issue(client Client, g grant, nonce string) (map[string]any, error) {
	who, ok := p.person(g.email)
	if !ok || g.family.revoked {
		return nil, &oauthError{"invalid_grant", "the person is gone or disabled, or the grant was revoked"}
	}
	now := p.now()
	id, err := p.idToken(client, g, who, nonce, now)
	if err != nil {
		return nil, err
	}
	g.used, g.nonce, g.challenge, g.redirect = false, "", "", ""
	kept, access := g, g
	answer := map[string]any{
		"token_type": "Bearer", "expires_in": int(tokenLife.Seconds()), "scope": strings.Join(g.scopes, " "),
		"id_token": id, "access_token": p.access.put(now, tokenLife, &access),
	}
	if client.Offline || slices.Contains(g.scopes, "offline_access") {
		answer["refresh_token"] = p.refresh.put(now, refreshLife, &kept)
	}
	return answer, nil
}

// idToken is OpenID Connect Core §2.
func (p *Provider) idToken(client Client, g grant, who Person, nonce string, now time.Time) (string, error) {
	claims := map[string]any{}
	if !client.UserInfoOnly {
		maps.Copy(claims, g.claims(client, who))
	}
	issued, proof := now, g.authTime
	claims["iss"], claims["aud"], claims["sub"], claims["amr"] = p.Issuer(), client.ID, who.subject(""), []string{"pwd"}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	signer := p.keys.current
	switch g.fault {
	case WrongAudience:
		claims["aud"] = "another-client"
	case WrongIssuer:
		claims["iss"] = otherParty
	case WrongNonce:
		claims["nonce"] = newID()
	case Clock:
		issued, proof = issued.Add(-wrongWay-tokenLife), proof.Add(-wrongWay-tokenLife)
	case OtherKey:
		signer = p.keys.other
	}
	claims["iat"], claims["exp"], claims["auth_time"] = issued.Unix(), issued.Add(tokenLife).Unix(), proof.Unix()
	switch {
	case g.fault == Unsigned:
		return bare(claims)
	case client.Algorithm == "ES256":
		t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims(claims))
		t.Header["kid"] = kid(&p.keys.current.ec.PublicKey)
		return t.SignedString(signer.ec)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims(claims))
	t.Header["kid"] = kid(&p.keys.current.rsa.PublicKey)
	return t.SignedString(signer.rsa)
}

// bare is a token with the algorithm none (RFC 7519 §6).
func bare(claims map[string]any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding
	return b64.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + b64.EncodeToString(body) + ".", nil
}

// claims are what a grant says of a person: what its scopes ask for (OpenID Connect Core §5.4), and our own names in any case.
func (g grant) claims(client Client, who Person) map[string]any {
	c := who.claims()
	byDefault := func(name string, v any) {
		if _, given := who.Claims[name]; !given {
			c[name] = v
		}
	}
	if slices.Contains(g.scopes, "email") && g.fault != MissingEmail {
		byDefault("email_verified", true)
	} else {
		delete(c, "email")
		delete(c, "email_verified")
	}
	if slices.Contains(g.scopes, "profile") {
		for name, v := range map[string]string{"given_name": who.FirstName, "family_name": who.LastName, "name": strings.TrimSpace(who.FirstName + " " + who.LastName)} {
			if v != "" {
				byDefault(name, v)
			}
		}
	}
	if names, ok := c["GROUPS"].([]string); ok && client.GroupsAsMap {
		m := map[string]string{}
		for i, name := range names {
			m[strconv.Itoa(i)] = name
		}
		c["GROUPS"] = m
	}
	return c
}

// userInfo is OpenID Connect Core §5.3.
func (p *Provider) userInfo(w http.ResponseWriter, r *http.Request) {
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	p.mu.Lock()
	g, ok := p.access.get(p.now(), token)
	var who Person
	var client Client
	if ok = ok && bearer && !g.family.revoked; ok {
		who, ok = p.person(g.email)
		client = p.clients[g.client]
	}
	p.mu.Unlock()
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
		return
	}
	claims := g.claims(client, who)
	claims["sub"] = who.subject("")
	writeJSON(w, http.StatusOK, claims)
}

// authenticated is the client that a request of the token endpoint proves to come from, in one of three ways and no two at once
// (RFC 6749 §2.3, OpenID Connect Core §9).
func (p *Provider) authenticated(r *http.Request) (Client, error) {
	form := r.PostForm
	id, secret, basic := r.BasicAuth()
	post, assertion := form.Has("client_secret"), form.Has("client_assertion")
	ways := 0
	for _, way := range []bool{basic, post, assertion} {
		if way {
			ways++
		}
	}
	if ways != 1 {
		return Client{}, errors.New("there must be exactly one proof of the client")
	}
	if assertion {
		return p.asserted(form)
	}
	if basic { // both are form-encoded in the header (RFC 6749 §2.3.1)
		var err, err2 error
		id, err = url.QueryUnescape(id)
		secret, err2 = url.QueryUnescape(secret)
		if err != nil || err2 != nil || form.Has("client_id") && form.Get("client_id") != id {
			return Client{}, errors.New("the client's name or secret does not read")
		}
	} else {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	p.mu.Lock()
	client, ok := p.clients[id]
	p.mu.Unlock()
	if !ok || client.Secret == "" || !same(client.Secret, secret) {
		return Client{}, errors.New("no such client, or its secret is another one")
	}
	return client, nil
}

var assertionAlgorithms = []string{"RS256", "PS256", "ES256"}

// asserted is the client of a private_key_jwt (RFC 7523 §3). Each is taken once.
func (p *Provider) asserted(form url.Values) (Client, error) {
	if form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		return Client{}, errors.New("the client_assertion_type is another one")
	}
	var claims jwt.RegisteredClaims
	var client Client
	_, err := jwt.ParseWithClaims(form.Get("client_assertion"), &claims, func(*jwt.Token) (any, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		client = p.clients[claims.Subject]
		var set jwt.VerificationKeySet
		for _, k := range client.Keys {
			switch k.(type) {
			case *rsa.PublicKey, *ecdsa.PublicKey:
				set.Keys = append(set.Keys, k)
			}
		}
		return set, nil
	}, jwt.WithValidMethods(assertionAlgorithms), jwt.WithExpirationRequired(), jwt.WithTimeFunc(p.now), jwt.WithLeeway(10*time.Second))
	now := p.now()
	switch {
	case err != nil:
		return Client{}, errors.New("the client_assertion does not verify")
	case claims.Issuer != client.ID || form.Has("client_id") && form.Get("client_id") != client.ID:
		return Client{}, errors.New("the client_assertion is of another client")
	case len(claims.Audience) != 1 || claims.Audience[0] != p.tokenURL() && claims.Audience[0] != p.Issuer():
		return Client{}, errors.New("the client_assertion is meant for somebody else")
	case claims.ID == "" || claims.ExpiresAt.Sub(now) > time.Hour:
		return Client{}, errors.New("the client_assertion needs a jti and must expire within the hour")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	once := client.ID + " " + claims.ID
	if _, used := p.proofs.get(now, once); used {
		return Client{}, errors.New("the client_assertion was used")
	}
	p.proofs.set(now, claims.ExpiresAt.Sub(now)+time.Minute, once, true)
	return client, nil
}
