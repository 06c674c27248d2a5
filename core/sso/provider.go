package sso

import (
	"context"
	"crypto/rsa"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Provider signs people in at the identity providers of one kind. Its methods may be called from many goroutines at once and
// honour ctx. What comes from outside never makes them panic, and bounded input costs bounded work. They keep nothing between
// calls but caches: every step of a sign-in may happen in another process. An error is core.Invalid where the connection's
// settings are at fault (it names the field), core.Unavailable where the provider does not answer, ErrRefused where Finish
// judged and refused.
type Provider interface {
	// Load reads what the provider publishes about itself and puts it into c, which is otherwise complete. document is an
	// uploaded one; nil: it is fetched from where c says. On an error c is as before.
	Load(ctx context.Context, c *Connection, document []byte) error

	// Start makes the request that takes a browser to the provider.
	Start(ctx context.Context, c Connection, s Secrets, j Journey) (Departure, error)

	// Finish judges what a browser brought back from the provider. Every check that is made is noted in r, in the order of
	// Checks, failed ones among them; the sign-in is refused if any failed. What it returns was said by the provider, about a
	// sign-in that Start began for this connection (or, where nothing is pending and the connection allows it, that the
	// provider began), now. With ErrRefused, the Assertion is empty but for ID, which is set if the provider's signature
	// over it holds: it tells a replay from other faults.
	Finish(ctx context.Context, c Connection, s Secrets, a Arrival, r *Report) (Assertion, error)
}

// Describer is a Provider that publishes a document about us: SAML's metadata of a service provider.
type Describer interface {
	Describe(c Connection, us Addresses, now time.Time) ([]byte, error)
}

// Asker is a Provider that can be asked about a person again, later, with what Finish kept.
type Asker interface {
	// Ask says what the provider says about the person now. ErrRefused: the provider does not vouch for them any more.
	Ask(ctx context.Context, c Connection, s Secrets, k Kept, now time.Time) (Assertion, error)

	// Leave is where a browser goes to sign out at the provider, to come back to `back`; "" if the provider offers none
	// (OpenID Connect RP-Initiated Logout 1.0 §2).
	Leave(c Connection, k Kept, back string) string
}

// ErrRefused says that a provider's answer was judged and refused. The report says why; the browser is not told.
var ErrRefused = fmt.Errorf("the identity provider's answer was refused: %w", core.Unauthenticated)

// Addresses are ours towards one connection.
type Addresses struct {
	EntityID string // SAML: who we are. OIDC: unused
	Return   string // the assertion consumer service, or the redirect URI: compared to the byte
	Metadata string // SAML: where our metadata is served
}

// Secrets are a connection's, opened.
type Secrets struct {
	Client string // the client secret
	Keys   []Key  // SAML: ours, the one that signs first. OIDC: the one of private_key_jwt
}

// Key is an SPKey, opened.
type Key struct {
	ID          string
	Certificate []byte // DER
	Private     *rsa.PrivateKey
}

// Journey is a sign-in that begins.
type Journey struct {
	Addresses
	State string // an opaque reference of at most 80 bytes, unguessable: RelayState or state
	Login bool   // the person has to prove who they are again, whatever session the provider has
	Hint  string // what the person typed as their e-mail; optional, and only a convenience
	Now   time.Time
}

// Departure is where the browser goes.
type Departure struct {
	URL     string
	Form    map[string]string // fields to POST to URL; nil: it is visited
	Sent    string            // what is sent, decoded and redacted, for the trace
	Pending Pending           // what Finish must be given
}

// Pending is what Finish must know of the Start that it answers. It is kept here; the browser never has it.
type Pending struct {
	Request  string    `json:"request,omitempty"`  // SAML: the ID of the AuthnRequest
	Nonce    string    `json:"nonce,omitempty"`    // OIDC
	Verifier string    `json:"verifier,omitempty"` // PKCE
	Login    bool      `json:"login,omitempty"`    // Journey.Login, and At, to judge a fresh proof by
	At       time.Time `json:"at,omitzero"`
}

// Arrival is what a browser brought back.
type Arrival struct {
	Addresses
	Params  map[string]string // SAMLResponse and RelayState, or code, state, iss, error: each at most once
	Pending *Pending          // nil: nobody here began it
	Now     time.Time
}

// Assertion is what a provider said, verified.
type Assertion struct {
	ID         string         // SAML: to be taken once. Empty: the provider sees to it
	Until      time.Time      // until when ID could be taken again, if nobody remembered it
	Subject    string         // the provider's stable id of the person; "": none
	Attributes map[string]any // by name: string, bool, float64, []any, map[string]any; a SAML attribute is a []any of strings, even of one
	AuthTime   time.Time      // when the person proved who they are; zero: not said
	Methods    []string       // RFC 8176; may be empty
	Ends       time.Time      // what is begun with it must end then; zero: not said (SAML's SessionNotOnOrAfter)
	Kept       Kept           // what to ask again with, and to sign out with
	Partial    bool           // of Ask: it may not speak of everything; what it does not name is as it was
}

// Kept is what Ask and Leave need of a sign-in. It is stored sealed.
type Kept struct {
	Refresh string `json:"refresh,omitempty"` // OIDC: the provider's refresh token. OpenShift: its access token
	IDToken string `json:"idToken,omitempty"` // the hint of a logout
	Subject string `json:"subject,omitempty"` // of the ID token: what Ask learns must be about the same one
	Whole   bool   `json:"whole,omitempty"`   // OIDC: the groups came from userinfo, so what userinfo leaves out later is gone
}
