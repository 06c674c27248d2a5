package sso_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// oracle is a provider whose answers are what the test says: the flow around it is what is tested.
type oracle struct {
	mu     sync.Mutex
	said   sso.Assertion                            // what Finish returns
	finish func(a sso.Arrival, r *sso.Report) error // nil: the answer must be to a pending request
	ask    func() (sso.Assertion, error)
	asked  atomic.Int64
}

func (o *oracle) Load(_ context.Context, c *sso.Connection, _ []byte) error {
	if c.SAML != nil {
		c.SAML.IdP = sso.SAMLProvider{EntityID: "https://idp.example", Digest: "d"}
	}
	return nil
}

func (o *oracle) Start(_ context.Context, c sso.Connection, _ sso.Secrets, j sso.Journey) (sso.Departure, error) {
	return sso.Departure{URL: "https://idp.example/?state=" + j.State, Sent: "asked", Pending: sso.Pending{Request: "r-" + j.State}}, nil
}

func (o *oracle) Finish(_ context.Context, c sso.Connection, _ sso.Secrets, a sso.Arrival, r *sso.Report) (sso.Assertion, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r.Received = "answer"
	if o.finish != nil {
		if err := o.finish(a, r); err != nil {
			return sso.Assertion{ID: o.said.ID}, err
		}
	} else if a.Pending == nil {
		r.Fail(sso.CheckRequest, "nothing is pending", "", "start here")
		return sso.Assertion{ID: o.said.ID}, sso.ErrRefused
	}
	r.Pass(sso.CheckSignature, "good")
	return o.said, nil
}

func (o *oracle) Ask(context.Context, sso.Connection, sso.Secrets, sso.Kept, time.Time) (sso.Assertion, error) {
	o.asked.Add(1)
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ask()
}

func (o *oracle) Leave(sso.Connection, sso.Kept, string) string { return "https://idp.example/leave" }

func (o *oracle) says(id, email string, groups ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = sso.Assertion{ID: id, Until: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Attributes: map[string]any{"email": []any{email}, "GROUPS": groups, "UID": []any{"4321"}}}
}

// way is a system in which people can take the whole way of a sign-in, with the tenants acme and other.
type way struct {
	t        *testing.T
	db       *storetest.Counter
	dir      *directory.Service
	sessions *session.Service
	oauth    *oauth.Server
	sso      *sso.Service
	saml     *oracle
	oidc     *oracle
	ns       atomic.Int64
}

func newWay(t *testing.T) *way {
	t.Helper()
	w := &way{t: t, saml: &oracle{}, oidc: &oracle{}}
	w.ns.Store(time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC).UnixNano())
	now := func() time.Time { return time.Unix(0, w.ns.Load()).UTC() }
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	w.db = &storetest.Counter{DB: db}
	ring := keys.NewRing(w.db, wrapper, now)
	tenants := &org.Service{DB: w.db, Ring: ring, Now: now}
	w.dir = &directory.Service{DB: w.db, Ring: ring, Now: now, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}}
	acc := &access.Service{DB: w.db, Now: now}
	w.sessions = &session.Service{DB: w.db, Ring: ring, Now: now}
	w.oauth = &oauth.Server{DB: w.db, Ring: ring, Sessions: w.sessions, Directory: w.dir, Access: acc, Now: now, Base: "https://fleetpass.example"}
	w.sso = &sso.Service{
		DB: w.db, Ring: ring, Directory: w.dir, Sessions: w.sessions, Now: now, Log: slog.New(slog.DiscardHandler), Base: "https://fleetpass.example",
		Providers: map[sso.Kind]sso.Provider{sso.SAML: w.saml, sso.OIDC: w.oidc}, Administrators: acc.Administrators,
	}
	w.oauth.Upstream = w.sso
	for _, id := range []core.TenantID{"acme", "other"} {
		welcome, err := tenants.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), string(id), string(id))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.dir.RedeemWelcome(t.Context(), core.Actor{Tenant: id}, welcome, "root@"+string(id)+".example", "correct horse battery", acc.FirstAdministrator); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *way) advance(d time.Duration) { w.ns.Add(int64(d)) }

