package openshift

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/redact"
	"github.com/fleetpass/fleetpass/core/sso"
)

// Finish judges what the browser brought back, swaps the code for a token and asks the cluster who its bearer is.
func (p *Provider) Finish(ctx context.Context, c sso.Connection, s sso.Secrets, a sso.Arrival, r *sso.Report) (sso.Assertion, error) {
	base, err := p.base(c)
	if err != nil {
		return sso.Assertion{}, err
	}
	code, ok := judge(c, s, a, r)
	if !ok {
		return sso.Assertion{}, r.Err()
	}
	sent := []string{s.Client, code, a.Pending.Verifier}
	token, err := p.token(ctx, c, s, a, code, r)
	if err != nil {
		return sso.Assertion{}, err
	}
	u, err := p.user(ctx, c, base, token.Access)
	if err != nil {
		return sso.Assertion{}, p.explain(c, r, err)
	}
	r.Received = bounded(quoted("token: "+token.shown(), sent...), "GET "+base+myself, quoted(u.shown(), append(sent, token.Access)...))
	r.Pass(sso.CheckAnswer, "a code, which the OAuth server took, and a user")
	if u.Metadata.UID == "" || u.Metadata.Name == "" {
		r.Fail(sso.CheckSubject, quoted(u.Metadata.Name, append(sent, token.Access)...), "a user of the cluster's identity provider, with a uid",
			"Sign in as a user whom the cluster's identity provider knows: kubeadmin and certificate users have no record that outlasts them.")
		return sso.Assertion{}, r.Err()
	}
	r.Pass(sso.CheckSubject, quoted(u.Metadata.Name, append(sent, token.Access)...))
	return sso.Assertion{
		Subject: u.Metadata.UID, Attributes: attributes(c, u, r),
		Kept: sso.Kept{Refresh: token.Access, Subject: u.Metadata.UID},
	}, r.Err()
}

// bounded is what a trace quotes of what was received.
func bounded(lines ...string) string {
	s := strings.Join(lines, "\n")
	if len(s) > sso.MaxReceived {
		s = s[:sso.MaxReceived]
	}
	return strings.ToValidUTF8(s, "")
}

// quoted is a stranger's text as a trace shows it, each line by itself; where it repeats a secret, nothing of it.
func quoted(s string, secrets ...string) string {
	if redact.Repeats(s, secrets...) {
		return "(hidden, for it repeats a secret)"
	}
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = redact.Visible(line)
	}
	return strings.Join(lines, "\n")
}

// judge looks at what the browser brought and returns the code.
func judge(c sso.Connection, s sso.Secrets, a sso.Arrival, r *sso.Report) (code string, ok bool) {
	o := c.OpenShift
	if a.Pending == nil {
		r.Fail(sso.CheckRequest, "an answer that nobody here asked for", "the answer to a sign-in that began here", "Begin at the login page: OpenShift has no way to begin a sign-in itself.")
		return "", false
	}
	if problem := a.Params["error"]; problem != "" {
		shown := quoted(redact.Visible(problem), s.Client, a.Pending.Verifier)
		r.Received = bounded("error: "+shown, "error_description: "+quoted(redact.Visible(a.Params["error_description"]), s.Client, a.Pending.Verifier))
		r.Fail(sso.CheckAnswer, "the error "+shown, "a code", fixOf(problem, o, a.Return))
		return "", false
	}
	if code = a.Params["code"]; code == "" || len(code) > maxCode {
		r.Fail(sso.CheckAnswer, "no code", "a code", "Sign in again; if it happens again, the address that came back was not made by the cluster's OAuth server.")
		return "", false
	}
	// OpenShift does not send iss (RFC 9207). If somebody does, the answer may be another server's (a mix-up).
	if iss := a.Params["iss"]; iss != "" && iss != o.Provider.Issuer {
		r.Fail(sso.CheckIssuer, redact.Visible(iss), o.Provider.Issuer, "The answer is another server's: check that the connection's base URL is that of the cluster whose login page was shown.")
		return "", false
	}
	if o.Provider.PKCE && a.Pending.Verifier == "" {
		r.Fail(sso.CheckRequest, "no code verifier was kept", "the verifier of this sign-in", "Sign in again: the connection was changed while this sign-in was under way.")
		return "", false
	}
	if a.Pending.Login {
		r.Note(sso.CheckTime, "the provider does not say when the person signed in",
			"An OpenShift cluster cannot be asked to have somebody sign in anew; whoever asked for it (prompt=login, max_age) is not told that it happened.")
	}
	r.Pass(sso.CheckRequest, "the answer to the sign-in that began here")
	return code, true
}

