package oidc_test

import (
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core/sso"
)

// A provider may sign what userinfo says (OpenID Connect Core §5.3.2); then it counts only if it is the provider's, for this
// client, about this person. Each row changes a good answer, which is accepted first. RP-007, JWT-001, JWT-013
func TestSignedUserInfo(t *testing.T) {
	r := newRig(t)
	type jws struct {
		header, claims m
		alg            string
		key            crypto.Signer
	}
	lean := func(c m) { delete(c, "email"); delete(c, "GROUPS") }
	for _, tt := range []struct {
		name   string
		mutate func(*jws)
		raw    func(string) string
		want   sso.CheckName
	}{
		{"audience in a list", func(j *jws) { j.claims["aud"] = []string{"x", clientID} }, nil, ""},
		{"of type JWT", func(j *jws) { j.header["typ"] = "JWT" }, nil, ""},
		{"by another of its keys", func(j *jws) { j.alg, j.key, j.header["alg"], j.header["kid"] = "ES256", ecKey(), "ES256", "e1" }, nil, ""},
		{"another key", func(j *jws) { j.key = otherRSA() }, nil, sso.CheckAnswer},
		{"alg none", func(j *jws) { j.header["alg"] = "none" }, nil, sso.CheckAnswer},
		{"alg HS256", func(j *jws) { j.header["alg"] = "HS256" }, nil, sso.CheckAnswer},
		{"no signature", func(j *jws) {}, func(s string) string { return s[:strings.LastIndexByte(s, '.')+1] }, sso.CheckAnswer},
		{"encrypted", func(j *jws) {}, func(s string) string { return s + ".x.y" }, sso.CheckAnswer},
		{"changed", func(j *jws) {}, func(s string) string {
			parts := strings.Split(s, ".")
			parts[1] = b64([]byte(strings.Replace(string(must(rawURL(parts[1]))), "ml", "op", 1)))
			return strings.Join(parts, ".")
		}, sso.CheckAnswer},
		{"another issuer", func(j *jws) { j.claims["iss"] = "https://evil.example" }, nil, sso.CheckAnswer},
		{"no issuer", func(j *jws) { delete(j.claims, "iss") }, nil, sso.CheckAnswer},
		{"another client", func(j *jws) { j.claims["aud"] = "another" }, nil, sso.CheckAnswer},
		{"no client", func(j *jws) { delete(j.claims, "aud") }, nil, sso.CheckAnswer},
		{"another type", func(j *jws) { j.header["typ"] = "at+jwt" }, nil, sso.CheckAnswer},
		{"expired", func(j *jws) { j.claims["exp"] = now.Unix() - 61 }, nil, sso.CheckAnswer},
		{"another person", func(j *jws) { j.claims["sub"] = "subject-2" }, nil, sso.CheckSubject},
		{"no person", func(j *jws) { delete(j.claims, "sub") }, nil, sso.CheckSubject},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.reset()
			r.claims = lean
			good := func() jws {
				return jws{m{"alg": "RS256", "kid": "r1"}, m{"iss": r.issuer(), "aud": clientID, "sub": "subject-1", "email": "ann@corp.example", "GROUPS": []string{"ml"}}, "RS256", rsaKey()}
			}
			serve := func(j jws, raw func(string) string) {
				s := signed(string(must(json.Marshal(j.header))), string(must(json.Marshal(j.claims))), j.alg, j.key)
				if raw != nil {
					s = raw(s)
				}
				r.userinfo = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/jwt")
					io.WriteString(w, s)
				}
			}
			serve(good(), nil)
			said, report, err := r.signIn(t)
			if err != nil || said.Attributes["email"] != "ann@corp.example" || !cmp.Equal(said.Attributes["GROUPS"], []any{"ml"}) {
				t.Fatalf("the twin: %v %v %+v", err, said.Attributes, report.Checks)
			}
			j := good()
			tt.mutate(&j)
			serve(j, tt.raw)
			_, report, err = r.signIn(t)
			if c, _ := report.Failure(); (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, sso.ErrRefused) || c.Name != tt.want) {
				t.Errorf("%v %+v", err, c)
			}
		})
	}
}

