package core

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
)

var idEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// newID returns n characters of 5 random bits each, from an alphabet without look-alikes.
func newID(n int) string {
	b := make([]byte, (n*5+7)/8)
	rand.Read(b) // never fails: crypto/rand aborts the process instead
	return idEncoding.EncodeToString(b)[:n]
}

// NewID returns a random identifier of 128 bits, 26 characters, safe in URLs, keys and Kubernetes names.
func NewID() string { return newID(26) }

// NewSecret returns a random secret of 256 bits, 52 characters. Secrets are kept only as a keyed hash.
func NewSecret() string { return newID(52) }

// NewClusterID returns a random UUID (RFC 9562 §5.4).
func NewClusterID() ClusterID {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return ClusterID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}
