package token_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core/oauth"
)

// A request whose answer might go to an attacker is answered by us, and never by a redirect (OAU-017, OAU-019, OAU-049).
func TestAuthorizeStays(t *testing.T) {
	r := newRig(t, 1)
	app, _ := r.application("acme", "web", "https://app.example/cb")
	foreign, _ := r.application("other", "web", "https://app.example/cb")
	r.first().counter.Reset()
	r.get(r.client(), "/t/acme/authorize?"+request().Encode()).want(303)
	for name, query := range map[string]string{
		"no client":      request(set("client_id", "")).Encode(),
		"unknown client": request(set("client_id", "nobody")).Encode(),
		"another tenant's": request(func(q url.Values) {
			q.Set("client_id", string(foreign))
			q.Set("redirect_uri", "https://app.example/cb")
		}).Encode(),
		"odd client":             request(set("client_id", "a/../b\x1f")).Encode(),
		"no redirect":            request(set("redirect_uri", "")).Encode(),
		"unregistered":           request(set("redirect_uri", "https://evil.example/cb")).Encode(),
		"localhost":              request(set("redirect_uri", "http://localhost:43121/callback")).Encode(),
		"another's redirect":     request(set("redirect_uri", "https://app.example/cb")).Encode(),
		"loopback of web client": request(func(q url.Values) { q.Set("client_id", string(app)) }).Encode(),
		"two redirects":          request().Encode() + "&redirect_uri=https://evil.example/",
		"two clients":            request().Encode() + "&client_id=fleetpass-cli",
		"broken query":           request().Encode() + "&x=%zz",
		"semicolon":              request().Encode() + "&x=1;redirect_uri=https://evil.example/",
		"huge":                   request(set("state", strings.Repeat("x", 9000))).Encode(),
		"javascript":             request(set("redirect_uri", "javascript:alert(1)")).Encode(),
	} {
		a := r.get(r.client(), "/t/acme/authorize?"+query)
		if a.status != 400 || a.header.Get("Location") != "" || strings.Contains(a.body, "evil") {
			t.Errorf("%s: %d to %q", name, a.status, a.header.Get("Location"))
		}
	}
	if n := r.first().counter.Counts().Commits; n != 1 {
		t.Errorf("%d commits, want that of the good one", n)
	}
	r.get(r.client(), "/t/nobody/authorize?"+request().Encode()).want(404)
}

// Every other error goes to the client, with its state and our issuer (OAU-011, 013, 015, 023, 025, 027, 049).
func TestAuthorizeRefusals(t *testing.T) {
	r := newRig(t, 1)
	for name, tt := range map[string]struct {
		edit func(url.Values)
		code oauth.Code
	}{
		"OAU-025 none":          {set("response_type", ""), oauth.InvalidRequest},
		"OAU-025 token":         {set("response_type", "token"), oauth.UnsupportedResponseType},
		"OAU-025 id_token":      {set("response_type", "id_token"), oauth.UnsupportedResponseType},
		"OAU-025 code token":    {set("response_type", "code token"), oauth.UnsupportedResponseType},
		"OAU-025 nothing":       {set("response_type", "none"), oauth.UnsupportedResponseType},
		"OAU-025 case":          {set("response_type", "Code"), oauth.UnsupportedResponseType},
		"OAU-025 fragment":      {set("response_mode", "fragment"), oauth.InvalidRequest},
		"OAU-025 web_message":   {set("response_mode", "web_message"), oauth.InvalidRequest},
		"OAU-011 no challenge":  {set("code_challenge", ""), oauth.InvalidRequest},
		"OAU-013 plain":         {set("code_challenge_method", "plain"), oauth.InvalidRequest},
		"OAU-013 no method":     {set("code_challenge_method", ""), oauth.InvalidRequest},
		"OAU-015 padding":       {set("code_challenge", challenge(verifier)+"="), oauth.InvalidRequest},
		"OAU-015 short":         {set("code_challenge", "abc"), oauth.InvalidRequest},
		"OAU-027 newline":       {set("scope", "openid\nadmin"), oauth.InvalidScope},
		"OAU-049 request":       {set("request", "eyJhbGciOiJub25lIn0.e30."), oauth.RequestNotSupported},
		"OAU-049 request_uri":   {set("request_uri", "https://evil.example/r"), oauth.RequestURINotSupported},
		"registration":          {set("registration", "{}"), oauth.RegistrationUnsupported},
		"prompt":                {set("prompt", "create"), oauth.InvalidRequest},
		"prompt none and login": {set("prompt", "none login"), oauth.InvalidRequest},
		"max_age":               {set("max_age", "-1"), oauth.InvalidRequest},
		"max_age word":          {set("max_age", "soon"), oauth.InvalidRequest},
		"nonce":                 {set("nonce", strings.Repeat("n", 513)), oauth.InvalidRequest},
		"hint":                  {set("id_token_hint", "junk"), oauth.InvalidRequest},
		"twice":                 {func(q url.Values) { q.Add("scope", "openid") }, oauth.InvalidRequest},
		"OAU-051 logged out":    {set("prompt", "none"), oauth.LoginRequired},
	} {
		where, back := r.get(r.client(), "/t/acme/authorize?"+request(tt.edit).Encode()).want(303).location()
		if where != callback || back.Get("error") != string(tt.code) || back.Get("state") != "xyz" || back.Get("iss") != r.issuer("acme") || back.Has("code") {
			t.Errorf("%s: to %s with %v, want %s", name, where, back, tt.code)
		}
	}
	// Parameters that we do not know are ignored (RFC 6749 §3.1), and so are empty ones.
	r.get(r.client(), "/t/acme/authorize?"+request(set("claims", "{}"), set("display", "page"), set("request", "")).Encode()).want(303)
}

