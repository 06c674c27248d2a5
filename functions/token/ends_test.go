package token_test

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/web"
	adminapi "github.com/fleetpass/fleetpass/functions/admin"
	"github.com/fleetpass/fleetpass/functions/evaluate"
)

// What ends what, and when. In each world there are eve and mia, who are local, and grace, who is an identity provider's, each
// signed in, and with an access key; and two applications, robot and spare. Everybody may view a cluster: the people for a
// group that they are in, the applications by name. Each holds some of these, and each is tried for real:
//
//	browser   the session of a browser gives a code without a page
//	refresh   the refresh token is swapped for the next
//	secret    client_credentials with the secret of before gives a token
//	token     the access token opens the admin API
//	decision  the access token asks whether its holder may view the cluster, and the answer is yes
//	cluster   the access token is swapped for one for the cluster
//	group     which names the group that matters there
//
// A row says what an act ends; everything else that there is must still work after it, and all of it just before.
const (
	signedIn = "browser refresh token decision cluster group"
	withKey  = "secret token decision cluster group"
	machine  = "secret token decision cluster"

	idle     = 20 * time.Minute
	absolute = 40 * time.Minute
	short    = 30 * time.Minute // of a key, a rule or a grace that ends; an access token lives for longer
)

// WEB-013, OAU-039, TEN-009, TEN-017.
func TestEnds(t *testing.T) {
	us := core.Actor{Tenant: "acme", Subject: core.UserSubject(admin)}
	for _, row := range []struct {
		act    string
		before func(*ending) // all of the world still works; nil: as it was made
		do     func(*ending)
		ends   map[string]string // by whom it was held; everything else goes on
	}{
		{"nothing", nil, func(w *ending) {}, nil},
		{"idle timeout",
			func(w *ending) { w.clock.advance(idle - time.Second) },
			func(w *ending) {
				w.clock.advance(idle - time.Minute)
				w.use("mia", "grace")
				w.clock.advance(time.Minute)
			},
			map[string]string{"eve": "browser refresh"}},
		{"absolute lifetime, used or not",
			func(w *ending) { w.pass(absolute - time.Second) },
			func(w *ending) {
				w.pass(absolute - time.Minute)
				w.person("mia")
				w.arrives()
				w.pass(time.Minute)
			},
			map[string]string{"eve": signedIn}},
		{"signed out in the browser", nil,
			func(w *ending) { w.check(w.first().sessions.Close(t.Context(), us, w.cookies["eve"])) },
			map[string]string{"eve": "browser"}},
		{"refresh token revoked", nil,
			func(w *ending) {
				w.post(w.client(), "/t/acme/revoke", url.Values{"client_id": {"fleetpass-cli"}, "token": {w.newest["eve"]}}).want(200)
			},
			map[string]string{"eve": "refresh token decision cluster group"}},
		{"refresh token used twice", nil,
			func(w *ending) {
				old := w.newest["eve"]
				w.use("eve")
				w.clock.advance(11 * time.Second)
				w.post(w.client(), "/t/acme/token", refreshForm(old)).want(400)
			},
			map[string]string{"eve": "refresh token decision cluster group"}},
		{"forced logout", nil,
			func(w *ending) {
				_, err := w.first().dir.ForceLogout(t.Context(), us, "acme", w.mail("eve"))
				w.check(err)
			},
			map[string]string{"eve": signedIn}},
		{"password changed", nil,
			func(w *ending) {
				_, err := w.first().dir.ChangePassword(t.Context(), us, "acme", w.mail("eve"), password, "another battery horse", false)
				w.check(err)
			},
			map[string]string{"eve": signedIn}},
		{"password reset", nil,
			func(w *ending) {
				_, err := w.first().dir.ResetPassword(t.Context(), us, "acme", w.mail("eve"))
				w.check(err)
			},
			map[string]string{"eve": signedIn, "eve's key": withKey}},
		{"password reset, and a new one chosen", nil,
			func(w *ending) {
				_, err := w.first().dir.ResetPassword(t.Context(), us, "acme", w.mail("eve"))
				w.check(err)
				_, err = w.first().dir.SetPassword(t.Context(), us, "acme", w.mail("eve"), "another battery horse")
				w.check(err)
			},
			map[string]string{"eve": signedIn}},
		{"user disabled", nil,
			func(w *ending) { _, err := w.first().dir.Disable(t.Context(), us, "acme", w.mail("eve")); w.check(err) },
			map[string]string{"eve": signedIn, "eve's key": withKey}},
		{"user disabled and enabled", nil,
			func(w *ending) {
				_, err := w.first().dir.Disable(t.Context(), us, "acme", w.mail("eve"))
				w.check(err)
				_, err = w.first().dir.Enable(t.Context(), us, "acme", w.mail("eve"))
				w.check(err)
			},
			map[string]string{"eve": signedIn}},
		{"user deleted", nil,
			func(w *ending) { w.check(w.first().dir.DeleteUser(t.Context(), us, "acme", w.mail("eve"))) },
			map[string]string{"eve": signedIn, "eve's key": withKey}},
		{"user deleted, and another of the same e-mail", nil,
			func(w *ending) {
				w.check(w.first().dir.DeleteUser(t.Context(), us, "acme", w.mail("eve")))
				w.user("acme", string(w.mail("eve")))
				_, err := w.first().dir.AddMember(t.Context(), us, "acme", "eve-team", w.mail("eve"))
				w.check(err)
			},
			map[string]string{"eve": signedIn, "eve's key": withKey}},
		{"out of a local group", nil,
			func(w *ending) {
				_, err := w.first().dir.RemoveMember(t.Context(), us, "acme", "eve-team", w.mail("eve"))
				w.check(err)
			},
			map[string]string{"eve": "decision group", "eve's key": "decision group"}},
		{"out of a provider's group",
			func(w *ending) { w.clock.advance(time.Minute); w.leaves() }, // before the provider is asked, nobody can know
			func(w *ending) { w.clock.advance(time.Minute); w.leaves(); w.use("grace") },
			map[string]string{"grace": "decision group", "grace's key": "decision group"}},
		{"rule expired",
			func(w *ending) { w.lend("eve-team", short); w.pass(short - time.Second) },
			func(w *ending) { w.lend("eve-team", short); w.pass(short) },
			map[string]string{"eve": "decision group", "eve's key": "decision group"}},
		{"rule deleted", nil,
			func(w *ending) {
				_, err := w.first().access.DeleteAllOf(t.Context(), us, core.GroupSubject("eve-team"))
				w.check(err)
			},
			map[string]string{"eve": "decision group", "eve's key": "decision group"}},
		{"access key disabled", nil,
			func(w *ending) {
				_, err := w.first().dir.EnableAccessKey(t.Context(), us, "acme", w.ids["eve's key"], false)
				w.check(err)
			},
			map[string]string{"eve's key": withKey}},
		{"access key disabled and enabled", nil,
			func(w *ending) {
				for _, on := range []bool{false, true} {
					_, err := w.first().dir.EnableAccessKey(t.Context(), us, "acme", w.ids["eve's key"], on)
					w.check(err)
				}
			}, nil},
		{"access key deleted", nil,
			func(w *ending) { w.check(w.first().dir.DeleteAccessKey(t.Context(), us, "acme", w.ids["eve's key"])) },
			map[string]string{"eve's key": withKey}},
		{"access key expired",
			func(w *ending) { w.key("eve", short); w.pass(short - time.Second) },
			func(w *ending) { w.key("eve", short); w.pass(short) },
			map[string]string{"eve's key": withKey}},
		{"access key's tokens revoked", nil,
			func(w *ending) {
				w.post(w.client(), "/t/acme/revoke", url.Values{"token": {w.tokens["eve's key"]}}, basic(w.ids["eve's key"], w.secrets["eve's key"])).want(200)
			},
			map[string]string{"eve's key": "token decision cluster group"}},
		{"access key rotated", nil, // what was made with the old secret lives out its minutes, but swapping it takes the secret
			func(w *ending) {
				_, _, err := w.first().dir.RotateAccessKey(t.Context(), us, "acme", w.ids["eve's key"], 0)
				w.check(err)
			},
			map[string]string{"eve's key": "secret cluster group"}},
		{"access key rotated, with a grace",
			func(w *ending) { w.rotateKey("eve's key", short); w.pass(short - time.Second) },
			func(w *ending) { w.rotateKey("eve's key", short); w.pass(short) },
			map[string]string{"eve's key": "secret cluster group"}},
		{"application's secret rotated", nil,
			func(w *ending) { w.rotate("robot", 0) },
			map[string]string{"robot": "secret cluster"}},
		{"application's secret rotated, with a grace",
			func(w *ending) { w.rotate("robot", short); w.pass(short - time.Second) },
			func(w *ending) { w.rotate("robot", short); w.pass(short) },
			map[string]string{"robot": "secret cluster"}},
		{"application disabled", nil,
			func(w *ending) {
				_, err := w.first().dir.SetEnabled(t.Context(), us, "acme", w.ids["robot"], false)
				w.check(err)
			},
			map[string]string{"robot": machine}},
		{"application deleted", nil,
			func(w *ending) { w.check(w.first().dir.DeleteApplication(t.Context(), us, "acme", w.ids["robot"])) },
			map[string]string{"robot": machine}},
		{"connection disabled", nil, // access tokens of a sign-in live out their minutes
			func(w *ending) { w.enable(sso.OIDC, false) },
			map[string]string{"grace": "browser refresh", "grace's key": withKey}},
		{"connection deleted", nil,
			func(w *ending) { w.check(w.first().sso.Delete(t.Context(), us, "acme", "corp")) },
			map[string]string{"grace": "browser refresh", "grace's key": withKey}},
		{"the provider vouches no more", // which may be no more than its own session's end: her key lasts until its word is old
			func(w *ending) { w.clock.advance(time.Minute); w.idp.answer(nil) },
			func(w *ending) { w.clock.advance(time.Minute); w.idp.answer(sso.ErrRefused); w.use("grace") },
			map[string]string{"grace": signedIn}},
		{"linked to the provider", nil,
			func(w *ending) {
				_, _, err := w.first().dir.Link(t.Context(), us, "acme", w.mail("eve"), "some-connection", nil)
				w.check(err)
			},
			map[string]string{"eve": signedIn, "eve's key": withKey}},
		{"single sign-on enforced", nil, // what asks the tenant's settings; the rest lives out its minutes
			func(w *ending) { w.settings("acme", func(x *org.Tenant) { x.Settings.EnforceSSO = true }) },
			map[string]string{"eve": "browser refresh cluster group", "mia": "browser refresh cluster group", "eve's key": withKey, "mia's key": withKey}},
		{"tenant suspended", nil,
			func(w *ending) { w.check(w.first().org.Suspend(t.Context(), us, "acme")) },
			map[string]string{
				"eve": signedIn, "mia": signedIn, "grace": signedIn, "eve's key": withKey, "mia's key": withKey, "grace's key": withKey,
				"robot": machine, "spare": machine,
			}},
	} {
		t.Run(row.act, func(t *testing.T) {
			t.Parallel()
			w := newEnding(t)
			if row.before != nil {
				row.before(w)
			}
			if dead := w.dead(); len(dead) > 0 {
				t.Fatalf("just before, these do not work: %v", dead)
			}
			if row.before != nil { // looking is using: what ends by itself is looked at only once
				w = newEnding(t)
			}
			row.do(w)
			var want []string
			for who, what := range row.ends {
				for _, x := range strings.Fields(what) {
					want = append(want, who+": "+x)
				}
			}
			slices.Sort(want)
			dead := w.dead()
			for _, x := range want {
				if !slices.Contains(dead, x) {
					t.Errorf("%s: still works", x)
				}
			}
			for _, x := range dead {
				if !slices.Contains(want, x) {
					t.Errorf("%s: ended, and must not", x)
				}
			}
		})
	}
}

