package sso

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Check is one question about a sign-in, with its answer. The texts are for the tenant's administrator: they quote what the
// provider said, bounded, and never a secret.
type Check struct {
	Name     CheckName `json:"name"`
	Result   Result    `json:"result"`
	Found    string    `json:"found,omitempty"`
	Expected string    `json:"expected,omitempty"`
	Fix      string    `json:"fix,omitempty"` // of a failed or noted one: one sentence that says what to do, and where
}

// Result is how a check came out.
type Result string

// The results.
const (
	Passed Result = "passed"
	Failed Result = "failed" // the sign-in is refused
	Noted  Result = "noted"  // it goes on, but somebody should look: an attribute that could not be read, a group that was dropped
)

// CheckName is what was asked.
type CheckName string

// The checks, in the order in which a trace shows them: first what an administrator compares by hand, in the order of the
// troubleshooting guide, then what only a machine can tell. A provider's kind has those that apply to it.
const (
	CheckAnswer        CheckName = "answer"      // the provider answered, with something that can be read, and no error
	CheckAudience      CheckName = "audience"    // it is meant for us: the entity ID, or the client id
	CheckDestination   CheckName = "destination" // it was sent to our address: the redirect URI
	CheckRecipient     CheckName = "recipient"   // the subject's confirmation names our address
	CheckIssuer        CheckName = "issuer"      // it comes from the provider that is configured
	CheckReplay        CheckName = "replay"      // it was not used before
	CheckRequest       CheckName = "request"     // it answers what this sign-in asked: InResponseTo, state, nonce
	CheckSignature     CheckName = "signature"   // the provider signed it
	CheckCertificate   CheckName = "certificate" // the certificate of that key is valid
	CheckEncryption    CheckName = "encryption"  // what is encrypted opens
	CheckTime          CheckName = "time"        // it is of now
	CheckSubject       CheckName = "subject"     // it says whom it is about
	CheckClaim         CheckName = "claim"       // the mandatory claim
	CheckEmail         CheckName = "email"       // the e-mail is there and is one
	CheckGroups        CheckName = "groups"      // each mapped attribute, by its name here
	CheckUID           CheckName = "uid"         //
	CheckGID           CheckName = "gid"         //
	CheckSupplementary CheckName = "supplementaryGroups"
	CheckFirstName     CheckName = "firstName"
	CheckLastName      CheckName = "lastName"
	CheckDomain        CheckName = "domain"  // the connection owns the e-mail's domain
	CheckAccount       CheckName = "account" // the person may sign in here, by this connection
	CheckBrowser       CheckName = "browser" // the browser that brought it is the one that began
)

// Checks are all checks, in order.
var Checks = []CheckName{
	CheckAnswer, CheckAudience, CheckDestination, CheckRecipient, CheckIssuer, CheckReplay, CheckRequest, CheckSignature, CheckCertificate,
	CheckEncryption, CheckTime, CheckSubject, CheckClaim, CheckEmail, CheckGroups, CheckUID, CheckGID, CheckSupplementary,
	CheckFirstName, CheckLastName, CheckDomain, CheckAccount, CheckBrowser,
}

// Report gathers the checks of one attempt. The zero Report is empty and ready.
type Report struct {
	Received string  // what was received, decoded and redacted
	Checks   []Check // in the order of the package's Checks, each name at most once
}

// Pass notes a check that holds.
func (r *Report) Pass(name CheckName, found string) {
	r.add(Check{Name: name, Result: Passed, Found: found})
}

// Fail notes a check that does not hold. fix says in one sentence what to do, and where.
func (r *Report) Fail(name CheckName, found, expected, fix string) {
	r.add(Check{Name: name, Result: Failed, Found: found, Expected: expected, Fix: fix})
}

// Note notes something to look at that is no reason to refuse.
func (r *Report) Note(name CheckName, found, fix string) {
	r.add(Check{Name: name, Result: Noted, Found: found, Fix: fix})
}

// Failure is the first check that failed.
func (r *Report) Failure() (Check, bool) {
	for _, c := range r.Checks {
		if c.Result == Failed {
			return c, true
		}
	}
	return Check{}, false
}

// Err is ErrRefused if a check failed.
func (r *Report) Err() error {
	if _, failed := r.Failure(); failed {
		return ErrRefused
	}
	return nil
}

// maxShown bounds what a check quotes, in bytes.
const maxShown = 300

// add puts a check in its place. Of two with one name the worse stays, so that nothing that failed is lost; of two alike,
// the first.
func (r *Report) add(c Check) {
	c.Found, c.Expected, c.Fix = shown(c.Found), shown(c.Expected), shown(c.Fix)
	if i := slices.IndexFunc(r.Checks, func(o Check) bool { return o.Name == c.Name }); i >= 0 {
		if badness(c.Result) > badness(r.Checks[i].Result) {
			r.Checks[i] = c
		}
		return
	}
	r.Checks = append(r.Checks, c)
	slices.SortStableFunc(r.Checks, func(a, b Check) int { return slices.Index(Checks, a.Name) - slices.Index(Checks, b.Name) })
}

func badness(r Result) int { return slices.Index([]Result{Passed, Noted, Failed}, r) }

// shown is at most maxShown bytes of s, in valid UTF-8 and without what moves a cursor: a trace is read in terminals, too.
func shown(s string) string {
	return cut(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")), maxShown)
}

// cut is at most max bytes of s, and says so if that is not all.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max] + "…"
}
