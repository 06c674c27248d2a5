package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/localdev/cluster"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// caller talks to a running system as any HTTP client could, and signs people in as their browsers do.
type caller struct {
	t      *testing.T
	s      *stack.Stack
	client *http.Client
}

func newCaller(t *testing.T, s *stack.Stack, wrap func(http.RoundTripper) http.RoundTripper) *caller {
	t.Helper()
	client := trusting(t, s)
	if wrap != nil {
		client.Transport = wrap(client.Transport)
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &caller{t, s, client}
}

// send makes one request. The answer's JSON object is nil where it has none.
func (c *caller) send(method, path, media, body string, header ...string) (int, map[string]any) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.s.Base+path, strings.NewReader(body))
	must(c.t, err)
	if body != "" {
		r.Header.Set("Content-Type", media)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := c.client.Do(r)
	must(c.t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	must(c.t, err)
	var v map[string]any
	_ = json.Unmarshal(data, &v)
	return res.StatusCode, v
}

func (c *caller) form(path string, form url.Values, header ...string) (int, map[string]any) {
	c.t.Helper()
	return c.send("POST", path, "application/x-www-form-urlencoded", form.Encode(), header...)
}

func (c *caller) api(bearer, method, path, body string) (int, map[string]any) {
	c.t.Helper()
	return c.send(method, path, "application/json", body, "Authorization", "Bearer "+bearer)
}

// tokens is what a sign-in at the command line gives.
type tokens struct{ access, refresh, id string }

func tokensOf(v map[string]any) tokens {
	text := func(name string) string { s, _ := v[name].(string); return s }
	return tokens{text("access_token"), text("refresh_token"), text("id_token")}
}

// code signs somebody in through the pages, and returns the code that the command line would be sent, with its verifier.
func (c *caller) code(tenant core.TenantID, who stack.Person) (code, verifier string) {
	c.t.Helper()
	verifier = rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"client_id": {"fleetpass-cli"}, "redirect_uri": {redirect}, "response_type": {"code"}, "scope": {"openid email groups offline_access"},
		"state": {rand.Text()}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	b := NewBrowser(c.client.Transport)
	var back *url.URL
	b.client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), redirect) {
			back = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}
	if _, err := b.Visit(c.t.Context(), c.s.OAuth.Issuer(tenant)+"/authorize?"+q.Encode()); err != nil {
		c.t.Fatal(err)
	}
	body, err := b.Submit(c.t.Context(), map[string]string{"username": who.Email, "password": who.Password})
	must(c.t, err)
	if back == nil || back.Query().Get("code") == "" {
		at, status := b.Page()
		c.t.Fatalf("%s was not sent back but to %s with %d: %.300s", who.Email, at, status, body)
	}
	return back.Query().Get("code"), verifier
}

func redemption(code, verifier string) url.Values {
	return url.Values{"grant_type": {"authorization_code"}, "client_id": {"fleetpass-cli"}, "redirect_uri": {redirect}, "code": {code}, "code_verifier": {verifier}}
}

func (c *caller) signIn(tenant core.TenantID, who stack.Person) tokens {
	c.t.Helper()
	code, verifier := c.code(tenant, who)
	status, v := c.form("/t/"+string(tenant)+"/token", redemption(code, verifier))
	if status != 200 {
		c.t.Fatalf("redeeming the code of %s: %d %v", who.Email, status, v)
	}
	return tokensOf(v)
}

func exchangeFor(access string, cluster core.ClusterID) url.Values {
	return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {"fleetpass-cli"}, "subject_token": {access},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "audience": {string(cluster)}}
}

func (c *caller) exchange(access string, cluster core.ClusterID) string {
	c.t.Helper()
	status, v := c.form("/t/acme/token", exchangeFor(access, cluster))
	if status != 200 {
		c.t.Fatalf("exchange: %d %v", status, v)
	}
	return v["access_token"].(string)
}

