package sso

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// The bounds of a tenant's connections.
const (
	MaxConnections  = 10
	MaxDomains      = 50 // of one connection
	MaxCertificates = 20 // of one SAML provider

	maxBuried = 50 // deleted connections that are remembered: the last ones
)

// Connection reads a connection by its alias. An absent one is core.NotFound.
func (s *Service) Connection(ctx context.Context, t core.TenantID, a Alias) (store.Record[Connection], error) {
	if !plausible(a) {
		return store.Record[Connection]{}, fmt.Errorf("identity provider: %w", core.NotFound)
	}
	rec, err := connections.Get(ctx, s.DB, store.Connection(t, string(a)))
	if err != nil {
		return rec, fmt.Errorf("identity provider %s: %w", a, err)
	}
	return rec, nil
}

// Connections is every connection of a tenant, in order of alias.
func (s *Service) Connections(ctx context.Context, t core.TenantID) ([]Connection, error) {
	var all []Connection
	for rec, err := range connections.List(ctx, s.DB, store.Connections(t)) {
		if err != nil {
			return nil, err
		}
		all = append(all, rec.Value)
	}
	return all, nil
}

// Catalog is what the login page knows of all connections. A tenant without any has an empty one.
func (s *Service) Catalog(ctx context.Context, t core.TenantID) (Catalog, error) {
	items, err := s.DB.Get(ctx, store.Catalog(t))
	if err != nil {
		return Catalog{}, err
	}
	rec, err := catalogs.Decode(items[0])
	return rec.Value, err
}

// Usable are the IDs of the connections by which people sign in: enabled, and proven as they are configured now.
func (s *Service) Usable(ctx context.Context, t core.TenantID) ([]string, error) {
	all, err := s.Connections(ctx, t)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range all {
		if c.usable() {
			ids = append(ids, c.ID)
		}
	}
	return ids, nil
}

func (c Connection) usable() bool { return c.Enabled && !c.ProvenAt.IsZero() }

// DomainOf is the domain of an e-mail.
func DomainOf(e core.Email) string {
	_, domain, _ := strings.Cut(string(e), "@")
	return domain
}

// Owner is the connection that owns a domain: the one that names it, else the one that names none.
func (c Catalog) Owner(domain string) (Entry, bool) {
	var rest Entry
	for _, e := range c.Entries {
		switch {
		case !e.DeletedAt.IsZero():
		case slices.Contains(e.Domains, domain):
			return e, true
		case len(e.Domains) == 0:
			rest = e
		}
	}
	return rest, rest.ID != ""
}

// state is all of a tenant that a change of its connections depends on, from one snapshot.
type state struct {
	meta           store.Record[org.Tenant]
	catalogKey     store.Key
	catalogVersion store.Version
	catalog        plan
	connections    []Connection // in the order of the catalog
	records        []store.Record[Connection]
	items          []store.Item // what else was asked for
}

// state reads it: in one round trip for the tenant and the catalog, and another one for the connections.
func (s *Service) state(ctx context.Context, t core.TenantID, more ...store.Key) (*state, error) {
	items, err := s.DB.Get(ctx, append([]store.Key{store.Meta(t), store.Catalog(t)}, more...)...)
	if err != nil {
		return nil, err
	}
	meta, err := org.Decode(items[0])
	if err != nil {
		return nil, err
	}
	rec, err := catalogs.Decode(items[1])
	if err != nil {
		return nil, err
	}
	st := &state{meta: meta, catalogKey: rec.Key, catalogVersion: rec.Version, catalog: plan{rec.Value}, items: items[2:]}
	keys := []store.Key{store.Meta(t), store.Catalog(t)}
	for _, e := range rec.Value.Entries {
		if e.DeletedAt.IsZero() {
			keys = append(keys, store.Connection(t, string(e.Alias)))
		}
	}
	if len(keys) == 2 {
		return st, nil
	}
	if items, err = s.DB.Get(ctx, keys...); err != nil {
		return nil, err
	}
	if items[0].Version != meta.Version || items[1].Version != rec.Version {
		return nil, fmt.Errorf("the tenant's identity providers: %w", core.Conflict)
	}
	for _, it := range items[2:] {
		c, err := connections.Decode(it)
		if err != nil {
			return nil, err
		}
		if c.Exists() {
			st.connections = append(st.connections, c.Value)
			st.records = append(st.records, c)
		}
	}
	return st, nil
}

// plan is a catalog that is being changed.
type plan struct{ Catalog }

