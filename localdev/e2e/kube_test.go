package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/kubernetes"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/localdev/cluster"
	"github.com/fleetpass/fleetpass/localdev/pki"
)

// site is one tenant with one real cluster that trusts it, below every function: core services over bolt.
type site struct {
	t       *testing.T
	api     *cluster.Cluster
	tenant  core.TenantID
	issuer  string
	id      core.ClusterID
	ring    *keys.Ring
	org     *org.Service
	access  *access.Service
	people  *directory.Service
	sync    *sync.Service
	anyone  *http.Client // trusts the API server, proves nothing
	manager core.Actor
}

func newSite(t *testing.T) *site {
	t.Helper()
	ctx := t.Context()
	bin := cluster.Need(t)
	now := func() time.Time { return time.Now().UTC() }
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true})
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	must(t, err)

	s := &site{t: t, tenant: "acme", manager: core.SystemActor("acme")}
	s.ring = keys.NewRing(db, wrapper, now)
	s.org = &org.Service{DB: db, Ring: s.ring, Now: now}
	s.access = &access.Service{DB: db, Now: now}
	s.people = &directory.Service{DB: db, Ring: s.ring, Now: now, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}}

	ca, err := pki.Open("", "test")
	must(t, err)
	leaf, err := ca.Server("localhost", "127.0.0.1")
	must(t, err)
	pair, err := leaf.Pair()
	must(t, err)
	front := httptest.NewUnstartedServer(s)
	front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	front.StartTLS()
	t.Cleanup(front.Close)
	s.issuer = front.URL + "/t/acme"

	_, err = s.org.CreateTenant(ctx, s.manager, string(s.tenant), "Acme")
	must(t, err)
	_, _, err = s.people.CreateUser(ctx, s.manager, s.tenant, directory.NewUser{Email: "root@example.com"})
	must(t, err)
	s.grant(core.UserSubject("root@example.com"), policy.SystemAdministrator, core.AccountScope(s.tenant))
	s.manager.Subject = core.UserSubject("root@example.com")
	made, err := s.org.CreateCluster(ctx, s.manager, s.tenant, "one", org.Reach{Server: "https://127.0.0.1:1"})
	must(t, err)
	s.id = made.Cluster
	authn, err := kube.Authentication(kube.Issuer{URL: s.issuer, CA: string(ca.PEM), Audience: s.id, Prefixes: kube.DefaultPrefixes})
	must(t, err)
	s.api, err = cluster.Start(ctx, cluster.Options{Binaries: bin, AuthenticationConfig: authn, AuditPolicy: true})
	must(t, err)
	t.Cleanup(s.api.Close)
	_, err = s.org.UpdateCluster(ctx, s.manager, s.tenant, s.id, org.Reach{Server: s.api.URL(), CA: string(s.api.CA())})
	must(t, err)

	s.sync = &sync.Service{DB: db, Org: s.org, Ring: s.ring, Dial: kubernetes.Dial, Now: now, Base: front.URL, Log: slog.New(slog.DiscardHandler)}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.api.CA())
	s.anyone = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 20 * time.Second}
	return s
}

// ServeHTTP is the tenant's issuer, as much of it as an API server asks for.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/t/acme/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": s.issuer, "jwks_uri": s.issuer + "/jwks", "authorization_endpoint": s.issuer + "/authorize",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"id_token_signing_alg_values_supported": []string{"ES256"},
		})
	case "/t/acme/jwks":
		set, err := s.ring.JWKS(r.Context(), s.tenant)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(set.Body)
	default:
		http.NotFound(w, r)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bootstrap applies the manifest and waits until the API server enforces its policies.
