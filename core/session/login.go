package session

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// Login is a sign-in under way: what it is for and how far it got. It is bound to the browser that began it, and it is
// gone when it is over.
type Login struct {
	Browser string      `json:"browser"`        // hash of the browser's login cookie
	Query   string      `json:"query"`          // the authorization request, as it came; it is checked again at the end. "": none
	Next    string      `json:"next,omitempty"` // the page of ours to go on to, where there is no request; "": the first one
	Email   core.Email  `json:"email,omitempty"`
	User    core.UserID `json:"user,omitempty"`  // who proved a temporary password and must choose their own
	Epoch   string      `json:"epoch,omitempty"` // theirs at that moment
	Started time.Time   `json:"started"`
	Tries   int         `json:"tries,omitempty"` // how often it went to an identity provider
}

// LoginLife is how long a sign-in may take.
const LoginLife = 10 * time.Minute

// MaxLogins is how many sign-ins one place (directory.Place) may begin at a tenant within LoginLife. Anybody can begin one,
// and each is kept until it is over, so without a bound one place could fill the store. It is far above what an office
// behind one address needs, and it stops nobody elsewhere.
const MaxLogins = 1000

// MaxTries is how often one sign-in may go to identity providers: as often as somebody tries again who knows not which one.
const MaxTries = 5

// begun counts the sign-ins that a place began since a time.
type begun struct {
	N     int       `json:"n"`
	Since time.Time `json:"since"`
}

var (
	logins store.Table[Login]
	starts store.Table[begun]
)

// TenantActive is core.NotFound for a tenant that is absent or suspended. It costs one read.
func (s *Service) TenantActive(ctx context.Context, tenant core.TenantID) error {
	items, err := s.DB.Get(ctx, store.Meta(tenant))
	if err != nil {
		return err
	}
	_, err = org.Decode(items[0])
	return err
}

// StartLogin parks a sign-in and returns its handle and the secret of the browser's login cookie: the one it has, if that
// could be one of ours, so that several tabs can sign in side by side. The actor says at which tenant and from which
// address. A place that began too many is a directory.ThrottledError, and the sign-in is not kept.
func (s *Service) StartLogin(ctx context.Context, actor core.Actor, cookie, query string) (handle, secret string, err error) {
	return s.startLogin(ctx, actor, cookie, Login{Query: query})
}

// StartLoginFor is StartLogin for a page of ours, a path that no stranger chose: the browser goes on there.
func (s *Service) StartLoginFor(ctx context.Context, actor core.Actor, cookie, page string) (handle, secret string, err error) {
	return s.startLogin(ctx, actor, cookie, Login{Next: page})
}

func (s *Service) startLogin(ctx context.Context, actor core.Actor, cookie string, l Login) (handle, secret string, err error) {
	cookie = LoginCookie(cookie)
	handle = core.NewSecret()
	now := s.Now()
	l.Browser, l.Started = Hash(cookie), now
	put, err := logins.Put(store.Login(actor.Tenant, Hash(handle)), 0, l)
	if err != nil {
		return "", "", err
	}
	err = store.Retry(ctx, func() error {
		count, err := s.CountLogin(ctx, actor)
		if err != nil {
			return err
		}
		return s.DB.Commit(ctx, put.Until(now.Add(LoginLife)), count)
	})
	if errors.Is(err, core.Conflict) { // so many at once that this one could not be counted
		err = directory.Throttle(now.Add(time.Second), now)
	}
	return handle, cookie, err
}

// CountLogin makes the operation that counts a sign-in of the actor's place, for the commit that begins it. A place that began
// too many is a directory.ThrottledError.
func (s *Service) CountLogin(ctx context.Context, actor core.Actor) (store.Op, error) {
	// No e-mail is "begin".
	return s.count(ctx, store.Attempts(actor.Tenant, "begin", directory.Place(actor.Address)), MaxLogins)
}

