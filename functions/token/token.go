// Package token is the function that clients call: the token endpoint and its kin (RFC 6749 §3.2, RFC 7009, RFC 7662,
// OpenID Connect Core §5.3), and the token endpoint in JSON that the original has. It carries parameters to core/oauth and
// answers in OAuth's own forms. No cookie counts here, so no other site can call it in a person's name, and no other
// site's script may read its answers.
package token

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/strict"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/core/web"
)

// Deps is what the function needs.
type Deps struct {
	OAuth *oauth.Server
}

// Paths are the patterns that the function serves.
var Paths = []string{
	"GET /health", // Cloud Run keeps /healthz for itself, and answers 404: https://cloud.google.com/run/docs/known-issues
	"GET /healthz",
	"POST /t/{tenant}/token",
	"POST /t/{tenant}/api/v2/token",
	"POST /t/{tenant}/api/v1/token",
	"GET /t/{tenant}/userinfo",
	"POST /t/{tenant}/userinfo",
	"POST /t/{tenant}/revoke",
	"POST /t/{tenant}/introspect",
	"POST /t/{tenant}/device_authorization",
}

// maxBody bounds every request of this function, in bytes: the longest holds a token of 8 KiB.
const maxBody = 32 << 10

// Handler serves Paths.
func Handler(d Deps) http.Handler {
	f, health := function{d.OAuth}, &prober{oauth: d.OAuth}
	mux := http.NewServeMux()
	for i, h := range []http.HandlerFunc{health.serve, health.serve, f.token, f.token, f.tokenJSON, f.userInfo, f.userInfo, f.revoke, f.introspect, f.device} {
		mux.HandleFunc(Paths[i], h)
	}
	return web.Exact(mux)
}

type function struct{ oauth *oauth.Server }

func (f function) token(w http.ResponseWriter, r *http.Request) {
	c, err := call(w, r)
	if err != nil {
		f.fail(w, r, c, err)
		return
	}
	tokens, err := f.oauth.Token(r.Context(), c)
	if err != nil {
		f.fail(w, r, c, err)
		return
	}
	issued(r, c)
	answer(w, http.StatusOK, tokens)
}

// issued notes in the log that tokens were given out. Issuing for a program commits nothing, so the log is its record.
func issued(r *http.Request, c oauth.Call) {
	grant := c.Params["grant_type"]
	switch grant {
	case oauth.GrantExchange:
		grant = "token-exchange"
	case oauth.GrantDevice:
		grant = "device"
	case oauth.GrantJWTBearer:
		grant = "jwt-bearer"
	}
	trace.From(r.Context()).Issued(r.Context(), grant)
	web.Note(r.Context(), slog.String("issued", grant), slog.String("client", string(c.Client.ID)))
}

func (f function) userInfo(w http.ResponseWriter, r *http.Request) {
	t, err := web.Tenant(r)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	raw, err := web.BearerToken(r)
	if err == nil {
		err = noBody(w, r)
	}
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	info, err := f.oauth.UserInfo(r.Context(), t, raw)
	if err != nil {
		f.fail(w, r, oauth.Call{Actor: core.Actor{Tenant: t}}, err)
		return
	}
	answer(w, http.StatusOK, info)
}

// noBody refuses a body. RFC 6750 §2.2 would allow an access token in it; ours travel in the Authorization header alone.
func noBody(w http.ResponseWriter, r *http.Request) error {
	if n, err := io.ReadFull(http.MaxBytesReader(w, r.Body, 1), make([]byte, 1)); n > 0 || err != io.EOF {
		return core.BadField("body", "must be empty; the access token goes into the Authorization header")
	}
	return nil
}

