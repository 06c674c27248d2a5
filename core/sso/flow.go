package sso

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// flow is a sign-in on its way to a provider or back. Its handle is RelayState or state on the way out, and another one,
// which the provider never saw, on the way back: each is used once.
type flow struct {
	Connection string    `json:"connection"` // its ID
	Alias      Alias     `json:"alias"`
	Login      string    `json:"login,omitempty"`   // the sign-in that it is for, as session.Login is keyed; empty: a test, or begun by the provider
	Browser    string    `json:"browser,omitempty"` // hash of the cookie of the browser that began; empty: nobody began it yet, or the provider did
	Pending    Pending   `json:"pending,omitzero"`
	Trace      string    `json:"trace"`
	Sent       string    `json:"sent,omitempty"` // for the trace
	Test       bool      `json:"test,omitempty"`
	Started    time.Time `json:"started"`
	Until      time.Time `json:"until"`             // it can be answered until then: the end of the sign-in that it is for
	Settings   time.Time `json:"settings,omitzero"` // Connection.UpdatedAt that the answer was judged by
	Answer     *answer   `json:"answer,omitempty"`  // on the way back
}

// answer is what a provider said, verified and mapped, parked until the browser comes to the end.
type answer struct {
	Identity Identity  `json:"identity"`
	AuthTime time.Time `json:"authTime"`
	Methods  []string  `json:"methods,omitempty"`
	Kept     string    `json:"kept,omitempty"` // names the item that holds it
	Ends     time.Time `json:"ends,omitzero"`
	Until    time.Time `json:"until"` // the browser has to come by then
}

// answerLife is how long a verified answer waits for the browser, which is on its way by a redirect.
const answerLife = 2 * time.Minute

var (
	flows store.Table[flow]
	kepts store.Table[kept]
)

// kept is what a provider can be asked again with. It is replaced as the provider rotates it.
type kept struct {
	Connection Alias     `json:"connection"`
	Sealed     []byte    `json:"sealed"`
	Source     string    `json:"source"`          // Connection.source of the one that it was got from: nobody else is shown it
	AskedAt    time.Time `json:"askedAt"`         // when the provider last spoke of the person
	Asking     time.Time `json:"asking,omitzero"` // since when somebody is asking; zero: nobody
}

// secrets opens what a connection keeps sealed.
func (s *Service) secrets(ctx context.Context, t core.TenantID, c Connection) (Secrets, error) {
	var out Secrets
	var sealed []byte
	var keys []SPKey
	switch {
	case c.SAML != nil:
		keys = c.SAML.Keys
	case c.OIDC != nil:
		sealed = c.OIDC.Secret
		if c.OIDC.Key != nil {
			keys = []SPKey{*c.OIDC.Key}
		}
	case c.OpenShift != nil:
		sealed = c.OpenShift.Secret
	}
	if len(sealed) > 0 {
		plain, err := s.Ring.Open(ctx, t, "connection/"+c.ID+"/secret", sealed)
		if err != nil {
			return Secrets{}, err
		}
		out.Client = string(plain)
	}
	for _, k := range keys {
		der, err := s.Ring.Open(ctx, t, "connection/"+c.ID+"/key/"+k.ID, k.Sealed)
		if err != nil {
			return Secrets{}, err
		}
		private, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return Secrets{}, errors.New("sso: a connection's key does not parse") // the cause could quote it
		}
		signer, ok := private.(*rsa.PrivateKey)
		if !ok {
			return Secrets{}, errors.New("sso: a connection's key is not an RSA key")
		}
		out.Keys = append(out.Keys, Key{ID: k.ID, Certificate: k.Certificate, Private: signer})
	}
	return out, nil
}

// seal makes the operation that keeps what the provider can be asked again with.
func (s *Service) seal(ctx context.Context, t core.TenantID, id string, expect store.Version, k kept, plain Kept) (store.Op, error) {
	body, err := json.Marshal(plain)
	if err != nil {
		return store.Op{}, err
	}
	if k.Sealed, err = s.Ring.Seal(ctx, t, "kept/"+id, body); err != nil {
		return store.Op{}, err
	}
	return kepts.Put(store.Kept(t, id), expect, k)
}

func (s *Service) unseal(ctx context.Context, t core.TenantID, id string, k kept) (Kept, error) {
	body, err := s.Ring.Open(ctx, t, "kept/"+id, k.Sealed)
	if err != nil {
		return Kept{}, err
	}
	var plain Kept
	if err := json.Unmarshal(body, &plain); err != nil {
		return Kept{}, errors.New("sso: what was kept of a sign-in does not decode") // the cause could quote it
	}
	return plain, nil
}

// addresses are ours towards a connection, with the entity ID that it was given.
func (s *Service) addresses(t core.TenantID, c Connection) Addresses {
	a := s.Addresses(t, c.Alias, c.Kind)
	if c.SAML != nil && c.SAML.EntityID != "" {
		a.EntityID = c.SAML.EntityID
	}
	return a
}

func (s *Service) provider(c Connection) (Provider, error) {
	p, ok := s.Providers[c.Kind]
	if !ok {
		return nil, fmt.Errorf("sso: nothing speaks %q: %w", c.Kind, core.Unsupported)
	}
	return p, nil
}

// enabled reads a connection that people may sign in by out of an item. Absent and disabled look alike.
func enabled(it store.Item) (store.Record[Connection], error) {
	rec, err := connections.Decode(it)
	if err == nil && (!rec.Exists() || !rec.Value.Enabled) {
		err = fmt.Errorf("identity provider: %w", core.NotFound)
	}
	return rec, err
}

// errOver answers whoever comes with a handle that is none any more.
var errOver = fmt.Errorf("this sign-in is over, or was begun in another browser: %w", core.NotFound)

// errElsewhere says that another request did the same at the same time. It is core.NotFound, and core.Conflict for who may read
// again and retry.
var errElsewhere = fmt.Errorf("%w: %w", errOver, core.Conflict)

// source is what a person's stable id, and what the provider can be asked with, hold for: this provider, with us as this client,
// and this connection to it. Where one of them changes, an id says nothing, and a token is nobody else's business.
func (c Connection) source() string {
	client := ""
	switch {
	case c.OIDC != nil:
		client = c.OIDC.ClientID
	case c.OpenShift != nil:
		client = c.OpenShift.ClientID
	}
	return session.Hash(strings.Join([]string{c.CreatedAt.UTC().Format(time.RFC3339Nano), string(c.Kind), identifier(c), client}, "\n"))[:16]
}

func flowKey(t core.TenantID, handle string) (store.Key, bool) {
	return store.Flow(t, session.Hash(handle)), len(handle) == len(core.NewSecret())
}
