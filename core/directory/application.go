package directory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trust"
	"github.com/fleetpass/fleetpass/events"
)

// NewApplication is an application to create.
type NewApplication struct {
	Name           string
	Public         bool // it can keep no secret, and gets none
	RedirectURIs   []string
	PostLogoutURIs []string
	JWKS           []byte        // public keys that it proves itself with: a JSON Web Key Set; nil: none
	Trusts         []trust.Trust // which tokens of trusted issuers stand for it; the issuers by name
}

// The bounds of an application.
const (
	maxURIs    = 20
	maxURI     = 2000 // bytes
	maxSecrets = 5    // that prove something at the same time
	// MaxApplications is how many applications a tenant may have. Several that are created at the very same time may pass by it:
	// the bound is against heaps, and costs no other request anything.
	MaxApplications = 1000
	// MaxGrace is the longest that an old secret may live on beside a new one.
	MaxGrace = 30 * 24 * time.Hour
)

// CreateApplication makes an application with a random client id and, unless it is public, a secret, which is returned
// here and never again. A name that is taken is core.Exists.
func (s *Service) CreateApplication(ctx context.Context, actor core.Actor, t core.TenantID, n NewApplication) (app Application, secret string, err error) {
	name, err := core.ParseApplicationName("name", n.Name)
	if err != nil {
		return Application{}, "", err
	}
	if err := checkURIs(n.RedirectURIs, n.PostLogoutURIs); err != nil {
		return Application{}, "", err
	}
	if n.Public && (n.JWKS != nil || len(n.Trusts) > 0) {
		return Application{}, "", core.BadField("public", "must be false where the application has jwks or trusts: a public one proves nothing")
	}
	keys, trusts, err := s.means(ctx, t, n.JWKS, n.Trusts)
	if err != nil {
		return Application{}, "", err
	}
	if err := s.roomForAnother(ctx, t); err != nil {
		return Application{}, "", err
	}
	app = Application{
		ID: core.ApplicationID(core.NewID()), Name: name, Public: n.Public, Enabled: true,
		RedirectURIs: n.RedirectURIs, PostLogoutURIs: n.PostLogoutURIs, Keys: keys, Trusts: trusts, CreatedBy: actor.Subject,
	}
	if !n.Public {
		secret = core.NewSecret()
		mac, err := s.secretMAC(ctx, t, app.ID, secret)
		if err != nil {
			return Application{}, "", err
		}
		app.Secrets = []Secret{{MAC: mac}}
	}
	err = store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.ApplicationName(t, name))
		if err != nil {
			return err
		}
		if _, err := org.Decode(items[0]); err != nil {
			return err
		}
		if items[1].Version != 0 {
			return fmt.Errorf("application %s: %w", name, core.Exists)
		}
		now := s.Now()
		app.CreatedAt, app.UpdatedAt = now, now
		for i := range app.Secrets {
			app.Secrets[i].CreatedAt = now
		}
		var o ops
		o.add(Applications.Put(store.Application(t, app.ID), 0, app))
		o.add(pointers.Put(items[1].Key, 0, pointer{ID: app.ID}))
		o.tellApplication(t, now, actor, app, 0, audit.Create, "created")
		return o.commit(ctx, s.DB)
	})
	if err != nil {
		return Application{}, "", err
	}
	return app, secret, nil
}

// secretMAC binds a secret to its client id, so that a hash is worth nothing in another application's record.
func (s *Service) secretMAC(ctx context.Context, t core.TenantID, id core.ApplicationID, secret string) ([]byte, error) {
	return s.Ring.MAC(ctx, t, "application-secret", []byte(string(id)+"\x00"+secret))
}

// ErrClient is the one answer to an application that fails to prove itself: unknown, disabled, public, or a wrong secret.
// It is core.Unauthenticated.
var ErrClient = fmt.Errorf("the client id or the secret is wrong: %w", core.Unauthenticated)

// CheckSecret checks an application's secret, in constant time. Give it the zero Application for a client id that there is
// not: the work is the same. It reads nothing from the store.
func (s *Service) CheckSecret(ctx context.Context, t core.TenantID, app Application, secret string) error {
	mac, err := s.secretMAC(ctx, t, app.ID, secret)
	if err != nil {
		return err
	}
	if !proves(app.Secrets, mac, s.Now()) || !app.Enabled || app.ID == "" {
		return ErrClient
	}
	return nil
}

