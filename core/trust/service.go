package trust

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/store"
)

// Service keeps the issuers that tenants trust. Callers ask core/access first. All fields but Verifier and BrowserBase are
// needed.
type Service struct {
	DB       store.DB
	Verifier Verifier         // nil: only issuers whose keys are given by hand can be trusted
	Now      func() time.Time // UTC

	Base        string // of our own issuers: "https://HOST[:PORT]"
	BrowserBase string // where browsers reach the pages; empty: Base
}

// Issuers is the table of trusted issuers, for reads of several items at once.
var Issuers store.Table[Issuer]

// Settings is what an administrator says about an issuer.
type Settings struct {
	Name    string
	Issuer  string
	JWKSURI string // empty, and no JWKS: where its discovery document says
	JWKS    []byte // a JSON Web Key Set; nil: the issuer publishes it
	CA      string
	Enabled bool
}

// Issuer reads a trusted issuer by name.
func (s *Service) Issuer(ctx context.Context, t core.TenantID, name string) (store.Record[Issuer], error) {
	rec, err := Issuers.Get(ctx, s.DB, store.TrustedIssuer(t, name))
	if errors.Is(err, core.NotFound) {
		err = fmt.Errorf("trusted issuer: %w", core.NotFound)
	}
	return rec, err
}

// List is every trusted issuer of a tenant, by name.
func (s *Service) List(ctx context.Context, t core.TenantID) iter.Seq2[store.Record[Issuer], error] {
	return Issuers.List(ctx, s.DB, store.TrustedIssuers(t))
}

// Create has the tenant trust an issuer. A name that is taken is core.Exists, more than MaxIssuers core.Limit. Trust alone lets
// nobody in: it is an application that says which of the issuer's tokens stand for it.
func (s *Service) Create(ctx context.Context, actor core.Actor, t core.TenantID, n Settings) (Issuer, error) {
	iss, err := s.made(ctx, n)
	if err != nil {
		return Issuer{}, err
	}
	iss.ID, iss.CreatedBy = core.NewID(), actor.Subject
	count := 0
	for _, err := range s.List(ctx, t) {
		if err != nil {
			return Issuer{}, err
		}
		if count++; count >= MaxIssuers { // several at the very same time may pass by it; the bound is only against heaps
			return Issuer{}, fmt.Errorf("the tenant trusts %d issuers already, which is as many as there may be; delete one: %w", MaxIssuers, core.Limit)
		}
	}
	err = store.Retry(ctx, func() error {
		items, err := s.DB.Get(ctx, store.Meta(t), store.TrustedIssuer(t, iss.Name))
		if err != nil {
			return err
		}
		if _, err := org.Decode(items[0]); err != nil {
			return err
		}
		if items[1].Version != 0 {
			return fmt.Errorf("trusted issuer %s: %w", iss.Name, core.Exists)
		}
		iss.CreatedAt = s.Now()
		iss.UpdatedAt = iss.CreatedAt
		return s.commit(ctx, actor, t, items[1].Key, 0, iss, audit.Create, "")
	})
	return iss, err
}

// Replace says anew how an issuer's keys are had, and whether it counts. Its name and its identifier stay as they are: what
// applications trust must not become somebody else.
func (s *Service) Replace(ctx context.Context, actor core.Actor, t core.TenantID, n Settings) (Issuer, error) {
	before, err := s.Issuer(ctx, t, n.Name)
	if err != nil {
		return Issuer{}, err
	}
	if n.Issuer != before.Value.Issuer {
		return Issuer{}, core.BadField("issuer", "cannot be changed, since applications trust it; add another one")
	}
	made, err := s.made(ctx, n)
	if err != nil {
		return Issuer{}, err
	}
	var iss Issuer
	err = store.Retry(ctx, func() error {
		rec, err := s.Issuer(ctx, t, n.Name)
		if err != nil {
			return err
		}
		if rec.Value.ID != before.Value.ID {
			return fmt.Errorf("trusted issuer: %w", core.NotFound) // deleted, and made anew meanwhile
		}
		iss = made
		iss.ID, iss.CreatedAt, iss.CreatedBy, iss.UpdatedAt = rec.Value.ID, rec.Value.CreatedAt, rec.Value.CreatedBy, rec.Value.UpdatedAt
		what := differences(rec.Value, iss)
		if what == "" {
			return nil
		}
		iss.UpdatedAt = s.Now()
		return s.commit(ctx, actor, t, rec.Key, rec.Version, iss, audit.Update, what)
	})
	return iss, err
}

