package keys

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// The bounds of Seal and Open, in bytes.
const (
	MaxSealable = 16 << 10                                      // of what is sealed
	MaxSealed   = MaxSealable + 1 + sealNonceSize + sealTagSize // of what comes of it
)

// ErrOpen says that what was to be opened is not, to the byte, what Seal made for the same purpose and tenant: it was damaged
// or moved. It is an internal error, like ErrUnwrap: retrying does not help.
var ErrOpen = errors.New("keys: what is sealed does not open")

const (
	sealKeySize   = 32 // AES-256
	sealNonceSize = 12
	sealTagSize   = 16

	// sealVersion is the first byte of what Seal makes: how the rest is to be read. It only ever grows.
	sealVersion = 1
)

// EnsureSealing gives a tenant the key that Seal and Open need, if it has none. Only who configures secrets calls it, before
// it first seals one: so only that function needs the right to wrap with PurposeSSO. However many call it at once, one key is
// made, and it stays: what was sealed with it could not be opened with another. A tenant without keys is core.NotFound.
func (r *Ring) EnsureSealing(ctx context.Context, t core.TenantID) error {
	var made []byte // for the next attempt: each wrap costs a call
	return r.change(ctx, t, r.Now(), func(c *change) (err error) {
		if c.set.seal != nil {
			return nil
		}
		if made == nil {
			secret := make([]byte, sealKeySize)
			rand.Read(secret)
			if made, err = wrap(ctx, r.Wrapper, PurposeSSO, t, secret); err != nil {
				return err
			}
		}
		op, err := records.Put(store.SigningKey(t, sealID), 0, record{Wrapped: made, PublishedAt: c.now, ActiveAt: c.now})
		c.quiet = append(c.quiet, op)
		return err
	})
}

// Seal encrypts and authenticates plain, up to MaxSealable bytes, with the tenant's sealing key, and binds it to the purpose,
// 1 to 255 bytes, and the tenant. It never gives the same result twice. A purpose outside its bounds is core.Invalid, a plain
// text core.Limit. A tenant that EnsureSealing was never called for is an internal error.
//
// The nonce is random, so a key may seal 2^32 times (NIST SP 800-38D §8.3): once a second for 136 years.
func (r *Ring) Seal(ctx context.Context, t core.TenantID, purpose string, plain []byte) ([]byte, error) {
	if len(plain) > MaxSealable {
		return nil, fmt.Errorf("keys: %d bytes to seal, at most %d: %w", len(plain), MaxSealable, core.Limit)
	}
	box, bound, err := r.sealing(ctx, t, purpose)
	if err != nil {
		return nil, err
	}
	sealed := make([]byte, 1, 1+len(plain)+box.Overhead())
	sealed[0] = sealVersion
	return box.Seal(sealed, nil, plain, bound), nil
}

// Open returns what Seal was given for the same purpose and tenant. Anything else is ErrOpen, and nothing is returned. It
// asks the Wrapper once for each sealing key, and within CacheTTL the store not at all.
func (r *Ring) Open(ctx context.Context, t core.TenantID, purpose string, sealed []byte) ([]byte, error) {
	box, bound, err := r.sealing(ctx, t, purpose)
	if err != nil {
		return nil, err
	}
	if len(sealed) < 1+box.Overhead() || len(sealed) > MaxSealed || sealed[0] != sealVersion {
		return nil, fmt.Errorf("%w: not sealed here, for tenant %s", ErrOpen, t)
	}
	plain, err := box.Open(nil, nil, sealed[1:], bound)
	if err != nil {
		return nil, fmt.Errorf("%w: damaged, or of another purpose or tenant than %s", ErrOpen, t)
	}
	return plain, nil
}

// sealing returns the tenant's sealing key, opened, and the additional data that purpose and tenant become. The length comes
// first, so that no two pairs read the same.
func (r *Ring) sealing(ctx context.Context, t core.TenantID, purpose string) (box cipher.AEAD, bound []byte, err error) {
	if purpose == "" || len(purpose) > 255 {
		return nil, nil, fmt.Errorf("keys: a sealing purpose has 1 to 255 bytes: %w", core.Invalid)
	}
	set, err := r.keyset(ctx, t)
	if err == nil && set.seal == nil {
		// Whoever has something to open knows that another instance made the key meanwhile: what was read may be older, and
		// so may be what is being read.
		r.forget(t)
		set, err = r.keyset(ctx, t)
	}
	switch {
	case err != nil:
		return nil, nil, err
	case set.seal == nil:
		return nil, nil, fmt.Errorf("keys: tenant %s has no sealing key: EnsureSealing makes it where secrets are configured", t)
	}
	o, err := set.seal.unwrap(ctx, r.Wrapper, PurposeSSO, t)
	if err != nil {
		return nil, nil, err
	}
	bound = make([]byte, 0, 1+len(purpose)+len(t))
	bound = append(bound, byte(len(purpose)))
	bound = append(bound, purpose...)
	return o.box, append(bound, t...), nil
}

// parseSealing makes the cipher of a sealing key.
func parseSealing(plain []byte) (*opened, error) {
	if len(plain) != sealKeySize {
		return nil, ErrUnwrap
	}
	block, err := aes.NewCipher(plain)
	if err != nil {
		return nil, ErrUnwrap
	}
	box, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("keys: AES-GCM: %w", err)
	}
	return &opened{box: box}, nil
}
