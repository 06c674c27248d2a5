package sso

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// A sign-in has three steps, each of which may happen in another process: Start sends the browser to the provider, Receive
// judges what it brings back, Arrive ends it for the browser that began. A test takes the same way and changes nothing.

// Start begins a sign-in at a connection: for the sign-in of a browser that login is, with that browser's login cookie. fresh
// asks the provider for a new proof, hint is what the person typed as e-mail. It costs two round trips.
func (s *Service) Start(ctx context.Context, actor core.Actor, a Alias, login store.Record[session.Login], cookie string, fresh bool, hint string) (Departure, error) {
	f := flow{Login: login.Key.Sort(), Browser: session.Hash(cookie), Trace: newTraceID(s.Now())}
	// Whatever the provider takes, the sign-in that it is for ends when it ends.
	counted, err := s.Sessions.Tried(login)
	if err != nil {
		return Departure{}, err
	}
	return s.depart(ctx, actor, a, f, nil, login.Value.Started, fresh, hint, counted)
}

// depart makes the flow and its trace, and the request to the provider. began is when the sign-in did; zero: now.
func (s *Service) depart(ctx context.Context, actor core.Actor, a Alias, f flow, of *store.Record[Trace], began time.Time, fresh bool, hint string, more ...store.Op) (Departure, error) {
	t, now := actor.Tenant, s.Now()
	items, err := s.DB.Get(ctx, store.Meta(t), store.Connection(t, string(a)))
	if err != nil {
		return Departure{}, err
	}
	if _, err := org.Decode(items[0]); err != nil {
		return Departure{}, err
	}
	rec, err := enabled(items[1])
	if f.Test && rec.Exists() && errors.Is(err, core.NotFound) {
		err = nil // a connection is tested before it is enabled
	}
	if err != nil {
		return Departure{}, err
	}
	c := rec.Value
	if f.Connection != "" && f.Connection != c.ID {
		return Departure{}, errOver // another connection took the alias since the test was made
	}
	p, err := s.provider(c)
	if err != nil {
		return Departure{}, err
	}
	open, err := s.secrets(ctx, t, c)
	if err != nil {
		return Departure{}, err
	}
	handle := core.NewSecret()
	d, err := p.Start(ctx, c, open, Journey{Addresses: s.addresses(t, c), State: handle, Login: fresh, Hint: hint, Now: now})
	if err != nil {
		return Departure{}, err
	}
	f.Connection, f.Alias, f.Pending, f.Sent, f.Started = c.ID, c.Alias, d.Pending, d.Sent, now
	if began.IsZero() {
		began = now
	}
	f.Until = began.Add(session.LoginLife)
	put, err := flows.Put(store.Flow(t, session.Hash(handle)), 0, f)
	if err != nil {
		return Departure{}, err
	}
	tr := Trace{ID: f.Trace, Outcome: Started, Test: f.Test, Sent: d.Sent}
	var version store.Version
	if of != nil {
		version = of.Version
	}
	told, err := s.trace(actor, c, tr, version, now.Add(StartedLife))
	if err != nil {
		return Departure{}, err
	}
	err = s.DB.Commit(ctx, append(more, put.Until(f.Until), told)...)
	if errors.Is(err, core.Conflict) {
		err = errElsewhere // two clicks at once
	}
	return d, err
}

// A RefusedError says that a sign-in at a provider was refused, and where the reasons are. Its cause is core.Unauthenticated,
// and its wording the same for every reason.
type RefusedError struct {
	Trace string // the ID of the trace; empty: there is none
	cause error
}

// Error is for the log; the page has a wording of its own.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("sign-in refused, trace %q: %v", e.Trace, e.cause)
}

// TraceID is what a person can quote to their administrator.
func (e *RefusedError) TraceID() string { return e.Trace }

// Unwrap returns the cause.
func (e *RefusedError) Unwrap() error { return e.cause }

// How many answers that belong to no sign-in under way are looked into, for one place in ten minutes: anybody can post them, and
// each costs work and leaves a trace and a record. Where providers may begin by themselves, honest ones are among them.
const (
	maxStray   = 50
	maxUnasked = 1000
)