// When a person must prove again who they are (OAU-051).
func TestPromptAndMaxAge(t *testing.T) {
	r := newRig(t, 1)
	c := r.client()
	got := r.post(c, "/t/acme/token", redemption(r.code(c, request()))).want(200)
	silent := func(edit ...func(url.Values)) url.Values {
		_, back := r.get(c, "/t/acme/authorize?"+request(append(edit, set("prompt", "none"))...).Encode()).want(303).location()
		return back
	}
	asks := func(edit ...func(url.Values)) bool {
		return strings.HasPrefix(r.get(c, "/t/acme/authorize?"+request(edit...).Encode()).want(303).header.Get("Location"), "/t/acme/login?")
	}
	signedInAt := r.clock.Now().Unix()
	r.clock.advance(10 * time.Second)
	if asks() || !silent().Has("code") {
		t.Error("a session does not count")
	}
	if asks(set("max_age", "11")) || !asks(set("max_age", "10")) || !asks(set("max_age", "0")) {
		t.Error("max_age is not kept")
	}
	if silent(set("max_age", "10")).Get("error") != "login_required" || !silent(set("max_age", "11")).Has("code") {
		t.Error("max_age is not kept without a page")
	}
	if !asks(set("prompt", "login")) || !asks(set("prompt", "select_account")) || asks(set("prompt", "consent")) {
		t.Error("prompt is not kept")
	}
	if !silent(set("id_token_hint", got.str("id_token"))).Has("code") {
		t.Error("one's own hint is refused")
	}
	// auth_time is when it was proved, and moves only when it is proved again.
	again := r.post(c, "/t/acme/token", redemption(silent().Get("code"))).want(200)
	if claims(t, again.str("id_token"))["auth_time"] != float64(signedInAt) {
		t.Error("auth_time moved without a proof")
	}
	again = r.post(c, "/t/acme/token", redemption(r.code(c, request(set("max_age", "0"))))).want(200)
	if claims(t, again.str("id_token"))["auth_time"] != float64(r.clock.Now().Unix()) {
		t.Error("auth_time did not move with a proof")
	}
}

// A client that names one person gets no answer about another.
func TestHintOfAnother(t *testing.T) {
	r := newRig(t, 1)
	r.user("acme", "bob@acme.example")
	c := r.client()
	got := r.post(c, "/t/acme/token", redemption(r.code(c, request()))).want(200)
	hint := set("id_token_hint", got.str("id_token"))
	stranger := r.client()
	_, back := r.signIn(stranger, "acme", "bob@acme.example", password, request(hint)).want(303).location()
	if back.Get("error") != "login_required" || back.Has("code") {
		t.Errorf("answered %v", back)
	}
	_, back = r.get(stranger, "/t/acme/authorize?"+request(hint, set("prompt", "none")).Encode()).want(303).location()
	if back.Get("error") != "login_required" {
		t.Errorf("answered %v", back)
	}
}

// A request by POST, as another site's page may send it, is the same request (OpenID Connect Core §3.1.2.1).
func TestAuthorizeByPost(t *testing.T) {
	r := newRig(t, 1)
	a := r.post(r.client(), "/t/acme/authorize", request()).want(303)
	next := a.header.Get("Location")
	if !strings.HasPrefix(next, "/t/acme/authorize?") {
		t.Fatalf("to %q", next)
	}
	r.get(r.client(), next).want(303)
}
