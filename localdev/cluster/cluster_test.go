package cluster_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/localdev/cluster"
)

func start(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	o.Binaries = cluster.Need(t)
	begun := time.Now()
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	t.Logf("ready in %s at %s", time.Since(begun).Round(time.Millisecond), c.URL())
	return c
}

func kubectl(t *testing.T, c *cluster.Cluster, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAdministratorAndStrangers(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{Name: "one"})
	var who struct {
		Status struct {
			UserInfo struct {
				Username string
				Groups   []string
			}
		}
	}
	if err := json.Unmarshal([]byte(kubectl(t, c, "auth", "whoami", "-o", "json")), &who); err != nil {
		t.Fatal(err)
	}
	if u := who.Status.UserInfo; u.Username != "admin" || len(u.Groups) == 0 || u.Groups[0] != "system:masters" {
		t.Errorf("the administrator is %+v", u)
	}
	if v := kubectl(t, c, "version"); !strings.Contains(v, "Server Version: "+cluster.KubernetesVersion) || !strings.Contains(v, "Client Version: "+cluster.KubernetesVersion) {
		t.Errorf("the version stamp is missing:\n%s", v)
	}
	resp, err := c.AdminClient().Get(c.URL() + "/api/v1/namespaces")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the administrator's client got %s", resp.Status)
	}
	if status := ask(t, c, "nonsense"); status != http.StatusUnauthorized {
		t.Errorf("a stranger's token got %d, want 401", status)
	}
	if _, err := c.Kubectl(t.Context(), "get", "nosuchthing"); err == nil || !strings.Contains(err.Error(), "nosuchthing") {
		t.Errorf("kubectl's own words are lost: %v", err)
	}
}

// ask lists namespaces with a bearer token.
func ask(t *testing.T, c *cluster.Cluster, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL()+"/api/v1/namespaces", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	transport := c.AdminClient().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = nil
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestRestartKeepsDataAndAddress(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("a-long-name/", 12)) // longer than a socket's path may be
	c := start(t, cluster.Options{Dir: dir})
	kubectl(t, c, "create", "namespace", "kept")
	url := c.URL()
	for range 2 { // stopping twice is fine
		c.Stop()
	}
	if _, err := c.AdminClient().Get(url + "/readyz"); err == nil {
		t.Fatal("a stopped cluster answers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Kubectl(ctx, "get", "namespace", "kept"); err == nil {
		t.Error("kubectl succeeds on a stopped cluster")
	}
	for range 2 { // restarting what runs does nothing
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	kubectl(t, c, "get", "namespace", "kept")

	c.Close()
	again := start(t, cluster.Options{Dir: dir}) // as another process would, later
	if again.URL() != url {
		t.Errorf("it was at %s and is now at %s", url, again.URL())
	}
	kubectl(t, again, "get", "namespace", "kept")
}

func TestAPortTakenMeanwhileIsReplaced(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	_, taken, _ := net.SplitHostPort(l.Addr().String())
	if err := os.WriteFile(filepath.Join(dir, "port"), []byte(taken), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, cluster.Options{Dir: dir})
	if strings.HasSuffix(c.URL(), ":"+taken) {
		t.Error("it claims a port that is another's")
	}
	kubectl(t, c, "get", "namespaces")
}

func TestWritesAreCounted(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{AuditPolicy: true})
	byAdmin := func(e cluster.AuditEntry) bool { return e.User == "admin" }
	if err := c.Apply(t.Context(), []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: default}, data: {k: v}}")); err != nil {
		t.Fatal(err)
	}
	kubectl(t, c, "get", "configmaps") // reads are not writes
	if _, err := c.Kubectl(t.Context(), "create", "namespace", "default"); err == nil {
		t.Fatal("created a namespace twice")
	}
	kubectl(t, c, "delete", "configmap", "a")
	got, err := c.Writes(byAdmin)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range got {
		lines = append(lines, fmt.Sprintf("%s %s %s/%s %d", e.Verb, e.Resource, e.Namespace, e.Name, e.Code))
	}
	want := []string{"create configmaps default/a 201", "create namespaces /default 409", "delete configmaps default/a 200"}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("writes:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	all, err := c.Writes(nil)
	if err != nil || len(all) <= len(got) {
		t.Errorf("the server's own writes are missing: %d in all, %d of the administrator (%v)", len(all), len(got), err)
	}
	if _, err := start(t, cluster.Options{}).Writes(nil); err == nil {
		t.Error("a cluster that records nothing reports no writes, rather than an error")
	}
}

// issuer is an OpenID provider of the smallest kind: a discovery document, one key, and a way to sign.
type issuer struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"response_types_supported":["code"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["ES256"]}`, i.URL, i.URL+"/jwks")
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","use":"sig","alg":"ES256","kid":"1","x":%q,"y":%q}]}`, b64(point[1:33]), b64(point[33:]))
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) config(audience string) []byte {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})
	return []byte(fmt.Sprintf("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: %s\n    audiences: [%s]\n    certificateAuthority: |\n      %s\n  claimMappings:\n    username: {claim: sub, prefix: 'test:'}\n",
		i.URL, audience, strings.ReplaceAll(strings.TrimSpace(string(ca)), "\n", "\n      ")))
}

func (i *issuer) token(t *testing.T, audience string) string {
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": i.URL, "aud": audience, "sub": "ada", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix()})
	token.Header["kid"] = "1"
	raw, err := token.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAuthenticationIsReloaded(t *testing.T) {
	t.Parallel()
	c := start(t, cluster.Options{})
	i := newIssuer(t)
	if status := ask(t, c, i.token(t, "one")); status != http.StatusUnauthorized {
		t.Fatalf("before: %d, want 401", status)
	}
	begun := time.Now()
	if err := c.SetAuthentication(t.Context(), i.config("one")); err != nil {
		t.Fatal(err)
	}
	t.Logf("obeyed in %s", time.Since(begun).Round(time.Millisecond))
	// 403, not 401: it is known who asks, and nothing is granted to her.
	if status := ask(t, c, i.token(t, "one")); status != http.StatusForbidden {
		t.Errorf("a token for this cluster got %d, want 403", status)
	}
	if status := ask(t, c, i.token(t, "two")); status != http.StatusUnauthorized {
		t.Errorf("a token for another cluster got %d, want 401", status)
	}
	if err := c.SetAuthentication(t.Context(), i.config("one")); err != nil {
		t.Errorf("the same again: %v", err)
	}
	bad := bytes.Replace(i.config("one"), []byte("https://"), []byte("http://"), 1)
	if err := c.SetAuthentication(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("an http issuer: %v, want the API server's reason", err)
	}
	if status := ask(t, c, i.token(t, "one")); status != http.StatusForbidden {
		t.Errorf("after a refused configuration: %d, want the old one in force (403)", status)
	}
	c.Stop()
	if err := c.SetAuthentication(t.Context(), i.config("two")); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(15 * time.Second)
	for ask(t, c, i.token(t, "two")) != http.StatusForbidden { // at start it fetches the keys in the background
		if time.Now().After(deadline) {
			t.Fatal("the configuration set while stopped is not in force")
		}
		time.Sleep(100 * time.Millisecond)
	}
}