// reserved are names that a cluster gives a meaning of its own.
var reserved = []string{
	"system:masters", "system:admin", "system:kube-controller-manager", "system:kube-scheduler", "system:node:x", "system:nodes", "system:authenticated",
	"system:unauthenticated", "system:anonymous", "system:serviceaccounts", "system:serviceaccount:kube-system:default", "system:bootstrappers", "system:monitoring",
	"kube:admin", "openshift:x", "fleetpass-id:uid:1", "cluster-admins", "dedicated-admins",
}

// spellings are the ways to write a name so that something may take it for that name.
func spellings(name string) []string {
	each := func(shift func(rune) rune) string { return strings.Map(shift, name) }
	offset := func(base rune) func(rune) rune {
		return func(r rune) rune {
			if 'a' <= r && r <= 'z' {
				return base + r - 'a'
			}
			return r
		}
	}
	all := []string{
		name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], " " + name, name + " ", "\t" + name + "\r\n", "\u00a0" + name, "\u3000" + name, "\ufeff" + name,
		"\u200b" + name, name[:2] + "\u200b" + name[2:], name[:2] + "\u00ad" + name[2:], name[:2] + "\u2060" + name[2:], name[:2] + "\u034f" + name[2:], name[:2] + "\ufe0f" + name[2:],
		"\u202e" + name, "\u3164" + name, name[:2] + "\u115f" + name[2:], name[:1] + "\u0301" + name[1:], name[:2] + "\x00" + name[2:], "\x7f" + name,
		each(offset('ａ')), each(offset('ⓐ')), each(offset('𝐚')), each(offset('𝚊')),
		strings.Replace(name, ":", "：", 1), strings.Replace(name, ":", "﹕", 1), strings.Replace(name, "s", "ſ", 1), strings.Replace(name, "k", "\u212a", 1), name + "\u0301",
	}
	out, seen := all[:0], map[string]bool{}
	for _, s := range all {
		if !seen[s] {
			out = append(out, s)
		}
		seen[s] = true
	}
	return out
}

func quoted(s string) string { b, _ := json.Marshal(s); return string(b) }

