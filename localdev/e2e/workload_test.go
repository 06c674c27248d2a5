package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/trust"
	"github.com/fleetpass/fleetpass/localdev/cluster"
)

// A workload of a real cluster needs no secret: the token of its service account, which the API server made for us, gets it a
// token for our own APIs, and one for a cluster, where it is known by its application. A service account beside it gets nothing,
// nor does a token that was made for somebody else.
func TestWorkloadIdentity(t *testing.T) {
	bin := cluster.Need(t)
	s, seed := system(t)
	ctx, c := t.Context(), seed.Clusters[0]
	conf, err := s.Authentication(seed.Tenant, c.ID)
	must(t, err)
	api, err := cluster.Start(ctx, cluster.Options{Name: c.Name, Dir: filepath.Join(t.TempDir(), c.Name), AuthenticationConfig: conf, Binaries: bin})
	must(t, err)
	t.Cleanup(api.Close)
	must(t, s.Join(ctx, seed.Tenant, c.ID, api))
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := api.Kubectl(ctx, args...)
		must(t, err)
		return strings.TrimSpace(out)
	}
	for _, name := range []string{"builder", "other"} {
		kubectl("create", "serviceaccount", name, "-n", "default")
	}
	issuer := s.OAuth.Issuer(seed.Tenant)
	token := func(account string, more ...string) string {
		t.Helper()
		return kubectl(append([]string{"create", "token", account, "-n", "default", "--duration=10m"}, more...)...)
	}

	// The administrator gives the cluster's keys by hand, as they are where nobody can reach it.
	var discovery struct{ Issuer string }
	must(t, json.Unmarshal([]byte(kubectl("get", "--raw", "/.well-known/openid-configuration")), &discovery))
	actor := core.SystemActor(seed.Tenant)
	issuers := &trust.Service{DB: s.DB, Now: s.Now, Base: s.Base, BrowserBase: s.BrowserBase}
	_, err = issuers.Create(ctx, actor, seed.Tenant, trust.Settings{Name: c.Name, Issuer: discovery.Issuer, JWKS: []byte(kubectl("get", "--raw", "/openid/v1/jwks")), Enabled: true})
	must(t, err)
	app, _, err := s.Directory.CreateApplication(ctx, actor, seed.Tenant, directory.NewApplication{Name: "ci", Trusts: []trust.Trust{{Issuer: c.Name, Conditions: []trust.Condition{
		{Claim: "sub", Values: []string{"system:serviceaccount:default:builder"}}, {Claim: "/kubernetes.io/namespace", Values: []string{"default"}},
	}}}})
	must(t, err)

	front := trusting(t, s)
	ask := func(pairs ...string) (int, map[string]any) {
		t.Helper()
		form := url.Values{"client_id": {string(app.ID)}}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		res, err := front.PostForm(issuer+"/token", form)
		must(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		must(t, err)
		var answer map[string]any
		must(t, json.Unmarshal(body, &answer))
		return res.StatusCode, answer
	}
	good := token("builder", "--audience="+issuer)
	status, answer := ask("grant_type", oauth.GrantJWTBearer, "assertion", good)
	if status != 200 || answer["access_token"] == nil {
		t.Fatalf("status %d: %v", status, answer)
	}
	for name, raw := range map[string]string{
		"another service account": token("other", "--audience="+issuer),
		"for the API server":      token("builder"),
		"for two":                 token("builder", "--audience="+issuer, "--audience=https://other.example"),
	} {
		if status, answer := ask("grant_type", oauth.GrantJWTBearer, "assertion", raw); status != 400 || answer["error"] != "invalid_grant" {
			t.Errorf("%s: status %d, %v", name, status, answer)
		}
	}
	status, answer = ask("grant_type", oauth.GrantExchange, "subject_token", good, "subject_token_type", oauth.TypeJWT, "audience", string(c.ID))
	if status != 200 {
		t.Fatalf("status %d: %v", status, answer)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(api.CA())
	anyone := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	q, err := http.NewRequestWithContext(ctx, "POST", api.URL()+"/apis/authentication.k8s.io/v1/selfsubjectreviews", strings.NewReader(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`))
	must(t, err)
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Authorization", "Bearer "+answer["access_token"].(string))
	res, err := anyone.Do(q)
	must(t, err)
	defer res.Body.Close()
	var review struct {
		Status struct{ UserInfo struct{ Username string } }
	}
	must(t, json.NewDecoder(res.Body).Decode(&review))
	if who := review.Status.UserInfo.Username; who != "fleetpass:app:"+string(app.ID) {
		t.Errorf("status %d: the cluster knows it as %q", res.StatusCode, who)
	}
}
