package lambda_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/adapters/lambda"
	"github.com/fleetpass/fleetpass/core"
)

// Behind an edge only its requests get through, with the address that it saw; without one nothing changes, and its headers
// count for nothing.
func TestBehind(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	sum := sha256.Sum256([]byte(secret))
	seen := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Address", r.RemoteAddr)
		w.Header().Set("Secret", r.Header.Get("X-Fleetpass-Edge"))
	})
	for name, tt := range map[string]struct {
		hash, secret, viewer string
		status               int
		address              string
	}{
		"through":         {hex.EncodeToString(sum[:]), secret, "198.51.100.7:4711", 200, "198.51.100.7:4711"},
		"through, IPv6":   {hex.EncodeToString(sum[:]), secret, "2001:db8::7:4711", 200, "[2001:db8::7]:4711"},
		"no address":      {hex.EncodeToString(sum[:]), secret, "", 200, "192.0.2.1:1234"},
		"nonsense":        {hex.EncodeToString(sum[:]), secret, "me:1", 200, "192.0.2.1:1234"},
		"around":          {hex.EncodeToString(sum[:]), "", "198.51.100.7:4711", 403, ""},
		"guessed":         {hex.EncodeToString(sum[:]), secret[1:], "198.51.100.7:4711", 403, ""},
		"the hash itself": {hex.EncodeToString(sum[:]), hex.EncodeToString(sum[:]), "198.51.100.7:4711", 403, ""},
		"no edge":         {"", secret, "198.51.100.7:4711", 200, "192.0.2.1:1234"},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := lambda.Behind(tt.hash, seen)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("X-Fleetpass-Edge", tt.secret)
			r.Header.Set("CloudFront-Viewer-Address", tt.viewer)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.status || w.Header().Get("Address") != tt.address {
				t.Errorf("%d from %q, want %d from %q", w.Code, w.Header().Get("Address"), tt.status, tt.address)
			}
			if tt.hash != "" && w.Header().Get("Secret") != "" {
				t.Error("the secret goes on to the handler")
			}
		})
	}
	for _, bad := range []string{"x", strings.Repeat("0", 63), strings.Repeat("g", 64)} {
		if _, err := lambda.Behind(bad, seen); !errors.Is(err, core.Invalid) || !strings.Contains(err.Error(), "FLEETPASS_EDGE_SHA256") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
