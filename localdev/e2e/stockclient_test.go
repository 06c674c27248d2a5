package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/localdev/stack"
)

// stockClient is a client as people wrote them for the product whose API this follows: requests are spelt out in JSON, and
// answers are read by the names that it gives. It knows no type of ours.
type stockClient struct {
	*testing.T
	http  *http.Client
	base  string // https://HOST/t/TENANT
	token string
}

type answered struct {
	*testing.T
	status int
	header http.Header
	body   []byte
}

func (c *stockClient) send(method, path, media, body string) answered {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, c.base+path, strings.NewReader(body))
	must(c.T, err)
	if body != "" {
		r.Header.Set("Content-Type", media)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(r)
	must(c.T, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	must(c.T, err)
	return answered{c.T, res.StatusCode, res.Header, data}
}

func (c *stockClient) call(method, path, body string, want int) map[string]any {
	c.Helper()
	a := c.send(method, path, "application/json", body)
	if a.status != want {
		c.Fatalf("%s %s: status %d, want %d: %s", method, path, a.status, want, a.body)
	}
	if want >= 400 {
		a.isError()
	}
	if len(a.body) == 0 {
		return nil
	}
	return a.object()
}

func (a answered) object() map[string]any {
	a.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.body, &v); err != nil {
		a.Fatalf("%s: %v", a.body, err)
	}
	return v
}

// isError checks the body of a refusal: {code, message, details?}.
func (a answered) isError() {
	a.Helper()
	e := a.object()
	code, isNumber := e["code"].(float64)
	message, isText := e["message"].(string)
	if !isNumber || int(code) != a.status || !isText || message == "" {
		a.Errorf("status %d with the body %s", a.status, a.body)
	}
	for name := range e {
		if name != "code" && name != "message" && name != "details" {
			a.Errorf("the error body holds %s", name)
		}
	}
}

// with is the same client under another token.
func (c *stockClient) with(token string) *stockClient {
	other := *c
	other.token = token
	return &other
}

// text is a member that must be there.
func text(t *testing.T, object map[string]any, name string) string {
	t.Helper()
	s, _ := object[name].(string)
	if s == "" {
		t.Fatalf("no %s in %v", name, object)
	}
	return s
}

// shaped checks that an object has the members of another one, each of the same JSON type, and text that is not empty.
func (c *stockClient) shaped(what string, object, like map[string]any) {
	c.Helper()
	for name, want := range like {
		got, ok := object[name]
		if !ok || fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) || got == "" {
			c.Errorf("%s has as %s the %T %v, want a %T", what, name, got, got, want)
			continue
		}
		if inner, ok := want.(map[string]any); ok {
			c.shaped(what+", "+name, got.(map[string]any), inner)
		}
	}
}

// tokens asks the JSON endpoint, and checks the shape of what it gives.
func (c *stockClient) tokens(body string, want int) map[string]any {
	c.Helper()
	got := c.with("").call("POST", "/api/v1/token", body, want)
	if want != http.StatusOK {
		return got
	}
	if seconds, ok := got["expiresIn"].(float64); !ok || seconds <= 0 || got["accessToken"] == "" {
		c.Errorf("tokens %v", got)
	}
	c.with(text(c.T, got, "accessToken")).call("GET", "/api/v1/me", "", 200)
	return got
}

// code signs somebody in with a browser, as far as the code that the client gets.
func (c *stockClient) code(s *stack.Stack, who stack.Person) (code, redirect, verifier string) {
	c.Helper()
	codes := make(chan string, 1)
	client := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { codes <- r.URL.Query().Get("code") }))
	defer client.Close()
	redirect, verifier = client.URL+"/callback", strings.Repeat("stock-client-", 4)
	sum := sha256.Sum256([]byte(verifier))
	b := NewBrowser(nil)
	_, err := b.Visit(c.Context(), s.BrowserBase+"/t/acme/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {"fleetpass-cli"}, "redirect_uri": {redirect}, "scope": {"openid offline_access email profile groups"}, "state": {"xyz"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode())
	must(c.T, err)
	_, err = b.Submit(c.Context(), map[string]string{"username": who.Email, "password": who.Password})
	must(c.T, err)
	select {
	case code = <-codes:
	case <-time.After(10 * time.Second):
		at, status := b.Page()
		c.Fatalf("no code; the browser is at %s with %d", at, status)
	}
	return code, redirect, verifier
}

