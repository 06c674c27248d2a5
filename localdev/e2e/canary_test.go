package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

func newLocal(p stack.Person) directory.NewUser {
	return directory.NewUser{Email: p.Email, Password: p.Password}
}

// secrets remembers everything secret that goes over the wire, either way, by watching it: a new field or endpoint that
// carries one under a usual name is watched without being named here.
type secrets struct {
	next http.RoundTripper
	mu   sync.Mutex
	seen map[string]string // secret -> where it was
}

// secretNames are parameters, members and fields that hold secrets, and secretHeaders the headers that do.
var (
	secretNames = map[string]bool{
		"password": true, "new": true, "repeat": true, "code": true, "code_verifier": true, "client_secret": true, "refresh_token": true, "access_token": true, "id_token": true,
		"id_token_hint": true, "subject_token": true, "token": true, "login": true, "welcome": true, "currentPassword": true, "newPassword": true, "clientSecret": true, "secret": true,
		"tempPassword": true, "welcomeLink": true, "accessToken": true, "refreshToken": true, "idToken": true,
	}
	welcomeToken = regexp.MustCompile(`welcome\?token=([A-Za-z0-9_-]+)`)
)

func (s *secrets) add(where string, values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		if m := welcomeToken.FindStringSubmatch(v); m != nil {
			v = m[1]
		}
		if len(v) >= 10 {
			s.seen[v] = where
		}
	}
}

func (s *secrets) values(where string, q url.Values) {
	for name, v := range q {
		if secretNames[name] {
			s.add(where+" "+name, v...)
		}
	}
}

func (s *secrets) object(where string, data []byte) {
	var v map[string]any
	if json.Unmarshal(data, &v) != nil {
		return
	}
	for name, value := range v {
		if text, ok := value.(string); ok && secretNames[name] {
			s.add(where+" "+name, text)
		}
	}
}

func (s *secrets) RoundTrip(r *http.Request) (*http.Response, error) {
	where := r.Method + " " + r.URL.Path
	s.values(where, r.URL.Query())
	if scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
		s.add(where+" Authorization", value)
		if raw, err := base64.StdEncoding.DecodeString(value); scheme == "Basic" && err == nil {
			_, secret, _ := strings.Cut(string(raw), ":")
			s.add(where+" Authorization", secret)
		}
	}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if form, err := url.ParseQuery(string(body)); err == nil {
			s.values(where, form)
		}
		s.object(where, body)
	}
	res, err := s.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	for _, c := range res.Cookies() {
		s.add(where+" cookie "+c.Name, c.Value)
	}
	if to, err := res.Location(); err == nil {
		s.values(where+" Location", to.Query())
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	s.object(where, body)
	if res.StatusCode >= 400 { // an error must not repeat what it refuses; a form that is shown again keeps its hidden fields
		s.mu.Lock()
		for secret, from := range s.seen {
			if bytes.Contains(body, []byte(secret)) && !strings.Contains(res.Header.Get("Content-Type"), "html") {
				s.seen[secret] = from + ", and told again in an error of " + where
			}
		}
		s.mu.Unlock()
	}
	return res, nil
}

