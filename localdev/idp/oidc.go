package idp

import (
	"encoding/base64"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"github.com/golang-jwt/jwt/v5"
)

func (p *Provider) tokenURL() string { return p.options.Base + "/oidc/token" }

// discovery is OpenID Connect Discovery 1.0 §3.
func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	at, pages := p.options.Base+"/oidc", p.options.Pages+"/oidc"
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": p.Issuer(), "authorization_endpoint": pages + "/authorize", "token_endpoint": p.tokenURL(),
		"userinfo_endpoint": at + "/userinfo", "jwks_uri": at + "/jwks", "end_session_endpoint": pages + "/logout",
		"response_types_supported": []string{"code"}, "response_modes_supported": []string{"query"},
		"grant_types_supported":                            []string{"authorization_code", "refresh_token"},
		"subject_types_supported":                          []string{"public"},
		"id_token_signing_alg_values_supported":            []string{"RS256", "ES256"},
		"scopes_supported":                                 []string{"openid", "email", "profile", "offline_access"},
		"token_endpoint_auth_methods_supported":            []string{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": assertionAlgorithms,
		"code_challenge_methods_supported":                 []string{"S256"},
		"prompt_values_supported":                          []string{"none", "login"},
		"claims_supported": []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "amr", "email", "email_verified", "name", "given_name",
			"family_name", "firstName", "lastName", "GROUPS", "UID", "GID", "SUPPLEMENTARYGROUPS"},
		"authorization_response_iss_parameter_supported": true,
		"claims_parameter_supported":                     false,
		"request_parameter_supported":                    false,
		"request_uri_parameter_supported":                false,
	})
}

// jwks lists the public keys (RFC 7517 §5), the ones that sign now first.
func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	keys := p.keys
	p.mu.Unlock()
	list := []map[string]string{}
	for _, k := range keys.published() {
		r, b64 := k.rsa.PublicKey, base64.RawURLEncoding
		list = append(list, map[string]string{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid(&r), "n": b64.EncodeToString(r.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(r.E)).Bytes()),
		})
		point, err := k.ec.PublicKey.Bytes() // 4, x, y
		if err != nil {
			p.problem(w, http.StatusInternalServerError, err.Error())
			return
		}
		list = append(list, map[string]string{
			"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid(&k.ec.PublicKey), "x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:]),
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"keys": list})
}

// oidcAsked is an authorization request that was judged.
type oidcAsked struct {
	client                            Client
	redirect, state, nonce, challenge string
	scopes                            []string
}

func (a oidcAsked) protocol() Protocol { return OIDC }
func (a oidcAsked) service() string    { return a.client.ID }

// authorize takes an authorization request (OpenID Connect Core §3.1.2.1). As long as it is not known that it comes from a client,
// what is wrong is said on a page; then, to the client.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		p.problem(w, http.StatusBadRequest, "The request does not read.")
		return
	}
	q := r.Form
	for name, values := range q {
		if len(values) > 1 {
			p.problem(w, http.StatusBadRequest, "The parameter "+name+" is there twice.")
			return
		}
	}
	p.mu.Lock()
	client, ok := p.clients[q.Get("client_id")]
	p.mu.Unlock()
	if !ok {
		p.problem(w, http.StatusBadRequest, "No client "+strconv.Quote(q.Get("client_id"))+" is registered here.")
		return
	}
	a := oidcAsked{client: client, redirect: q.Get("redirect_uri"), state: q.Get("state"), nonce: q.Get("nonce"), challenge: q.Get("code_challenge"), scopes: strings.Fields(q.Get("scope"))}
	if !slices.Contains(client.RedirectURIs, a.redirect) {
		p.problem(w, http.StatusBadRequest, "The redirect URI "+strconv.Quote(a.redirect)+" is not registered for "+client.ID+".")
		return
	}
	wait := waiting{asked: a, hint: q.Get("login_hint")}
	prompt := strings.Fields(q.Get("prompt"))
	wait.none, wait.fresh = slices.Contains(prompt, "none"), slices.Contains(prompt, "login")
	code, why := "", ""
	switch {
	case q.Has("request"):
		code = "request_not_supported"
	case q.Has("request_uri"):
		code = "request_uri_not_supported"
	case q.Get("response_type") != "code":
		code, why = "unsupported_response_type", "only code"
	case q.Has("response_mode") && q.Get("response_mode") != "query":
		code, why = "invalid_request", "only the response_mode query"
	case !slices.Contains(a.scopes, "openid"):
		code, why = "invalid_scope", "the scope openid is missing"
	case a.challenge != "" && q.Get("code_challenge_method") != "S256", a.challenge == "" && q.Has("code_challenge_method"):
		code, why = "invalid_request", "only the code_challenge_method S256"
	case a.challenge != "" && len(a.challenge) != 43: // a SHA-256 in base64url (RFC 7636 §4.2)
		code, why = "invalid_request", "the code_challenge is no S256"
	case wait.none && len(prompt) > 1:
		code, why = "invalid_request", "prompt=none stands alone"
	}
	if q.Has("max_age") && code == "" {
		seconds, err := strconv.ParseUint(q.Get("max_age"), 10, 31)
		if err != nil {
			code, why = "invalid_request", "max_age is a number of seconds"
		}
		wait.max = time.Duration(seconds) * time.Second
		wait.fresh = wait.fresh || seconds == 0
	}
	if code != "" {
		a.fail(p, w, r, code, why)
		return
	}
	p.begin(w, r, wait)
}