func (s *site) bootstrap() {
	s.t.Helper()
	manifest, _, err := kube.Bootstrap(kube.DefaultPrefixes)
	must(s.t, err)
	must(s.t, s.api.Apply(s.t.Context(), manifest))
	self := s.mint(kube.SyncUser)
	refused := func(path, body string) bool { // by a policy, not by RBAC
		_, answer := s.call(self, "POST", path+"?dryRun=All", body)
		return strings.Contains(answer, "ValidatingAdmissionPolicy")
	}
	for range 150 {
		if refused("/api/v1/namespaces", `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"probe"}}`) &&
			refused("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"probe"},
				"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"fleetpass-viewer-ns"}}`) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Fatal("the bootstrap's policies do not take effect")
}

// mint makes a cluster token as oauth's exchange would.
func (s *site) mint(name string, groups ...string) string {
	s.t.Helper()
	now := time.Now()
	email := ""
	if strings.Contains(name, "@") {
		email = name
	}
	raw, err := token.Mint(s.t.Context(), s.ring, s.tenant, keys.ES256, token.Cluster{
		Issuer: s.issuer, Subject: "sub-" + strings.ReplaceAll(name, "@", "-"), Audience: string(s.id), IssuedAt: now, Expires: now.Add(5 * time.Minute),
		ID: core.NewID(), PreferredUsername: name, Email: email, EmailVerified: email != "", Groups: groups,
	})
	must(s.t, err)
	return raw
}

// forge signs any claims with the tenant's own key: what no gate of ours would let through.
func (s *site) forge(claims jwt.MapClaims) string {
	s.t.Helper()
	key, err := s.ring.Signer(s.t.Context(), s.tenant, keys.ES256)
	must(s.t, err)
	all := jwt.MapClaims{"iss": s.issuer, "aud": string(s.id), "sub": "x", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	unsigned := jwt.NewWithClaims(jwt.SigningMethodES256, all)
	unsigned.Header["kid"] = key.ID
	raw, err := unsigned.SignedString(key.Signer)
	must(s.t, err)
	return raw
}

// call makes one request with a bearer token and returns the status and body.
func (s *site) call(bearer, method, path, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.api.URL()+path, strings.NewReader(body))
	must(s.t, err)
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Content-Type", "application/json")
	if method == "PATCH" {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := s.anyone.Do(req)
	must(s.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(s.t, err)
	return resp.StatusCode, string(data)
}

// can asks the API server whether the bearer may do something (SelfSubjectAccessReview).
func (s *site) can(bearer, verb, group, resource, namespace string) bool {
	s.t.Helper()
	resource, sub, _ := strings.Cut(resource, "/")
	ask, _ := json.Marshal(map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": map[string]any{
		"resourceAttributes": map[string]string{"verb": verb, "group": group, "resource": resource, "subresource": sub, "namespace": namespace}}})
	code, body := s.call(bearer, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", string(ask))
	if code != http.StatusCreated {
		s.t.Fatalf("SelfSubjectAccessReview: %d %s", code, body)
	}
	var answer struct {
		Status struct{ Allowed bool } `json:"status"`
	}
	must(s.t, json.Unmarshal([]byte(body), &answer))
	return answer.Status.Allowed
}

func (s *site) project(name string) org.Scope {
	s.t.Helper()
	p, err := s.org.CreateProject(s.t.Context(), s.manager, s.tenant, org.NewProject{Name: name, Parent: core.ClusterScope(s.id)})
	must(s.t, err)
	return p
}

func (s *site) grant(who core.Subject, role core.RoleID, scope core.ScopeID) core.Rule {
	s.t.Helper()
	made, err := s.access.Seed(s.t.Context(), s.tenant, access.NewRule{Subject: who, Role: role, Scope: scope})
	must(s.t, err)
	return made[0]
}

// reconcile runs sync once and returns the writes that reached the API server, as "verb namespace/name".
func (s *site) reconcile(full bool) []string {
	s.t.Helper()
	before, err := s.api.Writes(nil)
	must(s.t, err)
	must(s.t, s.sync.Reconcile(s.t.Context(), sync.Message{Tenant: s.tenant, Cluster: s.id, Full: full}))
	after, err := s.api.Writes(nil)
	must(s.t, err)
	out := []string{}
	for _, w := range after[len(before):] {
		if w.User == "fleetpass:sync" {
			out = append(out, w.Verb+" "+w.Namespace+"/"+w.Name)
		}
	}
	slices.Sort(out)
	return out
}

func (s *site) status() sync.Status {
	s.t.Helper()
	st, err := s.sync.Status(s.t.Context(), s.tenant, s.id)
	must(s.t, err)
	return st
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

const job = `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"train"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"busybox"}]}}}}`

func jobsIn(p org.Scope) string {
	return "/apis/batch/v1/namespaces/" + string(p.Namespace) + "/jobs?dryRun=All"
}

func (s *site) revoke(r core.Rule) {
	s.t.Helper()
	must(s.t, s.access.Delete(s.t.Context(), s.manager, r.ID))
}

// Everything that Fleetpass does to a cluster, on a real API server, whose own audit log counts the writes.
func TestRealCluster(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	vision, speech := s.project("vision"), s.project("speech")

	// Without the bootstrap sync may do nothing: it says so, and does not try for ever (K8S-015).
	refused := 0
	for s.sync.Reconcile(ctx, sync.Message{Tenant: s.tenant, Cluster: s.id}) != nil {
		if refused++; refused > 10 {
			t.Fatal("it is tried for ever")
		}
	}
	equal(t, s.reconcile(false))
	if st := s.status(); !st.Terminal || st.LastError == "" || st.Reached != 0 || st.Failures < 2 {
		t.Errorf("status without bootstrap: %+v", st)
	}
	s.bootstrap()
	equal(t, s.reconcile(false), "create /fleetpass-vision", "create /fleetpass-speech",
		"create fleetpass-vision/fleetpass-system-administrator-ns", "create fleetpass-speech/fleetpass-system-administrator-ns", "create /fleetpass-system-administrator")

	t.Run("the port's promise", func(t *testing.T) { testPort(t, s) })
	t.Run("grant and revoke", func(t *testing.T) { testGrant(t, s, vision, speech) })
	t.Run("drift", func(t *testing.T) { testDrift(t, s, vision) })
	t.Run("namespaces", func(t *testing.T) { testNamespaces(t, s) })
	t.Run("scopes", func(t *testing.T) { testScopes(t, s) })
	t.Run("roles", func(t *testing.T) { testRoles(t, s, speech) })
	t.Run("secrets", func(t *testing.T) { testSecrets(t, s, vision) })
	t.Run("confined", func(t *testing.T) { testConfined(t, s, vision) })
	t.Run("names", func(t *testing.T) { testNames(t, s, vision) })
	t.Run("nothing holds back a removal", func(t *testing.T) { testRemovals(t, s) })
	t.Run("late writers", func(t *testing.T) { testLate(t, s, vision) })
	t.Run("previews", func(t *testing.T) { testPreviews(t, s) })
	t.Run("leaving", func(t *testing.T) {
		_, err := s.api.Kubectl(ctx, "label", "clusterrole", "view", kube.LabelManagedBy+"=someone-else")
		must(t, err)
		must(t, s.org.DeleteScope(ctx, s.manager, s.tenant, core.ClusterScope(s.id), true))
		s.reconcile(false)
		for _, kind := range []string{"rolebindings", "clusterrolebindings"} {
			out, err := s.api.Kubectl(ctx, "get", kind, "-A", "-o", "name", "-l", kube.LabelManagedBy+"="+kube.ManagedBy)
			if left := strings.Fields(out); err != nil || kind == "rolebindings" && len(left) != 1 || kind == "clusterrolebindings" && len(left) != 0 {
				t.Errorf("%s left behind: %q %v, want none but the foreign one", kind, out, err)
			}
		}
	})
}

func testGrant(t *testing.T, s *site, vision, speech org.Scope) {
	adas := s.mint("ada@example.com", "ml-team")
	create := func(p org.Scope) int {
		code, _ := s.call(adas, "POST", jobsIn(p), job)
		return code
	}
	if got := create(vision); got != http.StatusForbidden {
		t.Errorf("before the grant: %d, want 403", got)
	}
	rule := s.grant(core.UserSubject("ada@example.com"), policy.L1Researcher, vision.ID)
	equal(t, s.reconcile(false), "create fleetpass-vision/fleetpass-l1-researcher-ns", "create /fleetpass-l1-researcher")
	if got := create(vision); got != http.StatusCreated {
		t.Errorf("after the grant: %d, want 201", got)
	}
	if got := create(speech); got != http.StatusForbidden {
		t.Errorf("in the next project: %d, want 403", got)
	}
	equal(t, s.reconcile(false))
	equal(t, s.reconcile(true))

	// One rule is one write to each namespace and role that it concerns, and to the role's reads of the cluster if the
	// subject did not have those yet.
	bob := s.grant(core.UserSubject("bob@example.com"), policy.L1Researcher, vision.ID)
	equal(t, s.reconcile(false), "update fleetpass-vision/fleetpass-l1-researcher-ns", "update /fleetpass-l1-researcher")
	more := s.grant(core.UserSubject("bob@example.com"), policy.L1Researcher, core.AccountScope(s.tenant))
	equal(t, s.reconcile(false), "create fleetpass-speech/fleetpass-l1-researcher-ns")
	s.revoke(more)
	equal(t, s.reconcile(false), "update fleetpass-speech/fleetpass-l1-researcher-ns")
	s.revoke(bob)
	s.revoke(rule)
	equal(t, s.reconcile(false), "update fleetpass-vision/fleetpass-l1-researcher-ns", "update /fleetpass-l1-researcher")
	if got := create(vision); got != http.StatusForbidden {
		t.Errorf("after the revocation: %d, want 403", got)
	}
	equal(t, s.reconcile(true)) // what is emptied stays for a time
	meta, err := s.org.Tenant(t.Context(), s.tenant)
	must(t, err)
	if st := s.status(); st.Reached != meta.Value.Revision || st.LastError != "" || st.Failures != 0 || st.Bootstrap != "current" || !st.WantedSince.IsZero() || st.FullAt.IsZero() {
		t.Errorf("status: %+v at revision %d", st, meta.Value.Revision)
	}

	// A person who is disabled is bound nowhere, whatever the rules say, and is again when enabled.
	_, _, err = s.people.CreateUser(t.Context(), s.manager, s.tenant, directory.NewUser{Email: "cat@example.com"})
	must(t, err)
	cat := s.grant(core.UserSubject("cat@example.com"), policy.Viewer, vision.ID)
	equal(t, s.reconcile(false), "create fleetpass-vision/fleetpass-viewer-ns", "create /fleetpass-viewer")
	_, err = s.people.Disable(t.Context(), s.manager, s.tenant, "cat@example.com")
	must(t, err)
	equal(t, s.reconcile(false), "update fleetpass-vision/fleetpass-viewer-ns", "update /fleetpass-viewer")
	_, err = s.people.Enable(t.Context(), s.manager, s.tenant, "cat@example.com")
	must(t, err)
	equal(t, s.reconcile(false), "update fleetpass-vision/fleetpass-viewer-ns", "update /fleetpass-viewer")
	s.revoke(cat)
	s.reconcile(false)
}

// What somebody did to our bindings by hand is undone; what is not ours is left as it is, to the byte.
func testDrift(t *testing.T, s *site, vision org.Scope) {
	ctx := t.Context()
	ns := string(vision.Namespace)
	foreign := `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"fleetpass-editor-ns","namespace":"` + ns + `","labels":{"app.kubernetes.io/managed-by":"fleetpass"},
		"annotations":{"fleetpass.dev/claim":"guess","fleetpass.dev/revision":"999999"}},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"fleetpass-editor-ns"},"subjects":[{"kind":"User","name":"mallory","apiGroup":"rbac.authorization.k8s.io"}]}`
	must(t, s.api.Apply(ctx, []byte(foreign)))
	get := func(name string) string {
		out, err := s.api.Kubectl(ctx, "get", "rolebinding", "-n", ns, name, "-o", "json")
		must(t, err)
		return out
	}
	before := get("fleetpass-editor-ns")

	patch := func(body string) {
		_, err := s.api.Kubectl(ctx, "patch", "rolebinding", "-n", ns, "fleetpass-system-administrator-ns", "--type=merge", "-p", body)
		must(t, err)
	}
	patch(`{"subjects":[{"kind":"Group","name":"system:authenticated","apiGroup":"rbac.authorization.k8s.io"},{"kind":"ServiceAccount","name":"default","namespace":"default"}]}`)
	equal(t, s.reconcile(false), "update "+ns+"/fleetpass-system-administrator-ns")
	if got := get("fleetpass-system-administrator-ns"); strings.Contains(got, "system:authenticated") || !strings.Contains(got, "fleetpass:root@example.com") {
		t.Errorf("not put back: %s", got)
	}
	_, err := s.api.Kubectl(ctx, "delete", "rolebinding", "-n", ns, "fleetpass-system-administrator-ns")
	must(t, err)
	equal(t, s.reconcile(false), "create "+ns+"/fleetpass-system-administrator-ns")

	// A rule that wants a binding of the foreign one's name is reported, and does not take it over.
	rule := s.grant(core.GroupSubject("editors"), policy.Editor, vision.ID)
	equal(t, s.reconcile(false), "create /fleetpass-editor")
	if st := s.status(); st.Counts.Impostors != 1 || !st.Terminal || !slices.ContainsFunc(st.Problems, func(p string) bool { return strings.Contains(p, "fleetpass-editor-ns") }) {
		t.Errorf("status: %+v", st)
	}
	s.revoke(rule)
	s.reconcile(true)
	if after := get("fleetpass-editor-ns"); after != before {
		t.Errorf("a foreign binding changed:\n%s\n%s", before, after)
	}
	_, err = s.api.Kubectl(ctx, "patch", "rolebinding", "-n", ns, "fleetpass-editor-ns", "--type=merge", "-p", `{"subjects":null}`)
	must(t, err)
	s.reconcile(false) // it gives nobody anything, so it is no alarm, and foreign still
	if st := s.status(); st.Counts.Foreign != 1 || st.Counts.Impostors != 0 || st.LastError != "" {
		t.Errorf("status: %+v", st)
	}
}

// A namespace that is there already waits for its administrator's label, and loses everybody with it.
func testNamespaces(t *testing.T, s *site) {
	ctx := t.Context()
	_, err := s.api.Kubectl(ctx, "create", "namespace", "theirs")
	must(t, err)
	p, err := s.org.CreateProject(ctx, s.manager, s.tenant, org.NewProject{Name: "adopted", Parent: core.ClusterScope(s.id), Namespace: "theirs"})
	must(t, err)
	rule := s.grant(core.UserSubject("dan@example.com"), policy.Viewer, p.ID)
	s.reconcile(false)
	dans := s.mint("dan@example.com")
	if st := s.status(); st.Counts.Pending != 1 || s.can(dans, "list", "", "pods", "theirs") {
		t.Errorf("bound in a namespace that nobody gave us: %+v", st)
	}
	equal(t, s.reconcile(false)) // and waiting costs no writes
	_, err = s.api.Kubectl(ctx, "label", "namespace", "theirs", kube.LabelProject+"="+kube.ProjectLabel(p.ID))
	must(t, err)
	equal(t, s.reconcile(false), "create theirs/fleetpass-viewer-ns", "create theirs/fleetpass-system-administrator-ns")
	if !s.can(dans, "list", "", "pods", "theirs") {
		t.Error("not bound after the label")
	}
	_, err = s.api.Kubectl(ctx, "label", "namespace", "theirs", kube.LabelProject+"-")
	must(t, err)
	equal(t, s.reconcile(false), "update theirs/fleetpass-viewer-ns", "update theirs/fleetpass-system-administrator-ns")
	if s.can(dans, "list", "", "pods", "theirs") {
		t.Error("still bound after the label went")
	}
	s.revoke(rule)
	must(t, s.org.DeleteScope(ctx, s.manager, s.tenant, p.ID, true))
	s.reconcile(false)
	labels, err := s.api.Kubectl(ctx, "get", "namespace", "fleetpass-vision", "-o", "jsonpath={.metadata.labels}")
	if err != nil || !strings.Contains(labels, `"pod-security.kubernetes.io/enforce":"baseline"`) {
		t.Errorf("labels of our own namespace: %s %v", labels, err)
	}
}

// A rule at a department follows projects as they are made, moved and deleted.
func testScopes(t *testing.T, s *site) {
	ctx := t.Context()
	dep, err := s.org.CreateDepartment(ctx, s.manager, s.tenant, s.id, "research")
	must(t, err)
	s.grant(core.GroupSubject("research"), policy.Viewer, dep.ID)
	p, err := s.org.CreateProject(ctx, s.manager, s.tenant, org.NewProject{Name: "robots", Parent: dep.ID})
	must(t, err)
	s.reconcile(false)
	eves := s.mint("eve@example.com", "research")
	if !s.can(eves, "list", "", "pods", "fleetpass-robots") || s.can(eves, "list", "", "pods", "fleetpass-vision") {
		t.Error("a rule at the department does not hold in its project alone")
	}
	_, err = s.org.Move(ctx, s.manager, s.tenant, p.ID, core.ClusterScope(s.id))
	must(t, err)
	equal(t, s.reconcile(false), "update fleetpass-robots/fleetpass-viewer-ns")
	if s.can(eves, "list", "", "pods", "fleetpass-robots") {
		t.Error("the rule still holds after the project moved away (TEN-003)")
	}
	_, err = s.org.Move(ctx, s.manager, s.tenant, p.ID, dep.ID)
	must(t, err)
	s.reconcile(false)
	must(t, s.org.DeleteScope(ctx, s.manager, s.tenant, dep.ID, true))
	s.reconcile(false)
	if s.can(eves, "list", "", "pods", "fleetpass-robots") || s.can(s.mint("root@example.com"), "list", "", "pods", "fleetpass-robots") {
		t.Error("access to a deleted project's namespace")
	}
	if st := s.status(); st.Counts.Held != 0 || st.LastError != "" {
		t.Errorf("status: %+v", st)
	}
}

// A role at the account gives its rights in projects, and nothing in kube-system or any namespace that is no project.
func testRoles(t *testing.T, s *site, project org.Scope) {
	_, err := s.api.Kubectl(t.Context(), "create", "namespace", "bystander")
	must(t, err)
	var rules []core.Rule
	for _, r := range policy.Roles() {
		rules = append(rules, s.grant(core.GroupSubject(core.GroupName("role-"+fmt.Sprint(r.ID))), r.ID, core.AccountScope(s.tenant)))
	}
	s.reconcile(false)
	all := func(bearer, ns string) map[string]bool {
		code, body := s.call(bearer, "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"`+ns+`"}}`)
		var answer struct {
			Status struct {
				ResourceRules []struct{ Verbs, APIGroups, Resources []string } `json:"resourceRules"`
			} `json:"status"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || code != http.StatusCreated {
			t.Fatalf("SelfSubjectRulesReview: %d %s", code, body)
		}
		out := map[string]bool{}
		for _, r := range answer.Status.ResourceRules {
			for _, v := range r.Verbs {
				for _, res := range r.Resources {
					out[v+" "+res+"."+strings.Join(r.APIGroups, "|")] = true
				}
			}
		}
		return out
	}
	wide := map[string]bool{}
	for _, r := range kube.ClusterRoles() {
		for _, rule := range r.Rules {
			for _, v := range rule.Verbs {
				for _, res := range rule.Resources {
					if !strings.HasSuffix(r.Metadata.Name, "-ns") {
						wide[v+" "+res+"."+rule.APIGroups[0]] = true
					}
				}
			}
		}
	}
	nobody := s.mint("nobody@example.com")
	for _, r := range policy.Roles() {
		bearer := s.mint("someone@example.com", "role-"+fmt.Sprint(r.ID))
		for _, ns := range []string{"kube-system", "kube-public", "default", "bystander"} {
			base := all(nobody, ns)
			for right := range all(bearer, ns) {
				if !base[right] && !wide[right] {
					t.Errorf("%s at the account: %s in %s", r.Name, right, ns)
				}
			}
			for _, ask := range [][3]string{{"list", "", "pods"}, {"get", "", "secrets"}, {"create", "", "pods/exec"}, {"get", "", "namespaces"}, {"create", "rbac.authorization.k8s.io", "rolebindings"}} {
				if s.can(bearer, ask[0], ask[1], ask[2], ns) {
					t.Errorf("%s at the account: may %v in %s", r.Name, ask, ns)
				}
			}
		}
		if s.can(bearer, "list", "", "namespaces", "") || s.can(bearer, "list", "", "pods", "") || s.can(bearer, "get", "", "nodes/proxy", "") || s.can(bearer, "impersonate", "", "users", "") {
			t.Errorf("%s: too much cluster-wide", r.Name)
		}
		if got, want := s.can(bearer, "list", "", "pods", string(project.Namespace)), policy.Permits(r.ID, policy.Workloads, policy.View); got != want {
			t.Errorf("%s: list pods in a project: %v, want %v", r.Name, got, want)
		}
		if got, want := s.can(bearer, "list", "", "nodes", ""), policy.Permits(r.ID, policy.Nodes, policy.View); got != want {
			t.Errorf("%s: list nodes: %v, want %v", r.Name, got, want)
		}
	}
	for _, r := range rules {
		s.revoke(r)
	}
	s.reconcile(false)
	if s.can(s.mint("someone@example.com", "role-5"), "list", "", "pods", string(project.Namespace)) {
		t.Error("the role's rights outlive its rules")
	}
}

// Who may only manage credentials writes Secrets and reads none, by any verb's answer.
func testSecrets(t *testing.T, s *site, vision org.Scope) {
	ns := "/api/v1/namespaces/" + string(vision.Namespace) + "/secrets"
	rule := s.grant(core.GroupSubject("credentials"), policy.CredentialsAdministrator, vision.ID)
	viewer := s.grant(core.GroupSubject("viewers"), policy.Viewer, vision.ID)
	s.reconcile(false)
	bearer := s.mint("carl@example.com", "credentials")
	const mine = `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"mine"},"stringData":{"k":"v"}}`
	if code, body := s.call(bearer, "POST", ns, mine); code != http.StatusCreated {
		t.Errorf("create: %d %s", code, body)
	}
	_, err := s.api.Kubectl(t.Context(), "create", "secret", "generic", "theirs", "-n", string(vision.Namespace), "--from-literal=k=topsecret")
	must(t, err)
	const hidden = "dG9wc2VjcmV0" // base64 of topsecret
	for _, who := range []string{bearer, s.mint("vera@example.com", "viewers")} {
		for _, c := range [][3]string{
			{"GET", ns, ""}, {"GET", ns + "/theirs", ""}, {"PATCH", ns + "/theirs", `{"metadata":{"labels":{"a":"b"}}}`}, {"DELETE", ns, ""},
			{"PUT", ns + "/theirs?dryRun=All", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"theirs"}}`},
			{"DELETE", ns + "/theirs?dryRun=All", ""},
		} {
			code, body := s.call(who, c[0], c[1], c[2])
			if strings.Contains(body, hidden) {
				t.Errorf("%s %s: %d shows the secret", c[0], c[1], code)
			}
			if read := c[0] == "GET" || c[0] == "PATCH" || c[1] == ns; read && code != http.StatusForbidden {
				t.Errorf("%s %s: %d, want 403", c[0], c[1], code)
			}
		}
	}
	if code, _ := s.call(bearer, "DELETE", ns+"/mine", ""); code != http.StatusOK {
		t.Errorf("delete: %d", code)
	}
	// The one way that is left, and that core/kube's table names: this deletion answers with what it deletes. If a
	// Kubernetes ever stops that, the table can say so.
	if code, body := s.call(s.mint("vera@example.com", "viewers"), "DELETE", ns+"/theirs?propagationPolicy=Foreground", ""); code != http.StatusForbidden || strings.Contains(body, hidden) {
		t.Errorf("a viewer deletes: %d", code)
	}
	if code, body := s.call(bearer, "DELETE", ns+"/theirs?propagationPolicy=Foreground", ""); code != http.StatusOK || !strings.Contains(body, hidden) {
		t.Errorf("DELETE in the foreground: %d, no longer shows the Secret: amend core/kube/verbs.go", code)
	}
	s.revoke(rule)
	s.revoke(viewer)
	s.reconcile(false)
}

// Our own identity can do its work and nothing else, whoever steals its token.
func testConfined(t *testing.T, s *site, vision org.Scope) {
	self := s.mint(kube.SyncUser)
	ns := string(vision.Namespace)
	_, err := s.api.Kubectl(t.Context(), "label", "namespace", "kube-public", kube.LabelProject+"=x")
	must(t, err)
	_, err = s.api.Kubectl(t.Context(), "create", "rolebinding", "not-ours", "-n", ns, "--clusterrole=view", "--user=x")
	must(t, err)
	for _, n := range []string{"90", "91"} {
		_, err := s.api.Kubectl(t.Context(), "create", "rolebinding", "fleetpass-viewer-ns."+n, "-n", ns, "--clusterrole=fleetpass-viewer-ns", "--user=fleetpass:ada@example.com")
		must(t, err)
	}
	_, err = s.api.Kubectl(t.Context(), "annotate", "rolebinding", "fleetpass-viewer-ns.91", "-n", ns, kube.AnnotationClaim+"=c")
	must(t, err)
	binding := func(kind, name, role, label string, subjects ...string) string {
		list := []map[string]string{}
		for _, sub := range subjects {
			k, n, _ := strings.Cut(sub, " ")
			m := map[string]string{"kind": k, "name": n, "apiGroup": "rbac.authorization.k8s.io"}
			if k == "ServiceAccount" {
				m["apiGroup"], m["namespace"] = "", "default"
			}
			list = append(list, m)
		}
		b, err := json.Marshal(map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
			"metadata": map[string]any{"name": name, "labels": map[string]string{kube.LabelManagedBy: label}},
			"roleRef":  map[string]string{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": list})
		must(t, err)
		return string(b)
	}
	namespace := func(name string, labels map[string]string) string {
		b, _ := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "labels": labels}})
		return string(b)
	}
	rbs := func(ns string) string { return "/apis/rbac.authorization.k8s.io/v1/namespaces/" + ns + "/rolebindings" }
	const crbs = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
	const rb, crb, role, wide, ours, ada = "RoleBinding", "ClusterRoleBinding", "fleetpass-viewer-ns", "fleetpass-viewer", "fleetpass", "User fleetpass:ada@example.com"
	good := map[string]string{kube.LabelManagedBy: kube.ManagedBy, kube.LabelProject: "x", kube.LabelEnforce: "baseline"}
	without := func(l string) map[string]string {
		m := map[string]string{}
		for k, v := range good {
			if k != l {
				m[k] = v
			}
		}
		return m
	}
	privileged := without(kube.LabelEnforce)
	privileged[kube.LabelEnforce] = "privileged"

	const dry = "?dryRun=All"
	for _, c := range []struct {
		name, method, path, body string
		ok                       bool
	}{
		{"a binding in a project", "POST", rbs("port") + dry, binding(rb, role, role, ours, ada, "Group fleetpass:team"), true},
		{"a second part of it", "POST", rbs(ns) + dry, binding(rb, role+".7", role, ours, ada), true},
		{"a binding without subjects", "POST", rbs(ns) + dry, binding(rb, role+".12", role, ours), true},
		{"a cluster-wide binding of harmless reads", "POST", crbs + dry, binding(crb, wide+".1", wide, ours, ada), true},
		{"a group with the name that we have as a user", "POST", rbs(ns) + dry, binding(rb, role+".7", role, ours, "Group fleetpass:sync"), true},
		{"a namespace for a project", "POST", "/api/v1/namespaces" + dry, namespace("n", good), true},

		{"under a name of its own", "POST", rbs(ns) + dry, binding(rb, "b", role, ours, ada), false},
		{"under the name of another role", "POST", rbs(ns) + dry, binding(rb, "fleetpass-editor-ns", role, ours, ada), false},
		{"under a name that begins with the role's", "POST", rbs(ns) + dry, binding(rb, role+"-2", role, ours, ada), false},
		{"under a part that is no number", "POST", rbs(ns) + dry, binding(rb, role+".x", role, ours, ada), false},
		{"under a part of a part", "POST", rbs(ns) + dry, binding(rb, role+".1.1", role, ours, ada), false},
		{"a foreign binding without claim taken over", "PUT", rbs(ns) + "/" + role + ".90" + dry, binding(rb, role+".90", role, ours), false},
		{"a binding that lost the label taken back by its claim", "PUT", rbs(ns) + "/" + role + ".91" + dry, binding(rb, role+".91", role, ours), true},
		{"without giving it the label", "PUT", rbs(ns) + "/" + role + ".91" + dry, binding(rb, role+".91", role, "helm"), false},
		{"one with a claim but no label deleted", "DELETE", rbs(ns) + "/" + role + ".91" + dry, "", false},
		{"in kube-system", "POST", rbs("kube-system") + dry, binding(rb, role+".7", role, ours, ada), false},
		{"in a namespace of the cluster that bears a project's label", "POST", rbs("kube-public") + dry, binding(rb, role+".7", role, ours, ada), false},
		{"in a namespace that is no project", "POST", rbs("bystander") + dry, binding(rb, role+".7", role, ours, ada), false},
		{"cluster-admin in a project", "POST", rbs(ns) + dry, binding(rb, "cluster-admin", "cluster-admin", ours, ada), false},
		{"edit in a project", "POST", rbs(ns) + dry, binding(rb, "edit", "edit", ours, ada), false},
		{"its own role in a project", "POST", rbs(ns) + dry, binding(rb, kube.SyncRole, kube.SyncRole, ours, ada), false},
		{"a cluster-wide role in a namespace", "POST", rbs(ns) + dry, binding(rb, wide+".1", wide, ours, ada), false},
		{"a role of workloads cluster-wide", "POST", crbs + dry, binding(crb, role, role, ours, ada), false},
		{"cluster-admin", "POST", crbs + dry, binding(crb, "cluster-admin.1", "cluster-admin", ours, ada), false},
		{"itself", "POST", rbs(ns) + dry, binding(rb, role+".7", role, ours, "User fleetpass:sync"), false},
		{"system:masters", "POST", rbs(ns) + dry, binding(rb, role+".7", role, ours, "Group system:masters"), false},
		{"an unprefixed person", "POST", rbs(ns) + dry, binding(rb, role+".7", role, ours, ada, "User ada@example.com"), false},
		{"the prefix alone", "POST", rbs(ns) + dry, binding(rb, role+".7", role, ours, "User fleetpass:"), false},
		{"a ServiceAccount", "POST", rbs(ns) + dry, binding(rb, role+".7", role, ours, "ServiceAccount fleetpass:x"), false},
		{"without the label", "POST", rbs(ns) + dry, binding(rb, role+".7", role, "helm", ada), false},
		{"a foreign binding deleted", "DELETE", rbs(ns) + "/not-ours" + dry, "", false},
		{"a foreign binding taken over", "PUT", rbs(ns) + "/not-ours" + dry, binding(rb, "not-ours", "view", ours, ada), false},
		{"cluster-admin's binding deleted", "DELETE", crbs + "/cluster-admin" + dry, "", false},
		{"its own binding deleted", "DELETE", crbs + "/" + kube.SyncRole + dry, "", false},
		{"a namespace without label", "POST", "/api/v1/namespaces" + dry, namespace("n", nil), false},
		{"a namespace without its project", "POST", "/api/v1/namespaces" + dry, namespace("n", without(kube.LabelProject)), false},
		{"a namespace without Pod Security", "POST", "/api/v1/namespaces" + dry, namespace("n", without(kube.LabelEnforce)), false},
		{"a privileged namespace", "POST", "/api/v1/namespaces" + dry, namespace("n", privileged), false},
		{"a namespace of the cluster", "POST", "/api/v1/namespaces" + dry, namespace("kube-x", good), false},
		{"an existing namespace labelled", "PATCH", "/api/v1/namespaces/default" + dry, namespace("default", good), false},
		{"a namespace deleted", "DELETE", "/api/v1/namespaces/" + ns + dry, "", false},
		{"a ClusterRole written", "POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles" + dry, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"x"}}`, false},
		{"a ClusterRole changed", "PATCH", "/apis/rbac.authorization.k8s.io/v1/clusterroles/fleetpass-viewer-ns" + dry, `{"rules":[]}`, false},
		{"secrets read", "GET", "/api/v1/namespaces/" + ns + "/secrets", "", false},
		{"pods read", "GET", "/api/v1/namespaces/" + ns + "/pods", "", false},
		{"a policy deleted", "DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/fleetpass-confine-bindings" + dry, "", false},
	} {
		code, body := s.call(self, c.method, c.path, c.body)
		if ok := code < 300; ok != c.ok || !ok && code != http.StatusForbidden && code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", c.name, code, body)
		}
	}
	for _, v := range [][3]string{{"impersonate", "", "users"}, {"escalate", "rbac.authorization.k8s.io", "clusterroles"}, {"bind", "rbac.authorization.k8s.io", "clusterroles"},
		{"create", "", "serviceaccounts/token"}, {"get", "", "secrets"}, {"update", "certificates.k8s.io", "certificatesigningrequests/approval"}, {"update", "admissionregistration.k8s.io", "validatingadmissionpolicies"}} {
		if s.can(self, v[0], v[1], v[2], "") { // K8S-017
			t.Errorf("our identity may %v", v)
		}
	}
	if _, err := s.api.Kubectl(t.Context(), "label", "namespace", "kube-public", kube.LabelProject+"-"); err != nil {
		t.Error(err)
	}
}

// No token of ours becomes a reserved identity, however its claims came to be; and what it does become.
func testNames(t *testing.T, s *site, vision org.Scope) {
	whoami := func(bearer string) (int, string) {
		return s.call(bearer, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`)
	}
	good := jwt.MapClaims{"preferred_username": "ada@example.com", "groups": []string{"team"}, "uid": 15001, "gid": 4294967294, "supplementary_groups": []int{30001, 30002}, "sub": "u-1"}
	code, body := whoami(s.forge(good))
	for _, want := range []string{`"username":"fleetpass:ada@example.com"`, `"uid":"u-1"`, `"fleetpass:team"`, `"fleetpass.dev/uid":["15001"]`, `"fleetpass.dev/gid":["4294967294"]`, `"fleetpass.dev/supplementary-gids":["30001","30002"]`} {
		if code != http.StatusCreated || !strings.Contains(body, want) {
			t.Errorf("whoami: %d %s, want %s", code, body, want)
		}
	}
	if code, body := whoami(s.forge(jwt.MapClaims{"preferred_username": "bob@example.com"})); code != http.StatusCreated || strings.Contains(body, "fleetpass.dev/") {
		t.Errorf("without groups and numbers: %d %s", code, body)
	}
	for name, change := range map[string]jwt.MapClaims{
		"system:masters as name":     {"preferred_username": "system:masters"},
		"in capitals":                {"preferred_username": "SYSTEM:admin"},
		"kube:":                      {"preferred_username": "kube:admin"},
		"system:masters as group":    {"groups": []string{"team", "system:masters"}},
		"a reserved identity":        {"groups": []string{"fleetpass-id:uid:0"}},
		"no name":                    {"preferred_username": ""},
		"another cluster's audience": {"aud": "6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e60"},
		"our API's audience":         {"aud": s.issuer},
		"another issuer":             {"iss": "https://evil.example.com"},
		"expired":                    {"exp": time.Now().Add(-time.Hour).Unix()},
		"uid is no number":           {"uid": "root"},
	} {
		claims := jwt.MapClaims{}
		for k, v := range good {
			claims[k] = v
		}
		for k, v := range change {
			claims[k] = v
		}
		if code, body := whoami(s.forge(claims)); code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s, want 401", name, code, body)
		}
	}
}