// fixOf says what to do about an error of the OAuth server (RFC 6749 §4.1.2.1, §5.2).
func fixOf(problem string, o *sso.OpenShiftSettings, redirect string) string {
	client := "the OAuthClient " + o.ClientID
	switch problem {
	case "access_denied":
		return "The person declined, or may not use the client: set grantMethod of " + client + " to auto if people should not be asked."
	case "unauthorized_client", "invalid_client":
		return "Compare the connection's client ID and secret with " + client + " on the cluster: `oc get oauthclient " + o.ClientID + " -o yaml` shows both."
	case "invalid_scope":
		return "Remove scopes from the connection, or permit them in scopeRestrictions of " + client + "; " + DefaultScope + " is enough."
	case "invalid_grant":
		return "Sign in again, since a code works once and for minutes; if it happens again, add " + redirect + " to redirectURIs of " + client + "."
	case "invalid_request":
		return "Add " + redirect + " to redirectURIs of " + client + ", exactly as it stands here."
	case "server_error", "temporarily_unavailable":
		return "Try again later; the logs of the pods in the cluster's namespace openshift-authentication say more."
	}
	return "Look the error up in the logs of the pods in the cluster's namespace openshift-authentication."
}

// token swaps the code (RFC 6749 §4.1.3). The secret goes into the form and not into a Basic header: the name of an
// OAuthClient that is a service account holds colons, and servers differ in whether they decode the header (§2.3.1).
func (p *Provider) token(ctx context.Context, c sso.Connection, s sso.Secrets, a sso.Arrival, code string, r *sso.Report) (tokenAnswer, error) {
	o := c.OpenShift
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {a.Return},
		"client_id": {o.ClientID}, "client_secret": {s.Client},
	}
	if a.Pending.Verifier != "" {
		form.Set("code_verifier", a.Pending.Verifier)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.Provider.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return tokenAnswer{}, core.BadField(fieldBase, "names a token endpoint that is no URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, body, err := p.send(c, req, maxToken)
	if err != nil {
		return tokenAnswer{}, p.explain(c, r, err)
	}
	t, err := parseToken(status, body)
	if err == nil {
		return t, nil
	}
	var refused oauthError
	if errors.As(err, &refused) {
		shown := string(refused)
		if redact.Repeats(shown, s.Client, code, a.Pending.Verifier) {
			shown = string(anError)
		}
		r.Received = "token: error: " + shown
		r.Fail(sso.CheckAnswer, "the token endpoint answered "+shown, "a token for the code", fixOf(string(refused), o, a.Return))
		return tokenAnswer{}, r.Err()
	}
	return tokenAnswer{}, p.explain(c, r, err)
}

// user asks the cluster who the bearer of a token is.
func (p *Provider) user(ctx context.Context, c sso.Connection, base, token string) (user, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+myself, nil)
	if err != nil {
		return user{}, core.BadField(fieldBase, "is no URL")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	status, body, err := p.send(c, req, maxUser)
	switch {
	case err != nil:
		return user{}, err
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return user{}, denied(status)
	case status != http.StatusOK:
		return user{}, fmt.Errorf("the cluster's user API answers %d: %w", status, core.Unavailable)
	}
	return parseUser(body)
}

// denied is a status with which the cluster refuses to say who a token's bearer is.
type denied int

func (d denied) Error() string { return fmt.Sprintf("the cluster's user API answers %d", int(d)) }

// malformed is an answer that cannot be read as what it should be. It quotes nothing of it.
type malformed string

func (m malformed) Error() string { return string(m) }

// explain notes why the cluster's answer cannot be used, and makes an error of the port's kinds of it.
func (p *Provider) explain(c sso.Connection, r *sso.Report, err error) error {
	var refused denied
	var bad malformed
	switch {
	case errors.As(err, &refused):
		r.Fail(sso.CheckAnswer, refused.Error(), "a user", "Have the scope "+DefaultScope+" granted to the OAuthClient "+c.OpenShift.ClientID+
			": the connection asks for "+scope(c.OpenShift)+", and reading oneself needs that or user:full.")
		return r.Err()
	case errors.As(err, &bad):
		r.Fail(sso.CheckAnswer, string(bad), "what OpenShift 4 documents", "Check that the base URL is that of an OpenShift 4 API server, and that nothing between rewrites its answers.")
		return r.Err()
	}
	r.Fail(sso.CheckAnswer, "the cluster could not be asked: "+err.Error(), "an answer within seconds",
		"Check that this service reaches the base URL and the token endpoint "+c.OpenShift.Provider.Token+", and that the operator allows their addresses.")
	return err
}

// The bounds of what is read, in bytes. A user's groups make up nearly all of their document.
const (
	maxToken = 64 << 10
	maxUser  = 512 << 10
	maxCode  = 4 << 10
)

// send makes a request that carries a secret, which is why it follows no redirect: what the secret is sent to is what was
// checked. Nobody answering is core.Unavailable.
func (p *Provider) send(c sso.Connection, req *http.Request, max int64) (status int, body []byte, err error) {
	shared, err := p.out.HTTP(c.CA)
	if err != nil {
		return 0, nil, err
	}
	client := *shared
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error // its text has the URL, which is told where it helps
		if errors.As(err, &u) {
			err = u.Err
		}
		if errors.Is(err, core.Invalid) { // an address that may not be talked to
			return 0, nil, err
		}
		return 0, nil, fmt.Errorf("%s does not answer (%v): %w", req.URL.Host, err, core.Unavailable)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, max+1))
	switch {
	case err != nil:
		return 0, nil, fmt.Errorf("the answer of %s broke off: %w", req.URL.Host, core.Unavailable)
	case int64(len(body)) > max:
		return 0, nil, malformed(fmt.Sprintf("an answer over %d bytes", max))
	case resp.StatusCode >= 300 && resp.StatusCode <= 399:
		return 0, nil, malformed("a redirect, which is not followed with a secret")
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return 0, nil, fmt.Errorf("%s answers %d: %w", req.URL.Host, resp.StatusCode, core.Unavailable)
	}
	return resp.StatusCode, body, nil
}

