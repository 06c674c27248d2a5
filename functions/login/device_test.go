package login_test

import (
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/session"
)

// begin begins a sign-in on a device.
func (r *rig) begin(tenant core.TenantID) oauth.DeviceGrant {
	r.t.Helper()
	d, err := r.server.BeginDevice(r.t.Context(), r.device(tenant, nil))
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r *rig) device(tenant core.TenantID, p oauth.Params) oauth.Call {
	if p == nil {
		p = oauth.Params{"scope": "openid offline_access email"}
	}
	return oauth.Call{Actor: core.Actor{Tenant: tenant, Address: "203.0.113.7"}, Client: oauth.Credentials{ID: oauth.CLI}, Params: p}
}

// poll is one request of a device for its tokens: the tokens, or the code of the refusal.
func (r *rig) poll(tenant core.TenantID, secret string) (oauth.Tokens, oauth.Code) {
	r.t.Helper()
	t, err := r.server.Token(r.t.Context(), r.device(tenant, oauth.Params{"grant_type": oauth.GrantDevice, "device_code": secret}))
	var refusal *oauth.Error
	switch {
	case err == nil:
		return t, ""
	case errors.As(err, &refusal):
		return t, refusal.Code
	}
	r.t.Fatal(err)
	return t, ""
}

// ask sends a code as a person does who is signed in, by a link that brings it along.
func (b *browser) ask(code string) page {
	b.r.t.Helper()
	typed := b.get("/t/acme/device?user_code=" + code).want(200)
	if !strings.Contains(typed.body, `value="`+code+`"`) {
		b.r.t.Fatalf("the link does not fill the form in: %s", typed.body)
	}
	return b.post("/t/acme/device", typed.form("user_code", code))
}

// path is the path and the query of a link.
func path(t testing.TB, link string) string {
	t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	return u.RequestURI()
}

// A device is approved in a browser: whoever is not signed in signs in on the way. The page says which code, program and
// address it is about, and nothing is approved without the question (OAU-047).
func TestDevice(t *testing.T) {
	r := newRig(t)
	d := r.begin("acme")
	if _, code := r.poll("acme", d.DeviceCode); code != oauth.AuthorizationPending {
		t.Fatalf("before anybody approved: %q", code)
	}
	b := r.browser()
	login := b.get(path(t, d.VerificationAll)).want(303)
	back := b.post("/t/acme/login", b.get(login.location()).want(200).form("username", ada, "password", password)).want(303)
	if want := "/t/acme/device?user_code=" + d.UserCode; back.location() != want {
		t.Fatalf("after the sign-in to %s, want %s", back.location(), want)
	}
	ask := b.ask(d.UserCode).want(200)
	for _, says := range []string{d.UserCode, "Fleetpass", "203.0.113.7", ada, "Whoever sent you this page"} {
		if !strings.Contains(ask.body, says) {
			t.Errorf("the page does not say %q: %s", says, ask.body)
		}
	}
	r.advance(6 * time.Second)
	if _, code := r.poll("acme", d.DeviceCode); code != oauth.AuthorizationPending {
		t.Fatalf("the link alone approved: %q", code)
	}
	b.post("/t/acme/device", ask.form("answer", "approve")).want(200)
	r.advance(6 * time.Second)
	got, code := r.poll("acme", d.DeviceCode)
	if code != "" || got.AccessToken == "" || got.RefreshToken == "" || got.IDToken == "" {
		t.Fatalf("approved: %q %+v", code, got)
	}
	if _, code := r.poll("acme", d.DeviceCode); code != oauth.InvalidGrant {
		t.Errorf("a second time: %q", code)
	}
	b.post("/t/acme/device", ask.form("answer", "approve")).want(404)
	// What the device got ends with the session that approved it.
	if _, err := r.dir.ForceLogout(t.Context(), actor("acme"), "acme", ada); err != nil {
		t.Fatal(err)
	}
	_, err := r.server.Token(t.Context(), r.device("acme", oauth.Params{"grant_type": "refresh_token", "refresh_token": got.RefreshToken}))
	if err == nil {
		t.Error("a refresh after the forced logout")
	}
}

// Whoever signs out before the device asked leaves it nothing (OAU-047); one that goes on using the browser does.
func TestDeviceNeedsTheSession(t *testing.T) {
	r := newRig(t)
	for _, out := range []bool{false, true} {
		b := r.browser()
		b.signIn("acme", ada, password).want(303)
		d := r.begin("acme")
		b.post("/t/acme/device", b.ask(d.UserCode).want(200).form("answer", "approve")).want(200)
		r.advance(2 * time.Minute)
		home := b.get("/t/acme/").want(200) // the session is written to
		if out {
			b.post("/t/acme/logout", home.form()).want(200)
		}
		got, code := r.poll("acme", d.DeviceCode)
		if signedIn := got.AccessToken != ""; signedIn == out || out && code != oauth.InvalidGrant {
			t.Errorf("signed out %v: the device is signed in %v (%s)", out, signedIn, code)
		}
	}
}

// A page elsewhere that sends the browser to links with wrong codes uses up none of the person's guesses.
func TestLinksAreNoGuesses(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	b.signIn("acme", ada, password).want(303)
	d := r.begin("acme")
	for range 2 * session.MaxGuesses {
		b.get("/t/acme/device?user_code=BBBB-BBBB").want(200)
	}
	b.ask(d.UserCode).want(200)
}