// RotateSecret gives an application another secret, which is returned here and never again. The secrets of before live on
// for the grace: 0 ends them at once, and MaxGrace is the longest.
func (s *Service) RotateSecret(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID, grace time.Duration) (secret string, err error) {
	if grace < 0 || grace > MaxGrace {
		return "", core.BadField("gracePeriod", fmt.Sprintf("must be 0 to %d seconds, which is 30 days", int(MaxGrace/time.Second)))
	}
	secret = core.NewSecret()
	mac, err := s.secretMAC(ctx, t, id, secret)
	if err != nil {
		return "", err
	}
	_, err = s.changeApplication(ctx, actor, t, id, "secret", false, func(app *Application) error {
		if app.Public {
			return fmt.Errorf("application %s is public and has no secret: %w", id, core.Unsupported)
		}
		now := s.Now()
		keep := outgoing(app.Secrets, now, now.Add(grace))
		if len(keep) >= maxSecrets {
			return fmt.Errorf("application %s has %d secrets that still live; rotate without grace: %w", id, len(keep), core.Limit)
		}
		app.Secrets = append(keep, Secret{MAC: mac, CreatedAt: now})
		return nil
	})
	if err != nil {
		return "", err
	}
	return secret, nil
}

// SetEnabled lets an application in, or no more.
func (s *Service) SetEnabled(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID, enabled bool) (Application, error) {
	change := "disabled"
	if enabled {
		change = "enabled"
	}
	return s.changeApplication(ctx, actor, t, id, change, true, func(app *Application) error { return set(&app.Enabled, enabled) })
}

// Edit is what is said anew about an application. What is nil stays; an empty list takes all away.
type Edit struct {
	RedirectURIs   []string
	PostLogoutURIs []string
	JWKS           []byte // a JSON Web Key Set; one without keys takes them away
	Trusts         []trust.Trust
}

// EditApplication says anew where people may be sent back to from an application, and what it proves itself with.
func (s *Service) EditApplication(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID, e Edit) (Application, error) {
	if err := checkURIs(e.RedirectURIs, e.PostLogoutURIs); err != nil {
		return Application{}, err
	}
	keys, trusts, err := s.means(ctx, t, e.JWKS, e.Trusts)
	if err != nil {
		return Application{}, err
	}
	var what []string
	for _, part := range []struct {
		name  string
		given bool
	}{{"addresses", e.RedirectURIs != nil || e.PostLogoutURIs != nil}, {"keys", e.JWKS != nil}, {"trusts", e.Trusts != nil}} {
		if part.given {
			what = append(what, part.name)
		}
	}
	return s.changeApplication(ctx, actor, t, id, "updated: "+strings.Join(what, ", "), false, func(app *Application) error {
		if app.Public && (len(keys) > 0 || len(trusts) > 0) {
			return core.BadField("jwks, trusts", "are of no use to a public application, which proves nothing")
		}
		if e.RedirectURIs != nil {
			app.RedirectURIs = e.RedirectURIs
		}
		if e.PostLogoutURIs != nil {
			app.PostLogoutURIs = e.PostLogoutURIs
		}
		if e.JWKS != nil {
			app.Keys = keys
		}
		if e.Trusts != nil {
			app.Trusts = trusts
		}
		return nil
	})
}

// means checks what an application is to prove itself with, beside its secrets.
func (s *Service) means(ctx context.Context, t core.TenantID, jwks []byte, given []trust.Trust) (keys []trust.PublicKey, trusts []trust.Trust, err error) {
	if jwks != nil && !emptySet(jwks) {
		if keys, err = trust.ParseKeys("jwks", jwks, trust.MaxClientKeys); err != nil {
			return nil, nil, err
		}
	}
	if trusts, err = trust.ParseTrusts("trusts", given); err != nil {
		return nil, nil, err
	}
	trusts, err = trust.Resolve(ctx, s.DB, t, "trusts", trusts)
	return keys, trusts, err
}

// emptySet says whether a JSON Web Key Set has no key.
func emptySet(jwks []byte) bool { return string(jwks) == `{"keys":[]}` }

// roomForAnother refuses one application too many.
func (s *Service) roomForAnother(ctx context.Context, t core.TenantID) error {
	n := 0
	for _, err := range s.Applications(ctx, t) {
		if err != nil {
			return err
		}
		if n++; n >= MaxApplications {
			return fmt.Errorf("the tenant has %d applications, which is as many as there may be; delete one: %w", MaxApplications, core.Limit)
		}
	}
	return nil
}

// changeApplication changes an application in one commit. access says that it changes what someone may do.
func (s *Service) changeApplication(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID, change string, access bool, edit func(*Application) error) (Application, error) {
	var app Application
	err := store.Retry(ctx, func() error {
		meta, rec, err := s.loadApplication(ctx, t, id)
		if err != nil {
			return err
		}
		app = rec.Value
		if err := edit(&app); err != nil {
			return err
		}
		now := s.Now()
		app.UpdatedAt = now
		var o ops
		var rev core.Revision
		if access {
			rev = o.bump(meta)
		}
		o.add(Applications.Put(rec.Key, rec.Version, app))
		o.tellApplication(t, now, actor, app, rev, audit.Update, change)
		return o.commit(ctx, s.DB)
	})
	if errors.Is(err, errSame) {
		return app, nil
	}
	return app, err
}