// ending is a world in which something ends.
type ending struct {
	*rig
	apis    http.Handler
	one     string                            // the cluster
	holds   map[string]map[string]func() bool // by whom, by what: does it work?
	newest  map[string]string                 // refresh tokens
	cookies map[string]string
	tokens  map[string]string // access tokens, as they were first given
	ids     map[string]core.ApplicationID
	secrets map[string]string
}

func newEnding(t *testing.T) *ending {
	t.Helper()
	w := &ending{
		rig: newRig(t, 1), holds: map[string]map[string]func() bool{}, newest: map[string]string{}, cookies: map[string]string{},
		tokens: map[string]string{}, ids: map[string]core.ApplicationID{}, secrets: map[string]string{},
	}
	w.settings("acme", func(x *org.Tenant) {
		x.Settings.IdleTimeout, x.Settings.AbsoluteLifetime, x.Settings.AccessTokenLife = idle, absolute, time.Hour
	})
	i := w.first()
	mux := http.NewServeMux()
	serve := func(patterns []string, h http.Handler) {
		for _, p := range patterns {
			mux.Handle(p, web.Edge{Function: "api", Log: slog.New(slog.DiscardHandler)}.Wrap(h))
		}
	}
	serve(adminapi.Paths, adminapi.Handler(adminapi.Deps{
		DB: i.counter, Ring: i.ring, Org: i.org, Directory: i.dir, Access: i.access, SSO: i.sso, Now: w.clock.Now, Base: w.base,
	}))
	serve(evaluate.Paths, evaluate.Handler(evaluate.Deps{Access: i.access, Ring: i.ring, Now: w.clock.Now, Base: w.base}))
	w.apis = mux
	w.one = string(w.cluster("acme", "one"))
	for _, name := range []string{"eve", "mia"} {
		w.user("acme", string(w.mail(name)))
		g, err := i.dir.CreateGroup(t.Context(), w.actor("acme"), "acme", name+"-team")
		w.check(err)
		_, err = i.dir.AddMember(t.Context(), w.actor("acme"), "acme", g.Name, w.mail(name))
		w.check(err)
	}
	w.may(core.GroupSubject("eve-team"), 0)
	w.may(core.GroupSubject("mia-team"), 0)
	w.may(core.GroupSubject("ops"), 0)
	w.connect(sso.OIDC)
	for _, name := range []string{"eve", "mia"} {
		w.person(name)
	}
	w.arrives()
	w.key("eve", 0)
	w.key("mia", 0)
	w.key("grace", 0)
	for _, name := range []string{"robot", "spare"} {
		id, secret := w.application("acme", name)
		w.may(core.ApplicationSubject(id), 0)
		w.program(name, core.ApplicationSubject(id), id, secret, "")
	}
	return w
}