// A client of the original's works: it gets tokens by every grant type, and makes, lists and deletes what administrators deal
// with, in the original's own words.
func TestStockClient(t *testing.T) {
	provider := newStockProvider(t)
	s, err := stack.New(stack.Options{Dir: filepath.Join(t.TempDir(), "system"), Log: slog.New(slog.DiscardHandler), Ports: []uint16{provider.port()}})
	must(t, err)
	t.Cleanup(s.Close)
	seed, err := s.Seed(t.Context())
	must(t, err)
	ca, err := os.ReadFile(s.CAFile)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c := &stockClient{T: t, base: s.Base + "/t/acme", http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}}

	// exchange_token: the authorization code of a person who signed in with a browser.
	code, redirect, verifier := c.code(s, seed.Admin)
	got := c.tokens(fmt.Sprintf(`{"grantType":"exchange_token","code":%q,"redirectUri":%q,"codeVerifier":%q}`, code, redirect, verifier), 200)
	text(t, got, "idToken")
	c.tokens(fmt.Sprintf(`{"grantType":"exchange_token","code":%q,"redirectUri":%q,"codeVerifier":%q}`, code, redirect, verifier), 401) // a code is good once
	// That ended the family, as it must: sign in again, and refresh.
	code, redirect, verifier = c.code(s, seed.Admin)
	got = c.tokens(fmt.Sprintf(`{"grantType":"exchange_token","code":%q,"redirectUri":%q,"codeVerifier":%q}`, code, redirect, verifier), 200)
	got = c.tokens(fmt.Sprintf(`{"grantType":"refresh_token","refreshToken":%q}`, text(t, got, "refreshToken")), 200)
	c = c.with(text(t, got, "accessToken"))

	c.settings()
	c.users(s, seed)
	application := c.applications()
	department, project := c.scopes(string(seed.Clusters[0].ID))
	c.rules(application, string(seed.Clusters[0].ID), project)
	c.call("DELETE", "/api/v1/org-unit/departments/"+department, "", 409) // it would orphan the project
	c.call("DELETE", "/api/v1/org-unit/projects/"+project, "", 204)
	c.call("DELETE", "/api/v1/org-unit/departments/"+department, "", 204)
	c.call("DELETE", "/api/v1/service-accounts/"+application, "", 204)
	provider.exchange(c)
	c.refusals()
}

// settings switches the password grant on, without which it is refused.
func (c *stockClient) settings() {
	c.tokens(`{"grantType":"password","username":"admin@acme.example","password":"wrong horse battery"}`, 403)
	set := c.call("GET", "/api/v1/tenant/settings", "", 200)
	set["passwordGrant"] = true
	body, err := json.Marshal(set)
	must(c.T, err)
	c.call("PUT", "/api/v1/tenant/settings", string(body), 200)
}

// users creates a local user, whose temporary password is shown once and must be changed.
func (c *stockClient) users(s *stack.Stack, seed stack.Seed) {
	t := c.T
	made := c.call("POST", "/api/v1/users", `{"email":"stock@acme.example","resetPassword":true,"notify":false}`, 201)
	if len(made) != 3 || text(t, made, "username") != "stock@acme.example" {
		t.Errorf("made %v", made)
	}
	temporary := text(t, made, "tempPassword")
	c.tokens(fmt.Sprintf(`{"grantType":"password","username":"stock@acme.example","password":%q}`, temporary), 401) // it is good for changing it alone
	b := NewBrowser(nil)
	_, err := b.Visit(t.Context(), s.BrowserBase+"/t/acme/login")
	must(t, err)
	_, err = b.Submit(t.Context(), map[string]string{"username": "stock@acme.example", "password": temporary})
	must(t, err)
	_, err = b.SubmitForm(t.Context(), "new", map[string]string{"new": "a password of my own", "repeat": "a password of my own"})
	must(t, err)
	mine := c.tokens(`{"grantType":"password","username":"stock@acme.example","password":"a password of my own"}`, 200)
	me := c.with(text(t, mine, "accessToken"))
	me.call("POST", "/api/v1/me/password", `{"currentPassword":"a password of my own","newPassword":"another of my own"}`, 204)
	c.tokens(`{"grantType":"password","username":"stock@acme.example","password":"a password of my own"}`, 401)
	c.tokens(`{"grantType":"password","username":"stock@acme.example","password":"another of my own"}`, 200)

	list := c.send("GET", "/api/v1/users?filterBy="+url.QueryEscape("username=@stock")+"&limit=500", "", "")
	var users []map[string]any
	if err := json.Unmarshal(list.body, &users); err != nil || len(users) != 1 {
		t.Fatalf("users %s", list.body)
	}
	c.shaped("a user", users[0], map[string]any{
		"id": "", "username": "", "createdBy": "", "createdAt": "", "updatedAt": "", "lastLogin": "", "isLocal": true, "groups": []any{},
	})
	id := text(t, made, "id")
	reset := c.call("POST", "/api/v1/users/"+id+"/password", "", 200)
	text(t, reset, "tempPassword")
	c.call("POST", "/api/v1/users/"+id+"/logout", "", 204)
	c.call("DELETE", "/api/v1/users/"+id, "", 204)
	c.call("GET", "/api/v1/users/"+id, "", 404)
	c.tokens(fmt.Sprintf(`{"grantType":"password","username":%q,"password":%q}`, seed.Admin.Email, seed.Admin.Password), 200)
}