// connect connects a tenant to a provider.
func (w *way) connect(t core.TenantID, a sso.Alias, k sso.Kind, domains ...string) sso.Connection {
	w.t.Helper()
	n := sso.New{Alias: a, Name: string(a), Kind: k, Domains: domains}
	switch k {
	case sso.SAML:
		n.SAML = &sso.NewSAML{MetadataURL: "https://idp.example/metadata.xml"}
	case sso.OIDC:
		n.OIDC = &sso.NewOIDC{DiscoveryURL: "https://idp.example", ClientID: "fleetpass", ClientSecret: "secret"}
	}
	c, err := w.sso.Create(w.t.Context(), core.SystemActor(t), t, n)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func at(t core.TenantID) core.Actor {
	return core.Actor{Tenant: t, Address: "192.0.2.7", Request: "req"}
}

// begin goes to the provider and returns the state that it was given, and the cookie of the browser.
func (w *way) begin(t core.TenantID, a sso.Alias) (state, cookie string) {
	w.t.Helper()
	handle, cookie, err := w.sessions.StartLogin(w.t.Context(), at(t), "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	login, err := w.sessions.Login(w.t.Context(), t, handle, cookie)
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := w.sso.Start(w.t.Context(), at(t), a, login, cookie, false, "")
	if err != nil {
		w.t.Fatal(err)
	}
	_, state, _ = strings.Cut(d.URL, "state=")
	return state, cookie
}

var everyKind = []sso.Kind{sso.SAML, sso.OIDC}

func (w *way) receive(t core.TenantID, a sso.Alias, state string) (string, error) {
	return w.sso.Receive(w.t.Context(), at(t), a, everyKind, state, map[string]string{"RelayState": state})
}

// arrive ends a sign-in as functions/login does.
func (w *way) arrive(t core.TenantID, handle, cookie string) (done oauth.Finished, a sso.Arrived, err error) {
	err = store.Retry(w.t.Context(), func() error {
		if a, err = w.sso.Arrive(w.t.Context(), at(t), handle, cookie); err != nil || a.Test != nil {
			return err
		}
		done, err = w.oauth.Finish(w.t.Context(), at(t), a.Login, a.Proof, a.Ops...)
		return err
	})
	return done, a, err
}

// signIn takes the whole way.
func (w *way) signIn(t core.TenantID, a sso.Alias) (session.Current, error) {
	w.t.Helper()
	state, cookie := w.begin(t, a)
	handle, err := w.receive(t, a, state)
	if err != nil {
		return session.Current{}, err
	}
	done, _, err := w.arrive(t, handle, cookie)
	if err != nil {
		return session.Current{}, err
	}
	c, err := w.sessions.Check(w.t.Context(), t, done.Cookie)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, nil
}

func (w *way) trace(t core.TenantID, err error) sso.Trace {
	w.t.Helper()
	var refused *sso.RefusedError
	if !errors.As(err, &refused) || refused.Trace == "" {
		w.t.Fatalf("%v is no refusal with a trace", err)
	}
	tr, err := w.sso.Trace(w.t.Context(), t, refused.Trace)
	if err != nil {
		w.t.Fatal(err)
	}
	return tr
}

// refused checks that a sign-in was refused for the reason, and left nothing but a trace and a record.
func (w *way) refused(t core.TenantID, err error, want sso.CheckName) {
	w.t.Helper()
	tr := w.trace(t, err)
	r := sso.Report{Checks: tr.Checks}
	if cause, failed := r.Failure(); !failed || cause.Name != want || tr.Outcome != sso.Refused || cause.Fix == "" {
		w.t.Errorf("refused by %+v, outcome %s, want by %s", cause, tr.Outcome, want)
	}
}

func (w *way) users(t core.TenantID) (names []core.Email) {
	w.t.Helper()
	for rec, err := range w.dir.Users(w.t.Context(), t) {
		if err != nil {
			w.t.Fatal(err)
		}
		names = append(names, rec.Value.Email)
	}
	return names
}

func (w *way) sessionsOf(t core.TenantID) (n int) {
	w.t.Helper()
	for _, err := range w.db.List(w.t.Context(), sessionsRange(t)) {
		if err != nil {
			w.t.Fatal(err)
		}
		n++
	}
	return n
}

func sessionsRange(t core.TenantID) store.Range {
	for _, r := range store.PartitionsOf(t) {
		if strings.HasPrefix(r.Leading(), "session#") {
			return r
		}
	}
	panic("there are no sessions")
}

// The first sign-in creates the person, later ones follow what the provider says, and the trace tells of each.
func TestSignInFollowsTheProvider(t *testing.T) {
	w := newWay(t)
	c := w.connect("acme", "corp", sso.SAML, "corp.example")
	w.saml.says("a1", "Grace@corp.example", "research", "ops")
	got, err := w.signIn("acme", "corp")
	if err != nil {
		t.Fatal(err)
	}
	p := got.Person
	if p.Email != "grace@corp.example" || p.Local || p.Connection != c.ID || fmt.Sprint(p.IDPGroups) != "[ops research]" || p.UID == nil || *p.UID != 4321 || got.Upstream.Connection != c.ID {
		t.Errorf("signed in as %+v", p)
	}
	w.saml.says("a2", "grace@corp.example", "ops")
	got, err = w.signIn("acme", "corp")
	if err != nil {
		t.Fatal(err)
	}
	if got.Person.ID != p.ID || fmt.Sprint(got.Person.IDPGroups) != "[ops]" {
		t.Errorf("the second time: %+v", got.Person)
	}
	all, _, err := w.sso.Traces(t.Context(), "acme", 10, "")
	if err != nil || len(all) != 2 {
		t.Fatalf("%d traces, %v", len(all), err)
	}
	for _, tr := range all {
		if tr.Outcome != sso.SignedIn || tr.Sent != "asked" || tr.Received != "answer" || tr.Identity == nil || tr.Identity.Email != "grace@corp.example" {
			t.Errorf("trace %+v", tr)
		}
	}
}

// One response, posted 500 times at once to several instances, is one session (SAML-119): each instance has its own services
// over the one store.
func TestOneResponseIsOneSession(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.saml.says("a1", "grace@corp.example")
	state, cookie := w.begin("acme", "corp")
	var signedIn atomic.Int64
	var all sync.WaitGroup
	for i := range 500 {
		all.Go(func() {
			instance := *w.sso // what an instance has of its own
			actor := at("acme")
			actor.Address = fmt.Sprintf("198.51.100.%d", i%10)
			handle, err := instance.Receive(t.Context(), actor, "corp", everyKind, state, nil)
			if err != nil {
				return
			}
			if _, _, err := w.arrive("acme", handle, cookie); err == nil {
				signedIn.Add(1)
			}
		})
	}
	all.Wait()
	if n, m := signedIn.Load(), w.sessionsOf("acme"); n != 1 || m != 1 {
		t.Errorf("%d sign-ins, %d sessions, want one", n, m)
	}
	// The same again for one that the provider began, where no flow is there to be used up, only the assertion.
	w.saml.finish = func(a sso.Arrival, _ *sso.Report) error { return nil }
	w.saml.says("a2", "grace@corp.example")
	var parked atomic.Int64
	for range 500 {
		all.Go(func() {
			if _, err := w.sso.Receive(t.Context(), at("acme"), "corp", everyKind, "", nil); err == nil {
				parked.Add(1)
			}
		})
	}
	all.Wait()
	if parked.Load() != 1 {
		t.Errorf("%d of 500 unasked posts were taken, want one", parked.Load())
	}
}

// What a browser brings must be its own: of this tenant, this connection, this browser, this time, and not yet answered
// (SAML-123, SAML-125, RP-001, RP-003, RP-011).
func TestAnswersBelongToTheirSignIn(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.connect("acme", "second", sso.OIDC, "second.example")
	w.connect("other", "corp", sso.SAML, "corp.example")
	n := 0
	fresh := func() {
		n++
		w.saml.says(fmt.Sprint("a", n), "grace@corp.example")
		w.oidc.says("", "linus@second.example")
	}
	for name, attempt := range map[string]func() error{
		"another tenant": func() error {
			state, _ := w.begin("acme", "corp")
			_, err := w.receive("other", "corp", state)
			return err
		},
		"another connection": func() error {
			state, _ := w.begin("acme", "corp")
			_, err := w.receive("acme", "second", state)
			return err
		},
		"no state":      func() error { _, err := w.receive("acme", "corp", ""); return err },
		"made-up state": func() error { _, err := w.receive("acme", "corp", core.NewSecret()); return err },
		"too late": func() error {
			state, _ := w.begin("acme", "corp")
			w.advance(session.LoginLife)
			_, err := w.receive("acme", "corp", state)
			return err
		},
		"answered": func() error {
			state, _ := w.begin("acme", "corp")
			if _, err := w.receive("acme", "corp", state); err != nil {
				return nil
			}
			fresh()
			_, err := w.receive("acme", "corp", state)
			return err
		},
		"another browser": func() error {
			state, _ := w.begin("acme", "corp")
			handle, err := w.receive("acme", "corp", state)
			if err != nil {
				return nil
			}
			_, _, err = w.arrive("acme", handle, core.NewSecret())
			return err
		},
		"no browser": func() error {
			state, _ := w.begin("acme", "corp")
			handle, _ := w.receive("acme", "corp", state)
			_, _, err := w.arrive("acme", handle, "")
			return err
		},
		"the state in place of the answer": func() error {
			state, cookie := w.begin("acme", "corp")
			_, _, err := w.arrive("acme", state, cookie)
			return err
		},
		"came back twice": func() error {
			state, cookie := w.begin("acme", "corp")
			handle, err := w.receive("acme", "corp", state)
			if err != nil {
				return nil
			}
			if _, _, err := w.arrive("acme", handle, cookie); err != nil {
				return nil
			}
			_, _, err = w.arrive("acme", handle, cookie)
			return err
		},
		"came to the end too late": func() error {
			state, cookie := w.begin("acme", "corp")
			handle, _ := w.receive("acme", "corp", state)
			w.advance(3 * time.Minute)
			_, _, err := w.arrive("acme", handle, cookie)
			return err
		},
	} {
		fresh()
		if _, err := w.signIn("acme", "corp"); err != nil {
			t.Fatalf("%s: the twin: %v", name, err)
		}
		fresh()
		before := w.sessionsOf("acme") + w.sessionsOf("other")
		err := attempt()
		after := w.sessionsOf("acme") + w.sessionsOf("other")
		if name == "came back twice" {
			before++
		}
		if err == nil || !errors.Is(err, core.Unauthenticated) && !errors.Is(err, core.NotFound) || after > before {
			t.Errorf("%s: %v, %d sessions before and %d after", name, err, before, after)
		}
	}
}

// A connection signs in its own people, of its own domains, and takes over nobody (SAML-131, RP-009).
func TestConnectionsOwnTheirPeople(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example", "shared.example")
	w.connect("acme", "partner", sso.OIDC, "partner.example")
	local := func(e string) {
		if _, _, err := w.dir.CreateUser(t.Context(), core.SystemActor("acme"), "acme", directory.NewUser{Email: e}); err != nil {
			t.Fatal(err)
		}
	}
	local("ada@corp.example")
	w.saml.says("a0", "grace@corp.example")
	if _, err := w.signIn("acme", "corp"); err != nil {
		t.Fatal(err) // the twin
	}
	before := w.users("acme")
	for i, c := range []struct {
		alias sso.Alias
		email string
		want  sso.CheckName
	}{
		{"corp", "linus@partner.example", sso.CheckDomain},
		{"corp", "eve@elsewhere.example", sso.CheckDomain},
		{"corp", "eve@sub.corp.example", sso.CheckDomain},
		{"corp", "root@acme.example", sso.CheckDomain},
		{"partner", "grace@corp.example", sso.CheckDomain},
		{"corp", "ada@corp.example", sso.CheckAccount},
		{"corp", "system:masters@corp.example", sso.CheckEmail},
		{"corp", "", sso.CheckEmail},
	} {
		w.saml.says(fmt.Sprint("b", i), c.email)
		w.oidc.says("", c.email)
		_, err := w.signIn("acme", c.alias)
		if err == nil {
			t.Errorf("%s asserted %q", c.alias, c.email)
			continue
		}
		w.refused("acme", err, c.want)
	}
	if after := w.users("acme"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("people %v, before %v", after, before)
	}
	// A person whose domain moved to another connection stays the first one's until an administrator links them.
	if _, err := w.dir.Disable(t.Context(), core.SystemActor("acme"), "acme", "grace@corp.example"); err != nil {
		t.Fatal(err)
	}
	w.saml.says("c0", "grace@corp.example")
	_, err := w.signIn("acme", "corp")
	w.refused("acme", err, sso.CheckAccount)
}

// An assertion that comes again is named a replay, whatever else is wrong with it by then.
func TestReplayIsNamed(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.saml.says("a1", "grace@corp.example")
	if _, err := w.signIn("acme", "corp"); err != nil {
		t.Fatal(err)
	}
	state, _ := w.begin("acme", "corp")
	_, err := w.receive("acme", "corp", state)
	if err == nil {
		t.Fatal("an assertion was taken twice")
	}
	// With a fault of its own beside: the request it answers is another.
	w.saml.finish = func(_ sso.Arrival, r *sso.Report) error {
		r.Fail(sso.CheckRequest, "another", "", "fix")
		return sso.ErrRefused
	}
	state, _ = w.begin("acme", "corp")
	_, err = w.receive("acme", "corp", state)
	w.refused("acme", err, sso.CheckReplay)
}

// Where the store does not answer, nobody is signed in and nothing is used up (SAML-121).
func TestStoreAwayFailsClosed(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.saml.says("a1", "grace@corp.example")
	state, cookie := w.begin("acme", "corp")
	db := w.sso.DB
	w.sso.DB = &storetest.Faulty{DB: db, Plan: func(c storetest.Call) storetest.Fault {
		if c.Method == "Commit" {
			return storetest.Refuse
		}
		return storetest.NoFault
	}}
	if _, err := w.receive("acme", "corp", state); !errors.Is(err, core.Unavailable) {
		t.Fatalf("without a store: %v", err)
	}
	w.sso.DB = db
	handle, err := w.receive("acme", "corp", state)
	if err != nil {
		t.Fatalf("once it is back: %v", err)
	}
	if _, _, err := w.arrive("acme", handle, cookie); err != nil {
		t.Error(err)
	}
}

// Answers that nobody asked for leave traces and records only up to a bound, for one place; nobody elsewhere is held up.
func TestStrayAnswersAreBounded(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.saml.says("x", "grace@corp.example")
	for i := range 200 {
		want := error(sso.ErrRefused)
		if i >= 50 {
			want = core.Throttled
		}
		if _, err := w.receive("acme", "corp", ""); !errors.Is(err, want) {
			t.Fatalf("stray answer %d: %v, want %v", i, err, want)
		}
	}
	all, _, err := w.sso.Traces(t.Context(), "acme", 500, "")
	if err != nil || len(all) != 50 {
		t.Errorf("%d traces of 200 strays, %v", len(all), err)
	}
	if _, err := w.signIn("acme", "corp"); err != nil {
		t.Errorf("a sign-in from the same place: %v", err)
	}
}

// A test goes all the way, shows who it would be, and changes nothing.
func TestATestChangesNothing(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.saml.says("a1", "grace@corp.example", "research")
	link, err := w.sso.StartTest(t.Context(), core.SystemActor("acme"), "acme", "corp")
	if err != nil {
		t.Fatal(err)
	}
	_, handle, _ := strings.Cut(link.URL, "test=")
	cookie := core.NewSecret()
	d, err := w.sso.VisitTest(t.Context(), at("acme"), handle, cookie)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.sso.VisitTest(t.Context(), at("acme"), handle, cookie); !errors.Is(err, core.NotFound) {
		t.Errorf("the link once more: %v", err)
	}
	_, state, _ := strings.Cut(d.URL, "state=")
	answer, err := w.receive("acme", "corp", state)
	if err != nil {
		t.Fatal(err)
	}
	users, sessions := w.users("acme"), w.sessionsOf("acme")
	_, a, err := w.arrive("acme", answer, cookie)
	if err != nil || a.Test == nil || a.Test.Outcome != sso.Tested || a.Test.Identity == nil || len(a.Test.Identity.Groups) != 1 {
		t.Fatalf("%+v, %v", a.Test, err)
	}
	if fmt.Sprint(w.users("acme")) != fmt.Sprint(users) || w.sessionsOf("acme") != sessions {
		t.Error("a test changed who there is, or signed somebody in")
	}
	tr, err := w.sso.Trace(t.Context(), "acme", link.Trace)
	if err != nil || tr.Outcome != sso.Tested || !tr.Test {
		t.Errorf("trace %+v, %v", tr, err)
	}
	rec, err := w.sso.Connection(t.Context(), "acme", "corp")
	if err != nil || rec.Value.ProvenAt.IsZero() {
		t.Errorf("the connection is not known to work: %v", err)
	}
	if _, err := w.sso.Trace(t.Context(), "other", link.Trace); !errors.Is(err, core.NotFound) {
		t.Errorf("another tenant's trace: %v", err)
	}
}

// At each refresh the provider is asked again: groups follow it, whom it refuses is out, and where it does not answer the
// refresh token stays good.
func TestGroupsFollowEveryRefresh(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "partner", sso.OIDC, "partner.example")
	w.oidc.says("", "linus@partner.example", "a", "b")
	w.oidc.said.Kept = sso.Kept{Refresh: "r1"}
	c, err := w.signIn("acme", "partner")
	if err != nil {
		t.Fatal(err)
	}
	if c.Kept == "" {
		t.Fatal("nothing was kept to ask again with")
	}
	again := func() (directory.User, error) {
		w.advance(time.Minute)
		return w.sso.Again(t.Context(), at("acme"), c.Upstream, c.Person)
	}
	w.oidc.ask = func() (sso.Assertion, error) {
		return sso.Assertion{Attributes: map[string]any{"email": "linus@partner.example", "GROUPS": []any{"a"}}, Kept: sso.Kept{Refresh: "r2"}}, nil
	}
	u, err := again()
	if err != nil || fmt.Sprint(u.IDPGroups) != "[a]" {
		t.Fatalf("%v, %v", u.IDPGroups, err)
	}
	w.advance(20 * time.Second) // the keys are warm
	before := w.db.Counts().RoundTrips()
	if _, err := w.sso.Again(t.Context(), at("acme"), c.Upstream, c.Person); err != nil {
		t.Fatal(err)
	}
	if n := w.db.Counts().RoundTrips() - before; n != 4 {
		t.Errorf("asking again took %d round trips, want 4", n)
	}
	// Many programs refresh at once: the provider is asked once.
	w.oidc.asked.Store(0)
	w.advance(time.Minute)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if u, err := w.sso.Again(t.Context(), at("acme"), c.Upstream, c.Person); err != nil || len(u.IDPGroups) != 1 {
				t.Errorf("%v, %v", u.IDPGroups, err)
			}
		})
	}
	all.Wait()
	if n := w.oidc.asked.Load(); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
	// A partial answer leaves what it does not name as it was. It is old news, which keeps no access key alive.
	first := u.LastLogin
	if u, err = again(); err != nil || !u.LastLogin.After(first) {
		t.Errorf("a full answer does not count as the provider's word: %v, %v", u.LastLogin, err)
	}
	full := u.LastLogin
	w.oidc.ask = func() (sso.Assertion, error) {
		return sso.Assertion{Partial: true, Attributes: map[string]any{}, Kept: sso.Kept{Refresh: "r3"}}, nil
	}
	if u, err = again(); err != nil || fmt.Sprint(u.IDPGroups) != "[a]" {
		t.Errorf("a partial answer: %v, %v", u.IDPGroups, err)
	}
	if !u.LastLogin.Equal(full) {
		t.Errorf("a partial answer: last login %v, the last full word was at %v", u.LastLogin, full)
	}
	w.oidc.ask = func() (sso.Assertion, error) { return sso.Assertion{}, core.Unavailable }
	if _, err := again(); !errors.Is(err, core.Unavailable) {
		t.Errorf("a provider that is away: %v", err)
	}
	w.oidc.ask = func() (sso.Assertion, error) { return sso.Assertion{}, sso.ErrRefused }
	if _, err := again(); !errors.Is(err, core.Unauthenticated) {
		t.Errorf("a provider that refuses: %v", err)
	}
	w.oidc.ask = func() (sso.Assertion, error) { return sso.Assertion{}, nil }
	if _, err := again(); !errors.Is(err, core.Unauthenticated) {
		t.Errorf("once refused, always: %v", err)
	}
}