func (w *ending) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *ending) mail(name string) core.Email {
	if name == "grace" {
		return grace
	}
	return core.Email(name + "@acme.example")
}

// group is the one that lets somebody view the cluster.
func (w *ending) group(name string) string {
	if name == "grace" {
		return "ops"
	}
	return name + "-team"
}

// may lets somebody view the cluster; for ever, or for a while.
func (w *ending) may(who core.Subject, life time.Duration) {
	w.t.Helper()
	n := access.NewRule{Subject: who, Role: policy.Viewer, Scope: core.ScopeID(w.one)}
	if life > 0 {
		n.ExpiresAt = w.clock.Now().Add(life)
	}
	_, err := w.first().access.Seed(w.t.Context(), "acme", n)
	w.check(err)
}

// lend lets a group view the cluster for a while, and no longer for ever.
func (w *ending) lend(group core.GroupName, life time.Duration) {
	w.t.Helper()
	_, err := w.first().access.DeleteAllOf(w.t.Context(), w.actor("acme"), core.GroupSubject(group))
	w.check(err)
	w.may(core.GroupSubject(group), life)
}

// person signs a local person in.
func (w *ending) person(name string) {
	w.t.Helper()
	c := w.client()
	_, back := w.signIn(c, "acme", string(w.mail(name)), password, request()).want(303).location()
	w.holdsSignIn(name, c, back.Get("code"))
}