func (f function) revoke(w http.ResponseWriter, r *http.Request) {
	c, err := call(w, r)
	if err == nil {
		err = f.oauth.Revoke(r.Context(), c)
	}
	if err != nil {
		f.fail(w, r, c, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (f function) introspect(w http.ResponseWriter, r *http.Request) {
	c, err := call(w, r)
	if err != nil {
		f.fail(w, r, c, err)
		return
	}
	said, err := f.oauth.Introspect(r.Context(), c)
	if err != nil {
		f.fail(w, r, c, err)
		return
	}
	answer(w, http.StatusOK, said)
}

// device begins a sign-in on a device without a browser (RFC 8628 §3.1).
func (f function) device(w http.ResponseWriter, r *http.Request) {
	c, err := call(w, r)
	if err != nil {
		f.fail(w, r, c, err)
		return
	}
	grant, err := f.oauth.BeginDevice(r.Context(), c)
	if err != nil {
		f.fail(w, r, c, err)
		return
	}
	answer(w, http.StatusOK, grant)
}

// invalidDPoPProof is RFC 9449 §5's.
const invalidDPoPProof oauth.Code = "invalid_dpop_proof"

// actor is who calls, as far as that is known before anything is proved.
func actor(r *http.Request, t core.TenantID) core.Actor {
	return trace.Actor(r.Context(), core.Actor{Tenant: t, Address: web.Address(r)})
}

// call reads a request in form encoding. Unknown parameters are ignored, repeated ones refused (RFC 6749 §3.2).
func call(w http.ResponseWriter, r *http.Request) (oauth.Call, error) {
	t, err := web.Tenant(r)
	if err != nil {
		return oauth.Call{}, err
	}
	c := oauth.Call{Actor: actor(r, t)}
	if len(r.Header.Values("DPoP")) > 0 {
		// RFC 9449 §5: whoever sends a proof expects a token that is bound to its key. Ours would not be, and a client that did
		// not look at token_type would trust it for more than it is.
		return c, &oauth.Error{Code: invalidDPoPProof, Description: "tokens are not bound to keys here; send the request without the DPoP header"}
	}
	if r.URL.RawQuery != "" {
		return c, core.BadField("query", "must be empty; parameters go into the body, since addresses end up in logs (RFC 6749 §2.3.1)")
	}
	data, err := web.Body(w, r, "application/x-www-form-urlencoded", maxBody)
	if err != nil {
		return c, err
	}
	form, err := strict.Form(string(data), maxBody)
	if err != nil {
		return c, err
	}
	c.Params = form
	c.Client, err = oauth.ParseCredentials(r.Header.Values("Authorization"), form)
	return c, err
}

// answer sends JSON that nobody may keep (RFC 6749 §5.1).
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	web.JSON(w, status, v)
}

// failure is an error in OAuth's form (RFC 6749 §5.2).
type failure struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// fail answers with an error. What is no refusal of OAuth's is told apart by its kind: a store that does not answer is a
// 503, and never looks like a verdict about a token.
func (f function) fail(w http.ResponseWriter, r *http.Request, c oauth.Call, err error) {
	web.NoteError(r.Context(), err)
	var refusal *oauth.Error
	if errors.As(err, &refusal) {
		status := http.StatusBadRequest
		switch refusal.Code {
		case oauth.InvalidClient:
			status = http.StatusUnauthorized
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", f.oauth.Issuer(c.Actor.Tenant)))
		case oauth.InvalidToken:
			status = http.StatusUnauthorized
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		case oauth.InsufficientScope:
			status = http.StatusForbidden
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="openid"`)
		}
		answer(w, status, failure{string(refusal.Code), refusal.Description})
		return
	}
	status, kind := web.Status(err)
	out := failure{"invalid_request", err.Error()}
	switch kind {
	case core.Unavailable:
		w.Header().Set("Retry-After", "1")
		out = failure{"temporarily_unavailable", "Try again shortly."}
	case core.Throttled:
		web.RetryAfter(w, err)
		out.Error = "temporarily_unavailable"
	case core.NotFound:
		out.Description = "there is no such tenant"
	case core.Invalid, core.Limit:
		status = http.StatusBadRequest
	case core.TooLarge:
	default:
		status, out = http.StatusInternalServerError, failure{"server_error", "Something went wrong on our side. It has been logged."}
	}
	answer(w, status, out)
}
