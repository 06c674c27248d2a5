package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/token"
)

// The bounds of an ID token in time. Clocks may differ by skew; a token that is fetched with a code is made for it.
const (
	skew   = time.Minute
	maxAge = 10 * time.Minute
)

// maxSubject is the longest `sub`, in bytes (OpenID Connect Core §2).
const maxSubject = 255

// expected is what an ID token must agree with.
type expected struct {
	pending *sso.Pending // nil: a token of a refresh, which has no nonce of ours (OpenID Connect Core §12.2)
	subject string       // of a refresh: whom it must be about
	whole   bool         // of a refresh: the groups came from userinfo
	access  string       // the access token that came with it
	code    string
	alone   bool // nothing came with it, and no sign-in here began it: see Take
}

// idToken is an ID token that was judged.
type idToken struct {
	header, claims object
	subject        string
	authTime       time.Time
	methods        []string
}

// judge checks an ID token by every rule of OpenID Connect Core §3.1.3.7 and of RFC 8725, and notes each in r: what it says
// counts only if none failed. Unlike those, an error means that it could not be judged: its keys cannot be had.
func (p *Provider) judge(ctx context.Context, c sso.Connection, raw string, want expected, now time.Time, r *sso.Report) (t idToken, err error) {
	header, claims, err := token.Strict(raw)
	if err != nil && strings.HasSuffix(raw, ".") {
		r.Fail(sso.CheckSignature, "an ID token without a signature", "a signed one", "Let the provider sign ID tokens, in the settings of this client there.")
		return t, nil
	}
	if err != nil {
		r.Fail(sso.CheckAnswer, "an ID token that cannot be read: "+err.Error(), "a signed JWT in which nothing appears twice",
			"Let the provider sign ID tokens, and not encrypt them, in the settings of this client there.")
		return t, nil
	}
	t.header, t.claims = header, claims
	if other := t.other(); want.alone && other != "" {
		r.Fail(sso.CheckAnswer, other, "an ID token", "Bring the id_token of the provider's answer, and let the provider put into it nothing that belongs into access tokens.")
	} else {
		r.Pass(sso.CheckAnswer, "an ID token")
	}
	t.audience(c.OIDC.ClientID, r)
	t.issuer(c.OIDC.Provider.Issuer, r)
	t.request(want, r)
	t.times(want, now, r)
	t.about(want, r)
	if err := p.signature(ctx, c, t, raw, now, r); err != nil {
		r.Fail(sso.CheckSignature, "not checked: "+err.Error(), "", "See that "+c.OIDC.Provider.JWKS+" can be reached, and sign in again.")
		return t, err
	}
	return t, nil
}

// other says as what else than an ID token a token shows itself; empty: as nothing else. A provider signs other things for a
// client with the same keys, and not all write into the header what they are (RFC 8725 §3.12). From the token endpoint an ID
// token comes under its name; one that stands alone has nothing but what it says. An access token is for showing to others, who
// could sign in with it as the person; and a logout token (OpenID Connect Back-Channel Logout 1.0 §2.4) says that they have left.
func (t *idToken) other() string {
	typ, ok1 := t.claims.str("typ")       // Keycloak: ID, Bearer, Refresh, Offline, Logout
	use, ok2 := t.claims.str("token_use") // Amazon Cognito: id, access
	switch {
	case t.claims.has("events"):
		return "a token with events, as of a logout"
	case t.claims.has("typ") && (!ok1 || typ != "ID"):
		return "a token with the typ " + visible(typ)
	case t.claims.has("token_use") && (!ok2 || use != "id"):
		return "a token with the token_use " + visible(use)
	case t.claims.has("scope") || t.claims.has("scp"): // RFC 9068 §2.2.3, and what some write instead
		return "an access token: it has a scope"
	}
	return ""
}

