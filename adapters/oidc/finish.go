package oidc

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// Finish judges the answer that a browser brought (OpenID Connect Core §3.1.2.5), swaps its code for an ID token and judges
// that. core/sso has found the sign-in by `state`. It costs one request to the provider, and one more where the ID token does
// not say all that is mapped; the keys are kept.
func (p *Provider) Finish(ctx context.Context, c sso.Connection, s sso.Secrets, a sso.Arrival, r *sso.Report) (sso.Assertion, error) {
	if c.OIDC == nil {
		return sso.Assertion{}, errNotOIDC
	}
	if !answered(c, a, r) {
		return sso.Assertion{}, sso.ErrRefused
	}
	given, err := p.exchange(ctx, c, s, url.Values{
		"grant_type": {"authorization_code"}, "code": {a.Params["code"]}, "redirect_uri": {a.Return}, "code_verifier": {a.Pending.Verifier},
	}, a.Now)
	if err != nil {
		return sso.Assertion{}, failed(r, err)
	}
	r.Pass(sso.CheckDestination, a.Return) // the provider compares it before it answers (RFC 6749 §4.1.3)
	if given.id == "" {
		r.Fail(sso.CheckAnswer, "tokens, but no ID token", "an ID token (id_token)", "Allow this client the scope openid at the provider.")
		return sso.Assertion{}, sso.ErrRefused
	}
	return p.learn(ctx, c, given, expected{pending: a.Pending, access: given.access, code: a.Params["code"]}, a.Now, r)
}

// answered judges what the browser brought by itself, before the code is shown to anybody: a code that another provider
// gave must not be sent to this one (mix-up, RFC 9207 §1).
func answered(c sso.Connection, a sso.Arrival, r *sso.Report) bool {
	if a.Pending == nil {
		r.Fail(sso.CheckRequest, "no sign-in is under way that this answers", "an answer to a sign-in that began here", "Begin at the login page.")
		return false
	}
	ok := true
	iss, named := a.Params["iss"]
	if want := c.OIDC.Provider.Issuer; named && iss != want || !named && c.OIDC.Provider.IssParameter {
		r.Fail(sso.CheckIssuer, cmp.Or(visible(iss), "no iss in the answer, which the provider promises"), want,
			"The answer comes from another provider than the one that was asked. Begin again; if it happens every time, save the discovery URL anew.")
		ok = false
	}
	if code, bad := a.Params["error"]; bad {
		e := &oauthError{visible(cmp.Or(code, "error")), visible(a.Params["error_description"])}
		r.Fail(sso.CheckAnswer, e.Error(), "a code", authorizationFix(code))
		return false
	}
	if code := a.Params["code"]; code == "" || len(code) > maxToken {
		r.Fail(sso.CheckAnswer, "neither a code nor an error", "a code", "Register "+a.Return+" at the provider as a redirect URI of a web application (authorization code flow).")
		return false
	}
	return ok
}

// authorizationFix says what to do about an error that the browser brought (RFC 6749 §4.1.2.1, OpenID Connect Core §3.1.2.6).
func authorizationFix(code string) string {
	switch code {
	case "access_denied":
		return "The person declined, or the provider did not let them: assign them to this application there."
	case "unauthorized_client", "unsupported_response_type":
		return "Allow this client the authorization code flow at the provider."
	case "invalid_scope":
		return "Take out of this connection the scopes that the provider does not know, or allow them there."
	case "login_required", "interaction_required", "consent_required", "account_selection_required":
		return "Sign in at the provider itself once, or let an administrator consent to this application there."
	case "server_error", "temporarily_unavailable":
		return "Try again in a moment; if it stays, the provider's log says why."
	}
	return "Look the error up in the provider's log of sign-ins, and compare client id, redirect URI and scopes with its settings."
}

