package functions_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/functions"
)

// What requests ask of the store, in production's wiring and with the keys warm. Rows that are marked are promises of the
// design; the others pin what is, so that a change which costs a round trip is seen. The rows tell one story, in order. On
// each of the clouds' databases it is told again, and what goes over the wire is what was counted.
func TestRoundTrips(t *testing.T) {
	var counted map[string]storetest.Counts // on bolt, by row
	t.Run("bolt", func(t *testing.T) {
		counted = tellRoundTrips(t, boltStore(t), func(string, storetest.Counts) {})
	})
	t.Run("DynamoDB", func(t *testing.T) {
		db, wire := dynamoDB(t)
		tellRoundTrips(t, db, func(row string, n storetest.Counts) {
			got := wire.take()
			if row == "" {
				return
			}
			if got.requests() != n.RoundTrips() || n.RoundTrips() != counted[row].RoundTrips() {
				t.Errorf("%s: %d requests (%v) for %d round trips, and %d on bolt", row, got.requests(), got.operations, n.RoundTrips(), counted[row].RoundTrips())
			}
			got.check(t, row, counted[row].Units)
			got.only(t, row, "GetItem", "TransactGetItems", "Query", "PutItem", "DeleteItem", "TransactWriteItems")
		})
	})
	t.Run("Firestore", func(t *testing.T) {
		db, wire := fireStore(t)
		tellRoundTrips(t, db, func(row string, n storetest.Counts) {
			got := wire.take()
			if row == "" {
				return
			}
			// An answer replaces a trace that it has not read, and which may expire: Firestore does not see that by itself.
			more := 0
			if row == "sign-in at a provider: its answer" {
				more = 1
			}
			if got.requests() != n.RoundTrips()+more || n.RoundTrips() != counted[row].RoundTrips() {
				t.Errorf("%s: %d requests (%v) for %d round trips, and %d on bolt", row, got.requests(), got.operations, n.RoundTrips(), counted[row].RoundTrips())
			}
			// An empty list is billed as one document.
			if read := n.GetItems + n.ListItems + more; got.documentsRead < read || got.documentsRead > read+n.Pages || got.documentsWritten != n.Ops {
				t.Errorf("%s: Firestore bills %d reads and %d writes for %+v", row, got.documentsRead, got.documentsWritten, n)
			}
			got.only(t, row, "BatchGetDocuments", "RunQuery", "Commit")
		})
	})
}

