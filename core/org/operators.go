package org

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/trace"
)

// Operators says what EnsureOperators came to.
type Operators string

// What EnsureOperators comes to.
const (
	OperatorsUnchanged Operators = ""        // the operators' tenant is there, and the hash is not new
	OperatorsWanted    Operators = "wanted"  // there is no such tenant, and no hash to make it with
	OperatorsMade      Operators = "made"    // the tenant was made, and the token waits
	OperatorsRenewed   Operators = "renewed" // the tenant has nobody who could let anybody in, and a new token waits
	OperatorsRefused   Operators = "refused" // the hash is new, and the tenant has an administrator, who is to be asked
)

// nothings are the hashes of what a shell gives for a variable that is not set: without and with the end of the line.
var nothings = []string{hashWelcome(""), hashWelcome("\n")}

// ParseWelcomeHash reads the SHA-256 of a welcome token, as `printf %s "$TOKEN" | sha256sum` writes it. An error names the
// field and says nothing of the value, which may be the token itself.
func ParseWelcomeHash(field, s string) (string, error) {
	s = strings.ToLower(s)
	if sum, err := hex.DecodeString(s); err != nil || len(sum) != 32 {
		return "", core.BadField(field, `must be 64 hexadecimal digits, as printf %s "$TOKEN" | sha256sum writes them, and not the token`)
	}
	for _, nothing := range nothings {
		if s == nothing {
			return "", core.BadField(field, "is the hash of nothing; was the token's variable set?")
		}
	}
	return s, nil
}

// EnsureOperators makes the operators' tenant if it is not there, and lets a welcome token wait whose hash the deployer
// chose (ParseWelcomeHash; "" where none was). Only the deployer has the token, so nothing secret passes through here.
//
// Each hash is taken up once, ever: a token that was redeemed or ran out is not revived by running again. Another hash makes
// another token wait as long as the tenant has no administrator, as administered says; after that administrators decide
// who comes in. Whoever can set the hash can deploy code, and needs no door here; the rule is for those who come by a
// deployment's variables later. It costs one round trip where there is nothing to do.
func (s *Service) EnsureOperators(ctx context.Context, hash string, administered func(context.Context, core.TenantID) (bool, error)) (Operators, error) {
	const t = core.SystemTenant
	keys := []store.Key{store.Meta(t)}
	if hash != "" {
		keys = append(keys, WelcomeKey(t), takenUp(hash))
	}
	items, err := s.DB.Get(ctx, keys...)
	if err != nil {
		return OperatorsUnchanged, err
	}
	exists := items[0].Version != 0
	switch {
	case !exists && hash == "":
		return OperatorsWanted, nil
	case hash == "" || items[2].Version != 0:
		return OperatorsUnchanged, nil
	}
	mark := store.Put(takenUp(hash), 0, nil)
	actor := trace.Actor(ctx, core.SystemActor(t))
	did := OperatorsMade
	if exists {
		did, err = s.renew(ctx, actor, hash, items[0], items[1], mark, administered)
	} else {
		err = s.create(ctx, actor, t, operatorsName, hash, mark)
	}
	if errors.Is(err, core.Exists) || errors.Is(err, core.Conflict) { // another run was faster, or comes next
		return OperatorsUnchanged, nil
	}
	if err != nil {
		return OperatorsUnchanged, fmt.Errorf("the operators' tenant: %w", err)
	}
	return did, nil
}

const operatorsName = "Fleetpass operators"

// takenUp is where it is noted that a deployer's hash was taken up. It stays, as the tenant does.
func takenUp(hash string) store.Key { return store.Used(core.SystemTenant, "welcome-sha256", hash) }

// renew lets another token wait, if nobody administers the tenant. The commit expects the tenant as it was before that was
// asked, and whoever becomes an administrator changes it.
func (s *Service) renew(ctx context.Context, actor core.Actor, hash string, meta, was store.Item, mark store.Op, administered func(context.Context, core.TenantID) (bool, error)) (Operators, error) {
	const t = core.SystemTenant
	someone, err := administered(ctx, t)
	if err != nil {
		return OperatorsUnchanged, err
	}
	now, did, reason := s.Now(), OperatorsRenewed, "the deployer made a welcome token"
	o := ops{list: []store.Op{store.Check(meta.Key, meta.Version), mark}}
	if someone {
		did, reason = OperatorsRefused, "the deployer's welcome token was refused: there is an administrator"
	} else {
		o.welcome(t, was.Version, hash, now)
	}
	o.record(actor, now, t, audit.Update, reason)
	return did, o.commit(ctx, s.DB)
}
