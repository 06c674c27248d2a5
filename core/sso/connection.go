package sso

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/store"
)

// New is a connection to make, or what a connection shall be: as an administrator gives it. Secrets go in here and never
// come out again.
type New struct {
	Alias       Alias  // empty: made from the name
	Name        string // for people; empty: the alias
	Kind        Kind
	Enabled     *bool    // nil: yes for a new one, else as it is
	Domains     []string // nil in an update: as they are
	GroupPrefix *string  // nil: the default; it cannot change later
	Mappers     Mappers
	CA          string // PEM
	TakesOver   Alias  // of a connection that was deleted: its people belong to this one

	SAML      *NewSAML
	OIDC      *NewOIDC
	OpenShift *NewOpenShift
}

// NewSAML is what a connection of kind SAML is given: one of MetadataURL and MetadataXML.
type NewSAML struct {
	MetadataURL  string
	MetadataXML  string
	FileName     string
	EntityID     string // ours; empty: our metadata address
	MetadataPin  string // PEM
	IdPInitiated bool
	SignRequests bool
}

// NewOIDC is what a connection of kind OIDC is given.
type NewOIDC struct {
	DiscoveryURL   string
	ClientID       string
	ClientSecret   string // empty in an update: the one that is there
	Auth           ClientAuth
	Scopes         []string
	MandatoryClaim *MandatoryClaim
	TokenExchange  bool // see Service.Vouch
}

// NewOpenShift is what a connection of kind OpenShift is given.
type NewOpenShift struct {
	BaseURL      string
	ClientID     string
	ClientSecret string // empty in an update: the one that is there
	Scopes       []string
}

// Create makes a connection. What the provider publishes is read before anything is stored, so a wrong address is an error
// here, with its reason, and not at the first sign-in.
//
// Errors: core.Invalid naming the field, as the API spells it; core.Exists for an alias that is taken, or a domain that
// another connection owns; core.Limit past MaxConnections; core.Unavailable where the provider does not answer.
func (s *Service) Create(ctx context.Context, actor core.Actor, t core.TenantID, n New) (Connection, error) {
	if err := n.settle(); err != nil {
		return Connection{}, err
	}
	st, err := s.state(ctx, t)
	if err != nil {
		return Connection{}, err
	}
	now := s.Now()
	c := Connection{
		ID: core.NewID(), Alias: n.Alias, Name: n.Name, Kind: n.Kind, Enabled: n.Enabled == nil || *n.Enabled,
		Domains: n.Domains, Mappers: n.Mappers, CA: n.CA, CreatedAt: now, CreatedBy: actor.Subject, UpdatedAt: now,
		Refresh: Refresh{At: now, ChangedAt: now},
	}
	if err := st.catalog.place(&c, n); err != nil { // before the provider is asked
		return Connection{}, err
	}
	document := n.document()
	n.fill(&c)
	if c.SAML != nil { // fixed from now on: the provider is told it
		c.SAML.EntityID = cmp.Or(c.SAML.EntityID, s.Addresses(t, c.Alias, SAML).EntityID)
	}
	if err := s.load(ctx, &c, document); err != nil {
		return Connection{}, err
	}
	if err := s.Ring.EnsureSealing(ctx, t); err != nil {
		return Connection{}, err
	}
	if err := s.sealSecret(ctx, t, &c, n.secret()); err != nil {
		return Connection{}, err
	}
	if err := s.makeKeys(ctx, t, &c); err != nil {
		return Connection{}, err
	}
	id, prefix := c.ID, c.GroupPrefix
	err = store.Retry(ctx, func() error {
		if st, err = s.state(ctx, t, store.Connection(t, string(c.Alias))); err != nil {
			return err
		}
		if st.items[0].Version != 0 {
			return taken(c.Alias)
		}
		c.ID = id
		if err := st.catalog.place(&c, n); err != nil {
			return err
		}
		if c.ID != id || c.GroupPrefix != prefix { // somebody took the deleted one over, or made the first one
			return fmt.Errorf("the tenant's identity providers: %w", core.Conflict)
		}
		reason := "created"
		if n.TakesOver != "" {
			reason += "; takes over the people of the deleted " + string(n.TakesOver)
		}
		w := st.change(s, actor, c)
		w.add(store.Check(st.meta.Key, st.meta.Version), nil)
		w.add(connections.Put(st.items[0].Key, 0, c))
		for _, other := range st.records {
			if other.Value.shun(c.GroupPrefix) {
				w.add(connections.Put(other.Key, other.Version, other.Value))
			}
		}
		w.add(catalogs.Put(st.catalogKey, st.catalogVersion, st.catalog.Catalog))
		w.add(due.Op(due.Job{Kind: due.Metadata, Tenant: t, Ref: jobRef(c), At: now.Add(RefreshEvery)}))
		w.tell(audit.Create, "created", reason)
		return w.commit(ctx, s.DB)
	})
	if err != nil {
		return Connection{}, err
	}
	return c, nil
}