// audience: the token is for this client, and for nobody else without saying to whom of them it was given (§2, azp).
func (t *idToken) audience(client string, r *sso.Report) {
	const fix = "Give the client id that the provider shows for this application, to the letter."
	aud, ok := t.claims.strs("aud", true)
	azp, ok2 := t.claims.str("azp")
	found := visible(strings.Join(aud, ", "))
	switch {
	case !ok || !ok2 || len(aud) == 0:
		r.Fail(sso.CheckAudience, "no aud that can be read", client, "Let the provider send ID tokens as OpenID Connect has them.")
	case !slices.Contains(aud, client):
		r.Fail(sso.CheckAudience, found, client, fix)
	case len(aud) > 1 && azp == "":
		r.Fail(sso.CheckAudience, found+", and no azp", client+" alone", "Take the other audiences out of this client's ID tokens at the provider, or let it add azp.")
	case t.claims.has("azp") && azp != client:
		r.Fail(sso.CheckAudience, "azp "+visible(azp), client, fix)
	default:
		r.Pass(sso.CheckAudience, found)
	}
}

func (t *idToken) issuer(want string, r *sso.Report) {
	if iss, ok := t.claims.str("iss"); !ok || iss != want || want == "" {
		r.Fail(sso.CheckIssuer, visible(iss), want, "Save the discovery URL of the provider that people are sent to, with its directory (tenant).")
		return
	}
	r.Pass(sso.CheckIssuer, want)
}

// request: the token answers this sign-in, and belongs to what came with it (§3.1.3.7 no. 11, §3.1.3.6, §3.3.2.11).
func (t *idToken) request(want expected, r *sso.Report) {
	const fix = "Begin again at the login page. If it happens every time, somebody between the browser and the provider changes answers."
	if want.pending != nil {
		if nonce, ok := t.claims.str("nonce"); !ok || nonce == "" || nonce != want.pending.Nonce {
			r.Fail(sso.CheckRequest, "an ID token with another nonce, or none", "the nonce of this sign-in", fix)
			return
		}
	}
	if want.alone {
		return // it answers nothing, and belongs to nothing
	}
	alg, _ := t.header.str("alg")
	if !slices.Contains(algorithms, alg) {
		r.Pass(sso.CheckRequest, "the ID token answers this sign-in") // no hash belongs to that algorithm; the signature fails
		return
	}
	for _, h := range []struct{ claim, of, name string }{{"at_hash", want.access, "access token"}, {"c_hash", want.code, "code"}} {
		got, ok := t.claims.str(h.claim)
		if t.claims.has(h.claim) && (!ok || h.of == "" || got != halfHash(alg, h.of)) {
			r.Fail(sso.CheckRequest, h.claim+" that is not of the "+h.name, "the hash of the "+h.name+" that came with it", fix)
			return
		}
	}
	r.Pass(sso.CheckRequest, "the ID token answers this sign-in")
}

// halfHash is the left half of the hash that belongs to an algorithm (§3.1.3.6); for Ed25519 it is SHA-512.
func halfHash(alg, s string) string {
	var sum []byte
	switch {
	case strings.HasSuffix(alg, "256"):
		h := sha256.Sum256([]byte(s))
		sum = h[:]
	case strings.HasSuffix(alg, "384"):
		h := sha512.Sum384([]byte(s))
		sum = h[:]
	default:
		h := sha512.Sum512([]byte(s))
		sum = h[:]
	}
	return encode(sum[:len(sum)/2])
}