// arrives signs grace in at the provider.
func (w *ending) arrives() {
	w.t.Helper()
	c, code := w.arrive(request())
	w.holdsSignIn("grace", c, code)
}

func (w *ending) holdsSignIn(name string, c *http.Client, code string) {
	w.t.Helper()
	got := w.redeem(code).want(200)
	home, err := url.Parse(w.base)
	w.check(err)
	for _, k := range c.Jar.Cookies(home) {
		if k.Name == "__Host-fleetpass-acme" {
			w.cookies[name] = k.Value
		}
	}
	w.newest[name], w.tokens[name] = got.str("refresh_token"), got.str("access_token")
	w.holds[name] = w.ofToken(core.UserSubject(w.mail(name)), w.tokens[name], w.group(name), "fleetpass-cli", "")
	w.holds[name]["browser"] = func() bool {
		a := w.get(c, "/t/acme/authorize?"+request(set("prompt", "none")).Encode())
		return a.status == 303 && strings.Contains(a.header.Get("Location"), "code=")
	}
	w.holds[name]["refresh"] = func() bool {
		a := w.post(w.client(), "/t/acme/token", refreshForm(w.newest[name]))
		if a.status == 200 {
			w.newest[name] = a.str("refresh_token")
		}
		return a.status == 200
	}
}

