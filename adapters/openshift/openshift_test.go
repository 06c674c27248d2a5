package openshift_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/openshift"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

var (
	noon    = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	us      = sso.Addresses{Return: returnTo}
	secrets = sso.Secrets{Client: clientSecret}
)

// signIn goes the whole way. change may spoil what the browser brings back.
func signIn(t *testing.T, k *cluster, p *openshift.Provider, c sso.Connection, change func(*sso.Arrival)) (sso.Assertion, *sso.Report, error) {
	t.Helper()
	d, err := p.Start(t.Context(), c, secrets, sso.Journey{Addresses: us, State: "opaque", Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	a := sso.Arrival{Addresses: us, Params: k.browse(t, d.URL), Pending: &d.Pending, Now: noon}
	if a.Params["state"] != "opaque" {
		t.Fatalf("came back with %v", a.Params)
	}
	if change != nil {
		change(&a)
	}
	r := &sso.Report{}
	as, err := p.Finish(t.Context(), c, secrets, a, r)
	return as, r, err
}

// The whole way, with what is sent, kept, said and shown.
func TestSignIn(t *testing.T) {
	k, p, c := newCluster(t)
	if err := p.Load(t.Context(), &c, nil); err != nil {
		t.Fatal(err)
	}
	o := c.OpenShift.Provider
	if o.Issuer != k.oauth.URL || o.Authorization != k.oauth.URL+"/oauth/authorize" || o.Token != k.oauth.URL+"/oauth/token" || !o.PKCE || len(o.Digest) != 64 || c.OpenShift.BaseURL != k.api.URL {
		t.Fatalf("read %+v", c.OpenShift)
	}
	d, err := p.Start(t.Context(), c, secrets, sso.Journey{Addresses: us, State: "opaque", Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(d.URL)
	if err != nil || d.Form != nil {
		t.Fatalf("leaves for %s %v (%v)", d.URL, d.Form, err)
	}
	q := u.Query()
	want := url.Values{"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {returnTo}, "scope": {"user:info"}, "state": {"opaque"},
		"code_challenge_method": {"S256"}, "code_challenge": q["code_challenge"]}
	if diff := cmp.Diff(want, q); diff != "" || len(q.Get("code_challenge")) != 43 || len(d.Pending.Verifier) != 43 {
		t.Errorf("the request (-want +got):\n%s", diff)
	}
	for _, hidden := range []string{"opaque", d.Pending.Verifier, clientSecret} {
		if strings.Contains(d.Sent, hidden) {
			t.Errorf("the trace shows %q: %s", hidden, d.Sent)
		}
	}
	as, r, err := signIn(t, k, p, c, nil)
	if err != nil {
		t.Fatalf("%v: %+v", err, r.Checks)
	}
	if diff := cmp.Diff(sso.Assertion{
		Subject: "5d2fc5ce-8f2b-4d67-9a8f-0b1f43c1c3a7",
		Attributes: map[string]any{
			"email": "ada@acme.test", "GROUPS": []any{"researchers", "gpu users"}, "firstName": "Ada King", "lastName": "Lovelace",
		},
		Kept: sso.Kept{Refresh: accessToken, Subject: "5d2fc5ce-8f2b-4d67-9a8f-0b1f43c1c3a7"},
	}, as); diff != "" {
		t.Errorf("the assertion (-want +got):\n%s", diff)
	}
	if strings.Contains(fmt.Sprint(r), "canary") || !strings.Contains(r.Received, "researchers") {
		t.Errorf("the report: %+v", r)
	}
	var names []sso.CheckName
	for _, check := range r.Checks {
		names = append(names, check.Name)
	}
	if !slices.Equal(names, []sso.CheckName{sso.CheckAnswer, sso.CheckRequest, sso.CheckSubject}) {
		t.Errorf("checks %v", names)
	}
	id, ok := c.Mappers.Map(c, as.Attributes, r)
	if !ok || id.Email != "ada@acme.test" || !slices.Equal(id.Groups, []core.GroupName{"gpu users", "researchers"}) || id.LastName != "Lovelace" {
		t.Errorf("mapped to %+v: %+v", id, r.Checks)
	}
	if p.Leave(c, as.Kept, "https://fleetpass.test/bye") != "" {
		t.Error("there is somewhere to sign out at")
	}
}

// What a cluster calls things is fixed, so a connection's names for attributes are those that the answer comes under; what a
// user's name makes of the e-mail; and names in one word or none.
func TestAttributes(t *testing.T) {
	k, p, c := newCluster(t)
	must(t, p.Load(t.Context(), &c, nil))
	for _, row := range []struct {
		what          string
		user          string
		domains       []string
		mappers       sso.Mappers
		want          map[string]any
		failed, fixes string
	}{
		{"a name that is an e-mail", user("grace@other.test", "u1", "Grace", `null`), nil, sso.Mappers{}, map[string]any{"email": "grace@other.test", "GROUPS": []any{}, "firstName": "Grace"}, "", ""},
		{"no full name", user("grace", "u1", " ", `[]`), []string{"a.test", "b.test"}, sso.Mappers{}, map[string]any{"email": "grace@a.test", "GROUPS": []any{}}, "", ""},
		{"other mappers", user("grace", "u1", "Grace Hopper", `["navy"]`), []string{"a.test"}, sso.Mappers{Email: "mail", Groups: "memberOf", FirstName: "given"},
			map[string]any{"mail": "grace@a.test", "memberOf": []any{"navy"}, "given": "Grace", "lastName": "Hopper"}, "", ""},
		{"no domain", user("grace", "u1", "", `[]`), nil, sso.Mappers{}, nil, "email", "Give the connection a domain"},
		{"no uid", user("kube:admin", "", "", `["system:cluster-admins"]`), []string{"a.test"}, sso.Mappers{}, nil, "subject", "kubeadmin"},
	} {
		k.set(func() { k.user = row.user })
		c.Domains, c.Mappers = row.domains, row.mappers
		as, r, err := signIn(t, k, p, c, nil)
		if row.failed != "" {
			if f, _ := r.Failure(); !errors.Is(err, sso.ErrRefused) || string(f.Name) != row.failed || !strings.Contains(f.Fix, row.fixes) {
				t.Errorf("%s: %v, %+v", row.what, err, f)
			}
			continue
		}
		if diff := cmp.Diff(row.want, as.Attributes); diff != "" || err != nil {
			t.Errorf("%s (-want +got): %v\n%s", row.what, err, diff)
		}
	}
}

// A group that a cluster gives a meaning of its own is dropped where it is mapped, and the others stay: nobody becomes a
// cluster's administrator by a group's name.
func TestReservedGroups(t *testing.T) {
	k, p, c := newCluster(t)
	must(t, p.Load(t.Context(), &c, nil))
	k.set(func() {
		k.user = user("ada", "u1", "Ada", `["system:masters","ｓｙｓｔｅｍ:masters","researchers","cluster-admins","kube:admin","system:authenticated"]`)
	})
	as, r, err := signIn(t, k, p, c, nil)
	must(t, err)
	id, ok := c.Mappers.Map(c, as.Attributes, r)
	if !ok || !slices.Equal(id.Groups, []core.GroupName{"researchers"}) {
		t.Errorf("mapped to %+v", id)
	}
	noted := slices.IndexFunc(r.Checks, func(c sso.Check) bool { return c.Name == sso.CheckGroups && c.Result == sso.Noted })
	if noted < 0 {
		t.Errorf("nothing is noted: %+v", r.Checks)
	}
}

func user(name, uid, full, groups string) string {
	return fmt.Sprintf(`{"kind":"User","apiVersion":"user.openshift.io/v1","metadata":{"name":%q,"uid":%q},"fullName":%q,"identities":null,"groups":%s}`, name, uid, full, groups)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Somebody in many groups signs in with all of them, and the trace quotes as much of it as it may.
func TestManyGroups(t *testing.T) {
	k, p, c := newCluster(t)
	must(t, p.Load(t.Context(), &c, nil))
	groups := make([]string, sso.MaxGroups)
	for i := range groups {
		groups[i] = fmt.Sprintf("%q", fmt.Sprintf("%0200d", i))
	}
	k.set(func() { k.user = user("ada", "u1", "Ada", "["+strings.Join(groups, ",")+"]") })
	as, r, err := signIn(t, k, p, c, nil)
	if err != nil || len(as.Attributes["GROUPS"].([]any)) != sso.MaxGroups {
		t.Fatalf("%v: %+v", err, r.Checks)
	}
	if n := len(r.Received); n > sso.MaxReceived || n < sso.MaxReceived-4 {
		t.Errorf("the trace quotes %d bytes", n)
	}
}

// An address that was allowed when the connection was saved, and is not any more, gets nothing: no code, no secret, no token.
// It says nothing about the person either, so nobody's session ends by it.
func TestAddressesAreJudgedAgain(t *testing.T) {
	k, p, c := newCluster(t)
	must(t, p.Load(t.Context(), &c, nil))
	as, _, err := signIn(t, k, p, c, nil)
	must(t, err)
	moved := c
	settings := *c.OpenShift
	moved.OpenShift = &settings
	settings.Provider.Token = "https://169.254.169.254/oauth/token"
	_, r, err := signIn(t, k, p, moved, nil)
	if f, _ := r.Failure(); !errors.Is(err, core.Invalid) || f.Name != sso.CheckAnswer || !strings.Contains(f.Fix, "operator") {
		t.Errorf("the token endpoint: %v %+v", err, f)
	}
	settings.BaseURL = "https://169.254.169.254"
	if _, err := p.Ask(t.Context(), moved, secrets, as.Kept, noon); !errors.Is(err, core.Unavailable) {
		t.Errorf("the user API: %v", err)
	}
}

// Whatever is wrong with what comes back is refused, with a first failed check that names it and a fix, and no secret in
// what is said. The same way, unspoiled, is accepted before and after each.
// A cluster cannot be asked for a fresh sign-in: it goes on, is noted, and nobody is told a time.
func TestFreshSignIn(t *testing.T) {
	k, p, c := newCluster(t)
	must(t, p.Load(t.Context(), &c, nil))
	for _, login := range []bool{true, false} {
		as, r, err := signIn(t, k, p, c, func(a *sso.Arrival) { a.Pending.Login = login })
		noted := slices.ContainsFunc(r.Checks, func(c sso.Check) bool { return c.Name == sso.CheckTime && c.Result == sso.Noted && c.Fix != "" })
		if err != nil || noted != login || !as.AuthTime.IsZero() || as.Subject == "" {
			t.Errorf("login=%v: %v %+v %+v", login, err, as, r.Checks)
		}
	}
}

// What a server was sent, it may repeat; the report does not, in whatever spelling. What repeats nothing is shown, without
// what turns the direction of a line or begins another. WEB-029
func TestSecretsRepeated(t *testing.T) {
	k, p, c := newCluster(t)
	must(t, p.Load(t.Context(), &c, nil))
	const userPath, tokenPath = "/apis/user.openshift.io/v1/users/~", "/oauth/token"
	for name, spell := range map[string]func(string) string{
		"plain": func(s string) string { return s }, "upper case": strings.ToUpper, "base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte("x:" + s)) },
		"escaped": func(s string) string { return strings.NewReplacer("-", "%2d", "a", "%61").Replace(s) }, "as a code": func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") },
	} {
		for what, body := range map[string]func(url.Values, string) string{
			"error": func(f url.Values, secret string) string { return fmt.Sprintf(`{"error":%q}`, spell(secret)) },
			"description": func(f url.Values, secret string) string {
				return fmt.Sprintf(`{"error":"invalid_grant","error_description":%q}`, spell(secret))
			},
			"scope": func(f url.Values, secret string) string {
				return fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","scope":%q}`, accessToken, spell(secret))
			},
		} {
			for _, member := range []string{"client_secret", "code_verifier", "code"} {
				var sent string
				k.set(func() {
					k.serves = func(w http.ResponseWriter, r *http.Request) bool {
						switch r.URL.Path {
						case tokenPath:
							_ = r.ParseForm()
							sent = spell(r.PostForm.Get(member))
							if what != "scope" {
								w.WriteHeader(http.StatusBadRequest)
							}
							fmt.Fprint(w, body(r.PostForm, r.PostForm.Get(member)))
							return true
						case userPath: // it was given the token, and repeats that
							fmt.Fprint(w, user(spell(accessToken), "u1", spell(accessToken), `["x"]`))
							return true
						}
						return false
					}
				})
				as, r, err := signIn(t, k, p, c, nil)
				text := fmt.Sprint(r, err)
				if sent == "" || strings.Contains(text, sent) || strings.Contains(text, spell(accessToken)) {
					t.Errorf("%s of %s, %s: %.300s", what, member, name, text)
				}
				if what != "scope" && !reflect.DeepEqual(as, sso.Assertion{}) || what == "description" && !strings.Contains(text, "invalid_grant") {
					t.Errorf("%s of %s, %s: %v %+v", what, member, name, err, r.Checks)
				}
			}
		}
	}
	k.set(func() { k.serves = nil })
	for _, description := range []string{"\u202etxet\x1b[2J\r\nerror: x", "see " + strings.ToUpper(url.QueryEscape(clientSecret))} {
		_, r, err := signIn(t, k, p, c, func(a *sso.Arrival) {
			a.Params = map[string]string{"error": "access_denied\u2066", "error_description": description}
		})
		if text := fmt.Sprint(r); !errors.Is(err, sso.ErrRefused) || strings.ContainsAny(text, "\u202e\u2066\x1b\r") || strings.Contains(text, "CANARY") || strings.Count(r.Received, "\n") != 1 {
			t.Errorf("%q", text)
		}
	}
	_, r, _ := signIn(t, k, p, c, func(a *sso.Arrival) {
		a.Params = map[string]string{"error": "access_denied", "error_description": "not today"}
	})
	if !strings.Contains(r.Received, "access_denied") || !strings.Contains(r.Received, "not today") {
		t.Errorf("what is harmless is shown: %q", r.Received)
	}
}

func TestRefused(t *testing.T) {
	k, p, c := newCluster(t)
	must(t, p.Load(t.Context(), &c, nil))
	// What answers are about is the whole of what a row changes; reset is the twin's.
	reset := func() {
		k.set(func() {
			k.user, k.serves, k.secret, k.client, k.scope = ada, nil, clientSecret, clientID, "user:info"
		})
	}
	answer := func(path, body string, status int) func() {
		return func() {
			k.serves = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != path {
					return false
				}
				w.WriteHeader(status)
				fmt.Fprint(w, body)
				return true
			}
		}
	}
	const userPath, tokenPath = "/apis/user.openshift.io/v1/users/~", "/oauth/token"
	for _, row := range []struct {
		what    string
		cluster func()
		arrival func(*sso.Arrival)
		check   sso.CheckName
		says    string // in found or the fix
		kind    error  // default: ErrRefused
	}{
		{"denied", nil, func(a *sso.Arrival) { a.Params = map[string]string{"error": "access_denied"} }, sso.CheckAnswer, "grantMethod", nil},
		{"a client that is unknown", nil, func(a *sso.Arrival) { a.Params["error"] = "unauthorized_client" }, sso.CheckAnswer, "oc get oauthclient fleetpass", nil},
		{"scopes", nil, func(a *sso.Arrival) { a.Params["error"] = "invalid_scope" }, sso.CheckAnswer, "scopeRestrictions", nil},
		{"an error nobody knows", nil, func(a *sso.Arrival) { a.Params["error"] = strings.Repeat("é", 9000) }, sso.CheckAnswer, "openshift-authentication", nil},
		{"no code", nil, func(a *sso.Arrival) { delete(a.Params, "code") }, sso.CheckAnswer, "no code", nil},
		{"a code without end", nil, func(a *sso.Arrival) { a.Params["code"] = strings.Repeat("x", 5000) }, sso.CheckAnswer, "no code", nil},
		{"nobody asked", nil, func(a *sso.Arrival) { a.Pending = nil }, sso.CheckRequest, "nobody here asked", nil},
		{"another server's answer", nil, func(a *sso.Arrival) { a.Params["iss"] = "https://evil.test" }, sso.CheckIssuer, "https://evil.test", nil},
		{"another's code", nil, func(a *sso.Arrival) { a.Params["code"] = "sha256~other" }, sso.CheckAnswer, "invalid_grant", nil},
		{"a code that was stolen from another sign-in", nil, func(a *sso.Arrival) { a.Pending.Verifier = strings.Repeat("v", 43) }, sso.CheckAnswer, "invalid_grant", nil},
		{"no verifier", nil, func(a *sso.Arrival) { a.Pending.Verifier = "" }, sso.CheckRequest, "verifier", nil},
		{"another redirect URI", nil, func(a *sso.Arrival) { a.Return = "https://fleetpass.test/t/globex/oidc/ocp/callback" }, sso.CheckAnswer, "redirectURIs", nil},
		{"another secret", func() { k.secret = "changed" }, nil, sso.CheckAnswer, "client ID and secret", nil},
		{"a scope that is too little", func() { k.scope = "user:other" }, nil, sso.CheckAnswer, "403", nil},
		{"a token of another type", answer(tokenPath, `{"access_token":"t","token_type":"mac"}`, 200), nil, sso.CheckAnswer, "another type", nil},
		{"no token", answer(tokenPath, `{"token_type":"Bearer"}`, 200), nil, sso.CheckAnswer, "no usable access_token", nil},
		{"a token that breaks the header", answer(tokenPath, `{"access_token":"a\r\nX-Evil: 1","token_type":"Bearer"}`, 200), nil, sso.CheckAnswer, "no usable access_token", nil},
		{"two tokens", answer(tokenPath, `{"access_token":"a","access_token":"sha256~canary-token","token_type":"Bearer"}`, 200), nil, sso.CheckAnswer, "is no token", nil},
		{"a page instead of a token", answer(tokenPath, `<html>`, 200), nil, sso.CheckAnswer, "is no token", nil},
		{"an error that is none", answer(tokenPath, `<html>`, 400), nil, sso.CheckAnswer, "answers 400", nil},
		{"a token endpoint that is ill", answer(tokenPath, ``, 503), nil, sso.CheckAnswer, "could not be asked", core.Unavailable},
		{"a token that is no longer good", answer(userPath, `{"kind":"Status"}`, 401), nil, sso.CheckAnswer, "401", nil},
		{"a user API that is ill", answer(userPath, ``, 500), nil, sso.CheckAnswer, "could not be asked", core.Unavailable},
		{"somebody twice", answer(userPath, strings.Replace(ada, `"name": "ada"`, `"name": "ada", "name": "root"`, 1), 200), nil, sso.CheckAnswer, "says something twice", nil},
		{"groups twice", answer(userPath, strings.Replace(ada, `"fullName"`, `"groups": ["admins"], "fullName"`, 1), 200), nil, sso.CheckAnswer, "says something twice", nil},
		{"something twice in depth", answer(userPath, strings.Replace(ada, `"f:fullName": {}`, `"a": 1, "a": 2`, 1), 200), nil, sso.CheckAnswer, "says something twice", nil},
		{"members in another case", answer(userPath, strings.Replace(ada, `"metadata"`, `"Metadata"`, 1), 200), nil, sso.CheckSubject, "", nil},
		{"malformed UTF-8", answer(userPath, strings.Replace(ada, "King", "K\xffng", 1), 200), nil, sso.CheckAnswer, "is no user", nil},
		{"depth without end", answer(userPath, strings.Repeat(`{"a":`, 5000)+"1"+strings.Repeat("}", 5000), 200), nil, sso.CheckAnswer, "is no user", nil},
		{"two users", answer(userPath, ada+ada, 200), nil, sso.CheckAnswer, "is no user", nil},
		{"another kind", answer(userPath, strings.Replace(ada, `"User"`, `"Group"`, 1), 200), nil, sso.CheckAnswer, "another kind", nil},
		{"another API", answer(userPath, strings.Replace(ada, "user.openshift.io/v1", "v1", 1), 200), nil, sso.CheckAnswer, "another kind", nil},
		{"groups that are no list", answer(userPath, user("ada", "u1", "", `"admins"`), 200), nil, sso.CheckAnswer, "is no user", nil},
		{"more than is read", answer(userPath, `{"pad":"`+strings.Repeat("x", 600<<10)+`"}`, 200), nil, sso.CheckAnswer, "over 524288 bytes", nil},
	} {
		reset()
		if _, r, err := signIn(t, k, p, c, nil); err != nil {
			t.Fatalf("%s: the twin is refused: %v %+v", row.what, err, r.Checks)
		}
		if row.cluster != nil {
			k.set(row.cluster)
		}
		as, r, err := signIn(t, k, p, c, row.arrival)
		want := row.kind
		if want == nil {
			want = sso.ErrRefused
		}
		f, failed := r.Failure()
		if !errors.Is(err, want) || !failed || f.Name != row.check || f.Fix == "" || !strings.Contains(f.Found+" "+f.Fix, row.says) {
			t.Errorf("%s: %v; first failed %+v", row.what, err, f)
		}
		if !reflect.DeepEqual(as, sso.Assertion{}) {
			t.Errorf("%s: refused, and asserts %+v", row.what, as)
		}
		if text := fmt.Sprint(r, err); strings.Contains(text, "canary") || len(r.Received) > sso.MaxReceived {
			t.Errorf("%s: the report holds a secret or too much: %.200s", row.what, text)
		}
	}
}

// The user API, or the token endpoint, sends a secret on to an address of the network behind: nobody there hears of it.
func TestRedirectsAreNotFollowed(t *testing.T) {
	k, p, c := newCluster(t)
	must(t, p.Load(t.Context(), &c, nil))
	inside, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer inside.Close()
	heard := make(chan struct{}, 8)
	go func() {
		for {
			conn, err := inside.Accept()
			if err != nil {
				return
			}
			heard <- struct{}{}
			conn.Close()
		}
	}()
	for _, to := range []string{"https://" + inside.Addr().String() + "/", "http://" + inside.Addr().String() + "/latest/meta-data/", k.oauth.URL + "/apis/user.openshift.io/v1/users/~"} {
		for _, from := range []string{"/oauth/token", "/apis/user.openshift.io/v1/users/~"} {
			for _, status := range []int{302, 307, 308} {
				k.set(func() { k.serves = nil })
				if _, _, err := signIn(t, k, p, c, nil); err != nil {
					t.Fatalf("the twin: %v", err)
				}
				k.set(func() {
					k.serves = func(w http.ResponseWriter, r *http.Request) bool {
						if r.URL.Path != from {
							return false
						}
						w.Header().Set("Location", to)
						w.WriteHeader(status)
						return true
					}
				})
				_, r, err := signIn(t, k, p, c, nil)
				if f, _ := r.Failure(); !errors.Is(err, sso.ErrRefused) || !strings.Contains(f.Found, "redirect") {
					t.Errorf("%s to %s by %d: %v %+v", from, to, status, err, f)
				}
			}
		}
	}
	select {
	case <-heard:
		t.Error("somebody behind was talked to")
	default:
	}
}

// What a cluster publishes is judged before it is kept, and on an error the connection is as before.
func TestLoad(t *testing.T) {
	k, p, c := newCluster(t)
	good := k.metadata()
	replaced := func(old, new string) string {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("%s is not in the metadata", old)
		}
		return s
	}
	was := *c.OpenShift
	for what, document := range map[string]string{
		"nothing":                         ``,
		"no JSON":                         `<html>`,
		"a list":                          `[` + good + `]`,
		"twice":                           replaced(`"issuer"`, `"issuer": "https://evil.test", "issuer"`),
		"no token endpoint":               replaced(`"token_endpoint"`, `"Token_endpoint"`),
		"no code flow":                    replaced(`["code", "token"]`, `["token"]`),
		"a token endpoint inside":         replaced(k.oauth.URL+"/oauth/token", "https://169.254.169.254/oauth/token"),
		"a token endpoint in the clear":   replaced(k.oauth.URL+"/oauth/token", "http://oauth.example.com/oauth/token"),
		"an authorization endpoint of js": replaced(k.oauth.URL+"/oauth/authorize", "javascript:alert(1)//"),
	} {
		err := p.Load(t.Context(), &c, []byte(document))
		if field, ok := errors.AsType[*core.FieldError](err); !ok || field.Field != "ocpData.idpBaseUrl" {
			t.Errorf("%s: %v", what, err)
		}
		if diff := cmp.Diff(was, *c.OpenShift); diff != "" {
			t.Errorf("%s: the connection changed:\n%s", what, diff)
		}
	}
	must(t, p.Load(t.Context(), &c, []byte(good))) // the twin
	must(t, p.Load(t.Context(), &c, []byte(replaced(`"plain", "S256"`, `"plain"`))))
	if c.OpenShift.Provider.PKCE {
		t.Error("PKCE, though the server does not have it")
	}
	d, err := p.Start(t.Context(), c, secrets, sso.Journey{Addresses: us, State: "opaque", Now: noon})
	if err != nil || d.Pending.Verifier != "" || strings.Contains(d.URL, "code_challenge") {
		t.Errorf("without PKCE: %+v, %v", d, err)
	}
	for _, base := range []string{"", "http://api.example.com:6443", "https://169.254.169.254", "https://10.0.0.1:6443", "https://api.example.com/?x", "ftp://x", "https://a:b@api.example.com"} {
		c.OpenShift.BaseURL = base
		if err := p.Load(t.Context(), &c, nil); !errors.Is(err, core.Invalid) {
			t.Errorf("base %q: %v", base, err)
		}
	}
	k.set(func() {
		k.serves = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusNotFound); return true }
	})
	c.OpenShift.BaseURL = k.api.URL
	if err := p.Load(t.Context(), &c, nil); !errors.Is(err, core.Unavailable) {
		t.Errorf("no metadata: %v", err)
	}
}

// Start needs what a flow needs, and names what is missing.
func TestStart(t *testing.T) {
	_, p, c := newCluster(t)
	j := sso.Journey{Addresses: us, State: "opaque", Now: noon}
	if _, err := p.Start(t.Context(), c, secrets, j); !errors.Is(err, core.Invalid) {
		t.Errorf("before it was read: %v", err)
	}
	must(t, p.Load(t.Context(), &c, nil))
	if _, err := p.Start(t.Context(), c, sso.Secrets{}, j); !errors.Is(err, core.Invalid) {
		t.Errorf("without a secret: %v", err)
	}
	if _, err := p.Start(t.Context(), c, secrets, sso.Journey{Addresses: us, Now: noon}); err == nil {
		t.Error("without a state")
	}
	c.OpenShift.Scopes = []string{"user:full", "user:check-access"}
	d, err := p.Start(t.Context(), c, secrets, j)
	if u, _ := url.Parse(d.URL); err != nil || u.Query().Get("scope") != "user:full user:check-access" {
		t.Errorf("scopes: %s, %v", d.URL, err)
	}
	e, err := p.Start(t.Context(), c, secrets, j)
	if err != nil || e.Pending.Verifier == d.Pending.Verifier {
		t.Error("two sign-ins have one verifier")
	}
}

// Asked again, the cluster's answer of now counts; who it does not vouch for any more is refused, and an illness of the
// cluster ends nobody's session.
func TestAsk(t *testing.T) {
	k, p, c := newCluster(t)
	must(t, p.Load(t.Context(), &c, nil))
	as, _, err := signIn(t, k, p, c, nil)
	must(t, err)
	ask := func() (sso.Assertion, error) { return p.Ask(t.Context(), c, secrets, as.Kept, noon.Add(time.Hour)) }
	k.set(func() { k.user = strings.Replace(ada, `"gpu users"`, `"managers"`, 1) })
	now, err := ask()
	if err != nil || !reflect.DeepEqual(now.Attributes["GROUPS"], []any{"researchers", "managers"}) || now.Kept != as.Kept || now.Subject != as.Subject {
		t.Fatalf("asked again: %+v, %v", now, err)
	}
	status := func(n int) func() {
		return func() {
			k.serves = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(n); return true }
		}
	}
	for _, row := range []struct {
		what   string
		change func()
		want   error
	}{
		{"another person", func() { k.user = user("ada", "another-uid", "", "[]") }, sso.ErrRefused},
		{"a token that is over", func() { k.token = "" }, sso.ErrRefused},
		{"a scope that was taken back", status(403), sso.ErrRefused},
		{"500", status(500), core.Unavailable},
		{"429", status(429), core.Unavailable},
		{"404, as behind a proxy", status(404), core.Unavailable},
		{"no user", func() { k.user = "<html>" }, core.Unavailable},
	} {
		k.set(row.change)
		if got, err := ask(); !errors.Is(err, row.want) || !reflect.DeepEqual(got, sso.Assertion{}) {
			t.Errorf("%s: %+v, %v; want %v", row.what, got, err, row.want)
		}
		k.set(func() { k.user, k.token, k.serves = ada, accessToken, nil })
		if _, err := ask(); err != nil {
			t.Errorf("after %s: %v", row.what, err)
		}
	}
	for _, kept := range []sso.Kept{{}, {Refresh: accessToken}, {Subject: as.Kept.Subject}} {
		if _, err := p.Ask(t.Context(), c, secrets, kept, noon); !errors.Is(err, sso.ErrRefused) {
			t.Errorf("kept %+v: %v", kept, err)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Ask(over, c, secrets, as.Kept, noon); !errors.Is(err, core.Unavailable) {
		t.Errorf("called off: %v", err)
	}
	k.api.Close()
	if _, err := ask(); !errors.Is(err, core.Unavailable) || strings.Contains(err.Error(), "canary") {
		t.Errorf("nobody answers: %v", err)
	}
}
