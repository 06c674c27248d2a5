package token_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
)

// locked is a Wrapper that opens no key of that purpose while it is away, as a key management service may be.
type locked struct {
	keys.Wrapper
	purpose string
	away    atomic.Bool
}

func (l *locked) Unwrap(ctx context.Context, purpose string, t core.TenantID, wrapped []byte) ([]byte, error) {
	if l.away.Load() && purpose == l.purpose {
		return nil, fmt.Errorf("the wrapper is away: %w", core.Unavailable)
	}
	return l.Wrapper.Unwrap(ctx, purpose, t, wrapped)
}

// A key that cannot be read for a moment is no theft: the request fails as a whole and changes nothing, and the same one
// succeeds when the key is back. What was presented, a code, a refresh token or a password, is as good as before.
func TestKeysAway(t *testing.T) {
	r := newRig(t, 1)
	r.settings("acme", func(x *org.Tenant) { x.Settings.PasswordGrant = true })
	plain, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	c := r.client()
	code, refresh := r.code(c, request()), r.tokens().str("refresh_token")
	warm := r.instances
	for name, form := range map[string]url.Values{
		"code":    redemption(code),
		"refresh": refreshForm(refresh),
		"password": {"grant_type": {"password"}, "client_id": {"fleetpass-cli"}, "username": {admin}, "password": {password},
			"scope": {"openid offline_access"}},
	} {
		w := &locked{Wrapper: plain, purpose: keys.PurposeSigning}
		w.away.Store(true)
		r.instances = []*instance{r.newInstance(w)} // a cold one, which has unwrapped nothing yet
		ends := len(r.audits("acme", audit.SignOut))
		for range 2 {
			if a := r.post(c, "/t/acme/token", form); a.status != 503 || a.json()["access_token"] != nil || a.json()["refresh_token"] != nil {
				t.Errorf("%s, the key away: %d %s", name, a.status, a.body)
			}
		}
		w.away.Store(false)
		if name == "refresh" {
			r.clock.advance(11 * time.Second) // beyond the grace of a token that was used
		}
		got := r.post(c, "/t/acme/token", form)
		if got.status != 200 {
			t.Errorf("%s, the key back: %d %s", name, got.status, got.body)
			continue
		}
		r.post(c, "/t/acme/token", refreshForm(got.str("refresh_token"))).want(200)
		if n := len(r.audits("acme", audit.SignOut)); n != ends {
			t.Errorf("%s: a sign-in was ended", name)
		}
	}
	r.instances = warm

	// A sign-in in the browser needs a key, too, and is not used up without.
	start := r.get(c, "/t/acme/authorize?"+request(set("prompt", "login")).Encode()).want(303)
	form := r.get(c, start.header.Get("Location")).want(200).fields()
	form.Set("username", admin)
	form.Set("password", password)
	bare := r.client() // without the mark of a known device, which would be checked first
	bare.Jar = &only{c.Jar, "login.acme"}
	w := &locked{Wrapper: plain, purpose: keys.PurposeMAC}
	w.away.Store(true)
	r.instances = []*instance{r.newInstance(w)}
	r.post(bare, "/t/acme/login", form).want(503)
	w.away.Store(false)
	_, back := r.post(bare, "/t/acme/login", form).want(303).location()
	r.post(c, "/t/acme/token", redemption(back.Get("code"))).want(200)
}

// only is a browser's jar of which one cookie is sent.
type only struct {
	http.CookieJar
	name string
}

func (o *only) Cookies(u *url.URL) []*http.Cookie {
	return slices.DeleteFunc(o.CookieJar.Cookies(u), func(c *http.Cookie) bool { return !strings.HasSuffix(c.Name, o.name) })
}
