// Package org owns tenants and what is theirs: their state and settings, their revision, and the scope tree of account,
// clusters, departments and projects. Who may change them is core/access's business, and callers ask it first; here every
// change is checked, bounded, recorded and told in one commit.
//
// The tenant's Meta item orders all of this: every change of the tree, and of access in other packages, raises the
// revision there with an expected version (Bump). So a change that read Meta together with what it decided upon cannot
// commit when any other change came between, which is how checks such as "nothing is below" hold under concurrency.
package org

import (
	"context"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

// State is a tenant's state.
type State string

// The states of a tenant. Only an active one is served: everything else refuses at once, since every request reads it.
const (
	Active    State = "active"
	Suspended State = "suspended"
	Erasing   State = "erasing" // for good; its data is deleted in the background
)

// Tenant is one customer: an issuer with its own keys, people and tree.
type Tenant struct {
	ID        core.TenantID `json:"id"`
	Name      string        `json:"name"`
	State     State         `json:"state"`
	Revision  core.Revision `json:"revision"`
	Epoch     string        `json:"epoch"` // a store restored from a backup gets a later one
	Settings  Settings      `json:"settings"`
	CreatedAt time.Time     `json:"createdAt"`
	CreatedBy core.Subject  `json:"createdBy"`
	ErasedAt  time.Time     `json:"erasedAt,omitzero"` // when erasing was asked for
}

// Serves is nil for an active tenant. For any other it is core.NotFound: a tenant that is suspended looks absent.
func (t Tenant) Serves() error {
	if t.State != Active {
		return fmt.Errorf("tenant: %w", core.NotFound)
	}
	return nil
}

// Keys makes what a new tenant signs with. A keys.Ring does.
type Keys interface {
	Init(ctx context.Context, tenant core.TenantID) ([]store.Op, error)
}

// Service changes tenants and their trees. All fields but EraseGrace are needed.
type Service struct {
	DB   store.DB
	Ring Keys
	Now  func() time.Time // UTC

	// EraseGrace is how long after Erase the data goes: time for clusters to be cleaned with keys that still sign, and for
	// the last events to be carried out. Default: one hour.
	EraseGrace time.Duration

	// Holds says how many objects of ours are in a cluster. If there are any, the cluster keeps its server and mode: sync
	// would not find again what it left behind another address, and what it granted there would stay. Default: none.
	Holds func(ctx context.Context, t core.TenantID, c core.ClusterID) (int, error)
}

var (
	tenants store.Table[Tenant]
	scopes  store.Table[Scope]
)

// Bump makes the operation that raises the tenant's revision by one, for the commit of a change of access or of the
// tree, and returns the new revision. The commit fails with core.Conflict if the tenant changed since rec was read.
func Bump(rec store.Record[Tenant]) (store.Op, core.Revision, error) {
	if !rec.Exists() {
		return store.Op{}, 0, fmt.Errorf("tenant: %w", core.NotFound)
	}
	rec.Value.Revision++
	op, err := tenants.Put(rec.Key, rec.Version, rec.Value)
	return op, rec.Value.Revision, err
}

// Decode reads a tenant out of an item that a Get of several keys returned, store.Meta among them. It is core.NotFound
// unless the tenant is active.
func Decode(it store.Item) (store.Record[Tenant], error) {
	rec, err := tenants.Decode(it)
	if err != nil {
		return rec, err
	}
	return rec, rec.Value.Serves()
}

// DecodeScope reads a scope out of an item that a Get of several keys returned. It is core.NotFound if it is absent or
// deleted; what is above it may still be.
func DecodeScope(it store.Item) (store.Record[Scope], error) {
	rec, err := scopes.Decode(it)
	if err != nil {
		return rec, err
	}
	if !rec.Exists() || rec.Value.Gone() {
		return rec, fmt.Errorf("scope: %w", core.NotFound)
	}
	return rec, nil
}

// Tenant reads a tenant in any state. An absent one is core.NotFound.
func (s *Service) Tenant(ctx context.Context, t core.TenantID) (store.Record[Tenant], error) {
	return tenants.Get(ctx, s.DB, store.Meta(t))
}

// ops gathers the operations of one commit and keeps the first error, so that a change reads as the list of what it
// writes.
type ops struct {
	list []store.Op
	err  error
}

func (o *ops) add(op store.Op, err error) {
	if err != nil && o.err == nil {
		o.err = err
	}
	o.list = append(o.list, op)
}

func (o *ops) schedule(k due.Kind, t core.TenantID, ref string, at time.Time) {
	o.add(due.Op(due.Job{Kind: k, Tenant: t, Ref: ref, At: at}))
}

func (o *ops) emit(t core.TenantID, now time.Time, actor core.Actor, f events.Fact) {
	o.add(store.Emit(t, now, actor, f))
}

func (o *ops) commit(ctx context.Context, db store.DB) error {
	if o.err != nil {
		return o.err
	}
	return db.Commit(ctx, o.list...)
}