// count makes the operation that counts one more of what may happen max times within LoginLife.
func (s *Service) count(ctx context.Context, k store.Key, max int) (store.Op, error) {
	items, err := s.DB.Get(ctx, k)
	if err != nil {
		return store.Op{}, err
	}
	rec, err := starts.Decode(items[0])
	if err != nil {
		return store.Op{}, err
	}
	now, b := s.Now(), rec.Value
	if over := b.Since.Add(LoginLife); !now.Before(over) {
		b = begun{Since: now}
	} else if b.N >= max {
		return store.Op{}, directory.Throttle(over, now)
	}
	b.N++
	op, err := starts.Put(rec.Key, rec.Version, b)
	return op.Until(b.Since.Add(LoginLife)), err
}

// MaxGuesses is how many user codes of devices a person may get wrong within LoginLife.
const MaxGuesses = 20

// MayGuess is a directory.ThrottledError for a person who got too many user codes wrong.
func (s *Service) MayGuess(ctx context.Context, t core.TenantID, u core.UserID) error {
	_, err := s.count(ctx, guesses(t, u), MaxGuesses)
	return err
}

// Guessed counts a user code that a person got wrong. However many come at once, each is counted or refused.
func (s *Service) Guessed(ctx context.Context, t core.TenantID, u core.UserID) error {
	err := store.Retry(ctx, func() error {
		op, err := s.count(ctx, guesses(t, u), MaxGuesses)
		if err != nil {
			return err
		}
		return s.DB.Commit(ctx, op)
	})
	if errors.Is(err, core.Conflict) {
		err = directory.Throttle(s.Now().Add(time.Second), s.Now())
	}
	return err
}

func guesses(t core.TenantID, u core.UserID) store.Key {
	return store.Attempts(t, "device", string(u)) // no e-mail is "device"
}

// Login returns a sign-in under way, for the browser that began it. For any other, or none, or one that took too long, it
// is core.NotFound.
func (s *Service) Login(ctx context.Context, tenant core.TenantID, handle, cookie string) (store.Record[Login], error) {
	gone := fmt.Errorf("this sign-in is over, or was begun in another browser: %w", core.NotFound)
	if !secretForm(handle) || !secretForm(cookie) {
		return store.Record[Login]{}, gone
	}
	items, err := s.DB.Get(ctx, store.Login(tenant, Hash(handle)))
	if err != nil {
		return store.Record[Login]{}, err
	}
	rec, err := logins.Decode(items[0])
	if err != nil {
		return rec, err
	}
	if !rec.Exists() || !s.Now().Before(rec.Value.Started.Add(LoginLife)) ||
		subtle.ConstantTimeCompare([]byte(rec.Value.Browser), []byte(Hash(cookie))) != 1 {
		return store.Record[Login]{}, gone
	}
	return rec, nil
}

// MustChange notes that a person proved a temporary password, and goes on only by choosing their own.
func (s *Service) MustChange(ctx context.Context, rec store.Record[Login], email core.Email, id core.UserID, epoch string) error {
	l := rec.Value
	l.Email, l.User, l.Epoch = email, id, epoch
	put, err := logins.Put(rec.Key, rec.Version, l)
	if err != nil {
		return err
	}
	return s.DB.Commit(ctx, put.Until(rec.Expires))
}

// Tried makes the operation that counts one more way to an identity provider. More than MaxTries are core.Limit.
func (s *Service) Tried(rec store.Record[Login]) (store.Op, error) {
	l := rec.Value
	if l.Tries++; l.Tries > MaxTries {
		return store.Op{}, fmt.Errorf("this sign-in was tried %d times; start again: %w", MaxTries, core.Limit)
	}
	put, err := logins.Put(rec.Key, rec.Version, l)
	return put.Until(rec.Expires), err
}

// DecodeLogin reads a sign-in out of an item that a Get of several keys returned. One that is over does not exist.
func DecodeLogin(it store.Item) (store.Record[Login], error) { return logins.Decode(it) }

// LoginCookie says whether a cookie could be the one of a browser that began a sign-in, and makes another if not.
func LoginCookie(cookie string) string {
	if secretForm(cookie) {
		return cookie
	}
	return core.NewSecret()
}
