package functions_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/functions"
)

// FuzzHTTP sends anything to any path: whatever comes, the system answers without failing, and gives a stranger nothing
// that is not open to all.
func FuzzHTTP(f *testing.F) {
	file, err := bolt.Open(filepath.Join(f.TempDir(), "store"), bolt.Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = file.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		f.Fatal(err)
	}
	var log bytes.Buffer
	s, err := functions.New(functions.Config{
		DB: file, Wrapper: wrapper, Queue: noQueue{}, Base: "https://fleet.test", Log: slog.New(slog.NewTextHandler(&log, nil)),
		Providers: map[sso.Kind]sso.Provider{},
		Dial:      func(sync.Target) (sync.Cluster, error) { return nil, core.Unavailable },
	})
	if err != nil {
		f.Fatal(err)
	}
	s.Directory.Cost = directory.Cost{Memory: 64, Time: 1, Threads: 1}
	if _, err := s.Org.EnsureSystem(context.Background()); err != nil {
		f.Fatal(err)
	}
	if _, err := s.Org.CreateTenant(context.Background(), core.SystemActor(core.SystemTenant), "acme", "Acme"); err != nil {
		f.Fatal(err)
	}
	h, all := s.HTTP(), patterns()
	for i, pattern := range all {
		method, path := at(pattern, "acme", "absent")
		f.Add(i, path, "", "", "application/json", `{"a":1}`)
		if method == "POST" {
			f.Add(i, path, "", "Basic eDp5", "application/x-www-form-urlencoded", "grant_type=client_credentials&%ff=1")
		}
	}
	for i, pattern := range all {
		if strings.HasSuffix(pattern, "/api/v1/token") {
			f.Add(i, "", "", "", "application/json", `{"`+strings.Repeat("x", 39)+`é":"1"}`)
		}
		if strings.HasSuffix(pattern, "/authorize") {
			f.Add(i, "", "client_id=fleetpass-cli&redirect_uri=http://127.0.0.1/callback&response_type=code&state=%ff", "", "", "")
		}
	}
	f.Fuzz(func(t *testing.T, i int, path, query, authorization, media, body string) {
		pattern := all[uint(i)%uint(len(all))]
		method, own := at(pattern, "acme", "absent")
		u, err := url.ParseRequestURI(path)
		if err != nil {
			u = &url.URL{Path: own}
		}
		u.Scheme, u.Host, u.RawQuery = "", "", query
		r := &http.Request{Method: method, URL: u, Host: "fleet.test", Header: http.Header{}, RemoteAddr: "192.0.2.1:1", Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
		r = r.WithContext(t.Context())
		if body != "" {
			r.Body = httptest.NewRequest("POST", "/", strings.NewReader(body)).Body
			r.Header["Content-Type"] = []string{media}
		}
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%s %s: %d %s; %s", method, u.Path, w.Code, w.Body, log.String())
		}
		if w.Code < 300 && !open[pattern] && u.Path == own {
			t.Fatalf("%s answers a stranger: %d %s", pattern, w.Code, w.Body)
		}
		log.Reset()
	})
}

// FuzzMessage feeds the queue's function: a message that is none is an error, and nothing happens.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"tenant":"acme","cluster":"6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e5f","full":true}`))
	f.Add([]byte(`{"Tenant":"acme"}`))
	f.Add([]byte(`{"tenant":"acme","tenant":"globex"}`))
	f.Add([]byte(`null`))
	row, _ := functions.Lookup("sync")
	file, err := bolt.Open(filepath.Join(f.TempDir(), "store"), bolt.Options{NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = file.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		f.Fatal(err)
	}
	dialed := false
	s, err := functions.New(functions.Config{DB: file, Wrapper: wrapper, Queue: noQueue{}, Base: "https://fleet.test", Log: slog.New(slog.DiscardHandler),
		Providers: map[sso.Kind]sso.Provider{},
		Dial:      func(sync.Target) (sync.Cluster, error) { dialed = true; return nil, core.Unavailable }})
	if err != nil {
		f.Fatal(err)
	}
	handle := row.Event(s)
	f.Fuzz(func(t *testing.T, body []byte) {
		_ = handle(t.Context(), body) // of no tenant that there is: never a panic, and no cluster is called
		if dialed {
			t.Fatalf("%q calls a cluster", body)
		}
	})
}
