package saml_test

import (
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core/sso"
)

// When it is of.
//
// SAML-105, SAML-115, SAML-117
func TestTimes(t *testing.T) {
	const data = ".//SubjectConfirmationData"
	instant := func(name, path, attribute, value string, want ...sso.CheckName) attack {
		return edited(name, func(r, a *etree.Element) {
			e := r
			if path != "response" {
				e = at(a, path)
			}
			e.CreateAttr(attribute, value)
		}, want...)
	}
	at := func(d time.Duration) string { return forge.Instant(now.Add(d)) }
	const year = 365 * 24 * time.Hour
	var all []attack
	for name, d := range map[string]time.Duration{"10 years ahead": 10 * year, "an hour ahead": time.Hour, "5 minutes ahead": 5 * time.Minute, "an hour ago": -time.Hour, "10 years ago": -10 * year} {
		all = append(all,
			instant("assertion issued "+name, ".", "IssueInstant", at(d), sso.CheckTime),
			instant("assertion issued, alone signed, "+name, ".", "IssueInstant", at(d), sso.CheckTime).of(assertionSigned),
			instant("response issued "+name, "response", "IssueInstant", at(d), sso.CheckTime),
		)
		if d > 0 {
			all = append(all,
				instant("authenticated "+name, "./AuthnStatement", "AuthnInstant", at(d), sso.CheckTime),
				instant("conditions not before "+name, "./Conditions", "NotBefore", at(d), sso.CheckTime),
				instant("confirmation not before "+name, data, "NotBefore", at(d), sso.CheckTime, sso.CheckRecipient),
			)
		} else {
			all = append(all,
				instant("conditions until "+name, "./Conditions", "NotOnOrAfter", at(d), sso.CheckTime),
				instant("confirmation until "+name, data, "NotOnOrAfter", at(d), sso.CheckTime, sso.CheckRecipient),
				instant("session until "+name, "./AuthnStatement", "SessionNotOnOrAfter", at(d), sso.CheckTime),
			)
		}
	}
	for _, text := range []string{
		"", " ", "yesterday", "2026", "2026-01-01", "2026-01-01T00:00:00", "9999999999", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z",
		"-2026-01-01T00:00:00Z", "+12026-01-01T00:00:00Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00z", "2026-1-1T0:0:0Z", "2026-01-01T00:00:00Zx", now.Format(time.RFC1123), "0001-01-01T00:00:00Z", "NaN",
		"2026-01-01T00:00:00." + strings.Repeat("1", 5000) + "Z",
	} {
		short := text[:min(len(text), 30)]
		all = append(all,
			instant("issued at "+short, ".", "IssueInstant", text, sso.CheckTime, sso.CheckAnswer),
			instant("response issued at "+short, "response", "IssueInstant", text, sso.CheckTime, sso.CheckAnswer),
			instant("conditions until "+short, "./Conditions", "NotOnOrAfter", text, sso.CheckTime, sso.CheckAnswer),
			instant("confirmation until "+short, data, "NotOnOrAfter", text, sso.CheckTime, sso.CheckAnswer, sso.CheckRecipient),
			instant("session until "+short, "./AuthnStatement", "SessionNotOnOrAfter", text, sso.CheckTime, sso.CheckAnswer),
		)
		if text != "2026-01-01T00:00:00" && text != "0001-01-01T00:00:00Z" { // long ago, which it may be
			all = append(all, instant("authenticated at "+short, "./AuthnStatement", "AuthnInstant", text, sso.CheckTime, sso.CheckAnswer))
		}
	}
	// However long its conditions are, it is taken for minutes.
	long := func(o *forge.Options) { o.SignResponse, o.SignAssertion, o.Life = true, true, 10*year }
	all = append(all,
		attack{name: "valid for 10 years, arrives after 20 minutes", base: long, want: []sso.CheckName{sso.CheckTime}, come: func(a *sso.Arrival) { a.Now = now.Add(20 * time.Minute) }},
		attack{name: "valid for 10 years, arrives after a year", base: long, come: func(a *sso.Arrival) { a.Now = now.AddDate(0, 11, 0) }},
		attack{name: "arrives after 20 minutes", want: []sso.CheckName{sso.CheckTime}, come: func(a *sso.Arrival) { a.Now = now.Add(20 * time.Minute) }},
		attack{name: "arrives an hour before", want: []sso.CheckName{sso.CheckTime}, come: func(a *sso.Arrival) { a.Now = now.Add(-time.Hour) }},
		attack{name: "not proven anew", want: []sso.CheckName{sso.CheckTime, sso.CheckRequest},
			conn: func(*sso.Connection) {}, sign: func(o *forge.Options) { o.AuthnInstant = now.Add(-time.Hour) }, come: func(a *sso.Arrival) { a.Pending.Login = true }},
	)
	run(t, all)

	c := connection(t, idp().Metadata())
	o := options()
	long(&o)
	if got := accept(t, c, arrival(forge.Encode(idp().Response(o)))); got.Until.After(now.Add(15 * time.Minute)) {
		t.Errorf("to be remembered until %v", got.Until)
	}
	for name, edit := range map[string]func(o *forge.Options, a *sso.Arrival){
		"authenticated an hour ago, in the provider's session": func(o *forge.Options, _ *sso.Arrival) { o.AuthnInstant = now.Add(-time.Hour) },
		"proven anew":     func(_ *forge.Options, a *sso.Arrival) { a.Pending.Login = true },
		"a session's end": func(o *forge.Options, _ *sso.Arrival) { o.SessionEnds = now.Add(8 * time.Hour) },
		"another zone": func(o *forge.Options, _ *sso.Arrival) {
			o.Edit = func(_, a *etree.Element) {
				a.CreateAttr("IssueInstant", now.In(time.FixedZone("", 2*3600)).Format(time.RFC3339))
			}
		},
		"our clock is 20 s behind": func(_ *forge.Options, a *sso.Arrival) { a.Now = now.Add(-20 * time.Second) },
		"no fraction": func(o *forge.Options, _ *sso.Arrival) {
			o.Edit = func(_, a *etree.Element) { a.CreateAttr("IssueInstant", now.Format("2006-01-02T15:04:05Z")) }
		},
		"7 digits": func(o *forge.Options, _ *sso.Arrival) {
			o.Edit = func(_, a *etree.Element) { a.CreateAttr("IssueInstant", now.Format("2006-01-02T15:04:05.0000000Z")) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := valid()
			a := arrival("")
			edit(&o, &a)
			a.Params["SAMLResponse"] = forge.Encode(idp().Response(o))
			got := accept(t, c, a)
			if !o.SessionEnds.IsZero() && !got.Ends.Equal(o.SessionEnds) {
				t.Errorf("ends at %v", got.Ends)
			}
		})
	}
}