// Receive judges what a browser brought back from the provider of a connection, which is of one of the kinds, and parks it
// under the handle that it returns, for Arrive. state is the reference that Start gave out, if one came back. A refusal is a
// *RefusedError; too many answers to nothing are core.Throttled. It costs two round trips, beside what the provider is asked,
// and two more for an answer that belongs to no sign-in.
func (s *Service) Receive(ctx context.Context, actor core.Actor, a Alias, kinds []Kind, state string, params map[string]string) (handle string, err error) {
	t := actor.Tenant
	key, plausible := flowKey(t, state)
	if !plausible {
		key = store.Flow(t, "none")
	}
	items, err := s.DB.Get(ctx, store.Meta(t), store.Connection(t, string(a)), key)
	if err != nil {
		return "", err
	}
	if _, err := org.Decode(items[0]); err != nil {
		return "", err
	}
	v := visit{Service: s, actor: actor, at: s.Now()}
	if v.rec, err = connections.Decode(items[1]); err != nil {
		return "", err
	}
	if v.flow, err = flows.Decode(items[2]); err != nil {
		return "", err
	}
	// A flow of another connection is none here: a provider answers for itself alone.
	f, c := v.flow.Value, v.rec.Value
	v.known = v.flow.Exists() && f.Connection == c.ID && f.Answer == nil && f.Browser != "" && v.at.Before(f.Until)
	if !v.rec.Exists() || !slices.Contains(kinds, c.Kind) || !c.Enabled && !(v.known && f.Test) {
		return "", fmt.Errorf("identity provider: %w", core.NotFound)
	}
	if !v.known {
		if err := v.count(ctx); err != nil {
			return "", err
		}
	}
	return v.receive(ctx, params)
}

// strays counts the answers without a sign-in that came from a place since a time.
type strays struct {
	N     int       `json:"n"`
	Since time.Time `json:"since"`
}

var strayCounts store.Table[strays]

// visit is one answer of a provider, as it is judged.
type visit struct {
	*Service
	actor core.Actor
	rec   store.Record[Connection]
	flow  store.Record[flow]
	known bool // the flow is one that this answer may belong to
	at    time.Time

	traceID string // of the trace that was written
}

// count counts an answer that belongs to no sign-in, before it is looked into.
func (v *visit) count(ctx context.Context) error {
	limit := maxStray
	if c := v.rec.Value; c.SAML != nil && c.SAML.IdPInitiated {
		limit = maxUnasked
	}
	key := store.Attempts(v.actor.Tenant, "stray", directory.Place(v.actor.Address)) // no e-mail is "stray"
	err := store.Retry(ctx, func() error {
		items, err := v.DB.Get(ctx, key)
		if err != nil {
			return err
		}
		rec, err := strayCounts.Decode(items[0])
		if err != nil {
			return err
		}
		n := rec.Value
		if over := n.Since.Add(session.LoginLife); !v.at.Before(over) {
			n = strays{Since: v.at}
		} else if n.N >= limit {
			return directory.Throttle(over, v.at)
		}
		n.N++
		put, err := strayCounts.Put(key, rec.Version, n)
		if err != nil {
			return err
		}
		return v.DB.Commit(ctx, put.Until(n.Since.Add(session.LoginLife)))
	})
	if errors.Is(err, core.Conflict) { // so many at once that this one could not be counted
		err = directory.Throttle(v.at.Add(time.Second), v.at)
	}
	return err
}

func (v *visit) receive(ctx context.Context, params map[string]string) (string, error) {
	r, said, err := v.judge(ctx, params)
	if err != nil && !errors.Is(err, ErrRefused) {
		return "", v.unanswered(ctx, r, err)
	}
	if r.Err() != nil && unknownKey(r) { // the provider may have a new key: its metadata says
		again, changed, rereadErr := v.Reread(ctx, v.actor, v.rec)
		switch {
		case rereadErr != nil:
			v.logger().WarnContext(ctx, "the provider's metadata cannot be read", "tenant", v.actor.Tenant, "connection", v.rec.Value.Alias, "error", rereadErr)
		case changed:
			v.rec = again
			if r, said, err = v.judge(ctx, params); err != nil && !errors.Is(err, ErrRefused) {
				return "", v.unanswered(ctx, r, err)
			}
		}
	}
	var identity *Identity
	if r.Err() == nil && err == nil {
		c := v.rec.Value
		if who, ok := c.Mappers.Map(c, said.Attributes, r); ok {
			who.Subject = said.Subject
			if err := v.owns(ctx, v.actor.Tenant, c, who.Email, r); err != nil {
				return "", err
			}
			identity = &who
		}
	}
	used, err := v.once(ctx, said, r)
	if err != nil {
		return "", err
	}
	if r.Err() != nil || identity == nil {
		return "", v.refuse(ctx, r, identity)
	}
	return v.park(ctx, r, said, *identity, used)
}

