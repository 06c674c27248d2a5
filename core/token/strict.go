package token

import (
	"encoding/base64"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core/strict"
)

// MaxForeign is the longest token, in bytes, that Strict reads. Identity providers put many groups into theirs.
const MaxForeign = 64 << 10

// Strict splits a token into the members of its header and its payload, without verifying its signature. It is what stands
// before every verifier, of our own tokens and of foreign ones, and refuses what verifiers disagree about: anything but
// three segments of canonical base64url (RFC 7515 §2), duplicate members at any depth, members that differ from a registered
// one only in case, a `crit` or `b64` header (RFC 7515 §4.1.11, RFC 7797: nothing critical is understood here),
// encryption and compression. A header with key material of its own (`jwk`, `jku`, `x5u`, `x5c`) is returned, to be
// ignored: keys come from configuration (RFC 8725 §3.10). The error is a *Rejected.
func Strict(raw string) (header, payload map[string]jsontext.Value, err error) {
	t, err := split(raw, MaxForeign)
	return t.header, t.payload, err
}

// parsed is a token in its parts.
type parsed struct {
	header, payload map[string]jsontext.Value
	signed          string // the first two segments, as they were signed
	signature       []byte
}

func split(raw string, max int) (t parsed, err error) {
	if len(raw) > max {
		return t, reject("too long")
	}
	head, rest, _ := strings.Cut(raw, ".")
	body, tail, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(tail, ".") {
		return t, reject("not three segments")
	}
	t.signed = raw[:len(head)+1+len(body)]
	if t.header, err = object(head); err != nil {
		return parsed{}, reject("malformed header")
	}
	if t.payload, err = object(body); err != nil {
		return parsed{}, reject("malformed payload")
	}
	if t.signature, err = decode(tail); err != nil || len(t.signature) == 0 {
		return parsed{}, reject("malformed signature")
	}
	for _, name := range []string{"crit", "b64", "zip", "enc"} {
		if _, ok := t.header[name]; ok {
			return parsed{}, reject("header " + name)
		}
	}
	if otherCase(t.header, headerNames) || otherCase(t.payload, claimNames) {
		return parsed{}, reject("a registered name in another case")
	}
	return t, nil
}

func object(segment string) (map[string]jsontext.Value, error) {
	data, err := decode(segment)
	if err != nil {
		return nil, err
	}
	return strict.Object(data, len(data))
}

var canonical = base64.RawURLEncoding.Strict()

// decode refuses every spelling of base64url but one. The decoder by itself would skip line ends.
func decode(segment string) ([]byte, error) {
	if strings.ContainsAny(segment, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return canonical.DecodeString(segment)
}

// The names that decide whether a token is accepted. Names that only describe somebody are not among them: foreign tokens
// have a GROUPS or a UID, and mean it.
var (
	headerNames = []string{"alg", "kid", "typ", "crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c", "cty"}
	claimNames  = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "azp", "auth_time", "at_hash", "c_hash", "client_id"}
)

// otherCase says whether a member is one of the names but for its case, by Unicode's folding, as lenient parsers match them.
func otherCase(members map[string]jsontext.Value, names []string) bool {
	for member := range members {
		for _, name := range names {
			if strings.EqualFold(member, name) && member != name {
				return true
			}
		}
	}
	return false
}