// Update says anew what a connection shall be. What is not given stays: the kind's settings if they are nil, so the domains,
// mappers that are all empty, a client secret, an upload. The kind, the alias and the prefix of groups cannot change. A connection whose way of
// signing people in changes has to be proven again, and so has to be one that trusts something else; the last administrator
// who could sign in cannot be locked out by it: ErrLockedOut.
func (s *Service) Update(ctx context.Context, actor core.Actor, t core.TenantID, a Alias, n New) (Connection, error) {
	rec, err := s.Connection(ctx, t, a)
	if err != nil {
		return Connection{}, err
	}
	was := rec.Value
	if err := n.settleFor(was); err != nil {
		return Connection{}, err
	}
	c := was.clone()
	document := n.document()
	n.fill(&c)
	if document != nil || source(c) != source(was) {
		if err := s.load(ctx, &c, document); err != nil {
			return Connection{}, err
		}
		now := s.Now()
		c.Refresh = Refresh{At: now, ChangedAt: now, Announced: c.Refresh.Announced}
	}
	if err := s.sealSecret(ctx, t, &c, n.secret()); err != nil {
		return Connection{}, err
	}
	if err := s.makeKeys(ctx, t, &c); err != nil {
		return Connection{}, err
	}
	return s.replace(ctx, actor, t, rec, c, "updated")
}

// SetMappers changes which attributes of the provider mean what.
func (s *Service) SetMappers(ctx context.Context, actor core.Actor, t core.TenantID, a Alias, m Mappers) (Connection, error) {
	if err := m.check(); err != nil {
		return Connection{}, err
	}
	rec, err := s.Connection(ctx, t, a)
	if err != nil {
		return Connection{}, err
	}
	c := rec.Value.clone()
	c.Mappers = m
	return s.replace(ctx, actor, t, rec, c, "mappers")
}

// RotateKeys changes our own key towards a provider in two steps, between which the provider can be given the new one. With
// one key, a second is made and published; with two, the older goes and the newer signs. A connection that needs no key of
// ours is core.Unsupported.
func (s *Service) RotateKeys(ctx context.Context, actor core.Actor, t core.TenantID, a Alias) (Connection, error) {
	rec, err := s.Connection(ctx, t, a)
	if err != nil {
		return Connection{}, err
	}
	c := rec.Value.clone()
	switch {
	case c.SAML != nil && len(c.SAML.Keys) > 1:
		c.SAML.Keys = c.SAML.Keys[len(c.SAML.Keys)-1:]
	case c.SAML != nil:
		k, err := s.newKey(ctx, t, c)
		if err != nil {
			return Connection{}, err
		}
		c.SAML.Keys = append(c.SAML.Keys, k)
	case c.OIDC != nil && c.OIDC.Next != nil:
		c.OIDC.Key, c.OIDC.Next = c.OIDC.Next, nil
	case c.OIDC != nil && c.OIDC.Key != nil:
		k, err := s.newKey(ctx, t, c)
		if err != nil {
			return Connection{}, err
		}
		c.OIDC.Next = &k
	default:
		return Connection{}, fmt.Errorf("identity provider %s is not proved to with a key of ours: %w", a, core.Unsupported)
	}
	return s.replace(ctx, actor, t, rec, c, "keys")
}

