package sso

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// askedWithin is for how long what a provider said counts as said now: all that a person's programs ask within it costs the
// provider one question. It adds nothing to the bounds on taking access away that are worth naming.
const askedWithin = 10 * time.Second

// askLife is how long an instance that asks has the turn. Providers rotate what they are asked with, so two must not ask at
// once; one that dies while it asks leaves the turn to the next.
const askLife = 15 * time.Second

// errAsking says that another instance is asking at this moment.
var errAsking = fmt.Errorf("the identity provider is being asked by another request: %w", core.Unavailable)

// Again asks the provider by which a person signed in about them, and lets groups and profile follow what it says. A person
// whom it does not vouch for any more, whose connection is gone or disabled, or who may not sign in by it, is
// core.Unauthenticated; a provider that does not answer is core.Unavailable: nobody is let in on old news. It costs one round
// trip if the provider was asked just now, else four, and one or two more where the groups are others than before, beside what
// it is asked.
func (s *Service) Again(ctx context.Context, actor core.Actor, up session.Upstream, person directory.User) (directory.User, error) {
	t := actor.Tenant
	for {
		u, err := s.again(ctx, actor, t, up, person)
		if !errors.Is(err, errAsking) {
			return u, err
		}
		select { // the one that asks is about to know
		case <-ctx.Done():
			return directory.User{}, err
		case <-time.After(100 * time.Millisecond):
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Second {
			return directory.User{}, err
		}
	}
}

func (s *Service) again(ctx context.Context, actor core.Actor, t core.TenantID, up session.Upstream, person directory.User) (directory.User, error) {
	now := s.Now()
	items, err := s.DB.Get(ctx, store.Kept(t, up.Kept), store.User(t, person.Email), store.Connection(t, up.Alias))
	if err != nil {
		return directory.User{}, err
	}
	rec, who, err := sameOnes(items, person)
	if err != nil {
		return directory.User{}, err
	}
	conn, err := enabled(items[2])
	if errors.Is(err, core.NotFound) || err == nil && conn.Value.ID != up.Connection {
		return directory.User{}, session.ErrDisconnected
	} else if err != nil {
		return directory.User{}, err
	}
	k := rec.Value
	switch {
	case k.Source != conn.Value.source(): // the session that this was kept for ends with it
		refused := fmt.Errorf("the connection leads to another identity provider than the person signed in at: %w", core.Unauthenticated)
		return directory.User{}, s.last(refused, s.DB.Commit(ctx, store.Delete(rec.Key, rec.Version)))
	case now.Before(k.AskedAt.Add(askedWithin)):
		return who.Value, nil
	case now.Before(k.Asking.Add(askLife)):
		return directory.User{}, errAsking
	}
	k.Asking = now
	turn, err := kepts.Put(rec.Key, rec.Version, k)
	if err != nil {
		return directory.User{}, err
	}
	if err := s.DB.Commit(ctx, turn.Until(rec.Expires)); errors.Is(err, core.Conflict) {
		return directory.User{}, errAsking
	} else if err != nil {
		return directory.User{}, err
	}
	// From here on nobody who hangs up can stop it: the provider may give a new token for the old one, and only the note of that
	// keeps the person signed in.
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), askLife-time.Second)
	defer done()
	said, identity, asked := s.ask(ctx, t, conn.Value, up.Kept, k, who.Value)
	var user directory.User
	for try := 0; ; try++ {
		err = store.Retry(ctx, func() error {
			user, err = s.heard(ctx, actor, conn.Value, up, person, k, said, identity, asked)
			return err
		})
		if asked != nil || try == 2 || !errors.Is(err, core.Unavailable) {
			return user, err
		}
	}
}

// sameOnes decodes what was kept and the person, who must be the one of whom it was kept.
func sameOnes(items []store.Item, person directory.User) (rec store.Record[kept], who store.Record[directory.User], err error) {
	if rec, err = kepts.Decode(items[0]); err != nil {
		return rec, who, err
	}
	if !rec.Exists() {
		return rec, who, fmt.Errorf("what the identity provider is asked with is gone: %w", core.Unauthenticated)
	}
	if who, err = directory.Users.Decode(items[1]); err != nil {
		return rec, who, err
	}
	return rec, who, session.Same(who, person.ID, person.Epoch)
}

// ask asks the provider, and maps what it says.
func (s *Service) ask(ctx context.Context, t core.TenantID, c Connection, id string, k kept, person directory.User) (Assertion, Identity, error) {
	p, err := s.provider(c)
	if err != nil {
		return Assertion{}, Identity{}, err
	}
	asker, ok := p.(Asker)
	if !ok {
		return Assertion{}, Identity{}, fmt.Errorf("sso: %q cannot be asked again: %w", c.Kind, core.Unsupported)
	}
	open, err := s.secrets(ctx, t, c)
	if err != nil {
		return Assertion{}, Identity{}, err
	}
	plain, err := s.unseal(ctx, t, id, k)
	if err != nil {
		return Assertion{}, Identity{}, err
	}
	said, err := asker.Ask(ctx, c, open, plain, s.Now())
	if err != nil {
		return Assertion{}, Identity{}, err
	}
	identity, err := c.again(said, person)
	if err != nil {
		return Assertion{}, Identity{}, err
	}
	if identity.Email != person.Email {
		return Assertion{}, Identity{}, fmt.Errorf("the identity provider says another e-mail now: %w", ErrRefused)
	}
	var r Report
	if err := s.owns(ctx, t, c, identity.Email, &r); err != nil {
		return Assertion{}, Identity{}, err
	}
	if r.Err() != nil {
		return Assertion{}, Identity{}, fmt.Errorf("the e-mail's domain is not the connection's any more: %w", ErrRefused)
	}
	return said, identity, nil
}