// applications creates one under either name, and gets its tokens in every spelling that clients in the field send.
func (c *stockClient) applications() (id string) {
	t := c.T
	app := c.call("POST", "/api/v1/apps", `{"name":"old-style"}`, 201)
	appID, secret := text(t, app, "clientId"), text(t, app, "secret")
	account := c.call("POST", "/api/v1/service-accounts", `{"name":"new-style"}`, 201)
	clientID, clientSecret := text(t, account, "clientId"), text(t, account, "clientSecret")
	for _, body := range []string{
		`{"grantType":"app_token","AppId":%q,"AppSecret":%q}`, `{"grantType":"app_token","appId":%q,"appSecret":%q}`, `{"grantType":"app_token","appID":%q,"appSecret":%q}`,
		`{"granttype":"app_token","APPID":%q,"APPSECRET":%q}`,
	} {
		c.tokens(fmt.Sprintf(body, appID, secret), 200)
	}
	for _, body := range []string{
		`{"grantType":"client_credentials","clientID":%q,"clientSecret":%q}`, `{"grantType":"client_credentials","clientId":%q,"clientSecret":%q}`,
		`{"GrantType":"client_credentials","ClientId":%q,"ClientSecret":%q}`,
	} {
		c.tokens(fmt.Sprintf(body, clientID, clientSecret), 200)
	}
	c.tokens(fmt.Sprintf(`{"grantType":"client_credentials","clientID":%q,"clientSecret":%q}`, clientID, secret), 401)

	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {clientSecret}}
	a := c.with("").send("POST", "/api/v2/token", "application/x-www-form-urlencoded", form.Encode())
	got := a.object()
	if a.status != 200 || got["token_type"] != "Bearer" || got["expires_in"] == nil {
		t.Errorf("v2: %d %s", a.status, a.body)
	}
	c.with(text(t, got, "access_token")).call("GET", "/api/v1/me", "", 200)
	form.Set("client_secret", "wrong")
	if a := c.with("").send("POST", "/api/v2/token", "application/x-www-form-urlencoded", form.Encode()); a.status != 401 {
		t.Errorf("v2 with a wrong secret: %d %s", a.status, a.body)
	}

	again := c.call("POST", "/api/v1/apps/"+appID+"/secret", "", 200)
	if text(t, again, "secret") == secret {
		t.Error("the same secret again")
	}
	c.tokens(fmt.Sprintf(`{"grantType":"app_token","appId":%q,"appSecret":%q}`, appID, secret), 401)
	c.call("PATCH", "/api/v1/service-accounts/"+clientID, `{"enabled":false}`, 200)
	c.tokens(fmt.Sprintf(`{"grantType":"client_credentials","clientID":%q,"clientSecret":%q}`, clientID, clientSecret), 401)
	c.call("PATCH", "/api/v1/service-accounts/"+clientID, `{"enabled":true}`, 200)
	c.call("DELETE", "/api/v1/apps/"+appID, "", 204)
	return clientID
}

