package session

import (
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/fleetpass/fleetpass/core"
)

// A refresh token is opaque to clients: "fpr_" and the base64url (RFC 4648 §5, no padding) of
//
//	1 | generation, 4 bytes | length of the family's id, 1 byte | the id | length of the e-mail, 1 byte | the e-mail | MAC, 32 bytes
//
// It names everything that must be read to judge it, so that one read does; the MAC, under the tenant's own secret, keeps
// others from naming anything. A token is a function of its family and generation: the successor of one that was used
// twice in parallel is derived again, and no token is ever stored.
const (
	refreshPrefix  = "fpr_"
	refreshVersion = 1
	refreshMAC     = 32
	maxRefresh     = 600 // characters
	macRefresh     = "refresh-token"
)

// refreshName is what a refresh token names.
type refreshName struct {
	generation uint32
	family     string
	email      core.Email
}

// message is what the MAC covers. No field can reach into the next: each comes behind its length.
func (n refreshName) message() []byte {
	b := make([]byte, 0, 8+len(n.family)+len(n.email)+refreshMAC)
	b = append(b, refreshVersion)
	b = binary.BigEndian.AppendUint32(b, n.generation)
	b = append(append(b, byte(len(n.family))), n.family...)
	b = append(append(b, byte(len(n.email))), n.email...)
	return b
}

func (n refreshName) token(mac []byte) string {
	return refreshPrefix + base64.RawURLEncoding.EncodeToString(append(n.message(), mac...))
}

// parseRefresh takes a refresh token apart. It accepts exactly what token makes; whether the MAC is right is not its
// affair.
func parseRefresh(raw string) (n refreshName, mac []byte, ok bool) {
	body, found := strings.CutPrefix(raw, refreshPrefix)
	if !found || len(raw) > maxRefresh || strings.ContainsAny(body, "\r\n") {
		return n, nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(b) < 5+refreshMAC || b[0] != refreshVersion {
		return n, nil, false
	}
	b, mac = b[:len(b)-refreshMAC], b[len(b)-refreshMAC:]
	n.generation = binary.BigEndian.Uint32(b[1:5])
	rest := b[5:]
	family, rest, ok := lengthed(rest)
	if !ok {
		return n, nil, false
	}
	email, rest, ok := lengthed(rest)
	if !ok || len(rest) != 0 || len(family) == 0 || len(email) == 0 {
		return n, nil, false
	}
	n.family, n.email = string(family), core.Email(email)
	return n, mac, true
}

func lengthed(b []byte) (head, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	return b[1 : 1+int(b[0])], b[1+int(b[0]):], true
}
