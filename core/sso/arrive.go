package sso

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// Arrived is a sign-in whose provider has spoken, for the browser that began it.
type Arrived struct {
	Name  string                      // of the connection, for people
	Email core.Email                  // who the provider says it is
	Login store.Record[session.Login] // what it is for; the zero record: for no client
	Proof session.Proof
	Ops   []store.Op // what the commit that opens the session must hold too: the person, the trace, the end of the flow

	// Unasked says that the provider began: nobody here knows whether the browser's person wants this. Ask them.
	Unasked bool

	// Test is the outcome of a test: nothing of the above is to be done, and all of it is done.
	Test *Trace
}

// Arrive ends what Receive parked, for the browser with that login cookie: it says who the person is now and what the commit
// must hold that signs them in. Whoever comes with another cookie, or too late, gets core.NotFound; a person who may not sign
// in by this connection, a *RefusedError. It costs two round trips, one more where the person comes to other groups, and another
// where one of these is new here. It changes nobody by itself, unless it refuses or ends a test; who gets a core.Conflict from it
// or from the commit may call it again.
func (s *Service) Arrive(ctx context.Context, actor core.Actor, handle, cookie string) (Arrived, error) {
	t, now := actor.Tenant, s.Now()
	key, plausible := flowKey(t, handle)
	if !plausible {
		return Arrived{}, errOver
	}
	fl, err := flows.Get(ctx, s.DB, key)
	if errors.Is(err, core.NotFound) {
		return Arrived{}, errOver
	} else if err != nil {
		return Arrived{}, err
	}
	f := fl.Value
	if f.Answer == nil || !now.Before(f.Answer.Until) {
		return Arrived{}, errOver
	}
	if f.Browser != "" && subtle.ConstantTimeCompare([]byte(f.Browser), []byte(session.Hash(cookie))) != 1 {
		return Arrived{}, errOver // the flow stays for the browser that it belongs to
	}
	traced, err := traceKey(t, f.Trace)
	if err != nil {
		return Arrived{}, err
	}
	keys := []store.Key{store.Meta(t), store.Connection(t, string(f.Alias)), store.User(t, f.Answer.Identity.Email), traced}
	if f.Login != "" {
		keys = append(keys, store.Login(t, f.Login))
	}
	if f.Answer.Kept != "" {
		keys = append(keys, store.Kept(t, f.Answer.Kept))
	}
	items, err := s.DB.Get(ctx, keys...)
	if err != nil {
		return Arrived{}, err
	}
	a := arrival{Service: s, actor: actor, flow: fl, at: now}
	if err := a.decode(items); err != nil {
		return Arrived{}, err
	}
	return a.end(ctx)
}

// arrival is one Arrive, with what was read for it.
type arrival struct {
	*Service
	actor core.Actor
	at    time.Time
	flow  store.Record[flow]

	tenant     org.Tenant
	connection store.Record[Connection]
	person     store.Record[directory.User]
	attempt    store.Record[Trace]
	login      store.Record[session.Login]
	kept       store.Record[kept]
}

