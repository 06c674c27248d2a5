package directory_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
)

func (w *world) app(t *testing.T, id core.ApplicationID) directory.Application {
	t.Helper()
	rec, err := w.Application(t.Context(), acme, id)
	if err != nil {
		t.Fatal(err)
	}
	return rec.Value
}

func TestApplicationSecrets(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	app, first, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "robot"})
	if err != nil {
		t.Fatal(err)
	}
	if len(first) < 50 || len(app.ID) < 26 || !app.Enabled {
		t.Errorf("got %+v", app)
	}
	check := func(secret string) error { return w.CheckSecret(ctx, acme, w.app(t, app.ID), secret) }
	if err := check(first); err != nil {
		t.Error(err)
	}
	other, otherSecret, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"none":              check(""),
		"cut short":         check(first[:len(first)-1]),
		"another's":         check(otherSecret),
		"of nobody":         w.CheckSecret(ctx, acme, directory.Application{}, first),
		"for another":       w.CheckSecret(ctx, acme, other, first),
		"in another tenant": w.CheckSecret(ctx, core.SystemTenant, w.app(t, app.ID), first),
	} {
		if err == nil || err.Error() != directory.ErrClient.Error() {
			t.Errorf("secret %s: %v, want ErrClient", name, err)
		}
	}
	// A record's hash is worth nothing in another record.
	other.Secrets = app.Secrets
	if err := w.CheckSecret(ctx, acme, other, first); err == nil {
		t.Error("a copied hash proves another application")
	}

	second, err := w.RotateSecret(ctx, w.admin, acme, app.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if check(first) != nil || check(second) != nil {
		t.Error("within the grace both secrets serve")
	}
	w.pass(time.Hour)
	if check(first) == nil || check(second) != nil {
		t.Error("after the grace only the new secret serves")
	}
	third, err := w.RotateSecret(ctx, w.admin, acme, app.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if check(second) == nil || check(third) != nil {
		t.Error("without grace the old secret ends at once")
	}
	for range 4 {
		if _, err := w.RotateSecret(ctx, w.admin, acme, app.ID, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.RotateSecret(ctx, w.admin, acme, app.ID, time.Hour)
	wantErr(t, err, core.Limit, "")
	_, err = w.RotateSecret(ctx, w.admin, acme, app.ID, directory.MaxGrace+1)
	wantErr(t, err, core.Invalid, "gracePeriod")
	_, err = w.RotateSecret(ctx, w.admin, acme, "absent", 0)
	wantErr(t, err, core.NotFound, "")

	last, err := w.RotateSecret(ctx, w.admin, acme, app.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	rev := w.revision(t)
	if _, err := w.SetEnabled(ctx, w.admin, acme, app.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := check(last); !errors.Is(err, directory.ErrClient) || w.revision(t) != rev+1 {
		t.Errorf("disabled: %v at revision %d after %d", err, w.revision(t), rev)
	}
	if _, err := w.SetEnabled(ctx, w.admin, acme, app.ID, true); err != nil || check(last) != nil {
		t.Errorf("enabled again: %v", err)
	}
}

// The warm check of a secret asks the store nothing.
func TestCheckSecretRoundTrips(t *testing.T) {
	w := newWorld(t)
	app, secret, err := w.CreateApplication(t.Context(), w.admin, acme, directory.NewApplication{Name: "robot"})
	if err != nil {
		t.Fatal(err)
	}
	w.db.Reset()
	if err := w.CheckSecret(t.Context(), acme, app, secret); err != nil {
		t.Fatal(err)
	}
	if n := w.db.Reset().RoundTrips(); n != 0 {
		t.Errorf("%d round trips, want 0", n)
	}
}

func TestApplications(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	app, secret, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "portal", Public: true, RedirectURIs: []string{"https://portal.example.com/cb"}})
	if err != nil || secret != "" {
		t.Fatalf("%q, %v; want no secret for a public application", secret, err)
	}
	wantErr(t, w.CheckSecret(ctx, acme, app, ""), core.Unauthenticated, "")
	_, err = w.RotateSecret(ctx, w.admin, acme, app.ID, 0)
	wantErr(t, err, core.Unsupported, "")
	_, _, err = w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "portal"})
	wantErr(t, err, core.Exists, "")
	for _, bad := range []string{"", "x", "Portal", "system", "kube", "1portal", "por tal"} {
		_, _, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: bad})
		wantErr(t, err, core.Invalid, "name")
	}
	got, err := w.EditApplication(ctx, w.admin, acme, app.ID, directory.Edit{RedirectURIs: []string{}, PostLogoutURIs: []string{"https://portal.example.com/bye"}})
	if err != nil || len(got.RedirectURIs) != 0 || len(got.PostLogoutURIs) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = w.EditApplication(ctx, w.admin, acme, app.ID, directory.Edit{RedirectURIs: []string{"http://evil.example.com"}})
	wantErr(t, err, core.Invalid, "redirectUris")
	rec, err := w.Application(ctx, acme, app.ID)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second writes a record that changed meanwhile: left alone
		if err := w.Seen(ctx, rec); err != nil {
			t.Fatal(err)
		}
	}
	rec, _ = w.Application(ctx, acme, app.ID)
	w.db.Reset()
	if err := w.Seen(ctx, rec); err != nil || w.db.Reset().Commits != 0 || !rec.Value.LastLogin.Equal(w.now) {
		t.Errorf("seen twice in an hour: %+v, %v", rec.Value, err)
	}
	if err := w.DeleteApplication(ctx, w.admin, acme, app.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.CreateApplication(ctx, w.admin, acme, directory.NewApplication{Name: "portal"}); err != nil {
		t.Errorf("the name of a deleted application is not free: %v", err)
	}
	want := []string{"application created", "application created", "application deleted", "application updated"}
	if got := w.facts(t); !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

var redirectURIs = []struct {
	uri string
	ok  bool
}{
	{"https://app.example.com/callback", true},
	{"https://app.example.com", true},
	{"https://app.example.com:8443/cb?tenant=a", true},
	{"http://127.0.0.1/cb", true},
	{"http://127.0.0.1:8000/cb", true},
	{"http://[::1]:8000/cb", true},
	{"http://localhost/cb", false}, // a name that somebody else may answer (RFC 8252 §8.3)
	{"http://app.example.com/cb", false},
	{"http://127.0.0.1.example.com/cb", false},
	{"http://127.1/cb", false},
	{"https://app.example.com/cb#x", false},
	{"https://app.example.com/cb#", false},
	{"https://user@app.example.com/cb", false},
	{"https://app.example.com@evil.example.com/cb", false},
	{"https://*.example.com/cb", false},
	{"https://app.example.com/*", false},
	{"https:app.example.com", false},
	{"https:///cb", false},
	{"https://:443/cb", false},
	{"//app.example.com/cb", false},
	{"/cb", false},
	{"", false},
	{"javascript:alert(1)", false},
	{"data:text/html,x", false},
	{"com.example.app:/cb", false},
	{"https://app.example.com\\@evil.example.com/cb", false},
	{"https://app.example.com/c b", false},
	{"https://app.example.com/\r\nx", false},
	{"HTTPS://app.example.com/cb", false},
	{"https://app.example.com:port/cb", false},
	{"https://exämple.com/cb", false},
	{"https://app.example.com/" + strings.Repeat("x", 2000), false},
}

func TestCheckRedirectURI(t *testing.T) {
	for _, tc := range redirectURIs {
		if err := directory.CheckRedirectURI("redirectUris", tc.uri); (err == nil) != tc.ok {
			t.Errorf("%q: %v, want ok %t", tc.uri, err, tc.ok)
		}
	}
}

func FuzzCheckRedirectURI(f *testing.F) {
	for _, tc := range redirectURIs {
		f.Add(tc.uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if directory.CheckRedirectURI("f", uri) != nil {
			return
		}
		if strings.ContainsAny(uri, "#@\\* \r\n\t") && !strings.Contains(uri, "?") && strings.ContainsAny(strings.SplitN(uri+"/", "/", 4)[2], "#@\\* \r\n\t") {
			t.Errorf("accepted %q", uri)
		}
		if !strings.HasPrefix(uri, "https://") && !strings.HasPrefix(uri, "http://127.") && !strings.HasPrefix(uri, "http://[") {
			t.Errorf("accepted %q", uri)
		}
	})
}