func (a oidcAsked) answer(p *Provider, w http.ResponseWriter, r *http.Request, who Person, s session, f Fault) {
	q, now := url.Values{"iss": {p.Issuer()}}, p.now()
	if a.state != "" {
		q.Set("state", a.state)
	}
	switch f {
	case MixUp:
		q.Set("iss", otherParty)
	case OtherState:
		q.Set("state", newID())
	}
	p.mu.Lock()
	code := p.lastCode[a.client.ID]
	if f != Replay {
		code = p.codes.put(now, codeLife, &grant{
			client: a.client.ID, redirect: a.redirect, challenge: a.challenge, nonce: a.nonce, scopes: a.scopes,
			email: who.Email, authTime: s.AuthTime, fault: f, family: &family{},
		})
	}
	if f == Behave {
		p.lastCode[a.client.ID] = code
	}
	p.mu.Unlock()
	if code == "" {
		p.problem(w, http.StatusConflict, "There is no earlier code to send again. Sign in once without misbehaviour.")
		return
	}
	q.Set("code", code)
	a.redirectTo(w, r, q)
}

func (a oidcAsked) refuse(p *Provider, w http.ResponseWriter, r *http.Request, why reason) {
	if why == loginRequired {
		a.fail(p, w, r, "login_required", "somebody has to sign in")
		return
	}
	a.fail(p, w, r, "access_denied", string(why))
}

// fail answers the client with an error (OpenID Connect Core §3.1.2.6).
func (a oidcAsked) fail(p *Provider, w http.ResponseWriter, r *http.Request, code, why string) {
	q := url.Values{"error": {code}, "iss": {p.Issuer()}}
	if why != "" {
		q.Set("error_description", why)
	}
	if a.state != "" {
		q.Set("state", a.state)
	}
	a.redirectTo(w, r, q)
}

func (a oidcAsked) redirectTo(w http.ResponseWriter, r *http.Request, q url.Values) {
	http.Redirect(w, r, withQuery(a.redirect, q), http.StatusSeeOther)
}

// withQuery adds parameters to a URL that may have some.
func withQuery(to string, q url.Values) string {
	switch {
	case len(q) == 0:
		return to
	case strings.Contains(to, "?"):
		return to + "&" + q.Encode()
	}
	return to + "?" + q.Encode()
}

// endSession is OpenID Connect RP-Initiated Logout 1.0 §2. Without a hint that is ours the person is asked: any site can send a
// browser here.
func (p *Provider) endSession(w http.ResponseWriter, r *http.Request) {
	q := r.FormValue
	hint := q("id_token_hint")
	clientID, sure := q("client_id"), false
	if hint != "" {
		var claims jwt.RegisteredClaims
		// A hint is taken long after it expired (§2).
		_, err := jwt.ParseWithClaims(hint, &claims, p.published, jwt.WithValidMethods([]string{"RS256", "ES256"}), jwt.WithoutClaimsValidation())
		if err != nil || claims.Issuer != p.Issuer() || len(claims.Audience) != 1 || clientID != "" && clientID != claims.Audience[0] {
			p.problem(w, http.StatusBadRequest, "The id_token_hint is not one of this provider, or of another client.")
			return
		}
		clientID, sure = claims.Audience[0], true
	}
	p.mu.Lock()
	client := p.clients[clientID]
	p.mu.Unlock()
	back := q("post_logout_redirect_uri")
	if back != "" && !slices.Contains(client.PostLogoutURIs, back) {
		p.problem(w, http.StatusBadRequest, "The address "+strconv.Quote(back)+" is not registered to come back to after signing out.")
		return
	}
	if !sure && (r.Method != http.MethodPost || q("sure") == "") {
		p.page(w, http.StatusOK, "Sign out?", h.Form(h.Method("post"), h.Action(p.path+"/oidc/logout"),
			hidden("client_id", clientID), hidden("post_logout_redirect_uri", back), hidden("state", q("state")), hidden("sure", "yes"),
			h.Button(h.Type("submit"), gomponents.Text("Sign out"))))
		return
	}
	p.signOut(w, r)
	if back == "" {
		p.page(w, http.StatusOK, "You are signed out")
		return
	}
	params := url.Values{}
	if state := q("state"); state != "" {
		params.Set("state", state)
	}
	http.Redirect(w, r, withQuery(back, params), http.StatusSeeOther)
}

// published finds the key that a token of ours names.
func (p *Provider) published(t *jwt.Token) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.keys.published() {
		for _, public := range []any{&k.rsa.PublicKey, &k.ec.PublicKey} {
			if t.Header["kid"] == kid(public) {
				return public, nil
			}
		}
	}
	return nil, jwt.ErrTokenUnverifiable
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil { // a person's own claims may be anything
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b)
}