// Every way in refuses a name that a cluster would take for one of its own, in every spelling, and makes nothing of it
// (K8S-001, K8S-003, K8S-027).
func TestReservedNamesAreRefused(t *testing.T) {
	s, seed := system(t)
	c := newCaller(t, s, nil)
	admin := c.signIn("acme", seed.Admin).access
	east := seed.Clusters[0]
	const api = "/t/acme/api/v1"
	welcome, err := s.Org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "globex", "Globex")
	must(t, err)

	before, err := s.Org.Tenant(t.Context(), "acme")
	must(t, err)
	n := 0
	for _, name := range reserved {
		for _, spelt := range spellings(name) {
			for what, ask := range map[string][2]string{
				"e-mail":                 {"/users", `{"email":` + quoted(spelt) + `}`},
				"e-mail with a domain":   {"/users", `{"email":` + quoted(spelt+"@acme.example") + `}`},
				"group":                  {"/groups", `{"name":` + quoted(spelt) + `}`},
				"application":            {"/service-accounts", `{"name":` + quoted(spelt) + `}`},
				"app":                    {"/apps", `{"name":` + quoted(spelt) + `}`},
				"project":                {"/org-unit/projects", `{"clusterId":"` + string(east.ID) + `","name":` + quoted(spelt) + `}`},
				"namespace":              {"/org-unit/projects", `{"clusterId":"` + string(east.ID) + `","name":"fine","requestedNamespace":` + quoted(spelt) + `}`},
				"department":             {"/org-unit/departments", `{"clusterId":"` + string(east.ID) + `","name":` + quoted(spelt) + `}`},
				"a rule for a person":    {"/authorization/access-rules", `{"subjectType":"user","roleId":5,"scopeType":"cluster","scopeId":"` + string(east.ID) + `","subjectId":` + quoted(spelt) + `}`},
				"a rule for a group":     {"/authorization/access-rules", `{"subjectType":"group","roleId":5,"scopeType":"cluster","scopeId":"` + string(east.ID) + `","subjectId":` + quoted(spelt) + `}`},
				"a rule for a program":   {"/authorization/access-rules", `{"subjectType":"app","roleId":5,"scopeType":"cluster","scopeId":"` + string(east.ID) + `","subjectId":` + quoted(spelt) + `}`},
				"a cluster's user names": {"/clusters", `{"name":"x","mode":"agent","userPrefix":` + quoted(spelt+":") + `}`},
			} {
				// Names of groups alone: elsewhere they mean nothing, as a namespace, before an "@" or before other names.
				if !strings.Contains(name, ":") && (what == "namespace" || what == "e-mail with a domain" || what == "a cluster's user names") {
					continue
				}
				n++
				if status, v := c.api(admin, "POST", api+ask[0], ask[1]); status < 400 || status >= 500 || status == 401 || status == 403 {
					t.Errorf("%s %+q: %d %v", what, spelt, status, v)
				}
			}
			for _, email := range []string{spelt, spelt + "@globex.example"} {
				if email != spelt && !strings.Contains(name, ":") {
					continue
				}
				if _, err := s.Directory.RedeemWelcome(t.Context(), core.Actor{Tenant: "globex"}, welcome, email, "correct horse battery", s.Access.FirstAdministrator); err == nil {
					t.Fatalf("the first administrator is %+q", email)
				}
			}
		}
	}
	after, err := s.Org.Tenant(t.Context(), "acme")
	must(t, err)
	if after.Value.Revision != before.Value.Revision {
		t.Errorf("something refused changed the tenant")
	}
	if n < 3000 {
		t.Errorf("only %d were tried", n)
	}
	// The twins.
	for path, body := range map[string]string{
		"/users": `{"email":"masters@acme.example"}`, "/groups": `{"name":"masters: all"}`, "/service-accounts": `{"name":"masters"}`,
		"/org-unit/projects": `{"clusterId":"` + string(east.ID) + `","name":"masters","requestedNamespace":"masters"}`, "/org-unit/departments": `{"clusterId":"` + string(east.ID) + `","name":"masters"}`,
		"/clusters":                   `{"name":"x","mode":"agent","userPrefix":"masters:"}`,
		"/authorization/access-rules": `{"subjectType":"group","roleId":5,"scopeType":"cluster","scopeId":"` + string(east.ID) + `","subjectId":"masters: all"}`,
	} {
		if status, v := c.api(admin, "POST", api+path, body); status != 201 {
			t.Errorf("the twin at %s: %d %v", path, status, v)
		}
	}
	if _, err := s.Directory.RedeemWelcome(t.Context(), core.Actor{Tenant: "globex"}, welcome, "masters@globex.example", "correct horse battery", s.Access.FirstAdministrator); err != nil {
		t.Errorf("the twin: %v", err)
	}
}

// identity is whom an API server takes a caller for.
type identity struct {
	Username string
	UID      string
	Groups   []string
	Extra    map[string][]string
}

