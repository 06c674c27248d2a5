package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
)

// Probe proves that a tenant's ES256 key can sign now: it unwraps the key anew, whatever is kept of it in memory, signs
// something random and verifies that with the published half. It asks the Wrapper once and, within CacheTTL, the store not
// at all. A tenant without keys is core.NotFound.
func (r *Ring) Probe(ctx context.Context, t core.TenantID) error {
	set, err := r.keyset(ctx, t)
	if err != nil {
		return err
	}
	k := set.active(ES256, r.Now())
	if k == nil {
		return fmt.Errorf("keys: tenant %s has no %s key: %w", t, ES256, core.Unavailable)
	}
	fresh := &key{record: k.record, id: k.id, public: k.public, secret: newSecret()}
	o, err := fresh.unwrap(ctx, r.Wrapper, PurposeSigning, t)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte(rand.Text()))
	signature, err := o.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("keys: %s of tenant %s does not sign: %w", k.id, t, err)
	}
	if public, ok := k.public.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(public, digest[:], signature) {
		return fmt.Errorf("keys: what %s of tenant %s signs does not verify", k.id, t)
	}
	return nil
}