// buffer is a log that several goroutines write.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// Nothing secret that a whole story sends or is given is in the log at its most talkative, in an error, or anywhere in the
// store's file, which holds every record, event and audit record, and what was overwritten too (WEB-029, SYN-031).
func TestNoSecretIsKeptOrTold(t *testing.T) {
	var log buffer
	dir := filepath.Join(t.TempDir(), "system")
	s, err := stack.New(stack.Options{Dir: dir, Tick: 50 * time.Millisecond, Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	must(t, err)
	closed := false
	t.Cleanup(func() {
		if !closed {
			s.Close()
		}
	})
	seed, err := s.Seed(t.Context())
	must(t, err)
	spy := &secrets{seen: map[string]string{}}
	c := newCaller(t, s, func(next http.RoundTripper) http.RoundTripper { spy.next = next; return spy })
	spy.add("the seed", seed.Admin.Password, seed.Researcher.Password, seed.Colleague.Password, seed.Operator.Password, s.Welcome)
	want := func(status int, v map[string]any, ok int) map[string]any {
		t.Helper()
		if status != ok {
			t.Fatalf("%d %v, want %d", status, v, ok)
		}
		return v
	}
	good := func(status int, v map[string]any) map[string]any { t.Helper(); return want(status, v, 200) }
	made := func(status int, v map[string]any) map[string]any { t.Helper(); return want(status, v, 201) }

	// The operator, who came by the welcome link when the system was seeded, makes a tenant, and its administrator comes by hers.
	welcome := func(tenant, token, email, password string) {
		t.Helper()
		b := NewBrowser(c.client.Transport)
		if _, err := b.Visit(t.Context(), s.Base+"/t/"+tenant+"/welcome?token="+token); err != nil {
			t.Fatal(err)
		}
		for _, repeat := range []string{"CANARY-other-password", password} { // once wrongly
			if _, err := b.Submit(t.Context(), map[string]string{"username": email, "new": password, "repeat": repeat}); err != nil {
				t.Fatal(err)
			}
		}
		if at, status := b.Page(); status != 200 || at.Path != "/t/"+tenant+"/" {
			t.Fatalf("the welcome ended at %s with %d", at.Path, status)
		}
	}
	operator := c.signIn("system", seed.Operator)
	tenant := made(c.api(operator.access, "POST", "/t/system/api/v1/tenants", `{"id":"initech","name":"Initech"}`))
	link := welcomeToken.FindStringSubmatch(tenant["welcomeLink"].(string))
	welcome("initech", link[1], "boss@initech.example", "CANARY-boss-password")

	// An administrator makes a person, who chooses a password of her own.
	admin := c.signIn("acme", seed.Admin)
	const api = "/t/acme/api/v1"
	newUser := made(c.api(admin.access, "POST", api+"/users", `{"email":"new@acme.example"}`))
	id := newUser["id"].(string)
	b := NewBrowser(c.client.Transport)
	_, err = b.Visit(t.Context(), s.Base+"/t/acme/login")
	must(t, err)
	for _, password := range []string{"CANARY-wrong-password", newUser["tempPassword"].(string)} {
		_, err = b.Submit(t.Context(), map[string]string{"username": "new@acme.example", "password": password})
		must(t, err)
	}
	_, err = b.Submit(t.Context(), map[string]string{"new": "CANARY-short", "repeat": "CANARY-differs"})
	must(t, err)
	newcomer := stack.Person{Email: "new@acme.example", Password: "CANARY-newcomers-password"}
	_, err = b.Submit(t.Context(), map[string]string{"new": newcomer.Password, "repeat": newcomer.Password})
	must(t, err)
	if at, _ := b.Page(); at.Path != "/t/acme/" {
		t.Fatalf("the newcomer ended at %s", at.Path)
	}

	// She signs in at the command line, refreshes, goes to a cluster, changes her password, and is reset.
	code, verifier := c.code("acme", newcomer)
	_, _ = c.form("/t/acme/token", redemption(code+"x", verifier))
	first := tokensOf(good(c.form("/t/acme/token", redemption(code, verifier))))
	refresh := url.Values{"grant_type": {"refresh_token"}, "client_id": {"fleetpass-cli"}, "refresh_token": {first.refresh}}
	second := tokensOf(good(c.form("/t/acme/token", refresh)))
	good(c.form("/t/acme/token", exchangeFor(second.access, seed.Clusters[0].ID)))
	good(c.api(second.access, "GET", "/t/acme/userinfo", ""))
	good(c.api(second.access, "GET", api+"/me", ""))
	_, _ = c.api(second.access, "POST", api+"/me/password", `{"currentPassword":"CANARY-not-the-password","newPassword":"CANARY-another-password"}`)
	if status, v := c.api(second.access, "POST", api+"/me/password", `{"currentPassword":"`+newcomer.Password+`","newPassword":"CANARY-another-password"}`); status >= 300 {
		t.Fatalf("changing the password: %d %v", status, v)
	}
	good(c.api(admin.access, "POST", api+"/users/"+id+"/password", ""))

	// An application.
	app := made(c.api(admin.access, "POST", api+"/service-accounts", `{"name":"robot"}`))
	appID, secret := app["clientId"].(string), app["clientSecret"].(string)
	basic := func(secret string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(appID+":"+secret))
	}
	machine := tokensOf(good(c.form("/t/acme/token", url.Values{"grant_type": {"client_credentials"}}, "Authorization", basic(secret))))
	good(c.form("/t/acme/introspect", url.Values{"token": {admin.access}}, "Authorization", basic(secret)))
	good(c.form("/t/acme/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {appID}, "client_secret": {secret}}))
	rotated := good(c.api(admin.access, "POST", api+"/service-accounts/"+app["id"].(string)+"/secret", ""))
	_ = rotated

	// Everything that goes wrong, with a secret in hand, and in the wrong place.
	for _, f := range []url.Values{
		{"grant_type": {"client_credentials"}, "client_id": {appID}, "client_secret": {"CANARY-wrong-secret"}},
		{"grant_type": {"password"}, "client_id": {"fleetpass-cli"}, "username": {newcomer.Email}, "password": {"CANARY-password-grant"}},
		{"grant_type": {"CANARY-grant-type"}, "CANARY-field-name": {"CANARY-field-value"}, "client_id": {"fleetpass-cli"}},
		{"grant_type": {"refresh_token"}, "client_id": {"fleetpass-cli"}, "refresh_token": {second.refresh + "x"}},
		exchangeFor(machine.access, seed.Clusters[0].ID), exchangeFor(second.access+"x", seed.Clusters[0].ID),
	} {
		if status, v := c.form("/t/acme/token", f); status < 400 || status >= 500 {
			t.Errorf("%v: %d %v", f, status, v)
		}
	}
	_, _ = c.form("/t/acme/token?client_secret=CANARY-secret-in-query", url.Values{"grant_type": {"client_credentials"}})
	_, _ = c.send("GET", api+"/users/"+machine.access+"?token="+machine.access+"&access_token=CANARY-in-query", "", "", "Authorization", "Bearer "+admin.access)
	_, _ = c.send("GET", "/t/"+machine.access+"/CANARY-in-path", "", "")
	_, _ = c.send("GET", api+"/users", "", "", "Authorization", "Bearer CANARY-"+admin.access, "X-Request-ID", "CANARY request id", "User-Agent", "CANARY-user-agent", "Referer", "https://CANARY-referer.example/")
	_, _ = c.api(admin.access, "POST", api+"/users", `{"email":"x@acme.example","password":"CANARY-unknown-member"`)
	_, _ = c.api(admin.access, "POST", api+"/users", `{"email":"x@acme.example","nickname":"CANARY-unknown-member"}`)
	_, _ = c.api(admin.access, "POST", api+"/me/password", `{"currentPassword":["CANARY-in-a-list"],"newPassword":7}`)
	_, _ = c.api(admin.access, "POST", api+"/clusters", `{"name":"x","server":"https://CANARY-user:CANARY-in-url@x.example","ca":"-----BEGIN PRIVATE KEY-----\nCANARY-key\n-----END PRIVATE KEY-----"}`)
	_, _ = c.send("GET", "/t/acme/welcome?token=CANARY-welcome-token", "", "")
	_, _ = c.send("GET", "/t/acme/logout?id_token_hint="+admin.id+"&state=CANARY-state", "", "")
	_, _ = c.form("/t/acme/revoke", url.Values{"client_id": {"fleetpass-cli"}, "token": {admin.refresh}})
	time.Sleep(300 * time.Millisecond) // the feed, the queue and maintenance say what they have to say
	s.Close()
	closed = true

	file, err := os.ReadFile(filepath.Join(dir, "fleetpass.db"))
	must(t, err)
	said := log.b.Bytes()
	if n := bytes.Count(said, []byte(`"msg":"request"`)); n < 50 || !bytes.Contains(file, []byte("new@acme.example")) || !bytes.Contains(file, []byte("sign-in")) {
		t.Fatalf("log and store do not hold the story: %d requests", n)
	}
	if len(spy.seen) < 60 {
		t.Fatalf("only %d secrets went over the wire", len(spy.seen))
	}
	for secret, where := range spy.seen {
		if bytes.Contains(said, []byte(secret)) {
			t.Errorf("in the log: the secret of %s", where)
		}
		if bytes.Contains(file, []byte(secret)) {
			t.Errorf("in the store: the secret of %s", where)
		}
		if strings.Contains(where, "told again") {
			t.Errorf("in an error: the secret of %s", where)
		}
	}
	for name, sink := range map[string][]byte{"log": said, "store": file} {
		if i := bytes.Index(sink, []byte("CANARY")); i >= 0 {
			t.Errorf("in the %s: …%q…", name, sink[max(0, i-150):min(len(sink), i+60)])
		}
		if bytes.Contains(sink, []byte("PRIVATE KEY")) {
			t.Errorf("in the %s: a private key", name)
		}
	}
	t.Logf("%d secrets looked for in %d bytes of log and %d of store", len(spy.seen), len(said), len(file))
}