// Delete has the tenant trust an issuer no more. Its tokens prove nothing from then on, and another issuer of the same name
// proves nothing to the applications that trusted this one.
func (s *Service) Delete(ctx context.Context, actor core.Actor, t core.TenantID, name string) error {
	return store.Retry(ctx, func() error {
		rec, err := s.Issuer(ctx, t, name)
		if err != nil {
			return err
		}
		told, err := s.record(actor, t, rec.Value, audit.Delete, "")
		if err != nil {
			return err
		}
		return s.DB.Commit(ctx, store.Delete(rec.Key, rec.Version), told)
	})
}

// made checks settings, and asks the issuer where its keys are.
func (s *Service) made(ctx context.Context, n Settings) (Issuer, error) {
	name, err := ParseName("name", n.Name)
	if err != nil {
		return Issuer{}, err
	}
	identifier, err := ParseIssuer("issuer", n.Issuer, s.Base, s.BrowserBase)
	if err != nil {
		return Issuer{}, err
	}
	iss := Issuer{Name: name, Issuer: identifier, CA: n.CA, Enabled: n.Enabled}
	if _, err := outbound.Roots("ca", n.CA); err != nil {
		return Issuer{}, err
	}
	switch {
	case n.JWKS != nil && n.JWKSURI != "":
		return Issuer{}, core.BadField("jwks", "cannot be given together with jwksUri: either the issuer publishes its keys, or they are given here")
	case n.JWKS != nil:
		iss.Keys, err = ParseKeys("jwks", n.JWKS, MaxIssuerKeys)
		return iss, err
	case s.Verifier == nil:
		return Issuer{}, core.BadField("jwks", "is missing; nothing here can read the keys that the issuer publishes")
	}
	iss.Discovered = n.JWKSURI == ""
	iss.JWKSURI, err = s.Verifier.Locate(ctx, iss.Issuer, n.JWKSURI, iss.CA)
	return iss, err
}

func (s *Service) commit(ctx context.Context, actor core.Actor, t core.TenantID, k store.Key, expect store.Version, iss Issuer, a audit.Action, what string) error {
	put, err := Issuers.Put(k, expect, iss)
	if err != nil {
		return err
	}
	told, err := s.record(actor, t, iss, a, what)
	if err != nil {
		return err
	}
	return s.DB.Commit(ctx, put, told)
}

func (s *Service) record(actor core.Actor, t core.TenantID, iss Issuer, a audit.Action, what string) (store.Op, error) {
	return audit.Op(actor, s.Now(), audit.Record{
		Tenant: t, Action: a, EntityType: audit.EntityTrustedIssuer, EntityID: iss.Name, Name: iss.Issuer, Scope: core.AccountScope(t), Reason: what,
	})
}

// differences names what a replacement changed, for the record.
func differences(was, is Issuer) string {
	var out []string
	for _, d := range []struct {
		what    string
		changed bool
	}{
		{"keys", !slices.Equal(was.Keys, is.Keys)}, {"jwksUri", was.JWKSURI != is.JWKSURI || was.Discovered != is.Discovered}, {"ca", was.CA != is.CA},
		{"disabled", was.Enabled && !is.Enabled}, {"enabled", !was.Enabled && is.Enabled},
	} {
		if d.changed {
			out = append(out, d.what)
		}
	}
	return strings.Join(out, ", ")
}

// Resolve fills in which issuers an application's trusts mean. A name that is none is core.Invalid, and named. It costs one
// round trip, and none where there is nothing to fill in.
func Resolve(ctx context.Context, db store.DB, t core.TenantID, field string, trusts []Trust) ([]Trust, error) {
	var keys []store.Key
	at := map[string]int{}
	for _, tr := range trusts {
		if _, ok := at[tr.Issuer]; !ok {
			at[tr.Issuer] = len(keys)
			keys = append(keys, store.TrustedIssuer(t, tr.Issuer))
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	items, err := db.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(trusts)
	for i := range out {
		rec, err := Issuers.Decode(items[at[out[i].Issuer]])
		if err != nil {
			return nil, err
		}
		if !rec.Exists() {
			return nil, core.BadField(fmt.Sprintf("%s[%d].issuer", field, i), "is not the name of an issuer that the tenant trusts; an administrator can add it (POST /api/v1/trusted-issuers)")
		}
		out[i].IssuerID = rec.Value.ID
	}
	return out, nil
}