// The round trips of a sign-in are few and counted.
func TestRoundTripsOfASignIn(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.saml.says("a0", "grace@corp.example")
	if _, err := w.signIn("acme", "corp"); err != nil { // warm keys
		t.Fatal(err)
	}
	w.saml.says("a1", "grace@corp.example")
	handle, cookie, err := w.sessions.StartLogin(t.Context(), at("acme"), "", "")
	if err != nil {
		t.Fatal(err)
	}
	login, err := w.sessions.Login(t.Context(), "acme", handle, cookie)
	if err != nil {
		t.Fatal(err)
	}
	count := func(what string, want int, do func() error) {
		t.Helper()
		before := w.db.Counts().RoundTrips()
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := w.db.Counts().RoundTrips() - before; got != want {
			t.Errorf("%s: %d round trips, want %d", what, got, want)
		}
	}
	var state, answer string
	count("start", 2, func() error {
		d, err := w.sso.Start(t.Context(), at("acme"), "corp", login, cookie, false, "")
		_, state, _ = strings.Cut(d.URL, "state=")
		return err
	})
	count("receive", 2, func() (err error) { answer, err = w.receive("acme", "corp", state); return err })
	var a sso.Arrived
	count("arrive", 2, func() (err error) { a, err = w.sso.Arrive(t.Context(), at("acme"), answer, cookie); return err })
	count("finish", 2, func() error {
		_, err := w.oauth.Finish(t.Context(), at("acme"), a.Login, a.Proof, a.Ops...)
		return err
	})
}

