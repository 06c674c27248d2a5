package access

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// errMoved ends a read whose parts are not of one revision. It is a conflict, so that store.Retry starts again.
var errMoved = fmt.Errorf("access: the tenant changed while it was read: %w", core.Conflict)

// view is part of a tenant as it was at one revision. Every round trip reads Meta too: if it is not the version that the
// first one saw, the view is torn and ends in errMoved.
type view struct {
	s      *Service
	tenant core.TenantID
	now    time.Time
	meta   store.Record[org.Tenant]
	items  map[store.Key]store.Item
	caller *Caller       // to be admitted by gather; nil: nobody
	grants policy.Grants // of every subject gathered
	added  map[store.Key]bool

	without map[core.RuleID]bool // rules that count as taken away already; nil: none
}

func (s *Service) newView(t core.TenantID) *view {
	return &view{s: s, tenant: t, now: s.Now(), items: map[store.Key]store.Item{}, added: map[store.Key]bool{}}
}

// read reads what of the keys was not read yet, MaxGet-1 at a time, since Meta is always one of them. Nothing new to
// read is no round trip.
func (v *view) read(ctx context.Context, keys ...store.Key) error {
	batch := []store.Key{store.Meta(v.tenant)}
	flush := func() error {
		items, err := v.s.DB.Get(ctx, batch...)
		if err != nil {
			return err
		}
		if err := v.see(items[0]); err != nil {
			return err
		}
		for _, it := range items[1:] {
			v.items[it.Key] = it
		}
		batch = batch[:1]
		return nil
	}
	asked := make(map[store.Key]bool, len(keys))
	for _, k := range keys {
		if _, ok := v.items[k]; ok || asked[k] {
			continue
		}
		asked[k] = true
		if batch = append(batch, k); len(batch) == store.MaxGet {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(batch) > 1 || !v.meta.Exists() {
		return flush()
	}
	return nil
}

// see takes Meta as a round trip saw it.
func (v *view) see(it store.Item) error {
	if v.meta.Exists() {
		if it.Version != v.meta.Version {
			return errMoved
		}
		return nil
	}
	meta, err := tenants.Decode(it)
	if err != nil {
		return err
	}
	if !meta.Exists() {
		return fmt.Errorf("tenant: %w", core.NotFound)
	}
	v.meta = meta
	return nil
}

// settle reads Meta once more: what was listed in between, page by page, is of one revision if it passes.
func (v *view) settle(ctx context.Context) error {
	items, err := v.s.DB.Get(ctx, store.Meta(v.tenant))
	if err != nil {
		return err
	}
	return v.see(items[0])
}

// standing is a subject at a scope: what is asked about, and what gather found.
type standing struct {
	subject core.Subject
	scope   core.ScopeID
	id      core.UserID // if set, which person is meant

	code     policy.Code    // policy.NoRule as long as nothing speaks against deciding
	subjects []core.Subject // the subject in canonical form, then its groups
	path     core.Path
}

// stands says whether rules decide; otherwise code has the reason why they do not matter.
func (w *standing) stands() bool { return w.code == policy.NoRule }

// refuse keeps the first reason.
func (w *standing) refuse(c policy.Code) {
	if w.code == policy.NoRule {
		w.code = c
	}
}

// gather finds out all that rules depend on, for several standings together: the first round trip reads who and where,
// with the subjects' own grants; the second, the grants of the groups that the first one told.
func (v *view) gather(ctx context.Context, who []standing) error {
	var keys []store.Key
	if v.caller != nil {
		keys = v.caller.keys()
	}
	for i := range who {
		keys = append(keys, v.begin(&who[i])...)
	}
	if err := v.read(ctx, keys...); err != nil {
		return err
	}
	if err := v.admit(); err != nil {
		return err
	}
	keys = nil
	for i := range who {
		more, err := v.meet(&who[i])
		if err != nil {
			return err
		}
		keys = append(keys, more...)
	}
	if err := v.read(ctx, keys...); err != nil {
		return err
	}
	for i := range who {
		if err := v.finish(&who[i]); err != nil {
			return err
		}
	}
	return nil
}

// begin puts the question into canonical form and says what to read first. What cannot be a name is not looked for.
func (v *view) begin(w *standing) []store.Key {
	self, err := canonical(w.subject)
	if err != nil {
		w.refuse(policy.UnknownSubject)
		return nil
	}
	w.subjects = []core.Subject{self}
	if !plausible(w.scope) {
		w.refuse(policy.UnknownScope)
		return nil
	}
	keys := grantsKeys(v.tenant, self, w.scope)
	if k, ok := recordOf(v.tenant, self); ok {
		keys = append(keys, k)
	}
	if w.scope == core.AccountScope(v.tenant) {
		return keys
	}
	keys = append(keys, store.Scope(v.tenant, w.scope))
	if c, ok := w.scope.ClusterOf(); ok {
		keys = append(keys, store.Scope(v.tenant, core.ClusterScope(c)))
	}
	if p := v.s.parentHint(store.Scope(v.tenant, w.scope)); p != "" {
		keys = append(keys, store.Scope(v.tenant, p))
	}
	return keys
}

// meet takes what the first round trip read, and says what else to read.
func (v *view) meet(w *standing) ([]store.Key, error) {
	if v.meta.Value.State != org.Active {
		w.code = policy.TenantSuspended // whoever asks, and about whatever
		return nil, nil
	}
	if !w.stands() {
		return nil, nil
	}
	if err := v.meetSubject(w); err != nil {
		return nil, err
	}
	sc, err := v.scopeAt(w.scope)
	if err != nil {
		return nil, err
	}
	if sc == nil {
		w.refuse(policy.UnknownScope)
	}
	if !w.stands() {
		return nil, nil
	}
	w.path = org.PathOf(v.tenant, *sc)
	var keys []store.Key
	for _, up := range w.path[1:] {
		if up != "" {
			keys = append(keys, store.Scope(v.tenant, up))
		}
	}
	if sc.Kind == core.Project {
		v.s.rememberParent(store.Scope(v.tenant, sc.ID), sc.Parent)
	}
	for _, g := range w.subjects[1:] {
		keys = append(keys, grantsKeys(v.tenant, g, w.scope)...)
	}
	return keys, nil
}

// admit judges the caller by what the first round trip read. A suspended tenant answers everybody alike.
func (v *view) admit() error {
	if v.caller == nil || v.meta.Value.State != org.Active {
		return nil
	}
	var items []store.Item
	for _, k := range v.caller.keys() {
		items = append(items, v.items[k])
	}
	_, err := v.caller.admit(v.meta.Value, items, v.now)
	return err
}

func (v *view) meetSubject(w *standing) error {
	self := w.subjects[0]
	k, ok := recordOf(v.tenant, self)
	if !ok {
		return nil // a group is its name: identity providers' groups have no record
	}
	switch self.Kind {
	case core.User:
		u, err := directory.Users.Decode(v.items[k])
		switch {
		case err != nil:
			return err
		case !u.Exists(), w.id != "" && w.id != u.Value.ID:
			w.refuse(policy.UnknownSubject)
		case u.Value.Disabled:
			w.refuse(policy.SubjectDisabled)
		}
		for _, g := range u.Value.AllGroups() {
			w.subjects = append(w.subjects, core.GroupSubject(g))
		}
	case core.Application:
		a, err := directory.Applications.Decode(v.items[k])
		switch {
		case err != nil:
			return err
		case !a.Exists():
			w.refuse(policy.UnknownSubject)
		case !a.Value.Enabled:
			w.refuse(policy.SubjectDisabled)
		}
	}
	return nil
}

// finish checks that nothing above the scope is deleted, and indexes the grants.
func (v *view) finish(w *standing) error {
	if !w.stands() {
		return nil
	}
	for _, up := range w.path[1:] {
		if up == "" {
			continue
		}
		sc, err := v.scopeAt(up)
		if err != nil {
			return err
		}
		if sc == nil {
			w.refuse(policy.UnknownScope)
			return nil
		}
	}
	for _, s := range w.subjects {
		for _, k := range grantsKeys(v.tenant, s, w.scope) {
			if v.added[k] {
				continue
			}
			v.added[k] = true
			body, err := v.remaining(v.items[k].Body)
			if err == nil {
				err = v.grants.Add(s, body)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
		}
	}
	return nil
}

// remaining is the body of a grants item without the rules that count as taken away.
func (v *view) remaining(body []byte) ([]byte, error) {
	if len(v.without) == 0 {
		return body, nil
	}
	grants, err := policy.DecodeGrants(body)
	if err != nil {
		return nil, err
	}
	return policy.EncodeGrants(slices.DeleteFunc(grants, func(g policy.Grant) bool { return v.without[g.Rule] }))
}

// scopeAt is a live scope that was read, or nil. The account has no record.
func (v *view) scopeAt(id core.ScopeID) (*org.Scope, error) {
	if id == core.AccountScope(v.tenant) {
		return &org.Scope{ID: id, Kind: core.Account, Name: v.meta.Value.Name}, nil
	}
	rec, err := scopes.Decode(v.items[store.Scope(v.tenant, id)])
	if err != nil || !rec.Exists() || rec.Value.Gone() {
		return nil, err
	}
	return &rec.Value, nil
}

var scopes store.Table[org.Scope]

// name is a scope in words, for reasons.
func (v *view) name(id core.ScopeID) string {
	if id == core.AccountScope(v.tenant) {
		return "the account"
	}
	sc, err := v.scopeAt(id)
	if err != nil || sc == nil {
		return "scope " + string(id)
	}
	return string(sc.Kind) + " " + sc.Name
}

// grantsKeys is where a subject's rules are that reach a scope: those at the account, and those in its cluster.
func grantsKeys(t core.TenantID, s core.Subject, scope core.ScopeID) []store.Key {
	keys := []store.Key{store.Grants(t, s, store.InAccount)}
	if in := store.GrantsAt(scope); in != store.InAccount {
		keys = append(keys, store.Grants(t, s, in))
	}
	return keys
}

// recordOf is the directory's record of a subject; a group has none that matters.
func recordOf(t core.TenantID, s core.Subject) (store.Key, bool) {
	switch s.Kind {
	case core.User:
		return store.User(t, core.Email(s.ID)), true
	case core.Application:
		return store.Application(t, core.ApplicationID(s.ID)), true
	}
	return store.Key{}, false
}

// maxName bounds what can be an id of an application or scope, in bytes, so that no question makes an impossible key.
const maxName = 255

func plausible(id core.ScopeID) bool { return id != "" && len(id) <= maxName }

// canonical brings a subject into the form that rules name it by. Errors are core.Invalid and name the field.
func canonical(s core.Subject) (core.Subject, error) {
	switch s.Kind {
	case core.User:
		e, err := core.ParseEmail("subjectId", s.ID)
		return core.UserSubject(e), err
	case core.Group:
		g, err := core.ParseGroupName("subjectId", s.ID)
		return core.GroupSubject(g), err
	case core.Application:
		if s.ID == "" || len(s.ID) > maxName || core.Reserved(s.ID) {
			return s, core.BadField("subjectId", "must be the client id of an application")
		}
		return s, nil
	}
	return s, core.BadField("subjectType", "must be user, group or application")
}

// maxHints bounds the memory of parents; it is simply begun again when it is full.
const maxHints = 10_000

func (s *Service) parentHint(k store.Key) core.ScopeID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parents[k]
}

func (s *Service) rememberParent(k store.Key, parent core.ScopeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parents == nil || len(s.parents) >= maxHints {
		s.parents = make(map[store.Key]core.ScopeID)
	}
	s.parents[k] = parent
}