// What it answers.
//
// SAML-123, SAML-127
func TestRequest(t *testing.T) {
	request := []sso.CheckName{sso.CheckRequest}
	asks := func(name, response, confirmation string) attack {
		return edited(name, func(r, a *etree.Element) {
			for e, v := range map[*etree.Element]string{r: response, at(a, ".//SubjectConfirmationData"): confirmation} {
				if e.RemoveAttr("InResponseTo"); v != "" {
					e.CreateAttr("InResponseTo", strings.TrimSuffix(v, "EMPTY"))
				}
			}
		}, request...)
	}
	run(t, []attack{
		asks("another request", "id-other", "id-other"), asks("another in the response", "id-other", asked), asks("another in the confirmation", asked, "id-other"),
		asks("none at all", "", ""), asks("none in the response", "", asked), asks("none in the confirmation", asked, ""),
		asks("empty", "EMPTY", "EMPTY"), asks("empty in the confirmation", asked, "EMPTY"), asks("case", strings.ToUpper(asked), strings.ToUpper(asked)), asks("prefix", asked[:len(asked)-1], asked[:len(asked)-1]),
		asks("another in the confirmation, alone signed", asked, "id-other").of(assertionSigned), asks("none in the confirmation, alone signed", asked, "").of(assertionSigned),
		asks("another in the response, not signed", "id-other", asked).of(assertionSigned),
		{name: "nothing is pending", come: func(a *sso.Arrival) { a.Pending = nil }, want: request},
		{name: "something else is pending", come: func(a *sso.Arrival) { a.Pending = &sso.Pending{Request: "id-other", At: now} }, want: request},
		{name: "pending without an ID", come: func(a *sso.Arrival) { a.Pending = &sso.Pending{At: now} }, want: request},
		{name: "for nothing, where that is not allowed", sign: func(o *forge.Options) { o.InResponseTo = "" }, come: func(a *sso.Arrival) { a.Pending = nil }, want: request},
	})

	// Where the provider may begin: what answers nothing is taken, and what answers something is still held to it.
	c := connection(t, idp().Metadata())
	c.SAML.IdPInitiated = true
	for _, way := range ways {
		o := options()
		way(&o)
		o.InResponseTo = ""
		unasked := arrival(forge.Encode(idp().Response(o)))
		unasked.Pending = nil
		accept(t, c, unasked)
		refuse(t, c, arrival(forge.Encode(idp().Response(o))), request...) // somebody's sign-in is pending, and this does not answer it

		for _, where := range []string{"response", "confirmation", "both"} {
			for _, id := range []string{asked, "id-of-another", ""} {
				o.Edit = func(r, a *etree.Element) {
					if where != "confirmation" {
						r.CreateAttr("InResponseTo", id)
					}
					if where != "response" {
						at(a, ".//SubjectConfirmationData").CreateAttr("InResponseTo", id)
					}
				}
				stolen := arrival(forge.Encode(idp().Response(o)))
				stolen.Pending = nil
				refuse(t, c, stolen, request...)
			}
		}
		solicited := options()
		way(&solicited)
		accept(t, c, arrival(forge.Encode(idp().Response(solicited))))
	}
}