// What may stand between the answer and the end of a sign-in ends it: it was judged by settings that hold no more. Nor does it
// prove the ones that hold now.
func TestSettingsChangeUnderway(t *testing.T) {
	for name, change := range map[string]func(*way) error{
		"nothing": func(*way) error { return nil },
		"mapping": func(w *way) error {
			_, err := w.sso.SetMappers(t.Context(), core.SystemActor("acme"), "acme", "corp", sso.Mappers{Email: "mail"})
			return err
		},
		"domains": func(w *way) error {
			_, err := w.sso.Update(t.Context(), core.SystemActor("acme"), "acme", "corp", sso.New{Domains: []string{"other.example"}})
			return err
		},
		"disabled": func(w *way) error {
			off := false
			_, err := w.sso.Update(t.Context(), core.SystemActor("acme"), "acme", "corp", sso.New{Enabled: &off})
			return err
		},
		"deleted": func(w *way) error { return w.sso.Delete(t.Context(), core.SystemActor("acme"), "acme", "corp") },
	} {
		w := newWay(t)
		w.connect("acme", "corp", sso.SAML, "corp.example")
		w.saml.says("a1", "grace@corp.example")
		state, cookie := w.begin("acme", "corp")
		handle, err := w.receive("acme", "corp", state)
		if err != nil {
			t.Fatal(err)
		}
		w.advance(time.Second)
		if err := change(w); err != nil {
			t.Fatal(err)
		}
		_, _, err = w.arrive("acme", handle, cookie)
		if name == "nothing" {
			if err != nil {
				t.Errorf("the twin: %v", err)
			}
			continue
		}
		if !errors.Is(err, core.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if rec, err := w.sso.Connection(t.Context(), "acme", "corp"); err == nil && !rec.Value.ProvenAt.IsZero() {
			t.Errorf("%s: what nobody tried counts as proven", name)
		}
	}
}

// A provider that does not answer leaves its reason in the trace, and the same answer can come again.
func TestUnansweredIsTraced(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "partner", sso.OIDC, "partner.example")
	w.oidc.says("", "linus@partner.example")
	w.oidc.finish = func(_ sso.Arrival, r *sso.Report) error {
		r.Fail(sso.CheckAnswer, "no answer from the token endpoint", "", "See that it can be reached.")
		return core.Unavailable
	}
	state, cookie := w.begin("acme", "partner")
	if _, err := w.receive("acme", "partner", state); !errors.Is(err, core.Unavailable) {
		t.Fatalf("%v", err)
	}
	all, _, err := w.sso.Traces(t.Context(), "acme", 1, "")
	if err != nil || len(all) != 1 || len(all[0].Checks) != 1 || all[0].Checks[0].Fix == "" {
		t.Fatalf("%+v, %v", all, err)
	}
	w.oidc.finish = nil
	handle, err := w.receive("acme", "partner", state)
	if err != nil {
		t.Fatalf("once it answers: %v", err)
	}
	if _, _, err := w.arrive("acme", handle, cookie); err != nil {
		t.Error(err)
	}
}