// scopes makes a department and a project in it.
func (c *stockClient) scopes(cluster string) (department, project string) {
	above := c.call("POST", "/api/v1/org-unit/departments", `{"name":"stock-department","clusterId":"`+cluster+`"}`, 201)
	made := c.call("POST", "/api/v1/org-unit/projects", `{"name":"stock-project","clusterId":"`+cluster+`","parentId":"`+text(c.T, above, "id")+`"}`, 201)
	id := text(c.T, made, "id")
	got := c.call("GET", "/api/v1/org-unit/projects/"+id, "", 200)
	if text(c.T, got, "name") != "stock-project" || text(c.T, got, "clusterId") != cluster {
		c.Errorf("project %v", got)
	}
	return text(c.T, above, "id"), id
}

// rules gives and takes away access, one at a time and many at once, and pages through the list as the original's clients do.
func (c *stockClient) rules(application, cluster, project string) {
	t := c.T
	const rules = "/api/v1/authorization/access-rules"
	made := c.call("POST", rules, `{"subjectId":"`+application+`","subjectType":"service-account","roleId":5,"scopeId":"`+project+`","scopeType":"project","clusterId":"`+cluster+`"}`, 201)
	// The types are the original's, but for one that docs/api.md tells of: tenants have names here, and no numbers.
	rule := map[string]any{
		"id": 0.0, "subjectId": "", "subjectType": "", "roleId": 0.0, "roleName": "", "scopeId": "", "scopeType": "", "scopeName": "", "clusterId": "",
		"createdAt": "", "updatedAt": "", "deletedAt": nil, "createdBy": "", "tenantId": "", "status": map[string]any{"phase": "", "message": ""},
	}
	c.shaped("a rule", made, rule)
	id := strconv.FormatFloat(made["id"].(float64), 'f', 0, 64)
	if one := c.call("GET", rules+"/"+id, "", 200); !strings.HasSuffix(text(t, one, "scopePath"), "/stock-department/stock-project") {
		t.Errorf("the path is %v", one["scopePath"])
	}
	for i := range 7 {
		c.call("POST", rules, fmt.Sprintf(`{"subjectId":"stock group %d","subjectType":"group","roleId":5,"scopeId":%q,"scopeType":"project"}`, i, project), 201)
	}
	seen := map[float64]bool{}
	for offset, total := 0, 1; offset < total; {
		page := c.call("GET", fmt.Sprintf("%s?scopeId=%s&limit=3&offset=%d", rules, project, offset), "", 200)
		list := page["accessRules"].([]any)
		if shown := int(page["displayRecords"].(float64)); shown != len(list) || shown == 0 {
			t.Fatalf("a page of %d says %d", len(list), shown)
		}
		c.shaped("a page", page, map[string]any{"totalRecords": 0.0, "displayRecords": 0.0})
		for _, r := range list {
			c.shaped("a rule of a list", r.(map[string]any), rule)
			seen[r.(map[string]any)["id"].(float64)] = true
		}
		offset, total = offset+len(list), int(page["totalRecords"].(float64))
	}
	if len(seen) != 8 {
		t.Errorf("paged through %d rules", len(seen))
	}
	for query, want := range map[string]int{
		"subjectType=service-account&scopeId=" + project: 1, "subjectIds=" + application: 1, "clusterId=" + cluster + "&scopeId=" + project: 8,
		"scopeId=" + project + "&filterBy=" + url.QueryEscape("subjectId=^stock group"): 7, "scopeId=" + project + "&search=stock": 7, "scopeId=" + project + "&sortBy=subjectId&sortOrder=desc": 8,
	} {
		if page := c.call("GET", rules+"?"+query, "", 200); len(page["accessRules"].([]any)) != want {
			t.Errorf("?%s: %v, want %d", query, page["displayRecords"], want)
		}
	}
	if n := c.call("GET", rules+"/count?scopeId="+project, "", 200)["count"]; n != 8.0 {
		t.Errorf("counted %v", n)
	}

	batch := c.call("POST", rules+"/batch-create", `{"payload":{"roleId":5,"clusterId":"`+cluster+`","subjects":[{"subjectId":"b1","subjectType":"group"},{"subjectId":"b2","subjectType":"group"}],"scopes":[{"scopeId":"`+project+`","scopeType":"project"}]}}`, 200)
	if len(batch["succeeded"].([]any)) != 2 || len(batch["failed"].([]any)) != 0 {
		t.Fatalf("batch %v", batch)
	}
	var ids []string
	for _, r := range batch["succeeded"].([]any) {
		ids = append(ids, strconv.FormatFloat(r.(map[string]any)["id"].(float64), 'f', 0, 64))
	}
	for _, action := range []string{"validate_delete", "delete"} {
		done := c.call("POST", rules+"/batch", `{"ids":[`+strings.Join(append(ids, "999999"), ",")+`],"action":"`+action+`"}`, 200)
		if len(done["succeeded"].([]any)) != 2 || len(done["failed"].([]any)) != 1 {
			t.Errorf("%s: %v", action, done)
		}
	}
	if n := c.call("GET", rules+"/count?scopeId="+project, "", 200)["count"]; n != 8.0 {
		t.Errorf("%v rules after the batch", n)
	}
	c.call("DELETE", rules+"/"+id, "", 204)
	c.call("GET", rules+"/"+id, "", 404)
	c.call("GET", "/api/v1/authorization/me/access-rules", "", 200)
	c.call("POST", "/api/v1/authorization/permitted-scopes", `{"resourceType":"project","action":"read"}`, 200)
	for _, path := range []string{"/api/v1/authorization/permissions", "/api/v1/authorization/roles"} {
		if a := c.send("GET", path, "", ""); a.status != 200 || !bytes.HasPrefix(a.body, []byte("[{")) {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	c.shaped("a role", c.call("GET", "/api/v1/authorization/roles/5", "", 200), map[string]any{
		"id": 0.0, "name": "", "description": "", "custom": true, "enabled": true, "effectiveEnabled": true, "createdBy": "", "permissions": []any{},
		"kubernetesPermissions": map[string]any{"predefinedRole": ""},
	})
}

func (c *stockClient) refusals() {
	c.call("GET", "/api/v1/users/absent", "", 404)
	c.call("POST", "/api/v1/users", `{"email":"no e-mail"}`, 400)
	c.call("POST", "/api/v1/users", `{"email":"admin@acme.example"}`, 409)
	c.call("PUT", "/api/v1/users", `{}`, 405)
	c.with("").call("GET", "/api/v1/users", "", 401)
	c.tokens(`{"grantType":"magic"}`, 400)
	c.tokens(`{"grantType":"client_credentials","clientId":"x","clientID":"y","clientSecret":"z"}`, 400)
}

// stockProvider is an OpenID provider as far as its ID tokens go.
type stockProvider struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newStockProvider(t *testing.T) *stockProvider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	p := &stockProvider{key: key}
	point, err := key.PublicKey.Bytes()
	must(t, err)
	part := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%[1]q,"authorization_endpoint":"%[2]s/authorize","token_endpoint":"%[2]s/token","jwks_uri":"%[2]s/jwks","response_types_supported":["code"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`, p.URL, p.URL)
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"stock","x":%q,"y":%q}]}`, part(point[1:33]), part(point[33:]))
	})
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	return p
}

