package org_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

func TestPathOf(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(t, "one")
	d := w.department(t, c, "dep")
	inside, direct := w.project(t, d, "a"), w.project(t, c, "b")
	for _, tc := range []struct {
		sc   org.Scope
		want core.Path
	}{
		{org.Scope{Kind: core.Account}, core.Path{"acme"}},
		{c, core.Path{"acme", c.ID}},
		{d, core.Path{"acme", c.ID, d.ID}},
		{inside, core.Path{"acme", c.ID, d.ID, inside.ID}},
		{direct, core.Path{"acme", c.ID, direct.ID}},
	} {
		if got := org.PathOf(acme, tc.sc); got != tc.want {
			t.Errorf("path of %s %s is %v, want %v", tc.sc.Kind, tc.sc.Name, got, tc.want)
		}
	}
}

func TestCreateProject(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	one, two := w.cluster(t, "one"), w.cluster(t, "two")
	d := w.department(t, one, "dep")
	p := w.project(t, d, "vision")
	if p.Namespace != "fleetpass-vision" || p.Parent != d.ID || p.Cluster != one.Cluster {
		t.Errorf("got %+v", p)
	}
	for _, tc := range []struct {
		name  string
		p     org.NewProject
		kind  core.Kind // empty: it is made
		field string
	}{
		{"the name under another parent, with a namespace of its own", org.NewProject{Name: "vision", Parent: one.ID, Namespace: "vision-two"}, "", ""},
		{"the namespace in another cluster", org.NewProject{Name: "vision", Parent: two.ID}, "", ""},
		{"the longest name with a default namespace", org.NewProject{Name: "a" + strings.Repeat("b", 52), Parent: d.ID}, "", ""},
		{"the name under the same parent", org.NewProject{Name: "vision", Parent: d.ID, Namespace: "x"}, core.Exists, ""},
		{"the namespace in the same cluster", org.NewProject{Name: "sight", Parent: one.ID, Namespace: "fleetpass-vision"}, core.Exists, ""},
		{"kube-system", org.NewProject{Name: "sys", Parent: d.ID, Namespace: "kube-system"}, core.Invalid, "namespace"},
		{"default", org.NewProject{Name: "sys", Parent: d.ID, Namespace: "default"}, core.Invalid, "namespace"},
		{"openshift-x", org.NewProject{Name: "sys", Parent: d.ID, Namespace: "openshift-x"}, core.Invalid, "namespace"},
		{"name injection", org.NewProject{Name: "sys", Parent: d.ID, Namespace: "a/b"}, core.Invalid, "namespace"},
		{"a reserved name", org.NewProject{Name: "system", Parent: d.ID}, core.Invalid, "name"},
		{"upper case", org.NewProject{Name: "Vision", Parent: d.ID}, core.Invalid, "name"},
		{"a name too long for the default", org.NewProject{Name: "a" + strings.Repeat("b", 60), Parent: d.ID}, core.Invalid, "name"},
		{"below the account", org.NewProject{Name: "x", Parent: "acme"}, core.Invalid, "parent"},
		{"below a project", org.NewProject{Name: "x", Parent: p.ID}, core.Invalid, "parent"},
		{"below what is not there", org.NewProject{Name: "x", Parent: core.NewScopeID(one.Cluster)}, core.Invalid, "parent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := w.names(t)
			_, err := w.CreateProject(ctx, w.admin, acme, tc.p)
			if tc.kind == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantErr(t, err, tc.kind, tc.field)
			if after := w.names(t); !slices.Equal(before, after) {
				t.Errorf("the tree changed: %v", after)
			}
		})
	}
	// Another tenant's parent is as absent as any.
	if _, err := w.CreateTenant(ctx, operator, "bold", "Bold"); err != nil {
		t.Fatal(err)
	}
	bold := core.Actor{Tenant: "bold", Subject: core.UserSubject("eve@example.com")}
	_, err := w.CreateProject(ctx, bold, "bold", org.NewProject{Name: "x", Parent: d.ID})
	wantErr(t, err, core.Invalid, "parent")
}

