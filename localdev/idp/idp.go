// Package idp is an identity provider to sign in at, for the laptop and for tests: SAML 2.0 (Web Browser SSO) and OpenID
// Connect (code flow), with a login page that works without script. It knows the people that it is given, in the memory of
// one process.
//
// It is strict towards those who rely on it, as a good provider is: a request of an unknown service, an address that is not
// registered, a wrong signature or a code that is sent twice are refused, with the reason on the page. And it misbehaves on
// demand (see Fault): what a relying party must refuse, it can be shown here, by a test or by a person who picks it on the
// login page.
//
// Its SAML is written and signed here, with goxmldsig, and not with what this repository verifies SAML with: the two ends do
// not share a mistake. It is no identity provider for anything but trying out: passwords are kept as they are given, nothing
// slows down guessing, and everything is forgotten when the process ends.
package idp

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Options are what a Provider is made with. Only Base is needed.
type Options struct {
	// Base is where browsers and relying parties reach the provider, without a slash at its end: "https://idp.test:8443". It is
	// the issuer of OpenID Connect. It may have a path, which requests are then expected to have too.
	Base string

	// Pages is where browsers reach the provider, if not at Base: plain http on localhost spares a developer the warning about a
	// certificate that no browser knows. What relying parties read stays at Base. Likewise without a slash, and with Base's path.
	Pages string

	Now    func() time.Time // default: time.Now
	People []Person         // more can be added later: AddPerson

	WantSignedRequests bool          // SAML: refuse a request that is not signed, and say so in the metadata
	SignMetadata       bool          // SAML: sign the metadata with the key that signs assertions
	MetadataLife       time.Duration // SAML: the metadata's validUntil, from when it is read. 0: it has none
}

// Person is somebody who can sign in.
type Person struct {
	Email               string // names the person; letter case does not matter
	Password            string // empty: cannot sign in
	FirstName, LastName string
	Groups              []string
	UID, GID            *int64
	SupplementaryGroups []int64

	// Claims are more claims and attributes, by name. One of a name that has a value anyway (email, GROUPS) replaces it, and nil
	// leaves it out: for values that a provider should not send.
	Claims map[string]any

	Disabled bool // cannot sign in, and what was refreshed before is not refreshed any more
}

// Signed says which part of a SAML response is signed.
type Signed string

// What can be signed.
const (
	SignAssertion Signed = "" // as most providers do
	SignResponse  Signed = "response"
	SignBoth      Signed = "both"
)

// ServiceProvider is a SAML service provider that trusts this provider. ParseServiceProvider reads one from its metadata.
type ServiceProvider struct {
	EntityID string
	ACS      []string // where responses may be sent, by HTTP-POST; the first is used where a request names none

	Certificates  [][]byte // DER: a request's signature is verified with them
	SignsRequests bool     // its unsigned requests are refused
	EncryptTo     []byte   // DER, of an RSA key; used if Encrypt is set
	Encrypt       bool     // send the assertion encrypted
	Cipher        string   // of encrypted assertions: AES256GCM (the default) or AES128GCM
	Sign          Signed
	AssertionLife time.Duration // default: five minutes
	SessionLife   time.Duration // SessionNotOnOrAfter, from the proof of identity. 0: not said
	EmailAsNameID bool          // who asks for no format gets the e-mail, as many providers are set up. Default: an opaque persistent name
}

// Client is an OpenID Connect client. One of Secret and Keys is needed.
type Client struct {
	ID             string
	Secret         string // client_secret_basic and client_secret_post
	Keys           []any  // *rsa.PublicKey, *ecdsa.PublicKey: private_key_jwt
	RedirectURIs   []string
	PostLogoutURIs []string

	Algorithm    string // of its ID tokens: RS256 (the default) or ES256
	GroupsAsMap  bool   // GROUPS is an object whose values are the names, as some providers send lists
	UserInfoOnly bool   // the ID token says only who it is; the other claims are at the userinfo endpoint
	Offline      bool   // a refresh token also for who did not ask with the scope offline_access
}

// Provider is the identity provider: an http.Handler. Its methods may be called at any time, from many goroutines.
type Provider struct {
	options Options
	path    string // of Base
	now     func() time.Time
	mux     http.ServeMux

	mu       sync.Mutex // everything below
	fault    Fault
	keys     keys
	people   map[string]*Person         // by canonical e-mail
	services map[string]ServiceProvider // by entity ID
	clients  map[string]Client          // by ID
	waiting  shelf[waiting]             // sign-ins that wait for a person
	sessions shelf[session]             // by cookie
	codes    shelf[*grant]
	access   shelf[*grant]
	refresh  shelf[*grant]
	proofs   shelf[bool]       // jti of private_key_jwt, by client and jti
	lastSAML map[string]string // the last good response, by entity ID: what Replay sends
	lastCode map[string]string // likewise, by client ID
}

// New makes a provider. An error is core.Invalid and names the option.
func New(o Options) (*Provider, error) {
	base, err := url.Parse(o.Base)
	if err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" || strings.HasSuffix(o.Base, "/") {
		return nil, core.BadField("Base", "an http or https URL without a slash at its end")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Pages = cmp.Or(o.Pages, o.Base)
	p := &Provider{
		options: o, path: base.Path, now: func() time.Time { return o.Now().UTC() },
		people: map[string]*Person{}, services: map[string]ServiceProvider{}, clients: map[string]Client{},
		waiting: shelf[waiting]{}, sessions: shelf[session]{}, codes: shelf[*grant]{}, access: shelf[*grant]{}, refresh: shelf[*grant]{}, proofs: shelf[bool]{},
		lastSAML: map[string]string{}, lastCode: map[string]string{},
	}
	for _, person := range o.People {
		if err := p.AddPerson(person); err != nil {
			return nil, err
		}
	}
	if p.keys, err = newKeys(o.Base, p.now()); err != nil {
		return nil, err
	}
	p.routes()
	return p, nil
}

