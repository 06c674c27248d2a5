package oauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trust"
)

// assertionType is what client_assertion_type must be (RFC 7523 §2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// parseAssertion reads a client's assertion. One of its own names the client by itself (RFC 7521 §4.2), so that client_id may be
// left out; one of an issuer does not, and needs it.
func parseAssertion(authorization []string, form Params) (Credentials, error) {
	c := Credentials{ID: core.ApplicationID(form["client_id"]), Assertion: form["client_assertion"]}
	switch {
	case len(authorization) > 0 || form["client_secret"] != "":
		return c, refuse(InvalidRequest, "several client credentials; send client_assertion alone")
	case form["client_assertion_type"] != assertionType:
		return c, refuse(InvalidRequest, "client_assertion_type must be "+assertionType)
	case c.Assertion == "":
		return c, refuse(InvalidRequest, "client_assertion is missing")
	}
	issuer, subject, err := trust.Peek(c.Assertion)
	if err != nil {
		return c, &Error{Code: InvalidClient, Description: unknownClient, cause: err}
	}
	if c.ID == "" {
		if issuer == "" || issuer != subject {
			return c, refuse(InvalidClient, "client_id is missing; an assertion of an issuer does not say which client it stands for")
		}
		c.ID = core.ApplicationID(issuer)
	}
	return c, c.check()
}

// asserted proves a client by its assertion: one that it signed itself (private_key_jwt), once, or one of an issuer that it
// trusts. read may hold items of such issuers.
func (s *Server) asserted(ctx context.Context, c Call, client Client, read []store.Item) error {
	t, raw := c.Actor.Tenant, c.Client.Assertion
	issuer, _, err := trust.Peek(raw)
	if err != nil {
		return err
	}
	if issuer != string(client.ID) {
		return s.federated(ctx, t, client, raw, read)
	}
	// Both are one value of ours that no other server has: OpenID Connect Core §9 wants the endpoint, what came after it the
	// issuer, since an endpoint can be made to look like another server's.
	audiences := []string{s.Issuer(t), s.Issuer(t) + "/token"}
	proof, err := trust.JudgeProof(client.rec.Value.Keys, client.ID, audiences, raw, s.Now())
	if err != nil {
		return err
	}
	used := store.Put(store.Used(t, "client-assertion", session.Hash(string(client.ID)+"\x00"+proof.ID)), 0, nil)
	err = s.DB.Commit(ctx, used.Until(proof.Expires.Add(time.Minute))) // clocks of instances differ
	if errors.Is(err, core.Conflict) {
		return fmt.Errorf("the assertion was used before: %w", core.Unauthenticated)
	}
	return err
}

// federated proves an application by a token of an issuer that it trusts. It is core.Unauthenticated unless the token is good,
// and one of the application's trusts admits it. What is not among the items read costs one round trip.
func (s *Server) federated(ctx context.Context, t core.TenantID, client Client, raw string, read []store.Item) error {
	app := client.rec.Value
	issuer, _, err := trust.Peek(raw)
	if err != nil {
		return err
	}
	items, err := s.issuersOf(ctx, t, app, read)
	if err != nil {
		return err
	}
	why := fmt.Errorf("the application trusts no such issuer: %w", core.Unauthenticated)
	for _, it := range items {
		rec, err := s.issuers.decode(it, trust.Issuers.Decode)
		if err != nil {
			return err
		}
		if !rec.Exists() || rec.Value.Issuer != issuer {
			continue
		}
		claims, err := trust.Judge(ctx, s.Issuers, rec.Value, raw, s.Now())
		if errors.Is(err, core.Unavailable) {
			return err // neither good nor bad
		}
		if err != nil {
			why = err
			continue
		}
		for _, tr := range app.Trusts {
			if tr.IssuerID != rec.Value.ID {
				continue // another one, that had the name before
			}
			if why = tr.Admits(claims, s.Issuer(t)); why == nil {
				return nil
			}
		}
	}
	return why
}

// issuersOf is the items of the issuers that an application trusts, out of those read already and the store.
func (s *Server) issuersOf(ctx context.Context, t core.TenantID, app directory.Application, read []store.Item) ([]store.Item, error) {
	var found []store.Item
	var missing []store.Key
	for _, k := range issuerKeys(t, app) {
		if i := slices.IndexFunc(read, func(it store.Item) bool { return it.Key == k }); i >= 0 {
			found = append(found, read[i])
		} else {
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	more, err := s.DB.Get(ctx, missing...)
	return append(found, more...), err
}

// issuerKeys is what must be read to know the issuers that an application trusts.
func issuerKeys(t core.TenantID, app directory.Application) []store.Key {
	var keys []store.Key
	for _, tr := range app.Trusts {
		if k := store.TrustedIssuer(t, tr.Issuer); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// guessed is the keys of the issuers that the application of a call trusted when this instance last saw it, so that they can be
// read with it, in one round trip: a guess that is wrong costs what no guess would.
func (s *Server) guessed(t core.TenantID, id core.ApplicationID) []store.Key {
	rec, _ := s.applications.last(store.Application(t, id))
	return issuerKeys(t, rec.Value)
}

// federates says whether a call proves its client with a token of an issuer.
func (c Credentials) federates() bool {
	if c.Assertion == "" {
		return false
	}
	issuer, _, err := trust.Peek(c.Assertion)
	return err == nil && issuer != string(c.ID)
}

// foreign says whether a token is none of ours: another issuer's, or one that cannot be read. What is wrong with that is told
// apart from nothing else.
func foreign(raw, ours string) bool {
	issuer, _, err := trust.Peek(raw)
	return err != nil || issuer != ours
}