// unanswered writes into the trace why a provider's answer could not be judged, so that whoever looks finds more than that
// somebody went there. The flow stays: the same answer may come again.
func (v *visit) unanswered(ctx context.Context, r *Report, cause error) error {
	if r == nil || !v.known {
		return cause
	}
	again, err := flows.Put(v.flow.Key, v.flow.Version, v.flow.Value)
	if err != nil {
		return cause
	}
	told, err := v.traced(r, Started, nil)
	if err != nil {
		return cause
	}
	if err := v.DB.Commit(ctx, again.Until(v.flow.Expires), told); err != nil {
		v.logger().WarnContext(ctx, "a sign-in's trace was not written", "tenant", v.actor.Tenant, "error", err)
	}
	return cause
}

// unknownKey says whether an answer failed by a key or certificate that we do not have.
func unknownKey(r *Report) bool {
	c, failed := r.Failure()
	return failed && (c.Name == CheckSignature || c.Name == CheckCertificate)
}

func (v *visit) judge(ctx context.Context, params map[string]string) (*Report, Assertion, error) {
	c, t, r := v.rec.Value, v.actor.Tenant, &Report{}
	p, err := v.provider(c)
	if err != nil {
		return r, Assertion{}, err
	}
	open, err := v.secrets(ctx, t, c)
	if err != nil {
		return r, Assertion{}, err
	}
	in := Arrival{Addresses: v.addresses(t, c), Params: params, Now: v.at}
	if v.known {
		in.Pending = &v.flow.Value.Pending
	}
	if !v.known && c.Kind != SAML {
		r.Fail(CheckRequest, "no sign-in is under way that this answers", "the state of a sign-in that began here less than ten minutes ago",
			"Begin at Fleetpass's login page and finish within ten minutes; an OpenID provider cannot begin a sign-in by itself.")
		return r, Assertion{}, ErrRefused
	}
	said, err := p.Finish(ctx, c, open, in, r)
	if err == nil {
		err = r.Err() // a provider that forgot
	}
	return r, said, err
}

// owns checks that a connection may assert the e-mail's domain.
func (s *Service) owns(ctx context.Context, t core.TenantID, c Connection, e core.Email, r *Report) error {
	domain := DomainOf(e)
	if len(c.Domains) > 0 {
		if slices.Contains(c.Domains, domain) {
			r.Pass(CheckDomain, domain)
		} else {
			r.Fail(CheckDomain, domain, strings.Join(c.Domains, ", "), "Add the domain to this identity provider's domains, if its people are to sign in here.")
		}
		return nil
	}
	all, err := s.Catalog(ctx, t)
	if err != nil {
		return err
	}
	if owner, _ := all.Owner(domain); owner.ID != c.ID {
		r.Fail(CheckDomain, domain+" belongs to "+string(owner.Alias), "a domain that no other identity provider owns", "Sign in by "+owner.Name+", or move the domain.")
	} else {
		r.Pass(CheckDomain, domain+", which no other identity provider owns")
	}
	return nil
}

// once makes the operation that uses an assertion up. One that was used before fails the check, whatever else is wrong.
func (v *visit) once(ctx context.Context, said Assertion, r *Report) (store.Op, error) {
	if said.ID == "" {
		return store.Op{}, nil
	}
	key := store.Used(v.actor.Tenant, "assertion", session.Hash(v.rec.Value.ID+" "+said.ID))
	if r.Err() != nil { // refused already: only the reason may change
		items, err := v.DB.Get(ctx, key)
		if err != nil {
			return store.Op{}, err
		}
		if items[0].Version != 0 {
			v.replayed(r)
		}
		return store.Op{}, nil
	}
	r.Pass(CheckReplay, "not seen before")
	return store.Put(key, 0, nil).Until(said.Until.Add(time.Minute)), nil
}

func (v *visit) replayed(r *Report) {
	r.Fail(CheckReplay, "this very assertion was used before", "one that was not",
		"Sign in again from the beginning; if it happens without anybody going back or reloading, somebody may be replaying a captured response.")
}