// A commit whose answer was lost parks all the same, and a reload is no attack.
func TestLostAnswerParks(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.saml.says("a1", "grace@corp.example")
	state, cookie := w.begin("acme", "corp")
	db := w.sso.DB
	w.sso.DB = &storetest.Faulty{DB: db, Plan: func(c storetest.Call) storetest.Fault {
		if c.Method == "Commit" {
			return storetest.LoseAnswer
		}
		return storetest.NoFault
	}}
	handle, err := w.receive("acme", "corp", state)
	if err != nil {
		t.Fatalf("the answer of the commit was lost: %v", err)
	}
	w.sso.DB = db
	if _, _, err := w.arrive("acme", handle, cookie); err != nil {
		t.Error(err)
	}
}

// A disabled connection is tested by its own test alone: the handle of another's opens nothing.
func TestDisabledConnections(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.connect("acme", "old", sso.SAML, "old.example")
	off := false
	if _, err := w.sso.Update(t.Context(), core.SystemActor("acme"), "acme", "old", sso.New{Enabled: &off}); err != nil {
		t.Fatal(err)
	}
	w.saml.finish = func(sso.Arrival, *sso.Report) error { return nil }
	w.saml.says("a1", "grace@old.example")
	visit := func(a sso.Alias) string {
		link, err := w.sso.StartTest(t.Context(), core.SystemActor("acme"), "acme", a)
		if err != nil {
			t.Fatal(err)
		}
		_, handle, _ := strings.Cut(link.URL, "test=")
		d, err := w.sso.VisitTest(t.Context(), at("acme"), handle, core.NewSecret())
		if err != nil {
			t.Fatal(err)
		}
		_, state, _ := strings.Cut(d.URL, "state=")
		return state
	}
	if _, err := w.receive("acme", "old", visit("corp")); !errors.Is(err, core.NotFound) {
		t.Errorf("with another's test: %v", err)
	}
	if _, err := w.receive("acme", "old", visit("old")); err != nil {
		t.Errorf("the twin: %v", err)
	}
}