func (a *arrival) decode(items []store.Item) error {
	meta, err := org.Decode(items[0])
	if err != nil {
		return err
	}
	a.tenant = meta.Value
	if a.connection, err = connections.Decode(items[1]); err != nil {
		return err
	}
	// What was judged by other settings is judged no more: an administrator who takes a domain away, or mends a mapping, means
	// the next person.
	if c := a.connection.Value; !a.connection.Exists() || c.ID != a.flow.Value.Connection || !c.Enabled && !a.flow.Value.Test || !c.UpdatedAt.Equal(a.flow.Value.Settings) {
		return errOver
	}
	if a.person, err = directory.Users.Decode(items[2]); err != nil {
		return err
	}
	if a.attempt, err = traces.Decode(items[3]); err != nil {
		return err
	}
	rest := items[4:]
	if a.flow.Value.Login != "" {
		if a.login, err = session.DecodeLogin(rest[0]); err != nil {
			return err
		}
		if !a.login.Exists() {
			return errOver
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		a.kept, err = kepts.Decode(rest[0])
	}
	return err
}

func (a *arrival) end(ctx context.Context) (Arrived, error) {
	f, c, said := a.flow.Value, a.connection.Value, a.flow.Value.Answer
	who := said.Identity
	r := &Report{Checks: a.attempt.Value.Checks}
	user, ops, err := a.Directory.FromProvider(a.actor, a.person, who.said(c))
	var refused *directory.RefusedError
	switch {
	case errors.As(err, &refused):
		r.Fail(CheckAccount, refused.Found, "somebody who may sign in by this identity provider", refused.Fix)
	case err != nil:
		return Arrived{}, err
	case a.person.Exists():
		r.Pass(CheckAccount, "known here")
	default:
		r.Pass(CheckAccount, "signs in here for the first time")
	}
	if r.Err() != nil || f.Test {
		return a.leave(ctx, r)
	}
	if f.Browser != "" {
		r.Pass(CheckBrowser, "the one that began")
	}
	index, err := a.Directory.FollowGroups(ctx, a.actor.Tenant, a.person.Value, user, who.said(c))
	if err != nil {
		return Arrived{}, err
	}
	ops = append(ops, index...)
	gone := store.Delete(a.flow.Key, a.flow.Version)
	told, err := a.told(r, SignedIn)
	if err != nil {
		return Arrived{}, err
	}
	ops = append(ops, gone, told)
	up := session.Upstream{Connection: c.ID, Alias: string(c.Alias), Kept: said.Kept, Ends: said.Ends}
	if a.kept.Exists() {
		put, err := kepts.Put(a.kept.Key, a.kept.Version, a.kept.Value)
		if err != nil {
			return Arrived{}, err
		}
		ops = append(ops, put.Until(a.at.Add(a.tenant.Settings.AbsoluteLifetime)))
	} else {
		up.Kept = ""
	}
	if proven, err := a.proven(); err != nil {
		return Arrived{}, err
	} else if proven != nil {
		ops = append(ops, *proven)
	}
	return Arrived{
		Name: c.Name, Email: who.Email, Login: a.login, Ops: ops, Unasked: f.Browser == "",
		Proof: session.Proof{User: user, At: said.AuthTime, Methods: methods(c.Kind, said.Methods), Upstream: up},
	}, nil
}

// leave ends a test, or a sign-in of somebody who may not.
func (a *arrival) leave(ctx context.Context, r *Report) (Arrived, error) {
	f, c := a.flow.Value, a.connection.Value
	outcome := Refused
	ops := []store.Op{store.Delete(a.flow.Key, a.flow.Version)}
	if cause, failed := r.Failure(); !failed {
		outcome = Tested
		if proven, err := a.proven(); err != nil {
			return Arrived{}, err
		} else if proven != nil {
			ops = append(ops, *proven)
		}
	} else {
		note, err := audit.Op(a.actor, a.at, audit.Record{
			Action: audit.SignIn, EntityType: audit.EntityIdentityProvider, EntityID: c.ID, Name: string(c.Alias), Result: audit.Failed, Reason: string(cause.Name),
		})
		if err != nil {
			return Arrived{}, err
		}
		ops = append(ops, note)
	}
	told, err := a.told(r, outcome)
	if err != nil {
		return Arrived{}, err
	}
	if a.kept.Exists() {
		ops = append(ops, store.Delete(a.kept.Key, a.kept.Version))
	}
	if err := a.DB.Commit(ctx, append(ops, told)...); errors.Is(err, core.Conflict) {
		return Arrived{}, errOver
	} else if err != nil {
		return Arrived{}, err
	}
	tr := a.attempt.Value
	tr.Checks, tr.Outcome = r.Checks, outcome
	if f.Test {
		return Arrived{Name: c.Name, Email: f.Answer.Identity.Email, Test: &tr}, nil
	}
	return Arrived{}, &RefusedError{Trace: f.Trace, cause: fmt.Errorf("%s: %w", CheckAccount, ErrRefused)}
}

// told makes the operation that writes the attempt's end into its trace.
func (a *arrival) told(r *Report, o Outcome) (store.Op, error) {
	tr := a.attempt.Value
	tr.ID, tr.Checks, tr.Outcome = a.flow.Value.Trace, r.Checks, o
	return a.trace(a.actor, a.connection.Value, tr, a.attempt.Version, a.at.Add(TraceLife))
}

// proven makes the operation that remembers that the connection works, once.
func (a *arrival) proven() (*store.Op, error) {
	c := a.connection.Value
	if !c.ProvenAt.IsZero() {
		return nil, nil
	}
	c.ProvenAt = a.at
	op, err := connections.Put(a.connection.Key, a.connection.Version, c)
	return &op, err
}

// methods are the authentication methods of a session (RFC 8176). A provider that names none has federated it: that is all
// we know.
func methods(k Kind, said []string) []string {
	if len(said) > 0 {
		return said
	}
	return []string{"fed"}
}

func (i Identity) said(c Connection) directory.Said {
	return directory.Said{
		Connection: c.ID, Alias: string(c.Alias), Source: c.source(), Subject: i.Subject, Email: i.Email, Groups: i.Groups,
		Profile: directory.Profile{FirstName: i.FirstName, LastName: i.LastName, UID: i.UID, GID: i.GID, SupplementaryGroups: i.SupplementaryGroups},
	}
}

// For finds the connection by which the person of an e-mail signs in. It says nothing about whether there is such a person.
func (c Catalog) For(e core.Email) (Entry, bool) {
	owner, found := c.Owner(DomainOf(e))
	return owner, found && owner.Enabled
}

// Offered is the connections that people can choose.
func (c Catalog) Offered() []Entry {
	var out []Entry
	for _, e := range c.Entries {
		if e.Enabled && e.DeletedAt.IsZero() {
			out = append(out, e)
		}
	}
	return out
}
