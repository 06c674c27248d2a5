package sso

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

// RefreshEvery is how often what a provider publishes is read again.
const RefreshEvery = time.Hour

const (
	rereadEvery = time.Minute            // of one connection, however many sign-ins ask for it
	rereadWait  = 12 * time.Second       // how long a sign-in waits for another one's reading
	rereadPoll  = 100 * time.Millisecond // how often it looks
)

// errUploaded says that there is nothing to read again.
var errUploaded = fmt.Errorf("the identity provider's metadata was uploaded, so it cannot be read again; upload the new one: %w", core.Unsupported)

// jobRef names the job of due.Metadata: a connection that takes a deleted one's ID over has a job of its own.
func jobRef(c Connection) string {
	return c.ID + "@" + strconv.FormatInt(c.CreatedAt.UnixMilli(), 10)
}

// Refresh is the job of a connection, as due.Metadata names it: it reads what the provider publishes and stores what is new,
// and tells of certificates that end. That the provider does not answer is no error: the connection says so, and the last good
// reading stays in force. false: there is no such connection any more, and the job ends.
func (s *Service) Refresh(ctx context.Context, actor core.Actor, t core.TenantID, ref string) (bool, error) {
	all, err := s.Catalog(ctx, t)
	if err != nil {
		return true, err
	}
	for _, e := range all.Entries {
		if !e.DeletedAt.IsZero() || !strings.HasPrefix(ref, e.ID+"@") {
			continue
		}
		rec, err := s.Connection(ctx, t, e.Alias)
		if errors.Is(err, core.NotFound) {
			return false, nil
		}
		if err != nil {
			return true, err
		}
		if jobRef(rec.Value) != ref {
			return false, nil
		}
		if !rec.Value.Enabled {
			return true, nil
		}
		_, err = s.reading(ctx, actor, t, rec)
		if errors.Is(err, core.NotFound) { // deleted while the provider was asked
			return false, nil
		}
		return true, err
	}
	return false, nil
}

// ReadAgain reads what the provider publishes now, for an administrator. The connection that it returns says how that went.
func (s *Service) ReadAgain(ctx context.Context, actor core.Actor, t core.TenantID, a Alias) (Connection, error) {
	rec, err := s.Connection(ctx, t, a)
	if err != nil {
		return Connection{}, err
	}
	if !published(rec.Value) {
		return Connection{}, errUploaded
	}
	rec, err = s.reading(ctx, actor, t, rec)
	return rec.Value, err
}

// Reread is for a sign-in that failed by a key or a certificate that the connection does not have: the provider may have
// published a new one. It reads what the provider publishes, at most once a minute for one connection however many ask; those
// who come while it is being read wait for the result. It returns the connection as it is then, and whether its keys differ
// from those of rec. That the provider does not answer is no error.
func (s *Service) Reread(ctx context.Context, actor core.Actor, rec store.Record[Connection]) (store.Record[Connection], bool, error) {
	t, was := actor.Tenant, rec.Value
	if !published(was) {
		return rec, false, nil
	}
	if s.Now().Sub(was.Refresh.At).Abs() >= rereadEvery {
		claimed := rec.Value.clone()
		claimed.Refresh.At, claimed.Refresh.Reading = s.Now(), true
		op, err := connections.Put(rec.Key, rec.Version, claimed)
		if err == nil {
			err = s.DB.Commit(ctx, op)
		}
		if err != nil && !errors.Is(err, core.Conflict) {
			return rec, false, err
		}
		if err == nil {
			mine, err := connections.Get(ctx, s.DB, rec.Key) // with the version that the commit gave it
			if err != nil {
				return rec, false, err
			}
			mine, err = s.reading(ctx, actor, t, mine)
			if err != nil {
				return rec, false, err
			}
			return mine, mine.Value.ID == was.ID && !sameKeys(was, mine.Value), nil
		}
	}
	return s.awaited(ctx, rec)
}

// awaited waits for a reading that somebody else has begun, and returns the connection as it is then.
func (s *Service) awaited(ctx context.Context, rec store.Record[Connection]) (store.Record[Connection], bool, error) {
	ctx, done := context.WithTimeout(ctx, rereadWait)
	defer done()
	for {
		now, err := connections.Get(ctx, s.DB, rec.Key)
		if errors.Is(err, core.NotFound) || err == nil && now.Value.ID != rec.Value.ID {
			return rec, false, nil
		}
		if err != nil {
			return rec, false, err
		}
		reading := now.Value.Refresh.Reading && s.Now().Sub(now.Value.Refresh.At).Abs() < rereadWait
		if !reading {
			return now, !sameKeys(rec.Value, now.Value), nil
		}
		select {
		case <-ctx.Done():
			return rec, false, nil
		case <-time.After(rereadPoll):
		}
	}
}

// reading asks the provider, and stores what is new with its record and its event. If an administrator changes the connection
// meanwhile, what was read is dropped where it was read from another source than the connection has now.
func (s *Service) reading(ctx context.Context, actor core.Actor, t core.TenantID, rec store.Record[Connection]) (store.Record[Connection], error) {
	fresh := rec.Value.clone()
	var failed error
	if published(fresh) {
		failed = s.load(ctx, &fresh, nil)
		if failed == nil {
			failed = sameProvider(rec.Value, fresh)
		}
		if ctx.Err() != nil {
			return rec, ctx.Err() // it is we who did not wait: that says nothing about the provider
		}
	}
	out := rec
	err := store.Retry(ctx, func() error {
		now, err := connections.Get(ctx, s.DB, rec.Key)
		if err != nil {
			return err
		}
		if now.Value.ID != rec.Value.ID {
			return fmt.Errorf("identity provider: %w", core.NotFound)
		}
		if source(now.Value) != source(rec.Value) || now.Value.UpdatedAt.After(rec.Value.UpdatedAt) {
			out = now
			return nil
		}
		w := readingOf(s.Now(), actor, t, now.Value)
		if published(fresh) {
			w.read(fresh, failed)
		}
		w.announce()
		if same(w.c, now.Value) {
			out = now
			return nil
		}
		w.add(connections.Put(now.Key, now.Version, w.c))
		if w.err != nil {
			return w.err
		}
		if err := s.DB.Commit(ctx, w.list...); err != nil {
			return err
		}
		out, err = connections.Get(ctx, s.DB, rec.Key) // with the version that it has now
		return err
	})
	return out, err
}

