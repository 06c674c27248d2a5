package directory

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trace"
)

// Cost is the cost of an argon2id hash (RFC 9106 §3.1).
type Cost struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// DefaultCost is OWASP's current recommendation: 19 MiB, two passes, one thread, about 25 ms.
var DefaultCost = Cost{Memory: 19456, Time: 2, Threads: 1}

const (
	saltLen = 16 // bytes
	tagLen  = 32 // bytes
)

// hashing bounds the hashes computed at once in this process to 76 MiB at the default cost, so that a burst of sign-ins
// makes sign-ins wait and not the function run out of memory. Memory is the process's, hence a variable of the package.
var hashing = make(chan struct{}, 4)

// maxLine is how many wait for their turn to hash, for about half a second. More would only wait to time out.
const maxLine = 64

var line atomic.Int32 // how many wait

// errCrowd answers whoever would have to wait behind maxLine others. It is core.Throttled.
var errCrowd = fmt.Errorf("too many people sign in at this moment; try again in a second: %w", core.Throttled)

// crowded says whether there is no place in the line at this moment.
func crowded() bool { return line.Load() >= maxLine }

// idKey is Argon2id (RFC 9106). A test counts what it is asked for.
var idKey = argon2.IDKey

// argon computes the tag, when it is its turn. The error is errCrowd, or core.Unavailable if ctx ended before that.
func argon(ctx context.Context, c Cost, password, salt []byte) ([]byte, error) {
	select {
	case hashing <- struct{}{}:
		trace.From(ctx).Waited(ctx, 0)
	default:
		since := time.Now()
		err := wait(ctx)
		trace.From(ctx).Waited(ctx, time.Since(since))
		if err != nil {
			return nil, err
		}
	}
	defer func() { <-hashing }()
	return idKey(password, salt, c.Time, c.Memory, c.Threads, tagLen), nil
}

// wait stands in line for a turn.
func wait(ctx context.Context) error {
	defer line.Add(-1)
	if line.Add(1) > maxLine {
		return errCrowd
	}
	select {
	case hashing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("directory: waited for a password hash: %w", core.Unavailable)
	}
}

var b64 = base64.RawStdEncoding.Strict()

// phc is a password hash in its parts. Its string form is the PHC string format:
// $argon2id$v=19$m=19456,t=2,p=1$SALT$TAG.
type phc struct {
	Cost
	salt, tag []byte
}

func (p phc) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, p.Memory, p.Time, p.Threads, b64.EncodeToString(p.salt), b64.EncodeToString(p.tag))
}

var errPHC = errors.New("directory: a stored password hash does not parse")

// parsePHC reads a hash back. It refuses every other spelling and costs that could exhaust the memory. The error never
// quotes the hash.
func parsePHC(s string) (phc, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 {
		return phc{}, errPHC
	}
	var p phc
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.Memory, &p.Time, &p.Threads); err != nil {
		return phc{}, errPHC
	}
	var err1, err2 error
	p.salt, err1 = b64.DecodeString(parts[4])
	p.tag, err2 = b64.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(p.salt) < 8 || len(p.salt) > 64 || len(p.tag) != tagLen ||
		p.Memory < 8*uint32(p.Threads) || p.Memory > 256<<10 || p.Time < 1 || p.Time > 16 || p.Threads < 1 || p.Threads > 4 ||
		p.String() != s {
		return phc{}, errPHC
	}
	return p, nil
}

// hashPassword makes the PHC string of a normalized password, with a salt of its own.
func hashPassword(ctx context.Context, c Cost, password []byte) (string, error) {
	p := phc{Cost: c, salt: make([]byte, saltLen)}
	rand.Read(p.salt)
	var err error
	if p.tag, err = argon(ctx, c, password, p.salt); err != nil {
		return "", err
	}
	return p.String(), nil
}

// matches says whether the password is the hash's. An error means that it could not be told.
func (p phc) matches(ctx context.Context, password []byte) (bool, error) {
	tag, err := argon(ctx, p.Cost, password, p.salt)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(tag, p.tag) == 1, nil
}

// dummy is a hash that no password has, at the given cost: what is checked for those who have none, so that the work
// done does not tell who exists.
func dummy(c Cost) phc {
	p := phc{Cost: c, salt: make([]byte, saltLen), tag: make([]byte, tagLen)}
	rand.Read(p.salt)
	rand.Read(p.tag)
	return p
}

func (s *Service) cost() Cost {
	if s.Cost == (Cost{}) {
		return DefaultCost
	}
	return s.Cost
}