// tellRoundTrips makes the requests over a store, and has check look at each row's counts. It returns them.
func tellRoundTrips(t *testing.T, db store.DB, check func(row string, n storetest.Counts)) map[string]storetest.Counts {
	t.Helper()
	w, counts := newWorldOver(t, db), map[string]storetest.Counts{}
	_, w.db.Metered = db.(*bolt.DB) // the meter reads ahead, which would show on a wire
	admin := w.bearer[acme]
	app, secret, err := w.Directory.CreateApplication(t.Context(), core.SystemActor(acme), acme, directory.NewApplication{Name: "robot"})
	w.must(err)
	cluster, err := w.Org.CreateCluster(t.Context(), core.SystemActor(acme), acme, "gpu", org.Reach{Server: "https://gpu.test"})
	w.must(err)
	project, err := w.Org.CreateProject(t.Context(), core.SystemActor(acme), acme, org.NewProject{Name: "p", Parent: cluster.ID})
	w.must(err)
	ada, _, err := w.Directory.CreateUser(t.Context(), core.SystemActor(acme), acme, directory.NewUser{Email: "ada@acme.test", Password: "correct horse battery"})
	w.must(err)
	for i := range 5 {
		name := core.GroupName(fmt.Sprintf("g%d", i))
		_, err := w.Directory.CreateGroup(t.Context(), core.SystemActor(acme), acme, string(name))
		w.must(err)
		_, err = w.Directory.AddMember(t.Context(), core.SystemActor(acme), acme, name, ada.Email)
		w.must(err)
		_, err = w.Access.Seed(t.Context(), acme, access.NewRule{Subject: core.GroupSubject(name), Role: 5, Scope: project.ID})
		w.must(err)
	}

	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 appendix B
	sum := sha256.Sum256([]byte(verifier))
	const callback = "http://127.0.0.1:43121/callback"
	authorize := "/t/acme/authorize?" + url.Values{
		"client_id": {"fleetpass-cli"}, "redirect_uri": {callback}, "response_type": {"code"}, "state": {"s"}, "nonce": {"n"},
		"scope": {"openid offline_access email groups"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode()
	var b browser // ada's
	var held struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		ID      string `json:"id_token"`
	}
	robot, night := held, held
	page, rule := "", ""
	get := func(path string, header ...string) func() int {
		return func() int { return b.do(w.handler, "GET", path, "", header...).Code }
	}
	form := func(path string, into any, pairs ...string) func() int {
		return func() int {
			v := url.Values{}
			for i := 0; i < len(pairs); i += 2 {
				v.Set(pairs[i], pairs[i+1])
			}
			got := b.do(w.handler, "POST", path, v.Encode(), "Content-Type", "application/x-www-form-urlencoded")
			if into != nil && got.Code == http.StatusOK {
				w.must(json.Unmarshal(got.Body.Bytes(), into))
			}
			return got.Code
		}
	}
	send := func(path string, bearer *string, body string) func() int {
		return func() int {
			got := b.do(w.handler, "POST", path, body, "Content-Type", "application/json", "Authorization", "Bearer "+*bearer)
			if strings.HasSuffix(path, "/access-rules") {
				var made struct {
					ID any `json:"id"`
				}
				w.must(json.Unmarshal(got.Body.Bytes(), &made))
				rule = fmt.Sprint(made.ID)
			}
			return got.Code
		}
	}
	token := func(into any, pairs ...string) func() int { return form("/t/acme/token", into, pairs...) }
	ask := func(kind, id string) string {
		return fmt.Sprintf(`{"subject":{"type":%q,"id":%q},"action":{"name":"view"},"resource":{"type":"workloads","id":%q}}`, kind, id, project.ID)
	}
	key, keySecret, err := w.Directory.CreateAccessKey(t.Context(), core.SystemActor(acme), acme, ada, "night", 0)
	w.must(err)
	w.Providers[sso.SAML] = voucher{}
	_, err = w.SSO.Create(t.Context(), core.SystemActor(acme), acme, sso.New{Alias: "corp", Name: "Corp", Kind: sso.SAML, Domains: []string{"corp.test"}, SAML: &sso.NewSAML{MetadataURL: "https://corp.test/metadata"}})
	w.must(err)
	w.freeze()

	const promised = "  (promised)"
	for _, row := range []struct {
		what   string
		status int
		want   int
		call   func() int
	}{
		{"jwks, cold", 200, 1, get("/t/acme/jwks")},
		{"jwks" + promised, 200, 0, get("/t/acme/jwks")},
		{"discovery", 200, 0, get("/t/acme/.well-known/openid-configuration")},
		{"discovery, RFC 8414", 200, 0, get("/.well-known/oauth-authorization-server/t/acme")},
		{"discovery, AuthZEN", 200, 0, get("/.well-known/authzen-configuration/t/acme")},
		{"client_credentials, first in an hour", 200, 2, token(&robot, "grant_type", "client_credentials", "client_id", string(app.ID), "client_secret", secret)},
		{"client_credentials" + promised, 200, 1, token(&robot, "grant_type", "client_credentials", "client_id", string(app.ID), "client_secret", secret)},
		// The key tells whose it is, so its owner can only be read after it; what is done with its token costs what a person's does.
		{"client_credentials, an access key, first in an hour", 200, 3, token(&night, "grant_type", "client_credentials", "client_id", string(key.ID), "client_secret", keySecret)},
		{"client_credentials, an access key", 200, 2, token(&night, "grant_type", "client_credentials", "client_id", string(key.ID), "client_secret", keySecret)},
		{"client_credentials, an access key, wrong secret", 401, 1, token(nil, "grant_type", "client_credentials", "client_id", string(key.ID), "client_secret", secret)},
		{"exchange to a cluster, an access key in 5 groups", 200, 2, func() int {
			return token(nil, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange", "client_id", string(key.ID), "client_secret", keySecret, "subject_token", night.Access,
				"subject_token_type", "urn:ietf:params:oauth:token-type:access_token", "audience", string(cluster.Cluster))()
		}},
		{"evaluation, an access key of a person in 5 groups", 200, 2, func() int {
			return send("/t/acme/access/v1/evaluation", &night.Access, ask("user", string(ada.Email)))()
		}},
		{"authorize", 303, 4, func() int {
			got := b.do(w.handler, "GET", authorize, "")
			page = got.Header().Get("Location")
			return got.Code
		}},
		{"login page", 200, 4, func() int {
			got := b.do(w.handler, "GET", page, "")
			page = got.Body.String()
			return got.Code
		}},
		{"login", 303, 9, func() int {
			v := hiddenFields(page)
			v.Set("username", string(ada.Email))
			v.Set("password", "correct horse battery")
			got := b.do(w.handler, "POST", "/t/acme/login", v.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Origin", "https://fleet.test")
			page = got.Header().Get("Location")
			return got.Code
		}},
		{"authorization_code", 200, 3, func() int {
			u, err := url.Parse(page)
			w.must(err)
			return token(&held, "grant_type", "authorization_code", "client_id", "fleetpass-cli", "redirect_uri", callback, "code_verifier", verifier, "code", u.Query().Get("code"))()
		}},
		{"authorize, signed in", 303, 5, func() int { return b.do(w.handler, "GET", authorize, "").Code }},
		{"refresh" + promised, 200, 2, func() int {
			return token(&held, "grant_type", "refresh_token", "client_id", "fleetpass-cli", "refresh_token", held.Refresh)()
		}},
		{"exchange to a cluster, in 5 groups", 200, 2, func() int {
			return token(nil, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange", "client_id", "fleetpass-cli", "subject_token", held.Access,
				"subject_token_type", "urn:ietf:params:oauth:token-type:access_token", "audience", string(cluster.Cluster))()
		}},
		{"userinfo", 200, 1, func() int { return get("/t/acme/userinfo", "Authorization", "Bearer "+held.Access)() }},
		{"introspection", 200, 2, func() int {
			return form("/t/acme/introspect", nil, "client_id", string(app.ID), "client_secret", secret, "token", held.Access)()
		}},
		{"evaluation, a person in 5 groups" + promised, 200, 2, func() int {
			return send("/t/acme/access/v1/evaluation", &held.Access, ask("user", string(ada.Email)))()
		}},
		{"evaluation, an application" + promised, 200, 1, func() int {
			return send("/t/acme/access/v1/evaluation", &robot.Access, ask("application", string(app.ID)))()
		}},
		{"evaluations, 20 of them", 200, 2, func() int {
			return send("/t/acme/access/v1/evaluations", &held.Access, `{"evaluations":[`+strings.Repeat(ask("user", string(ada.Email))+",", 19)+ask("user", string(ada.Email))+`]}`)()
		}},
		{"kubeconfig", 200, 14, func() int { return get("/t/acme/api/v1/kubeconfig", "Authorization", "Bearer "+held.Access)() }},
		{"create an access rule", 201, 8, send("/t/acme/api/v1/authorization/access-rules", &admin,
			fmt.Sprintf(`{"subjectId":"ada@acme.test","subjectType":"user","roleId":5,"scopeId":%q,"scopeType":"project"}`, project.ID))},
		{"list access rules", 200, 10, func() int {
			return get("/t/acme/api/v1/authorization/access-rules", "Authorization", "Bearer "+admin)()
		}},
		{"delete an access rule", 204, 10, func() int {
			return b.do(w.handler, "DELETE", "/t/acme/api/v1/authorization/access-rules/"+rule, "", "Authorization", "Bearer "+admin).Code
		}},
		{"revocation", 200, 3, func() int { return form("/t/acme/revoke", nil, "client_id", "fleetpass-cli", "token", held.Refresh)() }},
		{"logout", 200, 6, func() int { return get("/t/acme/logout?id_token_hint=" + held.ID)() }},

		{"sign-in at a provider: authorize", 303, 4, func() int {
			got := b.do(w.handler, "GET", authorize, "")
			page = got.Header().Get("Location")
			return got.Code
		}},
		{"sign-in at a provider: there", 303, 5, func() int {
			got := b.do(w.handler, "GET", strings.Replace(page, "/login?", "/sso?idp=corp&", 1), "")
			page = got.Header().Get("Location")
			return got.Code
		}},
		{"sign-in at a provider: its answer", 303, 2, func() int {
			_, state, _ := strings.Cut(page, "state=")
			status := form("/t/acme/saml/corp/acs", nil, "RelayState", state, "SAMLResponse", "good")()
			page = b.last.Header().Get("Location")
			return status
		}},
		{"sign-in at a provider: the end, with a group that is new here", 303, 7, func() int { return get(page)() }},
	} {
		w.db.Reset()
		check("", storetest.Counts{}) // forget what was before
		status := row.call()
		n := w.db.Reset()
		counts[row.what] = n
		t.Logf("%-46s %d round trips: %d get (%d keys), %d list (%d items), %d commit (%d operations); %g read, %g write units",
			row.what, n.RoundTrips(), n.Gets, n.GetItems, n.Pages, n.ListItems, n.Commits, n.Ops, n.Units.Read, n.Units.Write)
		if status != row.status {
			t.Fatalf("%s: status %d, want %d\n%s", row.what, status, row.status, b.last.Body)
		}
		if n.RoundTrips() != row.want {
			t.Errorf("%s: %d round trips, want %d", row.what, n.RoundTrips(), row.want)
		}
		check(row.what, n)
	}
	return counts
}

// voucher is a provider that vouches for grace, whatever it is asked.
type voucher struct{}

func (voucher) Load(context.Context, *sso.Connection, []byte) error { return nil }

func (voucher) Start(_ context.Context, _ sso.Connection, _ sso.Secrets, j sso.Journey) (sso.Departure, error) {
	return sso.Departure{URL: "https://corp.test/sso?state=" + j.State}, nil
}

func (voucher) Finish(_ context.Context, _ sso.Connection, _ sso.Secrets, a sso.Arrival, r *sso.Report) (sso.Assertion, error) {
	r.Pass(sso.CheckSignature, "good")
	return sso.Assertion{ID: "a", Until: a.Now.Add(time.Minute), Attributes: map[string]any{"email": "grace@corp.test", "GROUPS": []any{"g0"}}}, nil
}

// freeze wires the world anew, cold, at a time that stands still: no cache grows old in the middle of a test.
func (w *world) freeze() {
	at, c := time.Now().UTC().Truncate(time.Second), w.Config
	c.Now = func() time.Time { return at }
	s, err := functions.New(c)
	w.must(err)
	s.Directory.Cost = w.Directory.Cost
	w.System, w.handler = s, s.HTTP()
}

// browser keeps cookies, and nothing else that browsers do.
type browser struct {
	cookies map[string]*http.Cookie
	last    *httptest.ResponseRecorder
}

func (b *browser) do(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "fleet.test"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	b.last = httptest.NewRecorder()
	h.ServeHTTP(b.last, r)
	if b.cookies == nil {
		b.cookies = map[string]*http.Cookie{}
	}
	for _, c := range b.last.Result().Cookies() {
		b.cookies[c.Name] = c
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return b.last
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// hiddenFields are those of a page's form.
func hiddenFields(page string) url.Values {
	v := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(page, -1) {
		v.Set(m[1], m[2])
	}
	return v
}
