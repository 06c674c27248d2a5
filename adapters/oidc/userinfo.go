package oidc

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/token"
)

// unanswered is a status other than 200 of the userinfo endpoint, which is up.
type unanswered int

func (u unanswered) Error() string { return fmt.Sprintf("the userinfo endpoint answered %d", int(u)) }

// errOther says that the userinfo endpoint spoke of somebody else, or of nobody.
var errOther = malformed("the userinfo endpoint answered about somebody else than the ID token")

// userInfo asks the userinfo endpoint (OpenID Connect Core §5.3). What it says counts only if it is about the same person as
// the ID token (§5.3.4). The error is unanswered or malformed where it answered with anything else, of core/outbound where it
// did not.
func (p *Provider) userInfo(ctx context.Context, c sso.Connection, access, subject string, now time.Time) (object, error) {
	if access == "" {
		return nil, malformed("the provider gave no access token to ask its userinfo endpoint with")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.OIDC.Provider.UserInfo, nil)
	if err != nil {
		return nil, core.BadField(fieldDiscovery, "leads to a document whose userinfo_endpoint is no address")
	}
	request.Header.Set("Authorization", "Bearer "+access)
	request.Header.Set("Accept", "application/json, application/jwt;q=0.5")
	status, body, err := p.out.Send(request, c.CA)
	switch {
	case err != nil:
		return nil, err
	case status >= 500 || status == http.StatusTooManyRequests:
		return nil, fmt.Errorf("%s answered %d: %w", request.URL.Host, status, core.Unavailable)
	case status != http.StatusOK:
		return nil, unanswered(status)
	}
	var info object
	if text := bytes.TrimSpace(body); bytes.HasPrefix(text, []byte("ey")) { // a JWS begins with an object in base64url; JSON does not
		info, err = p.signedInfo(ctx, c, string(text), now)
	} else if info, err = read(body); err != nil {
		err = malformed("the userinfo endpoint answered with what is no well-formed JSON object")
	}
	if err != nil {
		return nil, err
	}
	if sub, ok := info.str("sub"); !ok || sub == "" || sub != subject {
		return info, errOther
	}
	return info, nil
}

// signedInfo judges an answer that is a signed JWT (§5.3.2): the provider's own, for this client. Its algorithm is one that
// the client registered for userinfo, of which discovery says nothing for certain: the key says which it may be.
func (p *Provider) signedInfo(ctx context.Context, c sso.Connection, raw string, now time.Time) (object, error) {
	const what = "the userinfo endpoint answered with a JWT "
	header, payload, err := token.Strict(raw)
	if err != nil {
		return nil, malformed(what + "that cannot be read; an encrypted one is not understood")
	}
	head, info := object(header), object(payload)
	alg, ok1 := head.str("alg")
	kid, ok2 := head.str("kid")
	typ, ok3 := head.str("typ")
	iss, ok4 := info.str("iss")
	aud, ok5 := info.strs("aud", true)
	exp, ok6 := info.optional("exp")
	switch {
	case !ok1 || !ok2 || !ok3 || !slices.Contains(algorithms, alg):
		return nil, malformed(what + "that is not signed with an algorithm that is taken: " + visible(alg))
	case typ != "" && !strings.EqualFold(typ, "JWT"):
		return nil, malformed(what + "of another type: " + visible(typ))
	case !ok4 || iss != c.OIDC.Provider.Issuer:
		return nil, malformed(what + "of another issuer: " + cmp.Or(visible(iss), "none"))
	case !ok5 || !slices.Contains(aud, c.OIDC.ClientID):
		return nil, malformed(what + "for another client: " + cmp.Or(visible(strings.Join(aud, ", ")), "none"))
	case !ok6 || !exp.IsZero() && !now.Before(exp.Add(skew)):
		return nil, malformed(what + "that has expired")
	}
	switch err := p.keys.verify(ctx, source{c.OIDC.Provider.JWKS, c.CA}, raw, alg, kid, now); {
	case errors.Is(err, errNoKey) || errors.Is(err, errAlgorithm):
		return nil, malformed(what + "of another key: " + err.Error())
	case err != nil:
		return nil, err
	}
	return info, nil
}

// uninformed judges that the userinfo endpoint told nothing. It was asked because something is missing; that it cannot be
// read does not mean that there is none, so nobody is signed in without their groups by a failure. Only where nobody counts
// on groups (their name is the one that few providers send), nothing else is missing and the endpoint says that it is not for
// this client, the sign-in goes on. In a refresh, only a status that speaks of the person refuses them.
func uninformed(r *sso.Report, c sso.Connection, missing []string, want expected, subject string, info object, err error) error {
	var status unanswered
	var bad malformed
	answered := errors.As(err, &status)
	switch {
	case answered && status >= 400 && groupsAlone(c, missing) && !want.whole:
		noGroups(r, status.Error())
		return nil
	case answered && want.pending == nil && status != http.StatusUnauthorized && status != http.StatusForbidden:
		return fmt.Errorf("%s: %w", status.Error(), core.Unavailable)
	case answered:
		bad = malformed(status.Error())
	case !errors.As(err, &bad):
		return failed(r, fmt.Errorf("userinfo: %w", err))
	}
	if bad != errOther && !answered && want.pending == nil { // nor does what cannot be read speak of the person
		return fmt.Errorf("%s: %w", string(bad), core.Unavailable)
	}
	if bad == errOther {
		sub, _ := info.str("sub")
		r.Fail(sso.CheckSubject, "userinfo about "+cmp.Or(visible(sub), "nobody"), subject, "Let the provider's userinfo endpoint answer with the same sub as its ID tokens.")
		return sso.ErrRefused
	}
	names := visible(strings.Join(missing, ", "))
	r.Fail(sso.CheckAnswer, string(bad), "the person's "+names, "Let the provider put "+names+" into the ID token, or allow this client the userinfo endpoint, with JSON that is not encrypted.")
	return sso.ErrRefused
}

// groupsAlone says whether nothing is missing but groups, under the name that they have where nobody gave them another.
func groupsAlone(c sso.Connection, missing []string) bool {
	name := sso.DefaultMappers.Groups
	return c.Mappers.Named().Groups == name && slices.Equal(missing, []string{name})
}

func noGroups(r *sso.Report, why string) {
	name := sso.DefaultMappers.Groups
	r.Note(sso.CheckGroups, "no "+name+" in the ID token, and "+why,
		"If the person should have groups here: let the provider put them into the ID token, and set the mapping of groups to the name that they have there.")
}