func (s *Service) loadApplication(ctx context.Context, t core.TenantID, id core.ApplicationID) (store.Record[org.Tenant], store.Record[Application], error) {
	var none store.Record[Application]
	items, err := s.DB.Get(ctx, store.Meta(t), store.Application(t, id))
	if err != nil {
		return store.Record[org.Tenant]{}, none, err
	}
	meta, err := org.Decode(items[0])
	if err != nil {
		return meta, none, err
	}
	rec, err := Applications.Decode(items[1])
	if err == nil && !rec.Exists() {
		err = fmt.Errorf("application: %w", core.NotFound)
	}
	return meta, rec, err
}

// DeleteApplication takes an application away. Rules that name it are core/access's to take.
func (s *Service) DeleteApplication(ctx context.Context, actor core.Actor, t core.TenantID, id core.ApplicationID) error {
	return store.Retry(ctx, func() error {
		meta, rec, err := s.loadApplication(ctx, t, id)
		if err != nil {
			return err
		}
		name, err := s.DB.Get(ctx, store.ApplicationName(t, rec.Value.Name))
		if err != nil {
			return err
		}
		var o ops
		rev := o.bump(meta)
		o.list = append(o.list, store.Delete(rec.Key, rec.Version), store.Delete(name[0].Key, name[0].Version))
		o.tellApplication(t, s.Now(), actor, rec.Value, rev, audit.Delete, "deleted")
		return o.commit(ctx, s.DB)
	})
}

// Seen remembers that an application got a token, at most once an hour: issuance itself is logged and not committed, and
// one application may ask a hundred times a second. Give it the record that the request read; a record that changed
// meanwhile is left alone.
func (s *Service) Seen(ctx context.Context, rec store.Record[Application]) error {
	now := s.Now()
	if now.Sub(rec.Value.LastLogin) < time.Hour {
		return nil
	}
	rec.Value.LastLogin = now
	op, err := Applications.Put(rec.Key, rec.Version, rec.Value)
	return s.noted(ctx, op, err)
}

// noted commits what may as well be noted another time: a record that changed meanwhile is left alone.
func (s *Service) noted(ctx context.Context, op store.Op, err error) error {
	if err == nil {
		err = s.DB.Commit(ctx, op)
	}
	if errors.Is(err, core.Conflict) {
		return nil
	}
	return err
}

// Applications is every application of a tenant, by client id.
func (s *Service) Applications(ctx context.Context, t core.TenantID) iter.Seq2[store.Record[Application], error] {
	return Applications.List(ctx, s.DB, store.Applications(t))
}

func (o *ops) tellApplication(t core.TenantID, now time.Time, actor core.Actor, app Application, rev core.Revision, a audit.Action, change string) {
	o.add(audit.Op(actor, now, audit.Record{
		Tenant: t, Action: a, EntityType: audit.EntityApplication, EntityID: string(app.ID), Name: app.Name,
		Scope: core.AccountScope(t), Reason: change,
	}))
	kind, _, _ := strings.Cut(change, ":") // what of it changed is for the record alone
	o.emit(t, now, actor, events.ApplicationChanged{Revision: uint64(rev), Application: string(app.ID), Change: kind})
}

func checkURIs(redirect, postLogout []string) error {
	for _, l := range []struct {
		field string
		uris  []string
	}{{"redirectUris", redirect}, {"postLogoutUris", postLogout}} {
		if len(l.uris) > maxURIs {
			return core.BadField(l.field, "must be at most 20")
		}
		for _, u := range l.uris {
			if err := CheckRedirectURI(l.field, u); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckRedirectURI refuses what must not be registered as a redirect URI: it is compared byte by byte later, and a code
// is sent there. It is https, or http to a literal loopback address (RFC 8252 §7.3, §8.3), has no fragment (RFC 6749
// §3.1.2), no user information and no wildcard, and is spelt as URLs are written, so that no two parsers disagree on it.
func CheckRedirectURI(field, s string) error {
	if len(s) > maxURI {
		return core.BadField(field, "has a URI of over 2000 bytes")
	}
	if strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`\"<>^{}|`+"`*", r) }) >= 0 {
		return core.BadField(field, "has a URI with a character that URIs do not have, or a wildcard")
	}
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.Host == "" || u.Hostname() == "" || u.String() != s {
		return core.BadField(field, "must be absolute URIs such as https://app.example.com/callback")
	}
	if u.User != nil || strings.Contains(s, "#") {
		return core.BadField(field, "must have no user information and no fragment")
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.IsLoopback() && a.Zone() == "" {
			return nil
		}
		return core.BadField(field, "may be http only to 127.0.0.1 or [::1]; anything else must be https")
	}
	return core.BadField(field, "must begin with https://")
}
