package events_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/events"
)

var update = flag.Bool("update", false, "write goldens of facts that have none yet")

var envelope = events.Envelope{ID: "e1", Tenant: "acme", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Request: "r1"}

// traceparent is the example of https://www.w3.org/TR/trace-context/#examples-of-http-traceparent-headers.
const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

var facts = map[string]events.Fact{
	"access.changed.v1":      events.AccessChanged{Revision: 7, Clusters: []string{"c1"}, Rules: []uint64{7}},
	"scope.changed.v1":       events.ScopeChanged{Revision: 8, Scope: "c1.p1", Kind: "project", Change: "created", Cluster: "c1"},
	"user.changed.v1":        events.UserChanged{Revision: 9, User: "u1", Change: "disabled"},
	"application.changed.v1": events.ApplicationChanged{Revision: 10, Application: "a1", Change: "created"},
	"tenant.changed.v1":      events.TenantChanged{Change: "suspended"},
	"keys.rotated.v1":        events.KeysRotated{Published: []string{"k1", "k2"}},

	"identity-provider.changed.v1": events.IdentityProviderChanged{Connection: "c1", Change: "metadata"},
	"certificate.expiring.v1": events.CertificateExpiring{
		Connection: "c1", Subject: "provider", NotAfter: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), Days: 30,
	},
}

// Goldens are never rewritten: what was sent once must decode for ever. A new form of a fact gets a new file.
func TestGoldensDecodeForEver(t *testing.T) {
	for name, fact := range facts {
		path := filepath.Join("testdata", name+".json")
		if _, err := os.Stat(path); err != nil && *update {
			data, err := events.Encode(envelope, fact)
			if err != nil {
				t.Fatal(err)
			}
			var indented bytes.Buffer
			_ = json.Indent(&indented, data, "", "  ")
			if err := os.WriteFile(path, append(indented.Bytes(), '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < len(facts) {
		t.Fatalf("%d goldens for %d facts (%v): run with -update", len(files), len(facts), err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		env, fact, err := events.Decode(data)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		want := envelope
		if strings.HasSuffix(path, ".traced.json") {
			want.Trace = traceparent
		}
		if diff := cmp.Diff(want, env); diff != "" {
			t.Errorf("%s: envelope (-want +got):\n%s", path, diff)
		}
		if want, ok := facts[strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".json"), ".traced")]; ok {
			if diff := cmp.Diff(want, fact); diff != "" {
				t.Errorf("%s (-want +got):\n%s", path, diff)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	traced := envelope
	traced.Trace = traceparent
	for name, fact := range facts {
		for _, want := range []events.Envelope{envelope, traced} {
			data, err := events.Encode(want, fact)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			env, got, err := events.Decode(data)
			if err != nil || cmp.Diff(fact, got) != "" || env != want {
				t.Errorf("%s: %+v %+v %v", name, env, got, err)
			}
			// The extension has the name that CloudEvents gives it, and is not there where there is nothing to say.
			if named := strings.Contains(string(data), `"traceparent":"00-4bf9`); named != (want.Trace != "") {
				t.Errorf("%s: %s", name, data)
			}
		}
		if !strings.HasSuffix(fact.Type(), name) {
			t.Errorf("type %s is not named like its golden %s", fact.Type(), name)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := events.Encode(envelope, events.TenantChanged{Change: "created"})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"empty":        "",
		"no JSON":      "{",
		"unknown type": strings.Replace(string(good), "tenant.changed.v1", "tenant.exploded.v9", 1),
		"other source": strings.Replace(string(good), "/t/acme", "/elsewhere", 1),
		"other data":   strings.Replace(string(good), `{"change":"created"}`, `[1]`, 1),
	} {
		if _, f, err := events.Decode([]byte(data)); err == nil {
			t.Errorf("%s: decoded to %#v", name, f)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, fact := range facts {
		data, err := events.Encode(envelope, fact)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		env, fact, err := events.Decode(data)
		if err == nil && (fact == nil || env.Tenant == "") {
			t.Errorf("decoded to nothing: %+v %v", env, fact)
		}
	})
}