// Ask asks the cluster again who the bearer of the kept token is. A token that it takes no longer, or takes for somebody
// else, is ErrRefused: it ends with the age that the cluster gives to tokens (a day by default), and with the user. Whatever
// else goes wrong is core.Unavailable: the person may be who they were.
func (p *Provider) Ask(ctx context.Context, c sso.Connection, _ sso.Secrets, k sso.Kept, _ time.Time) (sso.Assertion, error) {
	if k.Refresh == "" || k.Subject == "" {
		return sso.Assertion{}, sso.ErrRefused
	}
	base, err := p.base(c)
	if err != nil {
		return sso.Assertion{}, unavailable(err)
	}
	u, err := p.user(ctx, c, base, k.Refresh)
	var refused denied
	switch {
	case errors.As(err, &refused):
		return sso.Assertion{}, sso.ErrRefused
	case err != nil:
		return sso.Assertion{}, unavailable(err)
	case u.Metadata.UID != k.Subject:
		return sso.Assertion{}, sso.ErrRefused
	}
	var r sso.Report
	as := sso.Assertion{Subject: u.Metadata.UID, Attributes: attributes(c, u, &r), Kept: k}
	return as, r.Err()
}

func unavailable(err error) error {
	if errors.Is(err, core.Unavailable) {
		return err
	}
	return fmt.Errorf("openshift: %v: %w", err, core.Unavailable)
}
