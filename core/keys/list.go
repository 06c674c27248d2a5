package keys

import (
	"context"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Info is what may be told of a signing key: all but the key.
type Info struct {
	ID          string // the kid
	Algorithm   Algorithm
	Signs       bool      // it is the one that signs now
	PublishedAt time.Time // when it came into the JWKS
	ActiveAt    time.Time // when it signs from
	SignsUntil  time.Time // when its successor takes over; zero: there is none yet
	RetiredAt   time.Time // when it leaves the JWKS, with the last token that it signed; zero: like SignsUntil
	RevokedAt   time.Time // zero: it was not
}

// List returns the tenant's signing keys, in order of kid, as they are stored now. Those that retired are in it until Rotate
// deletes them.
func (r *Ring) List(ctx context.Context, t core.TenantID) ([]Info, error) {
	now := r.Now()
	set := &keyset{readAt: now, byID: make(map[string]*key)}
	if err := r.read(ctx, t, set, nil); err != nil {
		return nil, err
	}
	var all []Info
	for _, k := range set.keys {
		all = append(all, Info{
			ID: k.id, Algorithm: k.Algorithm, Signs: set.active(k.Algorithm, now) == k,
			PublishedAt: k.PublishedAt, ActiveAt: k.ActiveAt, SignsUntil: k.SignsUntil, RetiredAt: k.RetiredAt, RevokedAt: k.RevokedAt,
		})
	}
	return all, nil
}
