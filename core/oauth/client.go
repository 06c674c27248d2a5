package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/store"
)

// Client is who asks for tokens. The tenant's administrator registered it, or it is ours: nobody is asked for consent.
type Client struct {
	ID             core.ApplicationID
	Name           string
	Public         bool // has no secret; PKCE alone binds its codes to it
	RedirectURIs   []string
	PostLogoutURIs []string

	rec store.Record[directory.Application] // what it was made from; none for our own
}

// CLI is the command line, a public client that every tenant has.
const CLI core.ApplicationID = "fleetpass-cli"

var cli = Client{
	ID: CLI, Name: "Fleetpass command line", Public: true,
	RedirectURIs: []string{"http://127.0.0.1/callback", "http://[::1]/callback"},
}

// audience is whom a person's access token, given to that client, is for. Our own client acts for the person at our APIs,
// whose audience is the issuer. Nobody is asked for consent, so to sign in at any other client must not hand it the
// person's rights here: its tokens are for itself, and tell it who came (userinfo) and whether they still count
// (introspection). Every other endpoint wants the issuer as audience.
func (s *Server) audience(t core.TenantID, c core.ApplicationID) string {
	if c == CLI {
		return s.Issuer(t)
	}
	return string(c)
}

// Credentials is how a client says who it is.
type Credentials struct {
	ID     core.ApplicationID
	Secret string
	Basic  bool // by the Authorization header, which the challenge of a refusal then names (RFC 6749 §5.2)

	Assertion string // a JWT that is the proof in a secret's place (RFC 7523 §2.2): see assertion.go
}

// ParseCredentials reads the client's credentials from the values of the Authorization header and the form: HTTP Basic or
// client_id and client_secret in the form, or an assertion, never two of them (RFC 6749 §2.3).
func ParseCredentials(authorization []string, form Params) (Credentials, error) {
	if form["client_assertion"] != "" || form["client_assertion_type"] != "" {
		return parseAssertion(authorization, form)
	}
	c := Credentials{ID: core.ApplicationID(form["client_id"]), Secret: form["client_secret"]}
	switch len(authorization) {
	case 0:
		return c, c.check()
	case 1:
	default:
		return c, refuse(InvalidRequest, "several Authorization headers")
	}
	scheme, encoded, _ := strings.Cut(authorization[0], " ")
	if !strings.EqualFold(scheme, "Basic") {
		return c, refuse(InvalidClient, "the Authorization header must be of the scheme Basic")
	}
	if c.Secret != "" {
		return c, refuse(InvalidRequest, "client credentials both in the Authorization header and in the form")
	}
	basic := Credentials{Basic: true}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	id, secret, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok || len(raw) > 1024 {
		return basic, &Error{Code: InvalidClient, Description: "the Authorization header does not decode"}
	}
	// Both parts are form-encoded before they are joined (RFC 6749 §2.3.1).
	id, err1 := url.QueryUnescape(id)
	secret, err2 := url.QueryUnescape(secret)
	if err1 != nil || err2 != nil {
		return basic, refuse(InvalidClient, "the Authorization header does not decode")
	}
	basic.ID, basic.Secret = core.ApplicationID(id), secret
	if c.ID != "" && c.ID != basic.ID {
		return basic, refuse(InvalidRequest, "client_id differs from the Authorization header's")
	}
	return basic, basic.check()
}

func (c Credentials) check() error {
	if c.ID == "" {
		return refuse(InvalidClient, "no client credentials; send client_id, and client_secret if the client has one")
	}
	if !clientIDForm(string(c.ID)) || len(c.Secret) > 512 {
		return refuse(InvalidClient, unknownClient)
	}
	return nil
}

// unknownClient is the one wording for every client that is not authenticated.
const unknownClient = "unknown client, or its secret or assertion is wrong"

func clientIDForm(id string) bool { return id != "" && len(id) <= 255 && onlyBytes(id, "-._~") }

// clientKeys is what must be read to know a client: nothing for our own.
func clientKeys(t core.TenantID, id core.ApplicationID) []store.Key {
	if id == CLI {
		return nil
	}
	return []store.Key{store.Application(t, id)}
}

// clientOf makes the client of an id from the items of its clientKeys. One that is absent or disabled is core.NotFound.
func (s *Server) clientOf(id core.ApplicationID, items []store.Item) (Client, error) {
	if id == CLI {
		return cli, nil
	}
	rec, err := s.applications.decode(items[0], directory.Applications.Decode)
	if err != nil {
		return Client{}, err
	}
	a := rec.Value
	c := Client{ID: a.ID, Name: a.Name, Public: a.Public, RedirectURIs: a.RedirectURIs, PostLogoutURIs: a.PostLogoutURIs, rec: rec}
	if !rec.Exists() || !a.Enabled {
		return c, fmt.Errorf("client: %w", core.NotFound)
	}
	return c, nil
}

// authenticate proves the client of a call, from the items of its clientKeys: a confidential one by its secret or an assertion;
// a public one only names itself, and must not send a secret, since it cannot keep one. The work with a secret is the same
// for a client that there is and for one that there is not.
func (s *Server) authenticate(ctx context.Context, c Call, items []store.Item) (Client, error) {
	client, err := s.clientOf(c.Client.ID, items)
	if err != nil && !errors.Is(err, core.NotFound) {
		return Client{}, err
	}
	if c.Client.Assertion != "" {
		if err == nil {
			err = s.asserted(ctx, c, client, items)
		}
		if err != nil {
			return Client{}, refuseFor(err, InvalidClient, unknownClient)
		}
		return client, nil
	}
	if err == nil && client.Public {
		if c.Client.Secret != "" {
			return Client{}, refuse(InvalidClient, unknownClient)
		}
		return client, nil
	}
	if err := s.Directory.CheckSecret(ctx, c.Actor.Tenant, client.rec.Value, c.Client.Secret); err != nil {
		return Client{}, refuseFor(err, InvalidClient, unknownClient)
	}
	return client, nil
}
