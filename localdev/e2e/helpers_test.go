package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// clock is the system's, and moved by the test.
type clock struct{ offset atomic.Int64 }

func newClock() *clock                   { return &clock{} }
func (c *clock) now() time.Time          { return time.Now().UTC().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// remoteKeys reads a JWKS over HTTP as a foreign verifier does, and keeps it until it is cleared.
type remoteKeys struct {
	t      *testing.T
	client *http.Client
	url    string
	keys   map[string]*ecdsa.PublicKey
}

func (r *remoteKeys) find(tok *jwt.Token) (any, error) {
	if r.keys == nil {
		r.read()
	}
	kid, _ := tok.Header["kid"].(string)
	if k := r.keys[kid]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("key %q is not published", kid)
}

func (r *remoteKeys) read() {
	r.t.Helper()
	res, err := r.client.Get(r.url)
	must(r.t, err)
	defer res.Body.Close()
	var set struct {
		Keys []struct{ Kid, Kty, Crv, X, Y, D string }
	}
	must(r.t, json.NewDecoder(res.Body).Decode(&set))
	r.keys = map[string]*ecdsa.PublicKey{}
	for _, k := range set.Keys {
		if k.D != "" {
			r.t.Fatalf("key %s is published with its private part", k.Kid)
		}
		if k.Kty != "EC" || k.Crv != "P-256" {
			continue
		}
		x, errX := base64.RawURLEncoding.DecodeString(k.X)
		y, errY := base64.RawURLEncoding.DecodeString(k.Y)
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		if err := errors.Join(errX, errY, err); err != nil {
			r.t.Fatalf("key %s does not decode: %v", k.Kid, err)
		}
		r.keys[k.Kid] = key
	}
}

// header is the key id in a token's header.
func header(t *testing.T, raw string) string {
	t.Helper()
	tok, _, err := jwt.NewParser().ParseUnverified(raw, jwt.MapClaims{})
	must(t, err)
	kid, _ := tok.Header["kid"].(string)
	return kid
}