// What a person can be asked about is asked of the provider that they signed in at, and what it says of domains that the
// connection lost, or in a way that cannot be read, changes nothing.
func TestAskingAgainKeepsToTheProvider(t *testing.T) {
	sign := func(t *testing.T) (*way, session.Current, func() error) {
		w := newWay(t)
		w.connect("acme", "partner", sso.OIDC, "partner.example")
		w.oidc.says("", "linus@partner.example", "a")
		w.oidc.said.Kept = sso.Kept{Refresh: "r1"}
		c, err := w.signIn("acme", "partner")
		if err != nil {
			t.Fatal(err)
		}
		w.oidc.ask = func() (sso.Assertion, error) {
			return sso.Assertion{Attributes: map[string]any{"email": "linus@partner.example", "GROUPS": []any{"admins"}}, Kept: sso.Kept{Refresh: "r2"}}, nil
		}
		return w, c, func() error {
			w.advance(time.Minute)
			_, err := w.sso.Again(t.Context(), at("acme"), c.Upstream, c.Person)
			return err
		}
	}
	update := func(w *way, n sso.New) {
		t.Helper()
		if _, err := w.sso.Update(t.Context(), core.SystemActor("acme"), "acme", "partner", n); err != nil {
			t.Fatal(err)
		}
	}
	w, _, again := sign(t)
	if err := again(); err != nil {
		t.Fatalf("the twin: %v", err)
	}
	update(w, sso.New{OIDC: &sso.NewOIDC{DiscoveryURL: "https://idp.example", ClientID: "another", ClientSecret: "s"}})
	w.oidc.asked.Store(0)
	if err := again(); !errors.Is(err, core.Unauthenticated) || w.oidc.asked.Load() != 0 {
		t.Errorf("as another client: %v, asked %d times", err, w.oidc.asked.Load())
	}

	w, c, again := sign(t)
	update(w, sso.New{Domains: []string{"elsewhere.example"}})
	if err := again(); !errors.Is(err, core.Unauthenticated) {
		t.Errorf("without the domain: %v", err)
	}
	if u, err := w.dir.User(t.Context(), "acme", "linus@partner.example"); err != nil || fmt.Sprint(u.Value.IDPGroups) != "[a]" {
		t.Errorf("groups %v, %v", u.Value.IDPGroups, err)
	}

	w, c, again = sign(t)
	if _, err := w.sso.SetMappers(t.Context(), core.SystemActor("acme"), "acme", "partner", sso.Mappers{Email: "upn"}); err != nil {
		t.Fatal(err)
	}
	if err := again(); !errors.Is(err, core.Unavailable) {
		t.Errorf("with a wrong mapping: %v", err)
	}
	if _, err := w.sso.SetMappers(t.Context(), core.SystemActor("acme"), "acme", "partner", sso.Mappers{Email: "email"}); err != nil {
		t.Fatal(err)
	}
	if err := again(); err != nil {
		t.Errorf("once it is mended: %v", err)
	}

	// Who hangs up while the provider is asked loses nothing: what it gave is noted.
	w, c, _ = sign(t)
	ctx, hangUp := context.WithCancel(t.Context())
	answer := w.oidc.ask
	w.oidc.ask = func() (sso.Assertion, error) { hangUp(); return answer() }
	w.advance(time.Minute)
	if _, err := w.sso.Again(ctx, at("acme"), c.Upstream, c.Person); err != nil {
		t.Errorf("hung up: %v", err)
	}
	if u, err := w.dir.User(t.Context(), "acme", "linus@partner.example"); err != nil || fmt.Sprint(u.Value.IDPGroups) != "[admins]" {
		t.Errorf("groups %v, %v", u.Value.IDPGroups, err)
	}
}