// tokenFix says the same about the token endpoint's errors (RFC 6749 §5.2).
func tokenFix(code string) string {
	switch code {
	case "invalid_client":
		return "Enter the client secret again: it is wrong, or has expired, or the provider wants another way for the client to prove itself."
	case "invalid_grant":
		return "Begin again: the code was used already or is too old. If it happens every time, compare the redirect URI with the provider's settings."
	case "unauthorized_client", "unsupported_grant_type":
		return "Allow this client the authorization code flow at the provider."
	case "invalid_scope":
		return "Take out of this connection the scopes that the provider does not know, or allow them there."
	}
	return "Look the error up in the provider's log, and compare client id, client secret and redirect URI with its settings."
}

// failed notes why an endpoint gave nothing, and says how that counts: an answer that was judged is refused; no answer is not.
func failed(r *sso.Report, err error) error {
	var refused *oauthError
	var bad malformed
	switch {
	case errors.As(err, &refused):
		r.Fail(sso.CheckAnswer, refused.Error(), "tokens", tokenFix(refused.code))
		return sso.ErrRefused
	case errors.As(err, &bad):
		r.Fail(sso.CheckAnswer, string(bad), "an answer as OpenID Connect has it", "See that the discovery URL is that of an OpenID provider, and look at its log.")
		return sso.ErrRefused
	case errors.Is(err, core.TooLarge):
		r.Fail(sso.CheckAnswer, err.Error(), "an answer of a bounded size", "Let the provider send fewer claims to this client.")
		return sso.ErrRefused
	}
	r.Fail(sso.CheckAnswer, "no answer: "+err.Error(), "tokens", "Try again in a moment; if it stays, see that the provider can be reached from here.")
	return err
}

// learn judges an ID token, if one is given, asks for what it does not say, and puts together what the provider said. At a
// sign-in there is always one.
func (p *Provider) learn(ctx context.Context, c sso.Connection, given tokens, want expected, now time.Time, r *sso.Report) (sso.Assertion, error) {
	var t idToken
	var info object
	defer func() {
		r.Received = limited(received(map[string]object{"header": t.header, "claims": t.claims, "userinfo": info}), sso.MaxReceived)
	}()
	if given.id != "" {
		var err error
		if t, err = p.judge(ctx, c, given.id, want, now, r); err != nil {
			return sso.Assertion{}, err
		}
		if err := r.Err(); err != nil {
			return sso.Assertion{}, err
		}
	} else {
		t.subject = want.subject
	}
	switch missing := missing(c, t.claims); {
	case len(missing) > 0 && c.OIDC.Provider.UserInfo != "":
		var err error
		if info, err = p.userInfo(ctx, c, given.access, t.subject, now); err != nil {
			if err := uninformed(r, c, missing, want, t.subject, info, err); err != nil {
				return sso.Assertion{}, err
			}
		}
	case groupsAlone(c, missing):
		noGroups(r, "the provider has no userinfo endpoint to ask for them")
	}
	all := together(c, t.claims, info)
	verifiedEmail(all[c.Mappers.Named().Email], t.claims, info, r)

	// Where the answer is partial, the claim was judged before.
	if o := c.OIDC.MandatoryClaim; o != nil && (given.id != "" || all.has(o.Claim)) {
		mandatory(*o, all, r)
	}
	if err := r.Err(); err != nil {
		return sso.Assertion{}, err
	}
	kept := sso.Kept{Refresh: given.refresh, IDToken: given.id, Subject: t.subject, Whole: info != nil && !found(t.claims, c.Mappers.Named().Groups)}
	if len(kept.IDToken) > maxKeptHint {
		kept.IDToken = ""
	}
	if len(kept.Refresh) > maxKeptRefresh {
		kept.Refresh = ""
	}
	return sso.Assertion{Subject: t.subject, Attributes: all.attributes(), AuthTime: t.authTime, Methods: t.methods, Kept: kept}, nil
}

// together is all that the provider said, with what is mapped under the names that it is mapped by. The ID token counts before
// userinfo, with what it says: a null in it says nothing.
func together(c sso.Connection, claims, info object) object {
	all := maps.Clone(info)
	if all == nil {
		all = object{}
	}
	for name, v := range claims {
		if claims.has(name) {
			all[name] = v
		}
	}
	m := c.Mappers.Named()
	for _, name := range []string{m.Email, m.Groups, m.UID, m.GID, m.SupplementaryGroups, m.FirstName, m.LastName} {
		if v, ok := claims.find(name); ok {
			all[name] = v
		} else if v, ok := info.find(name); ok {
			all[name] = v
		}
	}
	return all
}