// The adapter keeps the port's promise on a real API server.
func testPort(t *testing.T, s *site) {
	c, err := kubernetes.New(kubernetes.Config{
		Server: s.api.URL(), CA: string(s.api.CA()),
		Token:  func(context.Context) (string, error) { return s.mint(kube.SyncUser), nil },
		Limits: kubernetes.Limits{PageSize: 2}, // so that lists have pages
	})
	must(t, err)
	_, err = s.api.Kubectl(t.Context(), "create", "namespace", "port")
	must(t, err)
	_, err = s.api.Kubectl(t.Context(), "label", "namespace", "port", kube.LabelProject+"=port")
	must(t, err)
	synctest.Run(t, c, "port", func(ctx context.Context, o kube.Object) (kube.Object, error) {
		_, err := s.api.Kubectl(ctx, "label", "rolebinding", "-n", string(o.Namespace), o.Name, kube.LabelManagedBy+"-")
		if err == nil {
			o.ResourceVersion, err = s.api.Kubectl(ctx, "get", "rolebinding", "-n", string(o.Namespace), o.Name, "-o", "jsonpath={.metadata.resourceVersion}")
		}
		return o, err
	})
}

// Whatever somebody makes of our bindings, who loses access loses it.
func testRemovals(t *testing.T, s *site) {
	ctx := t.Context()
	p := s.project("removals")
	ns := string(p.Namespace)
	kubectl := func(args ...string) {
		t.Helper()
		_, err := s.api.Kubectl(ctx, args...)
		must(t, err)
	}
	viewer := func(who core.Subject) core.Rule { return s.grant(who, policy.Viewer, p.ID) }
	const name = "fleetpass-viewer-ns"
	guy := s.mint("guy@example.com")
	// The API server answers from a cache that follows its store by a moment, so what is expected is waited for.
	settles := func(want bool) bool {
		for range 40 {
			if s.can(guy, "list", "", "pods", ns) == want {
				return want
			}
			time.Sleep(50 * time.Millisecond)
		}
		return !want
	}
	sees := func() bool { return settles(false) } // whether guy goes on seeing
	begin := func() core.Rule {
		t.Helper()
		r := viewer(core.UserSubject("guy@example.com"))
		if s.reconcile(false); !settles(true) {
			t.Fatal("not bound")
		}
		return r
	}

	// A group whose name is our own is a group like another.
	rule := begin()
	s.revoke(rule)
	named := viewer(core.GroupSubject("sync"))
	if s.reconcile(false); sees() || !s.can(s.mint("hal@example.com", "sync"), "list", "", "pods", ns) {
		t.Errorf("a group named sync: Guy sees %v; %+v", sees(), s.status())
	}
	s.revoke(named)

	// A policy of the cluster's own refuses one of those to be added.
	must(t, s.api.Apply(ctx, []byte(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-curse}
spec:
  failurePolicy: Fail
  matchConstraints: {resourceRules: [{apiGroups: [rbac.authorization.k8s.io], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: [rolebindings]}]}
  validations: [{expression: "!has(object.subjects) || object.subjects.all(s, s.name != 'fleetpass:cursed')", message: "cursed"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-curse}
spec: {policyName: no-curse, validationActions: [Deny]}
`)))
	rule = begin()
	for i := 0; ; i++ {
		out, err := s.api.Kubectl(ctx, "create", "rolebinding", "probe", "-n", ns, "--clusterrole=view", "--group=fleetpass:cursed", "--dry-run=server")
		if err != nil && strings.Contains(err.Error()+out, "cursed") {
			break
		}
		if i > 100 {
			t.Fatalf("the policy does not take effect: %s %v", out, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.revoke(rule)
	cursed := viewer(core.GroupSubject("cursed"))
	if err := s.sync.Reconcile(ctx, sync.Message{Tenant: s.tenant, Cluster: s.id}); err == nil || sees() {
		t.Errorf("a subject that is refused: %v, Guy sees %v", err, sees())
	}
	s.revoke(cursed)
	kubectl("delete", "validatingadmissionpolicybinding", "no-curse")

	// The binding is deleted, and a finalizer keeps it.
	rule = begin()
	kubectl("patch", "rolebinding", name, "-n", ns, "--type=merge", "-p", `{"metadata":{"finalizers":["example.com/keep"]}}`)
	kubectl("delete", "rolebinding", name, "-n", ns, "--wait=false")
	s.revoke(rule)
	if s.reconcile(false); sees() || s.status().Counts.Pending != 1 {
		t.Errorf("a binding that is being deleted: Guy sees %v; %+v", sees(), s.status())
	}
	kubectl("patch", "rolebinding", name, "-n", ns, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)

	// It loses our label.
	rule = begin()
	kubectl("label", "rolebinding", name, "-n", ns, kube.LabelManagedBy+"-")
	s.revoke(rule)
	if s.reconcile(false); sees() || s.status().LastError != "" {
		t.Errorf("a binding without our label: Guy sees %v; %+v", sees(), s.status())
	}

	// It bears a stamp from nowhere.
	rule = begin()
	kubectl("annotate", "--overwrite", "rolebinding", name, "-n", ns, kube.AnnotationRevision+"=999999999")
	s.revoke(rule)
	if s.reconcile(false); sees() {
		t.Errorf("a forged stamp: %+v", s.status())
	}

	// With our stolen token somebody makes a binding as we would. It is no secret.
	self := s.mint(kube.SyncUser)
	code, body := s.call(self, "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/"+ns+"/rolebindings", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding",
		"metadata":{"name":"fleetpass-system-administrator-ns.9","labels":{"app.kubernetes.io/managed-by":"fleetpass"}},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"fleetpass-system-administrator-ns"},
		"subjects":[{"kind":"User","name":"fleetpass:mallory@example.com","apiGroup":"rbac.authorization.k8s.io"}]}`)
	if code != http.StatusCreated {
		t.Fatalf("%d %s", code, body)
	}
	s.reconcile(false)
	if st := s.status(); st.Counts.Impostors != 1 || !st.Terminal || !strings.Contains(strings.Join(st.Problems, "\n"), "fleetpass-system-administrator-ns.9") {
		t.Errorf("%+v", st)
	}
	kubectl("delete", "rolebinding", "-n", ns, "fleetpass-system-administrator-ns.9")
	s.reconcile(false)
}

// What a frozen writer still does when it is thawed fails, on the real API server (SYN-011).
func testLate(t *testing.T, s *site, vision org.Scope) {
	ctx := t.Context()
	var target sync.Target
	late := *s.sync
	late.Dial = func(to sync.Target) (sync.Cluster, error) {
		target = to
		return kubernetes.Dial(to)
	}
	rule := s.grant(core.UserSubject("fay@example.com"), policy.Viewer, vision.ID)
	must(t, late.Reconcile(ctx, sync.Message{Tenant: s.tenant, Cluster: s.id}))
	frozen, err := kubernetes.Dial(target)
	must(t, err)
	read := func() kube.Object {
		have, err := frozen.Current(ctx)
		must(t, err)
		i := slices.IndexFunc(have.Objects, func(o kube.Object) bool { return o.Name == "fleetpass-viewer-ns" && o.Namespace == vision.Namespace })
		if i < 0 {
			return kube.Object{}
		}
		return have.Objects[i]
	}
	granting := read() // what the frozen writer is about to PUT: Fay's grant
	if len(granting.Subjects) != 1 {
		t.Fatalf("%+v", granting)
	}
	s.revoke(rule)
	s.reconcile(false)
	if _, err := frozen.Apply(ctx, kube.Change{Verb: kube.Update, Object: granting}); err == nil {
		t.Error("a PUT of what was read before the revocation is accepted")
	}
	again := granting
	if _, err := frozen.Apply(ctx, kube.Change{Verb: kube.Create, Object: again}); err == nil {
		t.Error("a POST over the emptied binding is accepted")
	}
	reaper := *s.sync
	reaper.ReapAfter = time.Nanosecond
	must(t, reaper.Reconcile(ctx, sync.Message{Tenant: s.tenant, Cluster: s.id, Full: true}))
	if o := read(); o.Name != "" {
		t.Fatalf("not reaped: %+v", o)
	}
	if _, err := frozen.Apply(ctx, kube.Change{Verb: kube.Update, Object: granting}); err == nil || read().Name != "" {
		t.Errorf("a PUT brings a deleted binding back: %v", err)
	}
	// The positive twin: with what is there now, both work.
	rule = s.grant(core.UserSubject("fay@example.com"), policy.Viewer, vision.ID)
	s.reconcile(false)
	if o, err := frozen.Apply(ctx, kube.Change{Verb: kube.Update, Object: read()}); err != nil || o.UID == "" {
		t.Errorf("an update of what is there: %v", err)
	}
	s.revoke(rule)
	s.reconcile(false)
}
