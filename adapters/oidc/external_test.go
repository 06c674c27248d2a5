package oidc_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core/sso"
)

// take judges a token that comes by itself.
func (r *rig) take(t *testing.T, raw string) (sso.Assertion, sso.Report, error) {
	t.Helper()
	var report sso.Report
	said, err := r.p.Take(t.Context(), r.c, raw, now, &report)
	return said, report, err
}

// What an ID token leaves out was not said, although the provider has a userinfo endpoint that would say it: there is nothing to
// ask it with.
func TestTake(t *testing.T) {
	r := newRig(t)
	r.info = m{"sub": "subject-1", "GROUPS": []string{"admins"}, "UID": 1}
	said, report, err := r.take(t, r.idToken(""))
	if err != nil || said.Subject != "subject-1" || said.Attributes["UID"] != 15001.0 || said.Partial || !said.Until.After(now.Add(10*time.Minute)) || said.Kept != (sso.Kept{}) {
		t.Errorf("%v %+v %+v", err, said, report.Checks)
	}
	r.claims = func(c m) { delete(c, "GROUPS"); c["UID"] = nil }
	said, report, err = r.take(t, r.idToken(""))
	if err != nil || said.Partial || said.Attributes["GROUPS"] != nil || said.Attributes["UID"] != nil {
		t.Errorf("%v %+v %+v", err, said, report.Checks)
	}
	if r.seen["userinfo"] != 0 {
		t.Error("userinfo was asked")
	}
	// The mandatory claim is no less mandatory.
	r.c.OIDC.MandatoryClaim = &sso.MandatoryClaim{Claim: "GROUPS", Values: []string{"ml"}}
	if _, report, err := r.take(t, r.idToken("")); !errors.Is(err, sso.ErrRefused) {
		t.Errorf("without the mandatory claim: %v %+v", err, report.Checks)
	}
	r.reset()
	if _, report, err := r.take(t, r.idToken("")); err != nil {
		t.Errorf("the twin: %v %+v", err, report.Checks)
	}
}

// RP-005, JWT-017 (RFC 8725 §3.12): what shows itself as another kind of token is none of a person's, where it stands alone. What the token
// endpoint gives as id_token is one, whatever else a provider writes into it.
func TestTakeRefusesOtherKinds(t *testing.T) {
	r := newRig(t)
	for name, tt := range map[string]struct{ other, twin m }{
		"typ":                  {m{"typ": "Bearer"}, m{"typ": "ID"}},
		"typ, empty":           {m{"typ": ""}, m{"typ": nil}},
		"typ, in another case": {m{"typ": "id"}, m{"typ": "ID"}},
		"typ, a list":          {m{"typ": []string{"ID"}}, m{"typ": "ID"}},
		"token_use":            {m{"token_use": "access"}, m{"token_use": "id"}},
		"token_use, a number":  {m{"token_use": 1}, m{"token_use": nil}},
		"scope":                {m{"scope": "openid"}, m{"scope": nil}},
		"scope, empty":         {m{"scope": ""}, m{}},
		"scp":                  {m{"scp": []string{"openid"}}, m{"scp": nil}},
		"events":               {m{"events": m{"http://schemas.openid.net/event/backchannel-logout": m{}}}, m{"events": nil}},
		"all of it":            {m{"typ": "Bearer", "token_use": "access", "scope": "x", "events": m{}}, m{"typ": "ID", "token_use": "id"}},
	} {
		r.claims = func(c m) { maps.Copy(c, tt.other) }
		_, report, err := r.take(t, r.idToken(""))
		if cause, _ := report.Failure(); !errors.Is(err, sso.ErrRefused) || cause.Name != sso.CheckAnswer {
			t.Errorf("%s: %v %+v", name, err, report.Checks)
		}
		if _, report, err := r.signIn(t); err != nil {
			t.Errorf("%s, from the token endpoint: %v %+v", name, err, report.Checks)
		}
		r.claims = func(c m) { maps.Copy(c, tt.twin) }
		if _, report, err := r.take(t, r.idToken("")); err != nil {
			t.Errorf("the twin of %s: %v %+v", name, err, report.Checks)
		}
	}
}