// park keeps a verified answer for the browser to come for.
func (v *visit) park(ctx context.Context, r *Report, said Assertion, who Identity, used store.Op) (string, error) {
	t, handle := v.actor.Tenant, core.NewSecret()
	f := v.flow.Value
	if !v.known {
		f = flow{Connection: v.rec.Value.ID, Alias: v.rec.Value.Alias, Trace: newTraceID(v.at), Started: v.at}
	}
	f.Pending, f.Sent = Pending{}, ""
	f.Settings = v.rec.Value.UpdatedAt
	f.Answer = &answer{Identity: who, AuthTime: said.AuthTime, Methods: said.Methods, Ends: said.Ends, Until: v.at.Add(answerLife)}
	if f.Answer.AuthTime.After(v.at) { // by a clock ahead of ours; what was not said stays unsaid
		f.Answer.AuthTime = v.at
	}
	var ops []store.Op
	if used.Key != (store.Key{}) {
		ops = append(ops, used)
	}
	if !f.Test && said.Kept != (Kept{}) {
		f.Answer.Kept = core.NewID()
		k := kept{Connection: f.Alias, Source: v.rec.Value.source(), AskedAt: v.at}
		op, err := v.seal(ctx, t, f.Answer.Kept, 0, k, said.Kept)
		if err != nil {
			return "", err
		}
		ops = append(ops, op.Until(v.at.Add(2*answerLife)))
	}
	put, err := flows.Put(store.Flow(t, session.Hash(handle)), 0, f)
	if err != nil {
		return "", err
	}
	ops = append(ops, put.Until(v.at.Add(answerLife)))
	told, err := v.traced(r, Verified, &who)
	if err != nil {
		return "", err
	}
	ops = append(ops, told)
	if v.known {
		ops = append(ops, store.Delete(v.flow.Key, v.flow.Version))
	}
	err = v.DB.Commit(ctx, ops...)
	switch {
	case errors.Is(err, core.Unavailable): // it may have happened: only we know the handle
		if items, readErr := v.DB.Get(ctx, put.Key); readErr == nil && items[0].Version != 0 {
			return handle, nil
		}
		return "", err
	case !errors.Is(err, core.Conflict):
		return handle, err
	}
	// Somebody was faster with the same answer, or with another one to the same question. That one has the flow's trace.
	v.known = false
	if err := v.count(ctx); err != nil {
		return "", err
	}
	v.replayed(r)
	return "", v.refuse(ctx, r, &who)
}

// refuse leaves the trace and the record of a refusal. The browser learns only that there is one.
func (v *visit) refuse(ctx context.Context, r *Report, who *Identity) error {
	cause, _ := r.Failure()
	refused := &RefusedError{cause: fmt.Errorf("%s: %w", cause.Name, ErrRefused)}
	told, err := v.traced(r, Refused, who)
	if err != nil {
		return err
	}
	note, err := v.note(cause.Name)
	if err != nil {
		return err
	}
	ops := []store.Op{told, note}
	if v.known { // one answer to a request: a refused one is one
		ops = append(ops, store.Delete(v.flow.Key, v.flow.Version))
	}
	err = v.DB.Commit(ctx, ops...)
	switch {
	case errors.Is(err, core.Conflict): // it was answered twice at once; the other one left the trace
		return refused
	case err != nil:
		return err
	}
	refused.Trace = v.traceID
	return refused
}

// note makes the audit record of a refusal, with the name of the check that failed as its reason.
func (v *visit) note(cause CheckName) (store.Op, error) {
	c := v.rec.Value
	return audit.Op(v.actor, v.at, audit.Record{
		Action: audit.SignIn, EntityType: audit.EntityIdentityProvider, EntityID: c.ID, Name: string(c.Alias), Result: audit.Failed, Reason: string(cause),
	})
}

// traced makes the operation that writes the attempt's trace. What belongs to no sign-in under way has one of its own.
func (v *visit) traced(r *Report, o Outcome, who *Identity) (store.Op, error) {
	f := v.flow.Value
	tr := Trace{ID: f.Trace, Outcome: o, Test: f.Test, Received: r.Received, Checks: r.Checks, Identity: who}
	version := v.flow.Version // one commit wrote the flow and the trace
	if v.known {
		tr.Sent = f.Sent
	} else {
		tr.ID, tr.Test, version = newTraceID(v.at), false, 0
	}
	v.traceID = tr.ID
	return v.trace(v.actor, v.rec.Value, tr, version, v.at.Add(TraceLife))
}