// More groups than an item of the store holds are refused by name, and leave a trace.
func TestTooManyGroupsAreTraced(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	many := func(n, long int) (groups []any) {
		for i := range n {
			groups = append(groups, fmt.Sprintf("%0*d", long, i))
		}
		return groups
	}
	w.saml.says("a1", "grace@corp.example", many(500, 40)...)
	if _, err := w.signIn("acme", "corp"); err != nil {
		t.Fatalf("500 groups: %v", err)
	}
	w.saml.says("a2", "grace@corp.example", many(348, 90)...)
	_, err := w.signIn("acme", "corp")
	w.refused("acme", err, sso.CheckGroups)
}

// Whatever a provider's adapter writes into a report, the trace can be stored and read in a terminal.
func TestHostileReports(t *testing.T) {
	w := newWay(t)
	w.connect("acme", "corp", sso.SAML, "corp.example")
	w.saml.finish = func(_ sso.Arrival, r *sso.Report) error {
		r.Received = strings.Repeat("\x1b\xff\"", 20<<10)
		for _, name := range sso.Checks {
			r.Fail(name, strings.Repeat("\x1b[2J\xff", 500), strings.Repeat("\x00", 500), strings.Repeat("\"", 500))
		}
		return sso.ErrRefused
	}
	state, _ := w.begin("acme", "corp")
	_, err := w.receive("acme", "corp", state)
	tr := w.trace("acme", err)
	for _, c := range tr.Checks {
		if strings.ContainsAny(c.Found+c.Expected+c.Fix, "\x1b\x00") {
			t.Fatalf("%+v", c)
		}
	}
}
