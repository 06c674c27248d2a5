package idp

import (
	"fmt"
	"slices"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// Fault is a way to misbehave. Everything else about an answer stays right, so that what refuses it refuses it for this.
type Fault string

// The faults. Which protocol has which, and what has to notice it, Faults says.
const (
	Behave             Fault = ""
	Cancelled          Fault = "cancelled"
	WrongAudience      Fault = "wrong-audience"
	WrongDestination   Fault = "wrong-destination"
	WrongRecipient     Fault = "wrong-recipient"
	WrongIssuer        Fault = "wrong-issuer"
	MixUp              Fault = "mix-up"
	Replay             Fault = "replay"
	OtherRequest       Fault = "other-request"
	OtherState         Fault = "other-state"
	WrongNonce         Fault = "wrong-nonce"
	Unsigned           Fault = "unsigned"
	OtherKey           Fault = "other-key"
	SHA1               Fault = "sha1"
	ExpiredCertificate Fault = "expired-certificate"
	Clock              Fault = "clock"
	FutureClock        Fault = "future-clock"
	MissingEmail       Fault = "missing-email"
)

// Protocol is what an answer is spoken in.
type Protocol string

// The protocols.
const (
	SAML Protocol = "saml"
	OIDC Protocol = "oidc"
)

// Misbehaviour describes a fault in one protocol.
type Misbehaviour struct {
	Fault    Fault
	Protocol Protocol
	Does     string        // one sentence, for people
	Fails    sso.CheckName // the first check of sso.Checks that must fail for it
}

var misbehaviours = []Misbehaviour{
	{Cancelled, SAML, "The answer is the status AuthnFailed, as if the person had cancelled.", sso.CheckAnswer},
	{WrongAudience, SAML, "The assertion is meant for another service.", sso.CheckAudience},
	{WrongDestination, SAML, "The response says that it was sent to another address.", sso.CheckDestination},
	{WrongRecipient, SAML, "The subject's confirmation names another address.", sso.CheckRecipient},
	{WrongIssuer, SAML, "Response and assertion name another issuer.", sso.CheckIssuer},
	{Replay, SAML, "The last good response is sent again; there has to be one.", sso.CheckReplay},
	{OtherRequest, SAML, "The answer is to a request that nobody made.", sso.CheckRequest},
	{Unsigned, SAML, "Nothing is signed.", sso.CheckSignature},
	{OtherKey, SAML, "It is signed with a key that is not in the metadata, by a certificate that looks alike.", sso.CheckSignature},
	{SHA1, SAML, "It is signed with RSA-SHA1.", sso.CheckSignature},
	{ExpiredCertificate, SAML, "It is signed with a key of the metadata whose certificate has expired.", sso.CheckCertificate},
	{Clock, SAML, "It was issued an hour ago.", sso.CheckTime},
	{FutureClock, SAML, "It is issued in an hour.", sso.CheckTime},
	{MissingEmail, SAML, "The attribute email is missing.", sso.CheckEmail},

	{Cancelled, OIDC, "The answer is error=access_denied, as if the person had cancelled.", sso.CheckAnswer},
	{Replay, OIDC, "The last good code is sent again; there has to be one.", sso.CheckAnswer},
	{WrongAudience, OIDC, "The ID token is meant for another client.", sso.CheckAudience},
	{WrongIssuer, OIDC, "The ID token names another issuer.", sso.CheckIssuer},
	{MixUp, OIDC, "The iss of the answer names another issuer.", sso.CheckIssuer},
	{OtherState, OIDC, "The answer has a state that nobody sent.", sso.CheckRequest},
	{WrongNonce, OIDC, "The ID token has another nonce.", sso.CheckRequest},
	{Unsigned, OIDC, "The ID token has the algorithm none.", sso.CheckSignature},
	{OtherKey, OIDC, "The ID token is signed with a key that is not published, under the name of one that is.", sso.CheckSignature},
	{Clock, OIDC, "The ID token expired an hour ago.", sso.CheckTime},
	{MissingEmail, OIDC, "The claim email is missing.", sso.CheckEmail},
}

// Faults are all faults, once for every protocol that has it, in the order in which the login page shows them.
func Faults() []Misbehaviour { return slices.Clone(misbehaviours) }

// SetFault makes all answers that follow misbehave so, in the protocols that have the fault; Behave ends it. A sign-in that asks
// for a fault of its own has that one.
func (p *Provider) SetFault(f Fault) error {
	if f != Behave && !slices.ContainsFunc(misbehaviours, func(m Misbehaviour) bool { return m.Fault == f }) {
		return fmt.Errorf("fault %q: %w", f, core.NotFound)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	return nil
}

// has says whether the protocol has the fault.
func (protocol Protocol) has(f Fault) bool {
	return f == Behave || slices.ContainsFunc(misbehaviours, func(m Misbehaviour) bool { return m.Fault == f && m.Protocol == protocol })
}