// Groups that nobody counts on are no reason to refuse everybody: only where their name is the one that few providers send,
// they are all that is missing, and the endpoint says that it is not for this client, the sign-in goes on and is noted.
func TestUserInfoForbidden(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int // 0: there is no endpoint
		set    func(*rig)
		ok     bool
		noted  bool
	}{
		{"403", 403, func(*rig) {}, true, true},
		{"404", 404, func(*rig) {}, true, true},
		{"401", 401, func(*rig) {}, true, true},
		{"no endpoint", 0, func(*rig) {}, true, true},
		{"502", 502, func(*rig) {}, false, false}, // a failure is not an absence
		{"groups of a name of its own", 403, func(r *rig) { r.c.Mappers.Groups = "teams" }, false, false},
		{"e-mail, too", 403, func(r *rig) { r.claims = func(c m) { delete(c, "GROUPS"); delete(c, "email") } }, false, false},
		{"the mandatory claim, too", 403, func(r *rig) { r.c.OIDC.MandatoryClaim = &sso.MandatoryClaim{Claim: "dept", Values: []string{"x"}} }, false, false},
		{"groups are mandatory", 403, func(r *rig) { r.c.OIDC.MandatoryClaim = &sso.MandatoryClaim{Claim: "GROUPS", Values: []string{"ml"}} }, false, true},
		{"nothing missing", 403, func(r *rig) { r.claims = nil }, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.claims = func(c m) { delete(c, "GROUPS") }
			if r.userinfo = jsonAnswer(tt.status, "x"); tt.status == 0 {
				r.c.OIDC.Provider.UserInfo = ""
			}
			tt.set(r)
			_, report, err := r.signIn(t)
			if noted := resultOf(report, sso.CheckGroups) == sso.Noted; (err == nil) != tt.ok || noted != tt.noted {
				t.Errorf("%v %+v", err, report.Checks)
			}
		})
	}
}

// A null in the ID token says nothing, so what userinfo says stands.
func TestNullClaims(t *testing.T) {
	r := newRig(t)
	r.claims = func(c m) { c["email"], c["GROUPS"], c["locale"] = nil, nil, nil }
	r.info = m{"sub": "subject-1", "email": "ann@corp.example", "GROUPS": []string{"ml"}, "locale": "de"}
	said, report, err := r.signIn(t)
	if err != nil || said.Attributes["email"] != "ann@corp.example" || !cmp.Equal(said.Attributes["GROUPS"], []any{"ml"}) || said.Attributes["locale"] != "de" {
		t.Errorf("%v %v %+v", err, said.Attributes, report.Checks)
	}
}

// A mapped name with dots is a way through objects, where no claim has that name itself.
func TestNestedClaims(t *testing.T) {
	for _, tt := range []struct {
		name         string
		claims, info m
		want         any
	}{
		{"nested", m{"realm_access": m{"roles": []string{"a"}}}, nil, []any{"a"}},
		{"as such", m{"realm_access.roles": []string{"b"}, "realm_access": m{"roles": []string{"a"}}}, nil, []any{"b"}},
		{"null as such", m{"realm_access.roles": nil, "realm_access": m{"roles": []string{"a"}}}, nil, []any{"a"}},
		{"in userinfo", m{"realm_access": m{}}, m{"realm_access": m{"roles": []string{"c"}}}, []any{"c"}},
		{"in both: the ID token counts", m{"realm_access": m{"roles": []string{"a"}}, "email": nil}, m{"realm_access.roles": []string{"c"}, "email": "ann@corp.example"}, []any{"a"}},
		{"no object on the way", m{"realm_access": []any{m{"roles": "a"}}}, m{}, nil},
		{"nowhere", m{"realm_access": m{"role": "a"}}, m{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.c.Mappers.Groups = "realm_access.roles"
			r.claims = func(c m) {
				delete(c, "GROUPS")
				for k, v := range tt.claims {
					c[k] = v
				}
			}
			if tt.info != nil {
				tt.info["sub"] = "subject-1"
				r.info = tt.info
			}
			said, report, err := r.signIn(t)
			if err != nil || !cmp.Equal(said.Attributes["realm_access.roles"], tt.want) {
				t.Errorf("%v %v %+v", err, said.Attributes, report.Checks)
			}
			if asked := r.seen["userinfo"]; (asked == 1) != (tt.info != nil) {
				t.Errorf("userinfo was asked %d times", asked)
			}
		})
	}
	// A client's id may have dots itself; and an unverified e-mail is one wherever it stands.
	r := newRig(t)
	r.c.Mappers.Groups = "resource_access.fleet.example.roles"
	r.claims = func(c m) { c["resource_access"] = m{"fleet.example": m{"roles": "x"}} }
	if said, _, err := r.signIn(t); err != nil || said.Attributes["resource_access.fleet.example.roles"] != "x" {
		t.Errorf("%v %v", err, said.Attributes)
	}
	r.c.Mappers = sso.Mappers{Email: "ids.mail"}
	for _, verified := range []bool{true, false} {
		r.claims = func(c m) { c["ids"], c["email_verified"] = m{"mail": []string{"ANN@corp.example"}}, verified }
		if _, report, err := r.signIn(t); (err == nil) != verified {
			t.Errorf("verified=%v: %+v", verified, report.Checks)
		}
	}
}