// One tenant's identity provider vouches for nobody at another's connection.
//
// SAML-129
func TestTenantMix(t *testing.T) {
	b := &forge.IdP{EntityID: "https://idp.other.example", SignOn: "https://idp.other.example/sso", Key: attacker().Key, Certificate: attacker().Certificate}
	ca, cb := connection(t, idp().Metadata()), connection(t, b.Metadata())
	const otherID = "https://fleetpass.example/t/other/saml/corp"
	cb.ID, cb.SAML.EntityID = "con-2", otherID
	other := func(posted string) sso.Arrival {
		a := arrival(posted)
		a.Addresses = sso.Addresses{EntityID: otherID, Return: otherID + "/acs", Metadata: otherID + "/metadata"}
		return a
	}
	for way, base := range ways {
		t.Run(way, func(t *testing.T) {
			oa := options()
			base(&oa)
			ob := oa
			ob.Audience, ob.Recipient = otherID, otherID+"/acs"
			accept(t, ca, arrival(forge.Encode(idp().Response(oa))))
			accept(t, cb, other(forge.Encode(b.Response(ob))))

			// A's provider at B: as it is, with B's addresses, and as if it were B's provider.
			refuse(t, cb, other(forge.Encode(idp().Response(oa))))
			refuse(t, cb, other(forge.Encode(idp().Response(ob))), sso.CheckIssuer)
			ob.Issuer = b.EntityID
			refuse(t, cb, other(forge.Encode(idp().Response(ob))), sso.CheckSignature)
			// B's own provider, made to speak for A.
			ob.Issuer = idp().EntityID
			refuse(t, cb, other(forge.Encode(b.Response(ob))), sso.CheckIssuer)

			// Both tenants use one provider: what it said to A is not said to B.
			shared := connection(t, idp().Metadata())
			shared.ID, shared.SAML.EntityID = "con-3", otherID
			refuse(t, shared, other(forge.Encode(idp().Response(oa))), sso.CheckAudience)
			// Both have an entity ID of their own making, the same: the address still tells them apart.
			shared.SAML.EntityID = entityID
			refuse(t, shared, other(forge.Encode(idp().Response(oa))), sso.CheckRecipient)
		})
	}
}
