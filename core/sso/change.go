package sso

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

// clone is a copy that shares nothing that is changed in place.
func (c Connection) clone() Connection {
	c.Domains = slices.Clone(c.Domains)
	if c.SAML != nil {
		saml := *c.SAML
		saml.Keys = slices.Clone(saml.Keys)
		c.SAML = &saml
	}
	if c.OIDC != nil {
		oidc := *c.OIDC
		c.OIDC = &oidc
	}
	if c.OpenShift != nil {
		openshift := *c.OpenShift
		c.OpenShift = &openshift
	}
	return c
}

// sameWay says whether people sign in by c as they did by o: whether what was proven of the one holds for the other.
func (c Connection) sameWay(o Connection) bool {
	bare := func(c Connection) Connection {
		c = c.clone()
		c.Name, c.Enabled, c.ProvenAt, c.UpdatedAt, c.Refresh = "", false, time.Time{}, time.Time{}, Refresh{}
		if c.SAML != nil {
			c.SAML.FileName = ""
		}
		if c.OIDC != nil {
			c.OIDC.TokenExchange = false
		}
		return c
	}
	return same(bare(c), bare(o))
}

// same compares as stored: a list that is absent is an empty one.
func same(a, b any) bool {
	x, err := json.Marshal(a, json.Deterministic(true))
	if err != nil {
		return false
	}
	y, err := json.Marshal(b, json.Deterministic(true))
	return err == nil && bytes.Equal(x, y)
}

// source is where the connection is read from, and with what it is verified: if it changes, it is read anew.
func source(c Connection) string {
	switch {
	case c.SAML != nil:
		return strings.Join([]string{c.SAML.MetadataURL, c.SAML.MetadataPin, c.CA}, "\x00")
	case c.OIDC != nil:
		return strings.Join([]string{c.OIDC.DiscoveryURL, c.CA}, "\x00")
	case c.OpenShift != nil:
		return strings.Join([]string{c.OpenShift.BaseURL, c.CA}, "\x00")
	}
	return ""
}

// differences names what an update changed, for the record.
func differences(was, c Connection) string {
	var out []string
	for _, d := range []struct {
		what    string
		changed bool
	}{
		{"name", was.Name != c.Name},
		{"enabled", !was.Enabled && c.Enabled},
		{"disabled", was.Enabled && !c.Enabled},
		{"domains", !slices.Equal(was.Domains, c.Domains)},
		{"mappers", was.Mappers != c.Mappers},
		{"certificate authority", was.CA != c.CA},
		{"SAML settings", !same(was.SAML, c.SAML)},
		{"OpenID Connect settings", !same(was.OIDC, c.OIDC)},
		{"OpenShift settings", !same(was.OpenShift, c.OpenShift)},
	} {
		if d.changed {
			out = append(out, d.what)
		}
	}
	return strings.Join(out, ", ")
}

// change gathers the operations of one commit about a connection and keeps the first error.
type change struct {
	actor core.Actor
	st    *state
	c     Connection
	now   time.Time
	list  []store.Op
	err   error
}

func (st *state) change(s *Service, actor core.Actor, c Connection) *change {
	return &change{actor: actor, st: st, c: c, now: s.Now()}
}

func (w *change) add(op store.Op, err error) {
	if err != nil && w.err == nil {
		w.err = err
	}
	w.list = append(w.list, op)
}

var tenants store.Table[org.Tenant]

// settings writes the tenant again, with whatever became of its settings. It is written even if they stay, so that no two
// changes of who can sign in pass each other: each of them expects the tenant as it read it. The revision stays.
func (w *change) settings(set org.Settings) {
	meta := w.st.meta
	meta.Value.Settings = set
	w.add(tenants.Put(meta.Key, meta.Version, meta.Value))
}

func (w *change) tell(a audit.Action, change, reason string) {
	t := w.st.meta.Value.ID
	w.add(audit.Op(w.actor, w.now, audit.Record{
		Tenant: t, Action: a, EntityType: audit.EntityIdentityProvider, EntityID: w.c.ID, Name: string(w.c.Alias),
		Scope: core.AccountScope(t), Reason: reason,
	}))
	w.add(store.Emit(t, w.now, w.actor, events.IdentityProviderChanged{Connection: w.c.ID, Change: change}))
}

func (w *change) commit(ctx context.Context, db store.DB) error {
	if w.err != nil {
		return w.err
	}
	for _, op := range w.list {
		switch {
		case len(op.Body) <= store.MaxBody:
		case op.Key.Kind() == "catalog":
			return fmt.Errorf("the domains of all identity providers together are too long: %w", core.Limit)
		case op.Key.Kind() == "connection":
			return core.BadField(metadataField(w.c), "makes the connection too large to be kept; have the provider publish fewer certificates")
		}
	}
	return db.Commit(ctx, w.list...)
}
