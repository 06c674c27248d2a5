package openshift_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/openshift"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/sso"
)

// cluster is a stand-in for an OpenShift 4 cluster with its OAuth server, in the shapes that Red Hat documents: the metadata
// under /.well-known/oauth-authorization-server ("OAuth server metadata"), /oauth/authorize and /oauth/token for an
// OAuthClient ("Configuring the internal OAuth server"), and the virtual object users/~ of user.openshift.io/v1. It is
// strict where it can be: a code works once, for one client, redirect URI and verifier. The OAuth server has a host of its own.
type cluster struct {
	api, oauth *httptest.Server

	mu      sync.Mutex
	client  string
	secret  string
	return_ string
	scope   string // what a token must have for users/~
	user    string // the document of users/~
	code    code
	token   string
	last    url.Values // the token request
	serves  func(w http.ResponseWriter, r *http.Request) bool
}

type code struct{ value, challenge, scope string }

const (
	clientID     = "fleetpass"
	clientSecret = "canary-secret"
	returnTo     = "https://fleetpass.test/t/acme/oidc/ocp/callback"
	accessToken  = "sha256~canary-token"
)

// ada is users/~ as a cluster writes it, managedFields shortened.
const ada = `{
  "kind": "User", "apiVersion": "user.openshift.io/v1",
  "metadata": {"name": "ada", "uid": "5d2fc5ce-8f2b-4d67-9a8f-0b1f43c1c3a7", "resourceVersion": "34261",
    "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "oauth-server", "fieldsV1": {"f:fullName": {}}}]},
  "fullName": "Ada King Lovelace", "identities": ["ldap:Y249YWRh"],
  "groups": ["researchers", "gpu users", "system:authenticated", "system:authenticated:oauth"]
}`

func newCluster(t *testing.T) (*cluster, *openshift.Provider, sso.Connection) {
	t.Helper()
	k := &cluster{client: clientID, secret: clientSecret, return_: returnTo, scope: "user:info", user: ada}
	k.api = httptest.NewTLSServer(http.HandlerFunc(k.serve))
	k.oauth = httptest.NewTLSServer(http.HandlerFunc(k.serve))
	t.Cleanup(k.api.Close)
	t.Cleanup(k.oauth.Close)
	out := outbound.New(outbound.Policy{
		Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Ports: []uint16{portOf(t, k.api.URL), portOf(t, k.oauth.URL)},
	})
	p := openshift.New(out)
	c := sso.Connection{
		ID: "c1", Alias: "ocp", Kind: sso.OpenShift, Domains: []string{"acme.test"},
		CA:        string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.api.Certificate().Raw})),
		OpenShift: &sso.OpenShiftSettings{BaseURL: k.api.URL + "/", ClientID: clientID},
	}
	return k, p, c
}

func portOf(t *testing.T, address string) uint16 {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

// set changes the cluster.
func (k *cluster) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *cluster) metadata() string {
	return fmt.Sprintf(`{"issuer": %[1]q, "authorization_endpoint": "%[2]s/oauth/authorize", "token_endpoint": "%[2]s/oauth/token",
	"scopes_supported": ["user:check-access", "user:full", "user:info", "user:list-projects", "user:list-scoped-projects"],
	"response_types_supported": ["code", "token"], "grant_types_supported": ["authorization_code", "implicit"],
	"code_challenge_methods_supported": ["plain", "S256"]}`, k.oauth.URL, k.oauth.URL)
}

func (k *cluster) serve(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.serves != nil && k.serves(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		fmt.Fprint(w, k.metadata())
	case "/oauth/authorize":
		k.authorize(w, r)
	case "/oauth/token":
		k.swap(w, r)
	case "/apis/user.openshift.io/v1/users/~":
		switch bearer := r.Header.Get("Authorization"); {
		case k.token == "" || bearer != "Bearer "+k.token:
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`)
		case !strings.Contains(" "+k.code.scope+" ", " "+k.scope+" ") && !strings.Contains(k.code.scope, "user:full"):
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`)
		default:
			fmt.Fprint(w, k.user)
		}
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// authorize is somebody who is signed in at the cluster already, and a client with grantMethod auto.
func (k *cluster) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != k.client || q.Get("redirect_uri") != k.return_ || q.Get("response_type") != "code" {
		w.WriteHeader(http.StatusBadRequest) // shown to the person: it is not known where to send them back to
		fmt.Fprint(w, `{"error":"invalid_request"}`)
		return
	}
	back := url.Values{"state": {q.Get("state")}}
	if method := q.Get("code_challenge_method"); method != "S256" && q.Get("code_challenge") != "" {
		back.Set("error", "invalid_request")
	} else {
		k.code = code{fmt.Sprintf("sha256~code-%d", time.Now().UnixNano()), q.Get("code_challenge"), q.Get("scope")}
		back.Set("code", k.code.value)
	}
	http.Redirect(w, r, k.return_+"?"+back.Encode(), http.StatusFound)
}

func (k *cluster) swap(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	k.last = r.PostForm
	refuse := func(problem string) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":%q,"error_description":"The request is %s."}`, problem, problem)
	}
	f := r.PostForm
	sum := sha256.Sum256([]byte(f.Get("code_verifier")))
	switch {
	case r.Method != http.MethodPost || f.Get("grant_type") != "authorization_code":
		refuse("unsupported_grant_type")
	case f.Get("client_id") != k.client || f.Get("client_secret") != k.secret:
		refuse("unauthorized_client")
	case k.code.value == "" || f.Get("code") != k.code.value || f.Get("redirect_uri") != k.return_,
		k.code.challenge != "" && base64.RawURLEncoding.EncodeToString(sum[:]) != k.code.challenge:
		refuse("invalid_grant")
	default:
		k.code.value, k.token = "", accessToken
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": k.token, "token_type": "Bearer", "expires_in": 86400, "scope": k.code.scope})
	}
}

// browse goes where a browser is sent, and returns what it brings back.
func (k *cluster) browse(t *testing.T, departure string) map[string]string {
	t.Helper()
	client := *k.oauth.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Get(departure)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	to, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatalf("the cluster answers %d, to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	params := map[string]string{}
	for name, values := range to.Query() {
		params[name] = values[0]
	}
	return params
}