// A device that asks too often waits longer from then on (OAU-045, RFC 8628 §3.5).
func TestDeviceSlowsDown(t *testing.T) {
	r := newRig(t)
	d := r.begin("acme")
	for _, step := range []struct {
		after time.Duration
		want  oauth.Code
	}{
		{0, oauth.AuthorizationPending}, {4 * time.Second, oauth.SlowDown}, {6 * time.Second, oauth.SlowDown},
		{15 * time.Second, oauth.AuthorizationPending}, {14 * time.Second, oauth.SlowDown}, {20 * time.Second, oauth.AuthorizationPending},
	} {
		r.advance(step.after)
		if _, code := r.poll("acme", d.DeviceCode); code != step.want {
			t.Fatalf("after %v more: %q, want %q", step.after, code, step.want)
		}
	}
	r.advance(oauth.DeviceLife)
	if _, code := r.poll("acme", d.DeviceCode); code != oauth.ExpiredToken {
		t.Errorf("after its time: %q", code)
	}
}

// Nobody else's device code, client, tenant or form gets anywhere (OAU-047), and the right one does.
func TestDeviceRefusals(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	b.signIn("acme", ada, password).want(303)
	d := r.begin("acme")

	if _, code := r.poll("other", d.DeviceCode); code != oauth.InvalidGrant {
		t.Errorf("at another tenant: %q", code)
	}
	for _, secret := range []string{"x", strings.Repeat("a", 52), d.DeviceCode[:51], strings.ToUpper(d.DeviceCode), d.UserCode} {
		if _, code := r.poll("acme", secret); code != oauth.InvalidGrant {
			t.Errorf("device code %q: %q", secret, code)
		}
	}
	call := r.device("acme", nil)
	call.Client.ID = "some-application"
	if _, err := r.server.BeginDevice(t.Context(), call); !is(err, oauth.UnauthorizedClient) {
		t.Errorf("a device of another client: %v", err)
	}
	call = r.device("acme", oauth.Params{"grant_type": oauth.GrantDevice, "device_code": d.DeviceCode})
	call.Client.ID = "some-application"
	if _, err := r.server.Token(t.Context(), call); !is(err, oauth.InvalidClient) {
		t.Errorf("polled by another client: %v", err)
	}

	ask := b.ask(d.UserCode).want(200)
	form := ask.form("answer", "approve")
	form.Set("token", strings.Repeat("A", len(form.Get("token"))))
	b.post("/t/acme/device", form).want(403)
	b.post("/t/acme/device", ask.form("answer", "approve"), "Sec-Fetch-Site", "cross-site").want(403)
	b.post("/t/acme/device", ask.form("answer", "approve"), "Origin", "https://evil.example").want(403)
	b.post("/t/acme/device", ask.form("answer", "maybe")).want(400)
	stranger := r.browser()
	stranger.post("/t/acme/device", ask.form("answer", "approve")).want(403)
	r.advance(6 * time.Second)
	if _, code := r.poll("acme", d.DeviceCode); code != oauth.AuthorizationPending {
		t.Fatalf("after all that: %q", code)
	}
	b.post("/t/acme/device", ask.form("answer", "refuse")).want(200)
	if _, code := r.poll("acme", d.DeviceCode); code != oauth.AccessDenied {
		t.Errorf("refused: %q", code)
	}
	b.post("/t/acme/device", ask.form("answer", "approve")).want(404)

	d = r.begin("acme")
	b.post("/t/acme/device", b.ask(d.UserCode).want(200).form("answer", "approve")).want(200)
	if got, code := r.poll("acme", d.DeviceCode); code != "" || got.AccessToken == "" {
		t.Errorf("the next one, approved: %q", code)
	}
}

func is(err error, code oauth.Code) bool {
	var refusal *oauth.Error
	return errors.As(err, &refusal) && refusal.Code == code
}

// A person types the code as they like, and cannot go on guessing: not even the right one is looked at then.
func TestDeviceCodesCannotBeGuessed(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	b.signIn("acme", ada, password).want(303)
	d := r.begin("acme")
	typed := b.get("/t/acme/device").want(200)
	b.post("/t/acme/device", typed.form("user_code", " "+strings.ToLower(strings.Replace(d.UserCode, "-", " ", 1)))).want(200)
	for range session.MaxGuesses {
		b.post("/t/acme/device", typed.form("user_code", "BBBB-BBBB")).want(404)
	}
	b.post("/t/acme/device", typed.form("user_code", "BBBB-BBBB")).want(429)
	b.post("/t/acme/device", typed.form("user_code", d.UserCode)).want(429)
	r.advance(session.LoginLife)
	d = r.begin("acme")
	b.post("/t/acme/device", typed.form("user_code", d.UserCode)).want(200)
}

// However many ask for one device's tokens at once, one gets them.
func TestDeviceIsRedeemedOnce(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	b.signIn("acme", ada, password).want(303)
	d := r.begin("acme")
	b.post("/t/acme/device", b.ask(d.UserCode).want(200).form("answer", "approve")).want(200)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 20 {
		wg.Go(func() {
			if _, code := r.poll("acme", d.DeviceCode); code == "" {
				mu.Lock()
				defer mu.Unlock()
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d got tokens, want 1", won)
	}
}

func FuzzParseUserCode(f *testing.F) {
	f.Add("bcdf-ghjk")
	f.Add(" BCDF GHJK ")
	f.Fuzz(func(t *testing.T, s string) {
		code, ok := oauth.ParseUserCode(s)
		if !ok {
			return
		}
		if again, ok := oauth.ParseUserCode(code); !ok || again != code || len(code) != 9 {
			t.Errorf("%q is %q, and that is %q", s, code, again)
		}
	})
}