// key makes an access key of a person's.
func (w *ending) key(name string, life time.Duration) {
	w.t.Helper()
	rec, err := w.first().dir.User(w.t.Context(), "acme", w.mail(name))
	w.check(err)
	k, secret, err := w.first().dir.CreateAccessKey(w.t.Context(), w.actor("acme"), "acme", rec.Value, fmt.Sprintf("laptop-%d", len(w.ids)), life)
	w.check(err)
	w.program(name+"'s key", core.UserSubject(w.mail(name)), k.ID, secret, w.group(name))
}

// program holds a secret, and a token that it got for it.
func (w *ending) program(name string, who core.Subject, id core.ApplicationID, secret, group string) {
	w.t.Helper()
	ask := func() reply {
		return w.post(w.client(), "/t/acme/token", url.Values{"grant_type": {"client_credentials"}}, basic(id, secret))
	}
	w.ids[name], w.secrets[name], w.tokens[name] = id, secret, ask().want(200).str("access_token")
	w.holds[name] = w.ofToken(who, w.tokens[name], group, id, secret)
	w.holds[name]["secret"] = func() bool { return ask().status == 200 }
}

// ofToken is what an access token is good for, which a client has.
func (w *ending) ofToken(who core.Subject, raw, group string, id core.ApplicationID, secret string) map[string]func() bool {
	swap := func() (string, bool) {
		form := exchangeForm(raw, w.one)
		form.Set("client_id", string(id))
		if secret != "" {
			form.Set("client_secret", secret)
		}
		a := w.post(w.client(), "/t/acme/token", form)
		if a.status != 200 {
			return "", false
		}
		return a.str("access_token"), true
	}
	can := map[string]func() bool{
		"token": func() bool { return w.api("GET", "/t/acme/api/v1/me", raw, "").Code == 200 },
		"decision": func() bool {
			a := w.api("POST", "/t/acme/access/v1/evaluation", raw, fmt.Sprintf(
				`{"subject":{"type":%q,"id":%q},"action":{"name":"view"},"resource":{"type":"workloads","id":%q}}`, who.Kind, who.ID, w.one))
			return a.Code == 200 && strings.Contains(a.Body.String(), `"decision":true`)
		},
		"cluster": func() bool { _, ok := swap(); return ok },
	}
	if group != "" {
		can["group"] = func() bool {
			got, ok := swap()
			if !ok {
				return false
			}
			groups, _ := claims(w.t, got)["groups"].([]any)
			return slices.Contains(groups, any(group))
		}
	}
	return can
}

// dead is what does not work, as "WHO: WHAT". A refresh is tried last: it asks the provider, from which others learn.
func (w *ending) dead() (all []string) {
	w.t.Helper()
	for _, late := range []bool{false, true} {
		for _, who := range slices.Sorted(maps.Keys(w.holds)) {
			for _, what := range slices.Sorted(maps.Keys(w.holds[who])) {
				if (what == "refresh") == late && !w.holds[who][what]() {
					all = append(all, who+": "+what)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}

// use keeps sign-ins from being idle.
func (w *ending) use(names ...string) {
	for _, name := range names {
		w.holds[name]["browser"]()
		w.holds[name]["refresh"]()
	}
}

// pass lets time pass, while everybody uses what they have.
func (w *ending) pass(d time.Duration) {
	for d > 0 {
		step := min(d, idle/2)
		w.clock.advance(step)
		if d -= step; d > 0 {
			w.use("eve", "mia", "grace")
		}
	}
}

// leaves takes grace out of her group, at the provider.
func (w *ending) leaves() {
	w.idp.mu.Lock()
	defer w.idp.mu.Unlock()
	w.idp.left = true
}

func (w *ending) rotate(name string, grace time.Duration) {
	w.t.Helper()
	_, err := w.first().dir.RotateSecret(w.t.Context(), w.actor("acme"), "acme", w.ids[name], grace)
	w.check(err)
}

func (w *ending) rotateKey(name string, grace time.Duration) {
	w.t.Helper()
	_, _, err := w.first().dir.RotateAccessKey(w.t.Context(), w.actor("acme"), "acme", w.ids[name], grace)
	w.check(err)
}

// api calls an API of ours with an access token.
func (w *ending) api(method, path, token, body string) *httptest.ResponseRecorder {
	q := httptest.NewRequest(method, w.base+path, strings.NewReader(body))
	if body == "" {
		q.Body = http.NoBody
	}
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.apis.ServeHTTP(rec, q)
	return rec
}
