package sso

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// Service owns connections and the sign-ins that go through them. All fields but Log are needed.
type Service struct {
	DB        store.DB
	Ring      Sealer
	Directory *directory.Service
	Sessions  *session.Service
	Providers map[Kind]Provider
	Now       func() time.Time // UTC
	Log       *slog.Logger     // default: slog.Default()

	Base        string // of issuers: "https://HOST[:PORT]"
	BrowserBase string // where browsers reach the pages; empty: Base

	// Administrators are the people who administer the account at the moment: they hold all that a System administrator does
	// there. core/access, which stands above this package's store but beside it in the house, knows them.
	Administrators func(ctx context.Context, t core.TenantID) ([]core.Email, error)
}

// Sealer encrypts a tenant's secrets at rest. A keys.Ring does.
type Sealer interface {
	// EnsureSealing makes the tenant's sealing key, if it has none. Only who configures calls it.
	EnsureSealing(ctx context.Context, t core.TenantID) error

	// Seal encrypts and authenticates plain, and binds it to the purpose and the tenant.
	Seal(ctx context.Context, t core.TenantID, purpose string, plain []byte) ([]byte, error)

	// Open returns what Seal was given, for the same purpose and tenant.
	Open(ctx context.Context, t core.TenantID, purpose string, sealed []byte) ([]byte, error)
}

// Entry is what the login page knows of a connection.
type Entry struct {
	ID        string    `json:"id"`
	Alias     Alias     `json:"alias"`
	Name      string    `json:"name"`
	Kind      Kind      `json:"kind"`
	Enabled   bool      `json:"enabled,omitzero"`
	Domains   []string  `json:"domains,omitempty"`  // none: every one that no other names
	DeletedAt time.Time `json:"deletedAt,omitzero"` // its people still belong to it: see New.TakesOver

	GroupPrefix string `json:"groupPrefix,omitempty"`
}

// Catalog is every connection of a tenant, in the order in which they were made. It is one item, so that the login page reads
// it with the tenant, and so that two administrators at once cannot give a domain to two connections.
type Catalog struct {
	Entries []Entry `json:"entries,omitempty"`
}

var (
	connections store.Table[Connection]
	catalogs    store.Table[Catalog]
	traces      store.Table[Trace]
)

// Addresses are ours towards a connection of that alias. The entity ID is the one that it is given by default: where its
// metadata is.
func (s *Service) Addresses(t core.TenantID, a Alias, k Kind) Addresses {
	at := s.BrowserBase
	if at == "" {
		at = s.Base
	}
	at += "/t/" + string(t)
	if k == SAML {
		at += "/saml/" + string(a)
		return Addresses{EntityID: at + "/metadata", Return: at + "/acs", Metadata: at + "/metadata"}
	}
	return Addresses{Return: at + "/oidc/" + string(a) + "/callback"}
}

// Offer is what the login page of a tenant must know: its settings and its connections. It costs one round trip.
func (s *Service) Offer(ctx context.Context, t core.TenantID) (org.Settings, Catalog, error) {
	items, err := s.DB.Get(ctx, store.Meta(t), store.Catalog(t))
	if err != nil {
		return org.Settings{}, Catalog{}, err
	}
	meta, err := org.Decode(items[0])
	if err != nil {
		return org.Settings{}, Catalog{}, err
	}
	rec, err := catalogs.Decode(items[1])
	return meta.Value.Settings, rec.Value, err
}

// Describe is the document that a connection's provider reads about us, of the kinds that have one. Anybody may read it. A
// connection that is absent, or has none, is core.NotFound.
func (s *Service) Describe(ctx context.Context, t core.TenantID, a Alias) ([]byte, error) {
	items, err := s.DB.Get(ctx, store.Meta(t), store.Connection(t, string(a)))
	if err != nil {
		return nil, err
	}
	if _, err := org.Decode(items[0]); err != nil {
		return nil, err
	}
	rec, err := connections.Decode(items[1]) // be it disabled: it is configured before it is enabled
	if err != nil {
		return nil, err
	}
	d, ok := s.Providers[rec.Value.Kind].(Describer)
	if !rec.Exists() || !ok {
		return nil, fmt.Errorf("identity provider: %w", core.NotFound)
	}
	return d.Describe(rec.Value, s.addresses(t, rec.Value), s.Now())
}