func whoIs(t *testing.T, api *cluster.Cluster, bearer string) (int, identity) {
	t.Helper()
	status, body, err := Present(api, bearer).Do(t.Context(), "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`)
	must(t, err)
	var v struct{ Status struct{ UserInfo identity } }
	_ = json.Unmarshal([]byte(body), &v)
	return status, v.Status.UserInfo
}

// means says whether a cluster gives the name, as it is written, a meaning of its own.
func means(name string) bool {
	for _, p := range []string{"system:", "kube:", "openshift:", "fleetpass-id:"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return name == "" || name == "cluster-admins" || name == "dedicated-admins"
}

// Whatever a tenant's own key signs, a real API server that trusts the tenant makes no reserved identity of it: not if every
// gate of ours before it were open (K8S-001 to 007), neither with prefixes nor without. And what our system itself issues
// opens the one thing that it is for (K8S-009, JWT-017).
func TestNoTokenBecomesAReservedIdentity(t *testing.T) {
	bin := cluster.Need(t)
	s, seed := system(t)
	c := newCaller(t, s, nil)
	east, west := seed.Clusters[0], seed.Clusters[1]
	conf, err := s.Authentication(seed.Tenant, east.ID)
	must(t, err)
	api, err := cluster.Start(t.Context(), cluster.Options{Name: east.Name, Dir: filepath.Join(t.TempDir(), east.Name), AuthenticationConfig: conf, Binaries: bin})
	must(t, err)
	t.Cleanup(api.Close)
	must(t, s.Join(t.Context(), seed.Tenant, east.ID, api))

	forge := func(tenant core.TenantID, claims jwt.MapClaims) string {
		t.Helper()
		key, err := s.Ring.Signer(t.Context(), tenant, keys.ES256)
		must(t, err)
		all := jwt.MapClaims{"iss": s.OAuth.Issuer("acme"), "aud": string(east.ID), "sub": "u-1", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "preferred_username": "eve@acme.example"}
		for k, v := range claims {
			if all[k] = v; v == nil {
				delete(all, k)
			}
		}
		unsigned := jwt.NewWithClaims(jwt.SigningMethodES256, all)
		unsigned.Header["kid"] = key.ID
		raw, err := unsigned.SignedString(key.Signer)
		must(t, err)
		return raw
	}

	t.Run("what is issued", func(t *testing.T) {
		ada := c.signIn("acme", seed.Researcher)
		right := c.exchange(ada.access, east.ID)
		if status, who := whoIs(t, api, right); status != 201 || who.Username != "fleetpass:"+seed.Researcher.Email {
			t.Errorf("the twin: %d %+v", status, who)
		}
		must(t, func() error {
			_, err := s.Org.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), "rival", "Rival")
			return err
		}())
		for what, raw := range map[string]string{
			"an access token of the API": ada.access, "an ID token": ada.id, "a refresh token": ada.refresh, "another cluster's token": c.exchange(ada.access, west.ID),
			"another tenant's key": forge("rival", nil), "another tenant's token": forge("rival", jwt.MapClaims{"iss": s.OAuth.Issuer("rival")}),
			"several audiences of others": forge("acme", jwt.MapClaims{"aud": []string{string(west.ID), s.OAuth.Issuer("acme")}}),
			"an audience in capitals":     forge("acme", jwt.MapClaims{"aud": strings.ToUpper(string(east.ID))}),
			"no audience":                 forge("acme", jwt.MapClaims{"aud": nil}), "no end": forge("acme", jwt.MapClaims{"exp": nil}),
			"a cut token": right[:len(right)-4], "nothing but dots": "..",
		} {
			if status, who := whoIs(t, api, raw); status != http.StatusUnauthorized {
				t.Errorf("%s at a cluster: %d %+v", what, status, who)
			}
		}
		// And a cluster's token opens nothing of ours.
		for path, method := range map[string]string{"/api/v1/users": "GET", "/api/v1/me": "GET", "/api/v1/kubeconfig": "GET", "/userinfo": "GET", "/access/v1/evaluation": "POST"} {
			body := ""
			if method == "POST" {
				body = `{"subject":{"type":"user","id":"ada@acme.example"},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"}}`
			}
			if status, v := c.api(right, method, "/t/acme"+path, body); status != 401 {
				t.Errorf("a cluster's token at %s: %d %v", path, status, v)
			}
			if status, v := c.api(ada.access, method, "/t/acme"+path, body); status == 401 {
				t.Errorf("the twin at %s: %d %v", path, status, v)
			}
		}
		if status, v := c.form("/t/acme/token", exchangeFor(right, west.ID)); status != 400 {
			t.Errorf("a cluster's token exchanged for another's: %d %v", status, v)
		}
	})

	plain := seed.Group
	attacks := func(t *testing.T, prefix string) {
		if status, who := whoIs(t, api, forge("acme", jwt.MapClaims{"groups": []string{plain}, "uid": 7})); status != 201 || who.Username != prefix+"eve@acme.example" || !contains(who.Groups, prefix+plain) {
			t.Fatalf("the twin: %d %+v", status, who)
		}
		n := 0
		try := func(what string, claims jwt.MapClaims, exact bool) {
			t.Helper()
			n++
			raw := forge("acme", claims)
			status, who := whoIs(t, api, raw)
			if status == http.StatusUnauthorized {
				return
			}
			if status != http.StatusCreated || exact {
				t.Errorf("%s: %d %+v", what, status, who)
			}
			if means(who.Username) || !strings.HasPrefix(who.Username, prefix) {
				t.Errorf("%s became %+q", what, who.Username)
			}
			for _, g := range who.Groups {
				if g != "system:authenticated" && (means(g) || !strings.HasPrefix(g, prefix)) {
					t.Errorf("%s is in %+q", what, g)
				}
			}
			for _, id := range who.Extra[kube.ExtraUID] {
				if id == "0" {
					t.Errorf("%s runs as root", what)
				}
			}
			if code, body, err := Present(api, raw).Do(t.Context(), "GET", "/api/v1/namespaces/kube-system/secrets", ""); err != nil || code != http.StatusForbidden {
				t.Errorf("%s reads the secrets of kube-system: %d %.100s %v", what, code, body, err)
			}
		}
		for _, name := range reserved {
			for i, spelt := range spellings(name) {
				if !utf8.ValidString(spelt) {
					continue
				}
				exact := i < 2 // as it is, and in capitals
				try(fmt.Sprintf("the name %+q", spelt), jwt.MapClaims{"preferred_username": spelt}, exact)
				try(fmt.Sprintf("the group %+q", spelt), jwt.MapClaims{"groups": []string{plain, spelt}}, exact)
				if i < 3 {
					try(fmt.Sprintf("the only group %+q", spelt), jwt.MapClaims{"groups": spelt}, false)
					try(fmt.Sprintf("the subject, e-mail and other claims %+q", spelt), jwt.MapClaims{"sub": spelt, "email": spelt, "email_verified": true, "name": spelt,
						"username": spelt, "user": spelt, "Groups": []string{spelt}, "roles": []string{spelt}, "kubernetes.io": map[string]any{"namespace": spelt}}, false)
					try(fmt.Sprintf("the name %+q in other spellings of the claim", spelt), jwt.MapClaims{"Preferred_Username": spelt, "PREFERRED_USERNAME": spelt, "preferred_username": nil}, true)
				}
			}
		}
		for what, claims := range map[string]jwt.MapClaims{
			"an empty name": {"preferred_username": ""}, "no name": {"preferred_username": nil}, "a list as name": {"preferred_username": []string{"system:masters"}},
			"an object as name": {"preferred_username": map[string]any{"a": "system:masters"}}, "a number as name": {"preferred_username": 7}, "null as name": {"preferred_username": json.RawMessage("null")},
			"lists of groups": {"groups": [][]string{{"system:masters"}}}, "objects as groups": {"groups": []any{map[string]any{"a": "system:masters"}}}, "an object of groups": {"groups": map[string]any{"system:masters": true}},
			"root": {"uid": 0}, "root as text": {"uid": "0"}, "somebody below root": {"uid": -1}, "no number": {"uid": "root"},
		} {
			try(what, claims, true)
		}
		if n < 1000 {
			t.Errorf("only %d tokens were forged", n)
		}
	}
	t.Run("forged", func(t *testing.T) { attacks(t, "fleetpass:") })

	// The same for a cluster whose own login names people, which has no prefixes. Its configuration is made by hand, since
	// the seeded cluster has prefixes.
	bare, err := kube.Authentication(kube.Issuer{URL: s.OAuth.Issuer("acme"), CA: s.IssuerCA, Audience: east.ID})
	must(t, err)
	must(t, api.SetAuthentication(t.Context(), bare))
	t.Run("forged, without prefixes", func(t *testing.T) { attacks(t, "") })
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// subject is the sub of a token, which nobody verified.
func subject(raw string) string {
	var claims jwt.RegisteredClaims
	_, _, _ = jwt.NewParser().ParseUnverified(raw, &claims)
	return claims.Subject
}

// What ends a sign-in ends it everywhere, at the next request: at every endpoint, and for its refresh token (OAU-001,
// OAU-035, WEB-013, TEN-017). The sign-in of somebody else goes on.
func TestAnEndIsAnEnd(t *testing.T) {
	s, seed := system(t)
	c := newCaller(t, s, nil)
	ctx, us := t.Context(), core.SystemActor("acme")
	east := seed.Clusters[0].ID
	bystander := c.signIn("acme", seed.Colleague)

	type state struct {
		tokens
		code, verifier string
		who            stack.Person
	}
	endpoints := map[string]func(access string) int{
		"userinfo": func(a string) int { code, _ := c.api(a, "GET", "/t/acme/userinfo", ""); return code },
		"me":       func(a string) int { code, _ := c.api(a, "GET", "/t/acme/api/v1/me", ""); return code },
		"rules": func(a string) int {
			code, _ := c.api(a, "GET", "/t/acme/api/v1/authorization/me/access-rules", "")
			return code
		},
		"kubeconfig": func(a string) int { code, _ := c.api(a, "GET", "/t/acme/api/v1/kubeconfig", ""); return code },
		"evaluation": func(a string) int {
			code, _ := c.api(a, "POST", "/t/acme/access/v1/evaluation", `{"subject":{"type":"user","id":"`+subject(a)+`"},"action":{"name":"view"},"resource":{"type":"jobs","id":"`+string(east)+`"}}`)
			return code
		},
		"exchange": func(a string) int { code, _ := c.form("/t/acme/token", exchangeFor(a, east)); return code },
	}
	refresh := func(raw string) (int, map[string]any) {
		return c.form("/t/acme/token", url.Values{"grant_type": {"refresh_token"}, "client_id": {"fleetpass-cli"}, "refresh_token": {raw}})
	}
	person := func(t *testing.T, name string) stack.Person {
		t.Helper()
		p := stack.Person{Email: name + "@acme.example", Password: rand.Text()}
		_, _, err := s.Directory.CreateUser(ctx, us, "acme", newLocal(p))
		must(t, err)
		return p
	}
	n := 0
	for what, end := range map[string]func(t *testing.T, st *state){
		"the code presented twice": func(t *testing.T, st *state) {
			if code, v := c.form("/t/acme/token", redemption(st.code, st.verifier)); code != 400 || v["error"] != "invalid_grant" {
				t.Errorf("%d %v", code, v)
			}
		},
		"the refresh token used again, later": func(t *testing.T, st *state) {
			_, first := refresh(st.refresh)
			_, second := refresh(tokensOf(first).refresh)
			st.tokens.refresh = tokensOf(second).refresh
			if code, _ := refresh(tokensOf(first).refresh); code != 200 {
				t.Errorf("within the grace: %d", code)
			}
			third, _ := refresh(tokensOf(second).refresh)
			if code, v := refresh(tokensOf(first).refresh); third != 200 || code != 400 { // two generations behind, at any time
				t.Errorf("%d, then %d %v", third, code, v)
			}
		},
		"revocation": func(t *testing.T, st *state) {
			if code, _ := c.form("/t/acme/revoke", url.Values{"client_id": {"fleetpass-cli"}, "token": {st.refresh}}); code != 200 {
				t.Error(code)
			}
		},
		"revocation of the access token": func(t *testing.T, st *state) {
			if code, _ := c.form("/t/acme/revoke", url.Values{"client_id": {"fleetpass-cli"}, "token": {st.access}}); code != 200 {
				t.Error(code)
			}
		},
		"another password": func(t *testing.T, st *state) {
			if code, v := c.api(st.access, "POST", "/t/acme/api/v1/me/password", `{"currentPassword":"`+st.who.Password+`","newPassword":"`+rand.Text()+`"}`); code >= 300 {
				t.Errorf("%d %v", code, v)
			}
		},
		"a reset password": func(t *testing.T, st *state) {
			_, err := s.Directory.ResetPassword(ctx, us, "acme", core.Email(st.who.Email))
			must(t, err)
		},
		"a forced logout": func(t *testing.T, st *state) {
			_, err := s.Directory.ForceLogout(ctx, us, "acme", core.Email(st.who.Email))
			must(t, err)
		},
		"disabling": func(t *testing.T, st *state) {
			_, err := s.Directory.Disable(ctx, us, "acme", core.Email(st.who.Email))
			must(t, err)
		},
		"disabling, and enabling again": func(t *testing.T, st *state) {
			_, err := s.Directory.Disable(ctx, us, "acme", core.Email(st.who.Email))
			must(t, err)
			_, err = s.Directory.Enable(ctx, us, "acme", core.Email(st.who.Email))
			must(t, err)
		},
		"deletion": func(t *testing.T, st *state) {
			must(t, s.Directory.DeleteUser(ctx, us, "acme", core.Email(st.who.Email)))
		},
		"deletion, and another of the name": func(t *testing.T, st *state) {
			must(t, s.Directory.DeleteUser(ctx, us, "acme", core.Email(st.who.Email)))
			_, _, err := s.Directory.CreateUser(ctx, us, "acme", newLocal(st.who))
			must(t, err)
		},
	} {
		n++
		name := fmt.Sprintf("p%d", n)
		t.Run(what, func(t *testing.T) {
			c := *c
			c.t = t
			st := &state{who: person(t, name)}
			st.code, st.verifier = c.code("acme", st.who)
			_, v := c.form("/t/acme/token", redemption(st.code, st.verifier))
			st.tokens = tokensOf(v)
			for at, call := range endpoints {
				if got := call(st.access); got != 200 {
					t.Errorf("%s, before: %d", at, got)
				}
			}
			end(t, st)
			for at, call := range endpoints {
				if got := call(st.access); got != 401 && !(at == "exchange" && got == 400) {
					t.Errorf("%s, after: %d", at, got)
				}
			}
			if code, v := refresh(st.refresh); code != 400 || v["error"] != "invalid_grant" {
				t.Errorf("refresh, after: %d %v", code, v)
			}
			if got := endpoints["me"](bystander.access); got != 200 {
				t.Errorf("somebody else's sign-in: %d", got)
			}
		})
	}

	t.Run("a suspended tenant", func(t *testing.T) {
		must(t, s.Org.Suspend(ctx, core.SystemActor(core.SystemTenant), "acme"))
		for at, call := range endpoints {
			got := call(bystander.access)
			if at == "evaluation" { // a decision point that denies goes on denying
				_, v := c.api(bystander.access, "POST", "/t/acme/access/v1/evaluation", `{"subject":{"type":"user","id":"bob@acme.example"},"action":{"name":"view"},"resource":{"type":"jobs","id":"acme"}}`)
				if v["decision"] == true {
					t.Errorf("evaluation: %v", v)
				}
				continue
			}
			if got < 400 || got >= 500 {
				t.Errorf("%s: %d", at, got)
			}
		}
		if code, _ := refresh(bystander.refresh); code != 400 && code != 404 {
			t.Errorf("refresh: %d", code)
		}
		for _, page := range []string{"", "login", "welcome", "logout", "authorize?client_id=fleetpass-cli"} {
			if code, _ := c.send("GET", "/t/acme/"+page, "", ""); code != 404 && code != 400 {
				t.Errorf("/%s: %d", page, code)
			}
		}
		must(t, s.Org.Resume(ctx, core.SystemActor(core.SystemTenant), "acme"))
		if got := endpoints["me"](bystander.access); got != 200 {
			t.Errorf("resumed: %d", got)
		}
	})
}