func (p *Provider) routes() {
	for pattern, serve := range map[string]http.HandlerFunc{
		"GET /{$}":        p.home,
		"GET /style.css":  asset("text/css; charset=utf-8", style),
		"GET /submit.js":  asset("text/javascript; charset=utf-8", submit),
		"GET /login":      p.showLogin,
		"POST /login":     p.login,
		"POST /logout":    p.logout,
		"GET /saml/start": p.samlStart,

		"GET /saml/metadata": p.samlMetadata,
		"GET /saml/sso":      p.samlRedirect,
		"POST /saml/sso":     p.samlPost,

		"GET /.well-known/openid-configuration": p.discovery,
		"GET /oidc/jwks":                        p.jwks,
		"GET /oidc/authorize":                   p.authorize,
		"POST /oidc/authorize":                  p.authorize,
		"POST /oidc/token":                      p.token,
		"GET /oidc/userinfo":                    p.userInfo,
		"POST /oidc/userinfo":                   p.userInfo,
		"GET /oidc/logout":                      p.endSession,
		"POST /oidc/logout":                     p.endSession,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		p.mux.HandleFunc(method+" "+p.path+path, serve)
	}
}

// maxBody bounds what is read of a request, in bytes: a signed AuthnRequest is some 3 KiB.
const maxBody = 256 << 10

// ServeHTTP serves the login page and both protocols.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	p.mux.ServeHTTP(w, r)
}

// EntityID names the provider in SAML. It is also where its metadata is.
func (p *Provider) EntityID() string { return p.options.Base + "/saml/metadata" }

// Issuer names the provider in OpenID Connect.
func (p *Provider) Issuer() string { return p.options.Base }

// DiscoveryURL is where the discovery document of OpenID Connect is.
func (p *Provider) DiscoveryURL() string { return p.options.Base + "/.well-known/openid-configuration" }

// Pages is where browsers reach the provider.
func (p *Provider) Pages() string { return p.options.Pages }

// StartURL is where a sign-in at a SAML service begins that nobody there asked for.
func (p *Provider) StartURL(entityID, relayState string) string {
	q := url.Values{"sp": {entityID}}
	if relayState != "" {
		q.Set("RelayState", relayState)
	}
	return p.options.Pages + "/saml/start?" + q.Encode()
}

// AddServiceProvider registers a SAML service provider, or replaces the one of its entity ID.
func (p *Provider) AddServiceProvider(sp ServiceProvider) error {
	switch {
	case sp.EntityID == "":
		return core.BadField("EntityID", "the service provider's name")
	case len(sp.ACS) == 0:
		return core.BadField("ACS", "at least one address to send responses to")
	case sp.Encrypt && sp.EncryptTo == nil:
		return core.BadField("EncryptTo", "the certificate to encrypt to")
	case !slices.Contains([]string{"", AES128GCM, AES256GCM}, sp.Cipher):
		return core.BadField("Cipher", "AES128GCM or AES256GCM")
	}
	if sp.AssertionLife == 0 {
		sp.AssertionLife = 5 * time.Minute
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.services[sp.EntityID] = sp
	return nil
}

// AddClient registers an OpenID Connect client, or replaces the one of its ID.
func (p *Provider) AddClient(c Client) error {
	switch {
	case c.ID == "":
		return core.BadField("ID", "the client's name")
	case (c.Secret == "") == (len(c.Keys) == 0):
		return core.BadField("Secret", "one of Secret and Keys")
	case len(c.RedirectURIs) == 0:
		return core.BadField("RedirectURIs", "at least one")
	case !slices.Contains([]string{"", "RS256", "ES256"}, c.Algorithm):
		return core.BadField("Algorithm", "RS256 or ES256")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients[c.ID] = c
	return nil
}

// AddPerson adds somebody, or replaces the one of that e-mail.
func (p *Provider) AddPerson(person Person) error {
	if person.Email == "" {
		return core.BadField("Email", "an e-mail")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	person.Groups = slices.Clone(person.Groups)
	p.people[canonical(person.Email)] = &person
	return nil
}

// SetGroups gives a person exactly those groups. The next sign-in and the next refresh say so.
func (p *Provider) SetGroups(email string, groups ...string) error {
	return p.change(email, func(person *Person) { person.Groups = slices.Clone(groups) })
}

// RemoveGroup takes a person out of a group.
func (p *Provider) RemoveGroup(email, group string) error {
	return p.change(email, func(person *Person) {
		person.Groups = slices.DeleteFunc(slices.Clone(person.Groups), func(g string) bool { return g == group })
	})
}

// Disable ends a person's sessions here: no sign-in, and no refresh of an earlier one. Enable takes it back.
func (p *Provider) Disable(email string) error {
	return p.change(email, func(person *Person) { person.Disabled = true })
}

// Enable lets a disabled person sign in again.
func (p *Provider) Enable(email string) error {
	return p.change(email, func(person *Person) { person.Disabled = false })
}

func (p *Provider) change(email string, f func(*Person)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	person := p.people[canonical(email)]
	if person == nil {
		return fmt.Errorf("person %s: %w", email, core.NotFound)
	}
	f(person)
	return nil
}

// person is a copy of somebody who may sign in. The caller holds p.mu.
func (p *Provider) person(email string) (Person, bool) {
	person := p.people[canonical(email)]
	if person == nil || person.Disabled {
		return Person{}, false
	}
	return *person, true
}

func canonical(email string) string { return strings.ToLower(strings.TrimSpace(email)) }