func found(o object, name string) bool {
	_, ok := o.find(name)
	return ok
}

// The bounds of what is kept, in bytes: it stands, sealed, in an item of the store.
const (
	maxKeptHint    = 4 << 10
	maxKeptRefresh = 8 << 10
)

// missing lists what is mapped and not in an ID token: e-mail and groups, and what the connection names by a name of its own,
// for then somebody counts on it; and the mandatory claim. The other defaults are names that few providers send, and nobody
// should wait at each sign-in for an endpoint that does not have them either.
func missing(c sso.Connection, claims object) (names []string) {
	m, d := c.Mappers.Named(), sso.DefaultMappers
	add := func(name string, wanted bool) {
		if wanted && name != "" && !found(claims, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	add(m.Email, true)
	add(m.Groups, true)
	add(m.UID, m.UID != d.UID)
	add(m.GID, m.GID != d.GID)
	add(m.SupplementaryGroups, m.SupplementaryGroups != d.SupplementaryGroups)
	add(m.FirstName, m.FirstName != d.FirstName)
	add(m.LastName, m.LastName != d.LastName)
	if o := c.OIDC.MandatoryClaim; o != nil && !claims.has(o.Claim) && !slices.Contains(names, o.Claim) {
		names = append(names, o.Claim)
	}
	return names
}

// verifiedEmail refuses an e-mail of which the provider does not say that it verified it: anybody could have typed it.
// email_verified is about the claim `email` (OpenID Connect Core §5.1); where another one is mapped, it counts if any of its
// values is the same e-mail, in whatever spelling, for that is what the person would be known by.
func verifiedEmail(mapped jsontext.Value, claims, info object, r *sso.Report) {
	if claims.verified() && info.verified() {
		return
	}
	unverified := map[string]bool{}
	for _, o := range []object{claims, info} {
		for _, s := range texts(o["email"]) {
			unverified[canonical(s)] = true
		}
	}
	for _, s := range texts(mapped) {
		if unverified[canonical(s)] {
			r.Fail(sso.CheckEmail, "email_verified is not true", "a verified e-mail", "Let the person verify their e-mail at the provider, or an administrator mark it as verified there.")
			return
		}
	}
}

// verified says whether nothing speaks against the claim `email`. A provider that says something about it says "true", in
// whatever case (some write booleans as text); whatever else it says is no yes.
func (o object) verified() bool {
	v := o["email_verified"]
	if s, ok := unquote(v); ok {
		return strings.EqualFold(s, "true")
	}
	return !o.has("email_verified") || v.Kind() == 't'
}

// canonical is an e-mail as people are known by it here. What is none stays as it is.
func canonical(s string) string {
	if e, err := core.ParseEmail("email", s); err == nil {
		return string(e)
	}
	return s
}

// mandatory admits only who has one of the values of the mandatory claim: it is the value, or one of a list of them.
func mandatory(want sso.MandatoryClaim, all object, r *sso.Report) {
	values := []jsontext.Value{all[want.Claim]}
	if values[0].Kind() == '[' {
		values = nil
		_ = json.Unmarshal(all[want.Claim], &values) // it was decoded once already
	}
	for _, v := range values {
		s, ok := unquote(v)
		if !ok {
			s = string(v)
		}
		if len(v) > 0 && slices.Contains(want.Values, s) {
			r.Pass(sso.CheckClaim, want.Claim+" = "+visible(s))
			return
		}
	}
	found := "no " + want.Claim
	if all.has(want.Claim) {
		found = want.Claim + " = " + visible(string(all[want.Claim]))
	}
	r.Fail(sso.CheckClaim, found, want.Claim+" with one of: "+strings.Join(want.Values, ", "),
		"Give the person one of these values at the provider, and let it send the claim; or change the mandatory claim of this connection.")
}
