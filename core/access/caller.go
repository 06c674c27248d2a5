package access

import (
	"context"
	"fmt"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
)

// Caller is who calls, as an access token says that was verified. Whether they still may is read with every call (Admit,
// DecideFor), so that who was disabled, deleted or signed out is stopped at once and not when the token ends.
type Caller struct {
	Tenant  core.TenantID
	Subject core.Subject
	UserID  core.UserID // of a person
	family  string      // of a person: the sign-in, or the access key, that the token descends from
}

// CallerOf reads a verified token of a tenant. One that does not say who calls is core.Unauthenticated.
func CallerOf(t core.TenantID, a token.Access) (Caller, error) {
	switch {
	case a.Kind == core.Application:
		return Caller{Tenant: t, Subject: core.ApplicationSubject(core.ApplicationID(a.Subject))}, nil
	case a.Kind != core.User || a.Email == "" || a.Family == "":
		return Caller{}, fmt.Errorf("a person's token without e-mail or sign-in: %w", core.Unauthenticated)
	}
	return Caller{t, core.UserSubject(core.Email(a.Email)), core.UserID(a.Subject), a.Family}, nil
}

// Admitted is a caller who still may call, as of one snapshot.
type Admitted struct {
	Actor       core.Actor // without request and address, which the store does not know
	Tenant      org.Tenant
	Person      directory.User        // of a person
	Application directory.Application // of an application
	AccessKey   core.ApplicationID    // of a person whose token was made with an access key: which one
}

// Admit reads whether the caller still may call, in one round trip. If not, the error is core.Unauthenticated, and does not
// say why; a tenant that is absent or suspended is core.NotFound.
func (s *Service) Admit(ctx context.Context, c Caller) (Admitted, error) {
	items, err := s.DB.Get(ctx, append(c.keys(), store.Meta(c.Tenant))...)
	if err != nil {
		return Admitted{}, err
	}
	last := len(items) - 1
	meta, err := org.Decode(items[last])
	if err != nil {
		return Admitted{}, err
	}
	return c.admit(meta.Value, items[:last], s.Now())
}

// keys are what admit judges by.
func (c Caller) keys() []store.Key {
	if c.Subject.Kind == core.Application {
		return []store.Key{store.Application(c.Tenant, core.ApplicationID(c.Subject.ID))}
	}
	return session.Roots(c.Tenant, c.family, core.Email(c.Subject.ID))
}

// admit judges a caller by the items of its keys: an application is there and enabled; a person is the very one of the token,
// there, enabled, signed in since the token's sign-in began, or has the access key that it was made with, and does not wait
// for a password of their own.
func (c Caller) admit(t org.Tenant, items []store.Item, now time.Time) (Admitted, error) {
	in := Admitted{Actor: core.Actor{Tenant: c.Tenant, Subject: c.Subject, UserID: c.UserID}, Tenant: t}
	if c.Subject.Kind == core.Application {
		app, err := directory.Applications.Decode(items[0])
		if err == nil && (!app.Exists() || !app.Value.Enabled) {
			err = fmt.Errorf("the application is gone or disabled: %w", core.Unauthenticated)
		}
		in.Application = app.Value
		return in, err
	}
	living, err := session.Judge(t, items, c.family, core.Email(c.Subject.ID), now)
	if err == nil && (living.Person.ID != c.UserID || living.Person.MustChange()) {
		err = fmt.Errorf("the person is another, or has to change the password: %w", core.Unauthenticated)
	}
	in.Person, in.AccessKey = living.Person, living.Key.ID
	return in, err
}

// DecideFor is DecideAll on behalf of a caller, who is admitted in the same round trips: what they need is read together,
// at one revision. Admit's core.Unauthenticated ends it, but in a tenant that is suspended, which denies everything anyway.
func (s *Service) DecideFor(ctx context.Context, c Caller, asks ...Ask) ([]Verdict, error) {
	return s.decide(ctx, c.Tenant, &c, asks)
}