// published says whether the provider publishes what the connection knows of it: all but uploaded metadata.
func published(c Connection) bool { return c.SAML == nil || c.SAML.MetadataURL != "" }

// sameProvider refuses a reading that is about another provider: who has the address now must not sign people in.
func sameProvider(was, fresh Connection) error {
	before, now := identifier(was), identifier(fresh)
	if before == now {
		return nil
	}
	return core.BadField(metadataField(fresh), fmt.Sprintf("is about another identity provider now, %s instead of %s; if that is right, make a connection to it", quote(now), quote(before)))
}

func identifier(c Connection) string {
	switch {
	case c.SAML != nil:
		return c.SAML.IdP.EntityID
	case c.OIDC != nil:
		return c.OIDC.Provider.Issuer
	case c.OpenShift != nil:
		return c.OpenShift.Provider.Issuer
	}
	return ""
}

// sameKeys says whether what verifies the provider's answers is the same.
func sameKeys(a, b Connection) bool {
	switch {
	case a.SAML != nil && b.SAML != nil:
		return slices.EqualFunc(a.SAML.IdP.Certificates, b.SAML.IdP.Certificates, slices.Equal)
	case a.OIDC != nil && b.OIDC != nil:
		return a.OIDC.Provider.JWKS == b.OIDC.Provider.JWKS
	}
	return true
}

// content is what a provider publishes, without what differs from reading to reading and means nothing.
func content(c Connection) any {
	switch {
	case c.SAML != nil:
		p := c.SAML.IdP
		p.Digest, p.ValidUntil = "", time.Time{}
		return p
	case c.OIDC != nil:
		p := c.OIDC.Provider
		p.Digest = ""
		return p
	case c.OpenShift != nil:
		p := c.OpenShift.Provider
		p.Digest = ""
		return p
	}
	return nil
}

// take puts what fresh read into the connection.
func (c *Connection) take(fresh Connection) {
	switch {
	case c.SAML != nil && fresh.SAML != nil:
		c.SAML.IdP = fresh.SAML.IdP
	case c.OIDC != nil && fresh.OIDC != nil:
		c.OIDC.Provider = fresh.OIDC.Provider
	case c.OpenShift != nil && fresh.OpenShift != nil:
		c.OpenShift.Provider = fresh.OpenShift.Provider
	}
}

// reread is what becomes of a connection when it was read again, and how it is told.
type reread struct {
	actor core.Actor
	t     core.TenantID
	c     Connection
	now   time.Time
	list  []store.Op
	err   error
}

func readingOf(now time.Time, actor core.Actor, t core.TenantID, c Connection) *reread {
	return &reread{actor: actor, t: t, c: c.clone(), now: now}
}

func (w *reread) add(op store.Op, err error) {
	if err != nil && w.err == nil {
		w.err = err
	}
	w.list = append(w.list, op)
}

func (w *reread) record(result audit.Result, reason string) {
	w.add(audit.Op(w.actor, w.now, audit.Record{
		Tenant: w.t, Action: audit.Update, EntityType: audit.EntityIdentityProvider, EntityID: w.c.ID, Name: string(w.c.Alias),
		Scope: core.AccountScope(w.t), Result: result, Reason: reason,
	}))
}

// read takes a reading over, or notes that there was none. The first of several failures is recorded, so that the log says
// since when.
func (w *reread) read(fresh Connection, failed error) {
	r := &w.c.Refresh
	r.At, r.Reading = w.now, false
	if failed != nil {
		if r.FailingSince.IsZero() {
			r.FailingSince = w.now
			w.record(audit.Failed, "what it publishes could not be read: "+sentence(failed))
		}
		r.Error = sentence(failed)
		return
	}
	r.FailingSince, r.Error = time.Time{}, ""
	before := w.c
	w.c.SAML, w.c.OIDC, w.c.OpenShift = before.clone().SAML, before.clone().OIDC, before.clone().OpenShift
	w.c.take(fresh)
	if same(content(before), content(w.c)) {
		return
	}
	r.ChangedAt = w.now
	reason := "the provider published something new"
	if !sameKeys(before, w.c) {
		reason = "the provider published new keys"
		if w.c.SAML != nil {
			reason = fmt.Sprintf("the provider published new signing certificates: %d now", len(w.c.SAML.IdP.Certificates))
		}
	}
	w.record(audit.Succeeded, reason)
	w.add(store.Emit(w.t, w.now, w.actor, events.IdentityProviderChanged{Connection: w.c.ID, Change: "metadata"}))
}

// maxError bounds what is kept of an error, in bytes.
const maxError = 500

// sentence is an error for the tenant's administrator. One without a kind is internal and shown to nobody.
func sentence(err error) string {
	for _, k := range []core.Kind{core.Invalid, core.Unavailable, core.TooLarge, core.Unsupported, core.Limit} {
		if errors.Is(err, k) {
			s := strings.ToValidUTF8(err.Error(), "\ufffd")
			if len(s) > maxError {
				s = strings.ToValidUTF8(s[:maxError], "") + "…"
			}
			return s
		}
	}
	return "it could not be read, for a reason of our own"
}