// Of many that want the same name or namespace at once, on whatever instance, one gets it.
func TestUniqueUnderConcurrency(t *testing.T) {
	w := newWorld(t)
	c := w.cluster(t, "one")
	d := w.department(t, c, "dep")
	var made, refused atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			p := org.NewProject{Name: "same", Parent: d.ID, Namespace: fmt.Sprintf("ns%d", i)} // same name
			if i%2 == 1 {
				p = org.NewProject{Name: fmt.Sprintf("p%d", i), Parent: c.ID, Namespace: "same"} // same namespace
			}
			switch _, err := w.CreateProject(t.Context(), w.admin, acme, p); {
			case err == nil:
				made.Add(1)
			case errors.Is(err, core.Exists):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made.Load() != 2 || refused.Load() != 6 {
		t.Errorf("%d made and %d refused, want 2 and 6", made.Load(), refused.Load())
	}
}

func TestRename(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	a, b := w.project(t, c, "a"), w.project(t, c, "b")
	_, err := w.Rename(ctx, w.admin, acme, a.ID, "b")
	wantErr(t, err, core.Exists, "")
	got, err := w.Rename(ctx, w.admin, acme, a.ID, "c")
	if err != nil || got.Name != "c" || got.Namespace != "fleetpass-a" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := w.Rename(ctx, w.admin, acme, b.ID, "a"); err != nil {
		t.Errorf("the old name is not free: %v", err)
	}
	_, err = w.Rename(ctx, w.admin, acme, a.ID, "system")
	wantErr(t, err, core.Invalid, "name")
}

// TEN-003: a move changes one pointer, and with it what is above the project.
func TestMove(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	one, two := w.cluster(t, "one"), w.cluster(t, "two")
	a, b := w.department(t, one, "a"), w.department(t, one, "b")
	elsewhere := w.department(t, two, "a")
	p := w.project(t, a, "p")
	w.project(t, b, "taken")
	got, err := w.Move(ctx, w.admin, acme, p.ID, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	if want := (core.Path{"acme", one.ID, b.ID, p.ID}); org.PathOf(acme, got) != want {
		t.Errorf("path %v, want %v", org.PathOf(acme, got), want)
	}
	if got.Namespace != p.Namespace || got.ID != p.ID {
		t.Errorf("a move changed %+v", got)
	}
	if _, err := w.CreateProject(ctx, w.admin, acme, org.NewProject{Name: "p", Parent: a.ID, Namespace: "p2"}); err != nil {
		t.Errorf("its name is not free where it was: %v", err)
	}
	_, err = w.CreateProject(ctx, w.admin, acme, org.NewProject{Name: "p", Parent: b.ID, Namespace: "p3"})
	wantErr(t, err, core.Exists, "")
	for name, parent := range map[string]core.ScopeID{
		"another cluster": elsewhere.ID, "the account": "acme", "a project": p.ID, "nothing": core.NewScopeID(one.Cluster), "a cluster of nobody": "x",
	} {
		_, err := w.Move(ctx, w.admin, acme, p.ID, parent)
		if err == nil {
			t.Errorf("moved to %s", name)
		}
		wantErr(t, err, core.Invalid, "parent")
	}
	if _, err := w.Move(ctx, w.admin, acme, a.ID, one.ID); !errors.Is(err, core.Invalid) {
		t.Errorf("moving a department: %v, want Invalid", err)
	}
	if _, err := w.Rename(ctx, w.admin, acme, p.ID, "taken"); !errors.Is(err, core.Exists) {
		t.Errorf("the new place does not count for names: %v", err)
	}
}

func TestDeleteScope(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	d := w.department(t, c, "dep")
	p := w.project(t, d, "p")
	keep := w.project(t, c, "keep")
	before := w.names(t)
	wantErr(t, w.DeleteScope(ctx, w.admin, acme, d.ID, false), core.Exists, "")
	wantErr(t, w.DeleteScope(ctx, w.admin, acme, c.ID, false), core.Exists, "")
	wantErr(t, w.DeleteScope(ctx, w.admin, acme, "acme", true), core.NotFound, "")
	if got := w.names(t); !slices.Equal(got, before) {
		t.Errorf("a refusal changed the tree: %v", got)
	}
	if err := w.DeleteScope(ctx, w.admin, acme, d.ID, true); err != nil {
		t.Fatal(err)
	}
	if got, want := w.names(t), []string{"cluster one", "project keep"}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
	// What lies below is gone at once for everybody, although its item is still there.
	_, err := w.Scope(ctx, acme, p.ID)
	wantErr(t, err, core.NotFound, "")
	_, err = w.Rename(ctx, w.admin, acme, p.ID, "q")
	wantErr(t, err, core.NotFound, "")
	_, err = w.CreateProject(ctx, w.admin, acme, org.NewProject{Name: "new", Parent: d.ID})
	wantErr(t, err, core.Invalid, "parent")
	_, err = w.Move(ctx, w.admin, acme, keep.ID, d.ID)
	wantErr(t, err, core.Invalid, "parent")
	wantErr(t, w.DeleteScope(ctx, w.admin, acme, d.ID, true), core.NotFound, "")
	if again := w.department(t, c, "dep"); again.ID == d.ID {
		t.Error("an id came back")
	}

	var cleared []string
	fail := errors.New("not now")
	broken := true
	clear := func(_ context.Context, _ core.TenantID, sc org.Scope) error {
		cleared = append(cleared, sc.Name)
		if sc.ID == d.ID && broken {
			return fail
		}
		return nil
	}
	if err := w.Sweep(ctx, acme, d.ID, clear); !errors.Is(err, fail) {
		t.Errorf("got %v, want the failure", err)
	}
	broken = false
	for range 2 {
		if err := w.Sweep(ctx, acme, d.ID, clear); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"p", "dep", "dep"}; !slices.Equal(cleared, want) {
		t.Errorf("cleared %v, want %v: the deepest first, and again after a failure", cleared, want)
	}
	for _, id := range []core.ScopeID{d.ID, p.ID} {
		items, err := w.db.Get(ctx, store.Scope(acme, id))
		if err != nil || items[0].Version != 0 {
			t.Errorf("%s is still there, %v", id, err)
		}
	}
	if _, err := w.CreateProject(ctx, w.admin, acme, org.NewProject{Name: "p", Parent: c.ID}); err != nil {
		t.Errorf("the namespace of a swept project is not free: %v", err)
	}
	wantErr(t, w.Sweep(ctx, acme, keep.ID, clear), core.Invalid, "") // it is not deleted
}

// What is deleted and not swept yet is not in the way of deleting what is above it.
func TestDeleteUpwards(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	d := w.department(t, c, "dep")
	p := w.project(t, d, "p")
	for _, sc := range []org.Scope{p, d, c} {
		if err := w.DeleteScope(ctx, w.admin, acme, sc.ID, false); err != nil {
			t.Fatalf("%s: %v", sc.Name, err)
		}
	}
	for _, sc := range []org.Scope{c, p, d} { // in any order, and whether or not another sweep was faster
		if err := w.Sweep(ctx, acme, sc.ID, func(context.Context, core.TenantID, org.Scope) error { return nil }); err != nil {
			t.Errorf("%s: %v", sc.Name, err)
		}
	}
	for it := range w.db.List(ctx, store.Scopes(acme)) {
		t.Errorf("left: %s", it.Key)
	}
}

// A deleted project's name and namespace are free at once, and the sweep leaves them to whoever took them.
func TestSweepLeavesTheNextOwner(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	old := w.project(t, c, "p")
	if err := w.DeleteScope(ctx, w.admin, acme, old.ID, false); err != nil {
		t.Fatal(err)
	}
	next := w.project(t, c, "p")
	if err := w.Sweep(ctx, acme, old.ID, func(context.Context, core.TenantID, org.Scope) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Scope(ctx, acme, next.ID); err != nil {
		t.Error(err)
	}
	_, err := w.CreateProject(ctx, w.admin, acme, org.NewProject{Name: "p", Parent: c.ID, Namespace: "x"})
	wantErr(t, err, core.Exists, "")
	_, err = w.CreateProject(ctx, w.admin, acme, org.NewProject{Name: "q", Parent: c.ID, Namespace: "fleetpass-p"})
	wantErr(t, err, core.Exists, "")
}

// While a department is deleted, projects are made in it and moved into it. Afterwards nothing live lies below it.
func TestDeleteAgainstCreate(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	for round := range 5 {
		d := w.department(t, c, fmt.Sprintf("dep%d", round))
		m := w.project(t, c, fmt.Sprintf("m%d", round))
		var all sync.WaitGroup
		var deleted atomic.Bool
		all.Go(func() { deleted.Store(w.DeleteScope(ctx, w.admin, acme, d.ID, false) == nil) })
		all.Go(func() {
			w.CreateProject(ctx, w.admin, acme, org.NewProject{Name: fmt.Sprintf("n%d", round), Parent: d.ID})
		})
		all.Go(func() { w.Move(ctx, w.admin, acme, m.ID, d.ID) })
		all.Wait()
		for rec, err := range (store.Table[org.Scope]{}).List(ctx, w.db, store.Scopes(acme)) {
			if err != nil {
				t.Fatal(err)
			}
			if deleted.Load() && rec.Value.Parent == d.ID {
				t.Errorf("round %d: %s lies below a department that was deleted as empty", round, rec.Value.Name)
			}
		}
	}
}

func TestReach(t *testing.T) {
	w := newWorld(t)
	ca := certificate(t)
	for _, tc := range []struct {
		name  string
		r     org.Reach
		field string // empty: fine
	}{
		{"the least", org.Reach{Server: "https://k8s.example.com"}, ""},
		{"with everything", org.Reach{Mode: org.Issuer, Server: "https://[2001:db8::1]:6443/base", CA: ca + ca, UserPrefix: "corp:", GroupPrefix: "corp/", Algorithm: "RS256"}, ""},
		{"an agent needs no server", org.Reach{Mode: org.Agent}, ""},
		{"unprefixed, said plainly", org.Reach{Mode: org.Agent, Unprefixed: true}, ""},
		{"http", org.Reach{Server: "http://k8s.example.com"}, "server"},
		{"no server", org.Reach{}, "server"},
		{"credentials", org.Reach{Server: "https://a:b@k8s.example.com"}, "server"},
		{"a query", org.Reach{Server: "https://k8s.example.com?x"}, "server"},
		{"the metadata service", org.Reach{Server: "https://169.254.169.254"}, "server"},
		{"its IPv6 form", org.Reach{Server: "https://[fe80::1]"}, "server"},
		{"no host", org.Reach{Server: "https://:6443"}, "server"},
		{"a mode", org.Reach{Mode: "magic", Server: "https://k8s.example.com"}, "mode"},
		{"an algorithm", org.Reach{Server: "https://k8s.example.com", Algorithm: "none"}, "algorithm"},
		{"a CA that is none", org.Reach{Server: "https://k8s.example.com", CA: "hello"}, "ca"},
		{"a CA with something behind", org.Reach{Server: "https://k8s.example.com", CA: ca + "x"}, "ca"},
		{"a private key", org.Reach{Server: "https://k8s.example.com", CA: ca + "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"}, "ca"},
		{"a CA too long", org.Reach{Server: "https://k8s.example.com", CA: strings.Repeat(ca, 40)}, "ca"},
		{"a reserved prefix", org.Reach{Server: "https://k8s.example.com", UserPrefix: "system:"}, "userPrefix"},
		{"a reserved prefix in parts", org.Reach{Server: "https://k8s.example.com", GroupPrefix: "sys"}, "groupPrefix"},
		{"one below a reserved prefix", org.Reach{Server: "https://k8s.example.com", GroupPrefix: "system:serviceaccounts:"}, "groupPrefix"},
		{"the identity prefix", org.Reach{Server: "https://k8s.example.com", GroupPrefix: "fleetpass-id:"}, "groupPrefix"},
		{"Kubernetes' word for none", org.Reach{Server: "https://k8s.example.com", UserPrefix: "-"}, "userPrefix"},
		{"upper case", org.Reach{Server: "https://k8s.example.com", UserPrefix: "System:"}, "userPrefix"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sc, err := w.CreateCluster(t.Context(), w.admin, acme, "c"+strings.ToLower(core.NewID()), tc.r)
			if tc.field != "" {
				wantErr(t, err, core.Invalid, tc.field)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if sc.Reach.Epoch == "" || sc.Reach.Algorithm == "" || sc.Reach.Mode == "" {
				t.Errorf("no defaults: %+v", sc.Reach)
			}
			if !tc.r.Unprefixed && (sc.Reach.UserPrefix == "" || sc.Reach.GroupPrefix == "") {
				t.Errorf("no prefix: %+v", sc.Reach)
			}
		})
	}
}

// An empty prefix is never the outcome of leaving it out.
func TestPrefixDefaults(t *testing.T) {
	w := newWorld(t)
	sc := w.cluster(t, "one")
	if sc.Reach.UserPrefix != "fleetpass:" || sc.Reach.GroupPrefix != "fleetpass:" {
		t.Errorf("got %+v", sc.Reach)
	}
	sc, err := w.UpdateCluster(t.Context(), w.admin, acme, sc.Cluster, org.Reach{Server: "https://one.example.com", UserPrefix: "corp:"})
	if err != nil || sc.Reach.UserPrefix != "corp:" || sc.Reach.GroupPrefix != "fleetpass:" {
		t.Errorf("got %+v, %v", sc.Reach, err)
	}
	_, err = w.UpdateCluster(t.Context(), w.admin, acme, core.NewClusterID(), org.Reach{Server: "https://one.example.com"})
	wantErr(t, err, core.NotFound, "")
}

// A cluster that holds what Fleetpass wrote keeps its server and mode, unless it is abandoned knowingly. Everything else of
// its reach may change.
func TestServerStaysWhileInUse(t *testing.T) {
	w := newWorld(t)
	sc := w.cluster(t, "one")
	held := 3
	w.Holds = func(_ context.Context, tenant core.TenantID, c core.ClusterID) (int, error) {
		if tenant != acme || c != sc.Cluster {
			t.Errorf("asked about %s of %s", c, tenant)
		}
		return held, nil
	}
	from := *sc.Reach
	update := func(change func(*org.Reach)) error {
		to := from
		change(&to)
		_, err := w.UpdateCluster(t.Context(), w.admin, acme, sc.Cluster, to)
		_, again := w.Replace(t.Context(), w.admin, acme, sc.ID, sc.Name, sc.Parent, &to)
		if (err == nil) != (again == nil) {
			t.Errorf("UpdateCluster: %v, Replace: %v", err, again)
		}
		return err
	}
	elsewhere := func(r *org.Reach) { r.Server = "https://two.example.com" }
	wantErr(t, update(elsewhere), core.Invalid, "server")
	wantErr(t, update(func(r *org.Reach) { r.Mode = org.Agent }), core.Invalid, "mode")
	if err := update(func(r *org.Reach) { r.CA, r.UserPrefix = certificate(t), "corp:" }); err != nil {
		t.Error(err)
	}
	if err := update(func(r *org.Reach) { elsewhere(r); r.Abandon = true }); err != nil {
		t.Error(err)
	}
	rec, err := w.Scope(t.Context(), acme, sc.ID)
	if err != nil || rec.Value.Reach.Server != "https://two.example.com" || rec.Value.Reach.Epoch != from.Epoch {
		t.Errorf("%+v, %v", rec.Value.Reach, err)
	}
	held = 0
	if err := update(func(r *org.Reach) { r.Server, r.Mode = "", org.Agent }); err != nil {
		t.Error(err)
	}
}

func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// What is wrong in one part changes nothing in the others.
func TestReplace(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.cluster(t, "one")
	d := w.department(t, c, "dep")
	p := w.project(t, c, "p")
	w.project(t, d, "taken")
	_, err := w.Replace(ctx, w.admin, acme, p.ID, "taken", d.ID, nil)
	wantErr(t, err, core.Exists, "")
	_, err = w.Replace(ctx, w.admin, acme, p.ID, "q", "acme", nil)
	wantErr(t, err, core.Invalid, "parent")
	_, err = w.Replace(ctx, w.admin, acme, c.ID, "renamed", c.Parent, &org.Reach{Server: "http://plain.example.com"})
	wantErr(t, err, core.Invalid, "server")
	if got, want := w.names(t), []string{"cluster one", "department dep", "project p", "project taken"}; !slices.Equal(got, want) {
		t.Fatalf("refusals left %v", got)
	}
	got, err := w.Replace(ctx, w.admin, acme, p.ID, "q", d.ID, nil)
	if err != nil || got.Name != "q" || got.Parent != d.ID || got.Namespace != p.Namespace {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := w.CreateProject(ctx, w.admin, acme, org.NewProject{Name: "p", Parent: c.ID, Namespace: "x"}); err != nil {
		t.Errorf("its old name is not free: %v", err)
	}
}

func TestMaxClusters(t *testing.T) {
	w := newWorld(t)
	one := w.cluster(t, "one")
	var ops []store.Op
	for i := range org.MaxClusters - 1 {
		ops = append(ops, store.Put(store.ScopeName(acme, core.AccountScope(acme), core.Cluster, fmt.Sprint("c", i)), 0, []byte(`"x"`)))
	}
	for chunk := range slices.Chunk(ops, store.MaxOps) {
		if err := w.DB.Commit(t.Context(), chunk...); err != nil {
			t.Fatal(err)
		}
	}
	create := func() error {
		_, err := w.CreateCluster(t.Context(), w.admin, acme, "more", org.Reach{Server: "https://more.example.com"})
		return err
	}
	if err := create(); !errors.Is(err, core.Limit) || !strings.Contains(err.Error(), "1000 clusters") {
		t.Errorf("one too many: %v", err)
	}
	if _, err := w.CreateDepartment(t.Context(), w.admin, acme, one.Cluster, "dep"); err != nil {
		t.Errorf("what is below a cluster: %v", err)
	}
	if err := w.DeleteScope(t.Context(), w.admin, acme, one.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := create(); err != nil {
		t.Errorf("in place of one that was deleted: %v", err)
	}
}