// times: it is of now. iat is needed, for its age shows a token that was kept from an earlier sign-in.
func (t *idToken) times(want expected, now time.Time, r *sso.Report) {
	exp, ok1 := t.claims.time("exp")
	iat, ok2 := t.claims.time("iat")
	nbf, ok3 := t.claims.optional("nbf")
	auth, ok4 := t.claims.optional("auth_time")
	const clocks = "Compare the provider's clock with this one: they differ, or the answer was held back."
	at := "now, " + now.UTC().Format(time.RFC3339)
	fail := func(found, fix string) { r.Fail(sso.CheckTime, found, at, fix) }
	switch {
	case !ok1 || !ok2 || !ok3 || !ok4 || exp.IsZero() || iat.IsZero():
		fail("no exp, iat, nbf or auth_time that can be read", "Let the provider send ID tokens as OpenID Connect has them.")
	case !now.Before(exp.Add(skew)):
		fail("expired at "+exp.Format(time.RFC3339), clocks)
	case iat.After(now.Add(skew)):
		fail("issued in the future, at "+iat.Format(time.RFC3339), clocks)
	case nbf.After(now.Add(skew)):
		fail("not valid before "+nbf.Format(time.RFC3339), clocks)
	case auth.After(now.Add(skew)):
		fail("the person's sign-in lies in the future, at "+auth.Format(time.RFC3339), clocks)
	case (want.pending != nil || want.alone) && now.Sub(iat) > maxAge:
		fail("issued long ago, at "+iat.Format(time.RFC3339), clocks)
	case want.pending != nil && want.pending.Login && auth.IsZero(): // Google and GitLab leave it out, though OpenID Connect Core §2 wants it
		r.Note(sso.CheckTime, "the provider does not say when the person signed in (auth_time)",
			"Let the provider send auth_time, if it can: a fresh sign-in was asked for, and whoever asked will not be told that it happened.")
	case want.pending != nil && want.pending.Login && auth.Before(want.pending.At.Add(-skew)):
		fail("the person signed in before, at "+auth.Format(time.RFC3339), "Let the provider honour prompt=login and max_age=0: a fresh sign-in was asked for.")
	default:
		t.authTime = auth
		r.Pass(sso.CheckTime, "issued "+iat.Format(time.RFC3339)+", expires "+exp.Format(time.RFC3339))
	}
}

// about: it says whom. The subject is compared to the byte, and bounded.
func (t *idToken) about(want expected, r *sso.Report) {
	sub, ok := t.claims.str("sub")
	switch {
	case !ok || sub == "":
		r.Fail(sso.CheckSubject, "no sub", "the person's stable id", "Let the provider send ID tokens as OpenID Connect has them.")
	case len(sub) > maxSubject || visible(sub) != sub:
		r.Fail(sso.CheckSubject, fmt.Sprintf("a sub of %d bytes, or with characters that cannot be shown", len(sub)), fmt.Sprintf("at most %d bytes of text", maxSubject),
			"Let the provider use another id for people.")
	case want.subject != "" && sub != want.subject:
		r.Fail(sso.CheckSubject, visible(sub), want.subject, "The provider answered about somebody else. Sign in again.")
	default:
		t.subject = sub
		r.Pass(sso.CheckSubject, sub)
	}
	if amr, ok := t.claims.strs("amr", false); ok && len(amr) <= 16 {
		for _, m := range amr {
			if m != "" && len(m) <= 64 && visible(m) == m {
				t.methods = append(t.methods, m)
			}
		}
	}
}

// signature: the algorithm is one that the provider promises and its key is for; the token only agrees (RFC 8725 §3.1).
func (p *Provider) signature(ctx context.Context, c sso.Connection, t idToken, raw string, now time.Time, r *sso.Report) error {
	alg, ok1 := t.header.str("alg")
	kid, ok2 := t.header.str("kid")
	typ, ok3 := t.header.str("typ")
	promised := c.OIDC.Provider.Algorithms
	switch {
	case !ok1 || !ok2 || !ok3 || !slices.Contains(algorithms, alg) || !slices.Contains(promised, alg):
		r.Fail(sso.CheckSignature, "algorithm "+visible(alg), strings.Join(promised, ", "),
			"Let the provider sign this client's ID tokens with RS256 or ES256; if its algorithms have changed, save the connection again.")
		return nil
	case typ != "" && !strings.EqualFold(typ, "JWT"): // a token for something else (RFC 8725 §3.11)
		r.Fail(sso.CheckSignature, "type "+visible(typ), "JWT", "Let the provider send an ID token as id_token.")
		return nil
	}
	switch err := p.keys.verify(ctx, source{c.OIDC.Provider.JWKS, c.CA}, raw, alg, kid, now); {
	case errors.Is(err, errNoKey) || errors.Is(err, errAlgorithm):
		r.Fail(sso.CheckSignature, err.Error()+" (key id "+visible(kid)+", "+alg+")", "a key of "+c.OIDC.Provider.JWKS,
			"If the provider has just changed its keys, sign in again in a minute. If not, the discovery URL is that of another provider.")
		return nil
	case err != nil:
		return err
	}
	r.Pass(sso.CheckSignature, alg+", key "+visible(kid))
	return nil
}
