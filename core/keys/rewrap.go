package keys

import (
	"bytes"
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// movable is a record with whatever a newer version of the code keeps beside it, so that moving a key loses nothing.
type movable struct {
	record
	Rest jsontext.Value `json:",embed"`
}

// Rewrap returns the body of an item of a tenant's keys, with what is wrapped in it unwrapped by one wrapper and wrapped anew
// by another: what a tenant's keys need that move to another key service. A nil to wraps nothing and returns the body as
// it is, having proved that it opens. What does not open is ErrUnwrap, and says of which key. Anything but the wrapped part
// stays as it is, so a kid and its times survive.
func Rewrap(ctx context.Context, k store.Key, body []byte, from, to Wrapper) ([]byte, error) {
	m, plain, err := openMovable(ctx, k, body, from)
	if err != nil || to == nil || plain == nil {
		return body, err
	}
	if m.Wrapped, err = wrap(ctx, to, purposeOf(k), k.Tenant(), plain); err != nil {
		return nil, err
	}
	return m.encode()
}

// Same says whether two bodies hold the same key at k, the one wrapped by one wrapper and the other by another: wrapping
// never gives the same bytes twice. If either does not open, the error is ErrUnwrap and says which side: "first" or "second".
func Same(ctx context.Context, k store.Key, first []byte, a Wrapper, second []byte, b Wrapper) (bool, error) {
	if k.Sort() == anchorID {
		return bytes.Equal(first, second), nil
	}
	x, plain, err := openMovable(ctx, k, first, a)
	if err != nil {
		return false, fmt.Errorf("first: %w", err)
	}
	y, other, err := openMovable(ctx, k, second, b)
	if err != nil {
		return false, fmt.Errorf("second: %w", err)
	}
	x.Wrapped, y.Wrapped = nil, nil
	one, err := x.encode()
	if err != nil {
		return false, err
	}
	two, err := y.encode()
	return err == nil && bytes.Equal(one, two) && bytes.Equal(plain, other), err
}

func (m movable) encode() ([]byte, error) { return json.Marshal(m, json.Deterministic(true)) }

func purposeOf(k store.Key) string {
	switch k.Sort() {
	case macID:
		return PurposeMAC
	case sealID:
		return PurposeSSO
	}
	return PurposeSigning
}

// openMovable reads a key's body and opens it. The plain part is nil if nothing is wrapped in it: of the anchor, and of a
// key that was revoked.
func openMovable(ctx context.Context, k store.Key, body []byte, w Wrapper) (m movable, plain []byte, err error) {
	if k.Kind() != store.SigningKey("any", "any").Kind() {
		return m, nil, fmt.Errorf("keys: %s is no key: %w", k, core.Invalid)
	}
	if k.Sort() == anchorID { // nothing in it is wrapped
		return m, nil, nil
	}
	if err := json.Unmarshal(body, &m); err != nil { // whose words could quote the body
		return m, nil, fmt.Errorf("keys: %s does not decode", k)
	}
	if len(m.Wrapped) == 0 {
		return m, nil, nil
	}
	if plain, err = w.Unwrap(ctx, purposeOf(k), k.Tenant(), m.Wrapped); err != nil {
		return m, nil, fmt.Errorf("keys: unwrap %s: %w", k, err)
	}
	switch purposeOf(k) {
	case PurposeSSO:
		if _, err := parseSealing(plain); err != nil {
			return m, nil, fmt.Errorf("keys: %s: %w", k, err)
		}
	case PurposeSigning:
		rec := store.Record[record]{Key: k, Value: m.record}
		known, err := newKey(k.Sort(), rec, nil)
		if err != nil {
			return m, nil, err
		}
		if _, err := parsePrivate(plain, known.public); err != nil {
			return m, nil, fmt.Errorf("keys: %s: %w", k, err)
		}
	}
	return m, plain, nil
}
