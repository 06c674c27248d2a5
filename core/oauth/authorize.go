package oauth

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// Request is an authorization request that may be answered at its redirect URI.
type Request struct {
	Client      Client
	RedirectURI string
	Scope       Scope
	State       string
	Nonce       string
	Challenge   string // PKCE, S256
	LoginHint   string

	tenant org.Tenant
	none   bool          // prompt=none: answer without a page
	login  bool          // prompt=login: prove it again
	maxAge time.Duration // < 0: any
	hinted core.UserID   // who the id_token_hint is about
}

// maxQuery bounds an authorization request, in bytes.
const maxQuery = 8 << 10

// Authorize judges the query of an authorization request. Until client and redirect URI are known to belong together the
// error has no Redirect and must be shown by us: the address may be an attacker's. From then on every *Error says where
// the browser takes it. It costs one read.
func (s *Server) Authorize(ctx context.Context, t core.TenantID, query string) (Request, error) {
	if len(query) > maxQuery {
		return Request{}, refuse(InvalidRequest, "the request is over 8 KiB")
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return Request{}, refuse(InvalidRequest, "the request's query does not decode")
	}
	for _, name := range []string{"client_id", "redirect_uri"} {
		if len(q[name]) != 1 || q.Get(name) == "" {
			return Request{}, refuse(InvalidRequest, name+" must be given once")
		}
	}
	id := core.ApplicationID(q.Get("client_id"))
	if !clientIDForm(string(id)) {
		return Request{}, refuse(InvalidClient, "there is no such client")
	}
	items, err := s.DB.Get(ctx, append(clientKeys(t, id), store.Meta(t))...)
	if err != nil {
		return Request{}, err
	}
	meta, err := org.Decode(items[len(items)-1])
	if err != nil {
		return Request{}, err
	}
	client, err := s.clientOf(id, items)
	if err != nil {
		return Request{}, refuseFor(err, InvalidClient, "there is no such client")
	}
	r := Request{Client: client, RedirectURI: q.Get("redirect_uri"), tenant: meta.Value, maxAge: -1}
	if !matchRedirect(client.RedirectURIs, r.RedirectURI) {
		return Request{}, refuse(InvalidRequest, "redirect_uri is not registered for this client")
	}
	if len(q["state"]) == 1 {
		r.State = q.Get("state")
	}
	if err := s.judge(ctx, &r, q); err != nil {
		return Request{}, s.Refusal(r, err)
	}
	return r, nil
}

// judge checks everything whose failure the client may learn.
func (s *Server) judge(ctx context.Context, r *Request, q url.Values) error {
	for name, values := range q {
		if len(values) > 1 {
			return refuse(InvalidRequest, "a parameter was given twice: "+printable(name))
		}
	}
	switch {
	case q.Get("request") != "":
		return refuse(RequestNotSupported, "request objects are not supported")
	case q.Get("request_uri") != "":
		return refuse(RequestURINotSupported, "request_uri is not supported")
	case q.Get("registration") != "":
		return refuse(RegistrationUnsupported, "registration is not supported")
	case q.Get("response_type") == "":
		return refuse(InvalidRequest, "response_type is missing")
	case q.Get("response_type") != "code":
		return refuse(UnsupportedResponseType, "response_type must be code")
	case q.Get("response_mode") != "" && q.Get("response_mode") != "query":
		return refuse(InvalidRequest, "response_mode must be query")
	case q.Get("code_challenge") == "":
		return refuse(InvalidRequest, "code_challenge is missing; PKCE is required of every client (RFC 7636)")
	case q.Get("code_challenge_method") != "S256":
		return refuse(InvalidRequest, "code_challenge_method must be S256")
	case !challengeForm(q.Get("code_challenge")):
		return refuse(InvalidRequest, "code_challenge must be 43 characters of base64url without padding")
	case len(q.Get("nonce")) > 512:
		return refuse(InvalidRequest, "nonce is over 512 bytes")
	}
	r.Challenge, r.Nonce, r.LoginHint = q.Get("code_challenge"), q.Get("nonce"), q.Get("login_hint")
	if len(r.LoginHint) > 254 {
		r.LoginHint = ""
	}
	var err error
	if r.Scope, err = parseScope(q.Get("scope")); err != nil {
		return err
	}
	prompts := strings.Fields(q.Get("prompt"))
	for _, p := range prompts {
		switch p {
		case "none":
			if r.none = true; len(prompts) > 1 {
				return refuse(InvalidRequest, "prompt=none stands alone")
			}
		case "login", "select_account":
			r.login = true
		case "consent": // there is none to ask for: every client is ours or the tenant's own
		default:
			return refuse(InvalidRequest, "prompt must be none, login, select_account or consent")
		}
	}
	if m := q.Get("max_age"); m != "" {
		n, err := strconv.ParseUint(m, 10, 31)
		if err != nil {
			return refuse(InvalidRequest, "max_age must be a number of seconds")
		}
		r.maxAge = time.Duration(n) * time.Second
	}
	if hint := q.Get("id_token_hint"); hint != "" {
		id, err := s.hint(ctx, r.tenant.ID, hint)
		if err != nil {
			return refuseFor(err, InvalidRequest, "id_token_hint is no ID token of this tenant")
		}
		r.hinted = core.UserID(id.Subject)
	}
	return nil
}

// Refusal makes err the answer to a request that may be answered at its redirect URI. What is no refusal of OAuth's stays
// what it is.
func (s *Server) Refusal(r Request, err error) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	located := *e
	located.Redirect = s.answer(r, url.Values{"error": {string(e.Code)}, "error_description": {e.Description}})
	return &located
}

// answer is where the browser takes the answer to a request: with the client's state, and our issuer (RFC 9207), by which
// a client of several servers knows whose answer it is.
func (s *Server) answer(r Request, q url.Values) string {
	if r.State != "" {
		q.Set("state", r.State)
	}
	q.Set("iss", s.Issuer(r.tenant.ID))
	return withQuery(r.RedirectURI, q)
}

// Settled says whether the session answers the request without asking the person anything. With prompt=none, where it
// does not, the error is login_required, to be taken to the client. A nil session is no session, and one of which nobody
// knows when the person proved who they are is too old for every max_age.
func (s *Server) Settled(r Request, c *session.Current) (bool, error) {
	ok := c != nil && !r.login && (r.hinted == "" || r.hinted == c.User) &&
		(r.maxAge < 0 || !c.AuthTime.IsZero() && s.Now().Before(c.AuthTime.Add(r.maxAge)))
	if !ok && r.none {
		return false, s.Refusal(r, refuse(LoginRequired, "nobody is signed in as this request needs"))
	}
	return ok, nil
}

// Anew says whether the person has to prove who they are for this request, whatever session there is, here or at an identity
// provider.
func (r Request) Anew() bool { return r.login || r.maxAge >= 0 }

func challengeForm(c string) bool { return len(c) == 43 && onlyBytes(c, "-_") }

// verifierForm is RFC 7636 §4.1.
func verifierForm(v string) bool { return len(v) >= 43 && len(v) <= 128 && onlyBytes(v, "-._~") }

// onlyBytes says whether s is of letters, digits and the extra ones.
func onlyBytes(s, extra string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(extra, c) >= 0) {
			return false
		}
	}
	return true
}

// printable is the name of a parameter as it can stand in an error.
func printable(name string) string {
	if len(name) > 40 || !onlyBytes(name, "-_.") {
		return "one of odd spelling"
	}
	return name
}