// again maps what a provider said when it was asked again. Where its answer may not speak of everything, what it does not
// speak of stays as it was. What cannot be read says nothing about the person: a mapping may be wrong, and is soon mended, so
// it is core.Unavailable.
func (c Connection) again(said Assertion, before directory.User) (Identity, error) {
	if said.Partial {
		m := c.Mappers.Named()
		attributes := maps.Clone(said.Attributes)
		if attributes == nil {
			attributes = map[string]any{}
		}
		if _, told := attributes[m.Email]; !told {
			attributes[m.Email] = string(before.Email)
		}
		said.Attributes = attributes
	}
	var r Report
	now, ok := c.Mappers.Map(c, said.Attributes, &r)
	if !ok || r.Err() != nil {
		cause, _ := r.Failure()
		return Identity{}, fmt.Errorf("what the identity provider says now cannot be read, %s: %w", cause.Name, core.Unavailable)
	}
	now.Subject = said.Subject
	if said.Partial {
		m := c.Mappers.Named()
		for name, keep := range map[string]func(){
			m.Groups: func() { now.Groups = before.IDPGroups }, m.UID: func() { now.UID = before.UID }, m.GID: func() { now.GID = before.GID },
			m.SupplementaryGroups: func() { now.SupplementaryGroups = before.SupplementaryGroups },
			m.FirstName:           func() { now.FirstName = before.FirstName }, m.LastName: func() { now.LastName = before.LastName },
		} {
			if _, told := said.Attributes[name]; !told {
				keep()
			}
		}
	}
	return now, nil
}

// heard writes down what the provider said, or that it did not answer, and gives the turn back. asked is the error of asking.
func (s *Service) heard(ctx context.Context, actor core.Actor, c Connection, up session.Upstream, person directory.User, turn kept, said Assertion, identity Identity, asked error) (directory.User, error) {
	t := actor.Tenant
	items, err := s.DB.Get(ctx, store.Kept(t, up.Kept), store.User(t, person.Email))
	if err != nil {
		return directory.User{}, err
	}
	rec, who, err := sameOnes(items, person)
	if err != nil {
		return directory.User{}, err
	}
	if !rec.Value.Asking.Equal(turn.Asking) {
		return directory.User{}, fmt.Errorf("asking the identity provider took too long: %w", core.Unavailable)
	}
	turn.Asking = time.Time{}
	if errors.Is(asked, core.Unsupported) { // it gave nothing to ask with: what it said at the sign-in holds, as with SAML
		turn.AskedAt = s.Now()
		put, err := kepts.Put(rec.Key, rec.Version, turn)
		if err != nil {
			return directory.User{}, err
		}
		return who.Value, s.DB.Commit(ctx, put.Until(rec.Expires))
	}
	if errors.Is(asked, core.Unauthenticated) && !errors.Is(asked, core.Unavailable) {
		return directory.User{}, s.last(asked, s.DB.Commit(ctx, store.Delete(rec.Key, rec.Version)))
	}
	if asked != nil {
		put, err := kepts.Put(rec.Key, rec.Version, turn)
		if err != nil {
			return directory.User{}, err
		}
		return directory.User{}, s.last(asked, s.DB.Commit(ctx, put.Until(rec.Expires)))
	}
	word := identity.said(c)
	word.Partial = said.Partial
	user, ops, err := s.Directory.FromProvider(actor, who, word)
	if errors.Is(err, core.Unauthenticated) { // the e-mail is somebody else's there now
		return directory.User{}, s.last(err, s.DB.Commit(ctx, store.Delete(rec.Key, rec.Version)))
	} else if err != nil {
		return directory.User{}, err
	}
	index, err := s.Directory.FollowGroups(ctx, t, who.Value, user, word)
	if err != nil {
		return directory.User{}, err
	}
	ops = append(ops, index...)
	turn.AskedAt = s.Now()
	put, err := s.seal(ctx, t, up.Kept, rec.Version, turn, said.Kept)
	if err != nil {
		return directory.User{}, err
	}
	return user, s.DB.Commit(ctx, append(ops, put.Until(rec.Expires))...)
}

// last is why the provider could not be asked, unless the note of it has to be written again.
func (s *Service) last(asked, commit error) error {
	if errors.Is(commit, core.Conflict) {
		return commit
	}
	return asked
}

// Leaving is where the browser of a session that has ended may go to sign out at the provider too, to come back to `back`;
// empty if there is no such place.
func (s *Service) Leaving(ctx context.Context, t core.TenantID, up session.Upstream, back string) (string, error) {
	if up.Kept == "" {
		return "", nil
	}
	items, err := s.DB.Get(ctx, store.Kept(t, up.Kept), store.Connection(t, up.Alias))
	if err != nil {
		return "", err
	}
	rec, err := kepts.Decode(items[0])
	if err != nil || !rec.Exists() {
		return "", err
	}
	conn, err := enabled(items[1])
	if errors.Is(err, core.NotFound) || err == nil && (conn.Value.ID != up.Connection || conn.Value.source() != rec.Value.Source) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	asker, ok := s.Providers[conn.Value.Kind].(Asker)
	if !ok {
		return "", nil
	}
	plain, err := s.unseal(ctx, t, up.Kept, rec.Value)
	if err != nil {
		return "", err
	}
	return asker.Leave(conn.Value, plain, back), nil
}
