package jwks_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/functions/jwks"
)

type rig struct {
	handler http.Handler
	counter *storetest.Counter
	ring    *keys.Ring
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().UTC() }
	r := &rig{counter: &storetest.Counter{DB: db}}
	r.ring = keys.NewRing(r.counter, wrapper, now)
	tenants := &org.Service{DB: db, Ring: r.ring, Now: now}
	if _, err := tenants.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "acme", "Acme"); err != nil {
		t.Fatal(err)
	}
	server := &oauth.Server{DB: r.counter, Ring: r.ring, Now: now, Base: "https://id.example", BrowserBase: "http://localhost:8080"}
	edge := web.Edge{Function: "jwks", Log: slog.New(slog.DiscardHandler)}
	r.handler = edge.Wrap(jwks.Handler(jwks.Deps{OAuth: server, Ring: r.ring}))
	return r
}

func (r *rig) get(path string, headers ...string) *httptest.ResponseRecorder {
	q, err := http.NewRequest("GET", "https://id.example"+path, nil)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, q)
	return w
}

// The keys are public, cacheable, and cost nothing while they are warm.
func TestJWKS(t *testing.T) {
	r := newRig(t)
	a := r.get("/t/acme/jwks")
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(a.Body.Bytes(), &set, json.MatchCaseInsensitiveNames(true)); err != nil || a.Code != 200 || len(set.Keys) == 0 {
		t.Fatalf("%d %s: %v", a.Code, a.Body, err)
	}
	for _, k := range set.Keys {
		for _, private := range []string{"d", "p", "q", "k"} {
			if k[private] != nil {
				t.Errorf("the set holds a private member %q", private)
			}
		}
	}
	etag := a.Header().Get("ETag")
	if a.Header().Get("Content-Type") != "application/jwk-set+json" || a.Header().Get("Cache-Control") != "public, max-age=300" || etag == "" {
		t.Errorf("headers %v", a.Header())
	}
	r.counter.Reset()
	for value, want := range map[string]int{etag: 304, `"x", ` + etag: 304, "W/" + etag: 304, "*": 304, `"x"`: 200, "": 200, strings.Trim(etag, `"`): 200} {
		if a := r.get("/t/acme/jwks", "If-None-Match", value); a.Code != want || (want == 304) != (a.Body.Len() == 0) || a.Header().Get("ETag") != etag {
			t.Errorf("If-None-Match %s: %d", value, a.Code)
		}
	}
	if n := r.counter.Reset(); n.RoundTrips() != 0 {
		t.Errorf("warm: %+v", n)
	}
	// Another key is published: what a client has is stale.
	if err := r.ring.Ensure(t.Context(), "acme", keys.RS256); err != nil {
		t.Fatal(err)
	}
	if a := r.get("/t/acme/jwks", "If-None-Match", etag); a.Code != 200 || a.Header().Get("ETag") == etag {
		t.Errorf("after a change: %d", a.Code)
	}
}

// The description says where everything is, at each of its addresses, and the issuer is exactly the one asked for.
func TestDiscovery(t *testing.T) {
	r := newRig(t)
	for _, path := range jwks.Paths[1:] {
		path = strings.ReplaceAll(strings.TrimPrefix(path, "GET "), "{tenant}", "acme")
		a := r.get(path)
		var m map[string]any
		if err := json.Unmarshal(a.Body.Bytes(), &m); err != nil || a.Code != 200 {
			t.Fatalf("%s: %d %v", path, a.Code, err)
		}
		for name, want := range map[string]string{
			"issuer": "https://id.example/t/acme", "authorization_endpoint": "http://localhost:8080/t/acme/authorize",
			"token_endpoint": "https://id.example/t/acme/token", "jwks_uri": "https://id.example/t/acme/jwks",
			"userinfo_endpoint": "https://id.example/t/acme/userinfo", "end_session_endpoint": "http://localhost:8080/t/acme/logout",
			"revocation_endpoint": "https://id.example/t/acme/revoke", "introspection_endpoint": "https://id.example/t/acme/introspect",
		} {
			if m[name] != want {
				t.Errorf("%s: %s = %v, want %s", path, name, m[name], want)
			}
		}
		if m["authorization_response_iss_parameter_supported"] != true { // OAU-023
			t.Errorf("%s does not say that answers carry iss", path)
		}
		if a.Header().Get("Cache-Control") != "public, max-age=300" || a.Header().Get("ETag") == "" {
			t.Errorf("%s: headers %v", path, a.Header())
		}
	}
}

// One issuer, one spelling (OAU-061).
func TestExactIssuer(t *testing.T) {
	r := newRig(t)
	const doc = ".well-known/openid-configuration"
	if a := r.get("/t/acme/" + doc); a.Code != 200 {
		t.Fatal(a.Code)
	}
	for _, path := range []string{
		"/t/Acme/" + doc, "/t/ACME/" + doc, "/t/acme//" + doc, "/t//acme/" + doc, "/t/acme%2F/" + doc, "/t/%61cme/" + doc, "/t/acme/%2E%2E/acme/" + doc,
		"/t/acme/./" + doc, "/t/x/../acme/" + doc, "/t/acme./" + doc, "/t/acme%00/" + doc, "/t/acme%20/" + doc, "/t/acme;x/" + doc, "/t/acme/" + doc + "/",
		"/T/acme/" + doc, "/" + doc, "/" + doc + "/t/acme/", "/" + doc + "/t/Acme", "/" + doc + "/acme", "/t/nobody/" + doc, "/t/nobody/jwks", "/t/ACME/jwks", "/t/a/jwks",
	} {
		if a := r.get(path); a.Code != 404 {
			t.Errorf("%s: %d to %q", path, a.Code, a.Header().Get("Location"))
		}
	}
}