// replace stores a connection in the place of the one that was read. If that changed meanwhile it is core.Conflict: what was
// decided upon it does not hold.
func (s *Service) replace(ctx context.Context, actor core.Actor, t core.TenantID, rec store.Record[Connection], c Connection, change string) (Connection, error) {
	was := rec.Value
	c.UpdatedAt = s.Now()
	if change != "keys" && !c.sameWay(was) {
		c.ProvenAt = time.Time{}
	}
	err := store.Retry(ctx, func() error {
		st, err := s.state(ctx, t, rec.Key)
		if err != nil {
			return err
		}
		if st.items[0].Version != rec.Version {
			return errChanged
		}
		if err := st.catalog.update(c); err != nil {
			return err
		}
		before := standing{st.meta.Value.Settings, st.connections}
		after := before.with(c)
		if was.Enabled && !c.Enabled {
			if err := st.leave(&after, c); err != nil {
				return err
			}
		}
		if err := s.keeps(ctx, st.meta, before, after, nil); err != nil {
			return err
		}
		w := st.change(s, actor, c)
		w.settings(after.settings)
		w.add(connections.Put(rec.Key, rec.Version, c))
		w.add(catalogs.Put(st.catalogKey, st.catalogVersion, st.catalog.Catalog))
		w.tell(audit.Update, change, cmp.Or(differences(was, c), change))
		return w.commit(ctx, s.DB)
	})
	if err == nil {
		return c, nil
	}
	if err == errChanged {
		err = fmt.Errorf("identity provider %s: %w", c.Alias, core.Conflict)
	}
	return Connection{}, err
}

// errChanged ends a change of a connection that another change passed. It is no core.Conflict, since trying the same again
// would undo the other.
var errChanged = fmt.Errorf("sso: the connection changed")

// Delete takes a connection away. Its people stay, and belong to nobody until an administrator links them, or until another
// connection takes them over (New.TakesOver); what they hold ends where the provider would be asked again.
func (s *Service) Delete(ctx context.Context, actor core.Actor, t core.TenantID, a Alias) error {
	return store.Retry(ctx, func() error {
		st, err := s.state(ctx, t, store.Connection(t, string(a)))
		if err != nil {
			return err
		}
		rec, err := connections.Decode(st.items[0])
		if err != nil {
			return err
		}
		if !rec.Exists() {
			return fmt.Errorf("identity provider: %w", core.NotFound)
		}
		c := rec.Value
		before := standing{st.meta.Value.Settings, st.connections}
		after := before.without(c.ID)
		if err := st.leave(&after, c); err != nil {
			return err
		}
		if err := s.keeps(ctx, st.meta, before, after, nil); err != nil {
			return err
		}
		st.catalog.bury(c, s.Now())
		w := st.change(s, actor, c)
		w.settings(after.settings)
		w.add(store.Delete(rec.Key, rec.Version), nil)
		w.add(catalogs.Put(st.catalogKey, st.catalogVersion, st.catalog.Catalog))
		w.tell(audit.Delete, "deleted", "")
		return w.commit(ctx, s.DB)
	})
}

// load has the provider's adapter read what the provider publishes, into a copy of c that becomes c when it went well.
func (s *Service) load(ctx context.Context, c *Connection, document []byte) error {
	p, err := s.provider(*c)
	if err != nil {
		return err
	}
	if c.SAML != nil && c.SAML.MetadataURL == "" && document == nil {
		return core.BadField("samlData.metadataXmlFile", "is empty; give the identity provider's metadata, or its URL")
	}
	fresh := c.clone()
	if err := p.Load(ctx, &fresh, document); err != nil {
		return err
	}
	if c.SAML != nil && len(fresh.SAML.IdP.Certificates) > MaxCertificates {
		return core.BadField(metadataField(*c), fmt.Sprintf("has %d signing certificates, at most %d are taken; have the provider publish only those in use", len(fresh.SAML.IdP.Certificates), MaxCertificates))
	}
	*c = fresh
	return nil
}
