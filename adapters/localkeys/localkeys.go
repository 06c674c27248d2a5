// Package localkeys wraps keys with a master key of the machine's own, for installations without a key management service:
// AES-256-GCM under keys that are given, or kept in a file that only its owner can read. Who can read the master key and the
// store can sign for every tenant; a key management service keeps the two apart.
package localkeys

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
)

// KeySize is the length of a master key in bytes.
const KeySize = 32

// What is wrapped is one byte of version, the id of the master key, a random nonce, and the sealed text with its tag.
const (
	version   = 1
	idSize    = 8
	nonceSize = 12
	headSize  = 1 + idSize + nonceSize
)

// Wrapper is a keys.Wrapper. The zero Wrapper refuses everything; make one with New or Open.
type Wrapper struct {
	masters []master // the newest last
}

var _ keys.Wrapper = (*Wrapper)(nil)

type master struct {
	id   [idSize]byte // derived from the key, so that it needs no bookkeeping
	aead cipher.AEAD
}

// New returns a wrapper with master keys of KeySize random bytes each, oldest first. The last one wraps; all of them unwrap,
// so that a master key can be replaced while keys that an older one wrapped are still about.
func New(masterKeys ...[]byte) (*Wrapper, error) {
	if len(masterKeys) == 0 {
		return nil, errors.New("localkeys: no master key")
	}
	w := &Wrapper{}
	for i, k := range masterKeys {
		if len(k) != KeySize {
			return nil, fmt.Errorf("localkeys: master key %d has %d bytes, want %d", i+1, len(k), KeySize)
		}
		m, err := newMaster(k)
		if err != nil {
			return nil, fmt.Errorf("localkeys: master key %d: %w", i+1, err)
		}
		for _, other := range w.masters {
			if other.id == m.id {
				return nil, fmt.Errorf("localkeys: master key %d is given twice", i+1)
			}
		}
		w.masters = append(w.masters, m)
	}
	return w, nil
}

func newMaster(k []byte) (m master, err error) {
	id, err := hkdf.Key(sha256.New, k, nil, "fleetpass localkeys key id", idSize)
	if err != nil {
		return m, err
	}
	copy(m.id[:], id)
	wrapping, err := hkdf.Key(sha256.New, k, nil, "fleetpass localkeys wrap", KeySize)
	if err != nil {
		return m, err
	}
	block, err := aes.NewCipher(wrapping)
	if err != nil {
		return m, err
	}
	m.aead, err = cipher.NewGCM(block)
	return m, err
}

// Wrap implements keys.Wrapper.
func (w *Wrapper) Wrap(ctx context.Context, purpose string, tenant core.TenantID, plain []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("localkeys: %w: %w", core.Unavailable, err)
	}
	bound, err := binding(purpose, tenant)
	if err != nil {
		return nil, err
	}
	if len(plain) == 0 || len(plain) > keys.MaxPlain {
		return nil, fmt.Errorf("localkeys: a key of %d bytes, want 1 to %d: %w", len(plain), keys.MaxPlain, core.Limit)
	}
	if len(w.masters) == 0 {
		return nil, errors.New("localkeys: no master key")
	}
	m := w.masters[len(w.masters)-1]
	out := make([]byte, headSize, headSize+len(plain)+m.aead.Overhead())
	out[0] = version
	copy(out[1:], m.id[:])
	nonce := out[1+idSize : headSize]
	rand.Read(nonce) // never fails; 2^32 wraps stay far from a likely repetition
	return m.aead.Seal(out, nonce, plain, append(bound, out[:1+idSize]...)), nil
}

// Unwrap implements keys.Wrapper.
func (w *Wrapper) Unwrap(ctx context.Context, purpose string, tenant core.TenantID, wrapped []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("localkeys: %w: %w", core.Unavailable, err)
	}
	bound, err := binding(purpose, tenant)
	if err != nil {
		return nil, err
	}
	if len(wrapped) < headSize || len(wrapped) > keys.MaxWrapped || wrapped[0] != version {
		return nil, fmt.Errorf("localkeys: not wrapped here: %w", keys.ErrUnwrap)
	}
	for _, m := range w.masters {
		if !bytes.Equal(m.id[:], wrapped[1:1+idSize]) { // the id is no secret
			continue
		}
		plain, err := m.aead.Open(nil, wrapped[1+idSize:headSize], wrapped[headSize:], append(bound, wrapped[:1+idSize]...))
		if err != nil {
			return nil, fmt.Errorf("localkeys: damaged, or wrapped for something else: %w", keys.ErrUnwrap)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("localkeys: wrapped with a master key that is not here: %w", keys.ErrUnwrap)
}

// Stale says whether an older master key than the newest wrapped this: unwrap and wrap it again before that key goes.
func (w *Wrapper) Stale(wrapped []byte) bool {
	return len(w.masters) == 0 || len(wrapped) < headSize || !bytes.Equal(w.masters[len(w.masters)-1].id[:], wrapped[1:1+idSize])
}

// binding is the additional data that purpose and tenant become. Lengths come first, so that no two pairs read the same.
func binding(purpose string, tenant core.TenantID) ([]byte, error) {
	if purpose == "" || tenant == "" || len(purpose) > 255 || len(tenant) > 255 {
		return nil, fmt.Errorf("localkeys: purpose and tenant have 1 to 255 bytes: %w", core.Limit)
	}
	b := make([]byte, 0, 2+len(purpose)+len(tenant)+1+idSize)
	b = append(b, byte(len(purpose)), byte(len(tenant)))
	b = append(b, purpose...)
	return append(b, tenant...), nil
}
