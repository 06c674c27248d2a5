// Package trust owns how programs prove who they are with what others signed: by a key of their own (private_key_jwt, RFC
// 7523 §2.2, OpenID Connect Core §9), and by tokens of issuers that the tenant trusts, such as a Kubernetes cluster's or a
// CI service's (RFC 7523 §2.1, RFC 8693), so that nobody has to keep a secret. It judges such tokens and keeps the trusted
// issuers. Which application a token stands for, the application says (Trust); what it is given for it, core/oauth does.
//
// A token here is a stranger's text until its signature holds: it is bounded, and split by the one strict parser of the house
// (core/token.Strict), and the algorithm is the key's affair, to which the token can only agree (RFC 8725 §3.1).
package trust

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Issuer is an issuer whose tokens the applications of a tenant may prove themselves with.
type Issuer struct {
	ID     string `json:"id"`     // random and never reused: applications trust this, so that nobody inherits a name
	Name   string `json:"name"`   // see ParseName
	Issuer string `json:"issuer"` // the `iss` of its tokens, compared to the byte. It never changes

	// Keys are its keys, given by hand where it cannot be reached, as that of most clusters. Else it publishes them at JWKSURI.
	Keys       []PublicKey `json:"keys,omitempty"`
	JWKSURI    string      `json:"jwksUri,omitempty"`
	Discovered bool        `json:"discovered,omitempty"` // JWKSURI is what its discovery document said when it was saved
	CA         string      `json:"ca,omitempty"`         // PEM certificates that its addresses are verified with, beside the system's

	Enabled   bool         `json:"enabled"`
	CreatedAt time.Time    `json:"createdAt"`
	CreatedBy core.Subject `json:"createdBy"`
	UpdatedAt time.Time    `json:"updatedAt"`
}

// Verifier asks the outside world about issuers. Its methods may be called from many goroutines at once and honour ctx.
type Verifier interface {
	// Verify checks the signature of a token, which core/token.Strict has taken and whose header names alg and kid (which may
	// be empty), against the keys that the issuer publishes at JWKSURI. core.Unauthenticated: no key of the issuer's made it;
	// core.Unavailable: its keys cannot be had, and the token is neither good nor bad.
	Verify(ctx context.Context, iss Issuer, raw, alg, kid string, now time.Time) error

	// Locate finds where an issuer publishes its keys: at jwksURI, or, if that is empty, where its discovery document says
	// (OpenID Connect Discovery 1.0 §4, which Kubernetes and CI services follow), and reads them once, to see that they can be
	// had. core.Invalid: it names the field that is at fault; core.Unavailable: nobody answers there.
	Locate(ctx context.Context, issuer, jwksURI, ca string) (string, error)
}

// The bounds of what a tenant configures.
const (
	MaxIssuers    = 100 // of a tenant
	MaxTrusts     = 10  // of an application
	MaxConditions = 10  // of a trust
	MaxValues     = 100 // of a condition
	MaxClientKeys = 5   // of an application
	MaxIssuerKeys = 20  // of an issuer, given by hand

	maxValue    = 512      // bytes of one value, of a claim's name, of an audience
	maxTrusts   = 12 << 10 // bytes of an application's trusts together
	maxIssuer   = 512      // bytes of an issuer's identifier
	maxToken    = 16 << 10 // bytes of a token
	maxSubject  = 1024     // bytes of its sub
	maxTokenID  = 256      // bytes of its jti
	skew        = 60 * time.Second
	maxLifetime = 24 * time.Hour   // of an issuer's token
	maxProof    = 10 * time.Minute // until an assertion of a client's own expires
)

// Refused is why a token is not taken. Its message is the same whatever the reason, since whoever presents a forged token need
// not learn what gave it away; the reason is for logs.
type Refused struct {
	Reason string // a few plain words, fixed: nothing of the token
}

// Error is one sentence for all reasons.
func (*Refused) Error() string { return "the token is not valid" }

// Unwrap makes errors.Is(err, core.Unauthenticated) hold.
func (*Refused) Unwrap() error { return core.Unauthenticated }

func refuse(reason string) error { return &Refused{reason} }

// ParseName checks the name of an issuer: a DNS label beginning with a letter, as it stands in addresses.
func ParseName(field, s string) (string, error) { return core.ParseProjectName(field, s) }

// ParseIssuer checks an issuer's identifier: an https URL without a query or a fragment (OpenID Connect Discovery §2), spelt as
// URLs are written. Our own are refused: own are the addresses that our issuers begin with. A token of ours must never be what
// an application gets another one with.
func ParseIssuer(field, s string, own ...string) (string, error) {
	if s == "" {
		return "", core.BadField(field, "is missing; give what the tokens have as `iss`, such as https://token.actions.githubusercontent.com")
	}
	if len(s) > maxIssuer {
		return "", core.BadField(field, fmt.Sprintf("is over %d bytes", maxIssuer))
	}
	if strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`\"<>^{}|#?`+"`*", r) }) >= 0 {
		return "", core.BadField(field, "has a character that an issuer cannot have: no query, no fragment, no space, no wildcard")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Opaque != "" || u.String() != s {
		return "", core.BadField(field, "must be an https URL, spelt as in the tokens' `iss`")
	}
	for _, o := range own {
		if sameHost(u, o) {
			return "", core.BadField(field, "is an issuer of this service itself, whose tokens are trusted where they are meant to be, and nowhere else")
		}
	}
	return s, nil
}

// sameHost says whether an address leads to the host and port that another one does.
func sameHost(u *url.URL, other string) bool {
	o, err := url.Parse(other)
	if err != nil || o.Host == "" {
		return false
	}
	port := func(u *url.URL) string {
		switch {
		case u.Port() != "":
			return u.Port()
		case u.Scheme == "http":
			return "80"
		}
		return "443"
	}
	host := func(u *url.URL) string { return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") }
	return host(u) == host(o) && port(u) == port(o)
}
