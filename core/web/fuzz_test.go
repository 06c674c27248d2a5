package web_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/web"
)

// FuzzRequest: what is read from the headers and the path of a request is sane, whatever came: one token without white
// space, one cookie, a tenant as it is spelt in the path, an id that can stand in a log.
func FuzzRequest(f *testing.F) {
	f.Add("Bearer abc.def", "__Host-fleetpass-acme=x", "/t/acme/thing", "request-1")
	f.Add("Bearer a, b", "__Host-fleetpass-acme=x; __Host-fleetpass-acme=y", "/t/%61cme/thing", "a\nb")
	f.Add("bearer\tx", "__Host-fleetpass-acme", "/t//acme/thing", strings.Repeat("x", 65))
	f.Fuzz(func(t *testing.T, authorization, cookie, path, id string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.URL = u
		r.Header["Authorization"], r.Header["Cookie"], r.Header["X-Request-Id"] = []string{authorization}, []string{cookie}, []string{id}
		if raw, err := web.BearerToken(r); err == nil && (raw == "" || strings.ContainsAny(raw, " \t,") || !strings.HasSuffix(authorization, raw)) {
			t.Fatalf("%q holds the token %q", authorization, raw)
		}
		if v := web.Cookie(r, "acme"); v != "" && (len(v) > 256 || strings.Count(cookie, "__Host-fleetpass-acme=") < 1) {
			t.Fatalf("%q holds the cookie %q", cookie, v)
		}
		mux := http.NewServeMux()
		var tenant core.TenantID
		mux.HandleFunc("/t/{tenant}/thing", func(w http.ResponseWriter, r *http.Request) {
			if got, err := web.Tenant(r); err == nil {
				tenant = got
			}
		})
		w := httptest.NewRecorder()
		web.Edge{Log: slog.New(slog.DiscardHandler)}.Wrap(web.Exact(mux)).ServeHTTP(w, r)
		if tenant != "" && u.EscapedPath() != "/t/"+string(tenant)+"/thing" {
			t.Fatalf("%q is the tenant %q", path, tenant)
		}
		for _, c := range []byte(w.Header().Get("X-Request-ID")) {
			if c <= ' ' || c > '~' || c == '"' {
				t.Fatalf("the id %q came back", w.Header().Get("X-Request-ID"))
			}
		}
	})
}