func (p *plan) live() []Entry {
	return slices.DeleteFunc(slices.Clone(p.Entries), func(e Entry) bool { return !e.DeletedAt.IsZero() })
}

func taken(a Alias) error { return fmt.Errorf("identity provider %s: %w", a, core.Exists) }

// place enters a new connection, and decides what depends on the others: its prefix of groups, and its ID if it takes a
// deleted one over.
func (p *plan) place(c *Connection, n New) error {
	live := p.live()
	if slices.ContainsFunc(live, func(e Entry) bool { return e.Alias == c.Alias }) {
		return taken(c.Alias)
	}
	if len(live) >= MaxConnections {
		return fmt.Errorf("a tenant can have %d identity providers: %w", MaxConnections, core.Limit)
	}
	at := len(p.Entries)
	if at > 0 { // the deleted ones count: there may be rules for their groups, which are not a later provider's to give
		c.GroupPrefix = string(c.Alias) + ":"
	}
	if n.TakesOver != "" {
		at = -1
		for i, e := range p.Entries { // of several the last one: it is what the administrator remembers
			if e.Alias == n.TakesOver && !e.DeletedAt.IsZero() && (at < 0 || e.DeletedAt.After(p.Entries[at].DeletedAt)) {
				at = i
			}
		}
		if at < 0 {
			return core.BadField("takesOver", fmt.Sprintf("no identity provider of the alias %q was deleted here", n.TakesOver))
		}
		c.ID, c.GroupPrefix = p.Entries[at].ID, p.Entries[at].GroupPrefix
	}
	if n.GroupPrefix != nil {
		c.GroupPrefix = *n.GroupPrefix
	}
	entries := slices.Clone(p.Entries)
	if at == len(entries) {
		entries = append(entries, entryOf(*c))
	} else {
		entries[at] = entryOf(*c)
	}
	if err := owned(entries, *c); err != nil {
		return err
	}
	c.Others = nil
	for _, e := range entries {
		c.shun(e.GroupPrefix)
	}
	p.Entries = entries
	return nil
}

// shun notes the prefix of another connection; it is true if that is new.
func (c *Connection) shun(prefix string) bool {
	i, known := slices.BinarySearch(c.Others, prefix)
	if known || prefix == "" || prefix == c.GroupPrefix {
		return false
	}
	c.Others = slices.Insert(slices.Clone(c.Others), i, prefix)
	return true
}

// update enters what became of a connection.
func (p *plan) update(c Connection) error {
	entries := slices.Clone(p.Entries)
	at := slices.IndexFunc(entries, func(e Entry) bool { return e.ID == c.ID && e.DeletedAt.IsZero() })
	if at < 0 {
		return fmt.Errorf("identity provider: %w", core.NotFound)
	}
	entries[at] = entryOf(c)
	if err := owned(entries, c); err != nil {
		return err
	}
	p.Entries = entries
	return nil
}

// bury leaves the mark of a connection that is deleted.
func (p *plan) bury(c Connection, now time.Time) {
	entries := slices.Clone(p.Entries)
	buried := 0
	for i := len(entries) - 1; i >= 0; i-- {
		e := &entries[i]
		if e.ID == c.ID && e.DeletedAt.IsZero() {
			e.Enabled, e.Domains, e.DeletedAt = false, nil, now
		}
		if e.DeletedAt.IsZero() {
			continue
		}
		if buried++; buried > maxBuried {
			entries = slices.Delete(entries, i, i+1)
		}
	}
	p.Entries = entries
}

func entryOf(c Connection) Entry {
	return Entry{ID: c.ID, Alias: c.Alias, Name: c.Name, Kind: c.Kind, Enabled: c.Enabled, Domains: c.Domains, GroupPrefix: c.GroupPrefix}
}

// owned checks that each domain has one owner at most, of whom c is the one that is being saved.
func owned(entries []Entry, c Connection) error {
	for _, e := range entries {
		if e.ID == c.ID || !e.DeletedAt.IsZero() {
			continue
		}
		if len(e.Domains) == 0 && len(c.Domains) == 0 {
			return core.BadField("domains", fmt.Sprintf("must name the e-mail domains of its people: %s owns every domain that no other identity provider names", e.Alias))
		}
		for _, d := range c.Domains {
			if slices.Contains(e.Domains, d) {
				return fmt.Errorf("domains: %s belongs to the identity provider %s; take it from there first: %w", d, e.Alias, core.Exists)
			}
		}
	}
	return nil
}