func (p *stockProvider) port() uint16 {
	u, _ := url.Parse(p.URL)
	n, _ := strconv.ParseUint(u.Port(), 10, 16)
	return uint16(n)
}

// exchange connects the provider and swaps one of its ID tokens.
func (p *stockProvider) exchange(c *stockClient) {
	ca, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})))
	must(c.T, err)
	c.call("POST", "/api/v1/idps", `{"name":"Stock","alias":"stock","type":"oidc","domains":["stock.example"],"ca":`+string(ca)+
		`,"oidcData":{"clientId":"fleetpass","clientSecret":"secret","discoverDocumentUrl":"`+p.URL+`/.well-known/openid-configuration","tokenExchange":true}}`, 201)
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": p.URL, "aud": "fleetpass", "sub": "1", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": rand.Text(),
		"email": "grace@stock.example", "email_verified": true})
	token.Header["kid"] = "stock"
	raw, err := token.SignedString(p.key)
	must(c.T, err)
	got := c.tokens(fmt.Sprintf(`{"grantType":"external_token_exchange","externalToken":%q}`, raw), 200)
	if me := c.with(text(c.T, got, "accessToken")).call("GET", "/api/v1/me", "", 200); text(c.T, me, "username") != "grace@stock.example" {
		c.Errorf("it is the token of %v", me)
	}
	c.tokens(fmt.Sprintf(`{"grantType":"external_token_exchange","externalToken":%q}`, raw+"x"), 400)
}
