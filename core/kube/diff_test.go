package kube

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/policy"
)

const (
	tenant   = core.TenantID("acme")
	cluster1 = core.ClusterID("6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e5f")
	cluster2 = core.ClusterID("6f1c0a52-7f4e-4b1a-9d3b-0a1b2c3d4e60")
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func scope(n string) core.ScopeID { return core.ScopeID(string(cluster1) + "." + n) }

// basic is a department with one project, and one project beside it.
func basic(rules ...core.Rule) World {
	return World{
		Tenant: tenant, Cluster: cluster1, Prefixes: DefaultPrefixes, Stamp: Stamp{"e1", 10}, Now: noon, Rules: rules,
		Scopes: []Scope{
			{ID: scope("dep"), Kind: core.Department, Parent: core.ClusterScope(cluster1)},
			{ID: scope("p1"), Kind: core.Project, Parent: scope("dep"), Namespace: "ns1"},
			{ID: scope("p2"), Kind: core.Project, Parent: core.ClusterScope(cluster1), Namespace: "ns2"},
		},
	}
}

func rule(id core.RuleID, who core.Subject, role core.RoleID, at core.ScopeID) core.Rule {
	return core.Rule{ID: id, Subject: who, Role: role, Scope: at}
}

var (
	ada  = core.UserSubject("ada@example.com")
	team = core.GroupSubject("team")
	ci   = core.ApplicationSubject("ci")
)

// show writes bindings as "namespace/name: subjects".
func show(objects []Object) []string {
	out := []string{}
	for _, o := range objects {
		if o.Kind == Namespace {
			continue
		}
		names := make([]string, len(o.Subjects))
		for i, s := range o.Subjects {
			names[i] = s.Name
		}
		out = append(out, string(o.Namespace)+"/"+o.Name+": "+strings.Join(names, " "))
	}
	return out
}

func TestWant(t *testing.T) {
	past := rule(9, ada, policy.Editor, core.AccountScope(tenant))
	past.ExpiresAt = noon
	later := rule(8, ada, policy.Viewer, scope("p2"))
	later.ExpiresAt = noon.Add(time.Second)
	w := basic(
		rule(1, ada, policy.L1Researcher, scope("p1")),
		rule(2, team, policy.L1Researcher, scope("dep")),
		rule(3, ci, policy.MLEngineer, core.ClusterScope(cluster1)),
		rule(4, team, policy.CloudOperator, core.AccountScope(tenant)),
		rule(5, ada, policy.Editor, core.ScopeID(string(cluster2)+".p9")), // another cluster's
		rule(6, core.UserSubject("eve@example.com"), policy.Editor, core.AccountScope(tenant)),
		rule(7, ada, policy.Editor, scope("gone")),
		later, past,
	)
	w.Disabled = map[core.Subject]bool{core.UserSubject("eve@example.com"): true}
	d := Want(w)
	want := []string{
		"/fleetpass-cloud-operator: fleetpass:team",
		"/fleetpass-l1-researcher: fleetpass:team fleetpass:ada@example.com",
		"/fleetpass-ml-engineer: fleetpass:app:ci",
		"/fleetpass-viewer: fleetpass:ada@example.com",
		"ns1/fleetpass-l1-researcher-ns: fleetpass:team fleetpass:ada@example.com",
		"ns1/fleetpass-ml-engineer-ns: fleetpass:app:ci",
		"ns2/fleetpass-ml-engineer-ns: fleetpass:app:ci",
		"ns2/fleetpass-viewer-ns: fleetpass:ada@example.com",
	}
	if diff := cmp.Diff(want, show(d.Objects)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(d.Problems) > 0 {
		t.Errorf("problems: %v", d.Problems)
	}
	for _, o := range d.Objects {
		if o.Kind == Namespace && (o.Labels[LabelEnforce] != "baseline" || o.Labels[LabelProject] == "") {
			t.Errorf("%s: labels %v", o.Ref, o.Labels)
		}
	}
}

// Names that a cluster gives a meaning to are bound under no prefix, and the rule is reported (K8S-001, K8S-003, K8S-031).
func TestWantRefusesNames(t *testing.T) {
	for _, p := range []Prefixes{DefaultPrefixes, {}} {
		for _, who := range []core.Subject{
			core.UserSubject("system:masters"), core.UserSubject("ＳＹＳＴＥＭ:masters"), core.UserSubject("sys\u200dtem:admin"), core.GroupSubject("system:masters"),
			core.GroupSubject("System:Authenticated"), core.GroupSubject("cluster-admins"), core.GroupSubject("fleetpass-id:uid:0"), core.GroupSubject("kube:x"),
			core.GroupSubject("*"), core.GroupSubject(""), core.GroupSubject(" team"), core.UserSubject("*"), core.UserSubject(""), core.UserSubject("sync"),
			core.UserSubject("app:ci"), core.UserSubject("Ada@Example.com"), core.ApplicationSubject("a/b"), core.ApplicationSubject(""), {Kind: "robot", ID: "x"},
		} {
			w := basic(rule(1, who, policy.Viewer, scope("p1")), rule(2, ada, policy.Viewer, scope("p1")))
			w.Prefixes = p
			d := Want(w)
			if len(d.Problems) != 1 {
				t.Errorf("%q: problems %v", who, d.Problems)
			}
			if diff := cmp.Diff([]string{"/fleetpass-viewer: " + p.User + "ada@example.com", "ns1/fleetpass-viewer-ns: " + p.User + "ada@example.com"}, show(d.Objects)); diff != "" {
				t.Errorf("%q: -want +got:\n%s", who, diff)
			}
		}
	}
}

// A project never gets a namespace of the cluster itself, nor another project's (K8S-027).
func TestWantRefusesNamespaces(t *testing.T) {
	for _, ns := range []core.Namespace{"kube-system", "default", "openshift-config", "a/b", "", "fleetpass-system", "Ns", "ns2"} {
		w := basic(rule(1, ada, policy.Viewer, scope("p1")))
		w.Scopes[1].Namespace = ns
		w.Scopes[2].Namespace = "ns2"
		d := Want(w)
		if ns == "ns2" { // the first project has it; the second is refused
			if len(d.Problems) != 1 || len(d.Objects) != 3 {
				t.Errorf("two projects in one namespace: %v, %v", d.Problems, d.Objects)
			}
			continue
		}
		if len(d.Problems) != 1 || !slices.Equal(show(d.Objects), []string{"/fleetpass-viewer: fleetpass:ada@example.com"}) {
			t.Errorf("%q: %v, %v", ns, d.Problems, show(d.Objects))
		}
	}
}

func TestPrefixesParse(t *testing.T) {
	for _, p := range []Prefixes{DefaultPrefixes, {}, {"u#", "g#"}} {
		for _, s := range []core.Subject{ada, team, ci} {
			in, err := p.Subject(s)
			if err != nil {
				t.Fatal(err)
			}
			if out, ok := p.Parse(in); !ok || out != s {
				t.Errorf("%v: %v -> %v -> %v, %v", p, s, in, out, ok)
			}
		}
		for _, s := range []Subject{{Kind: UserKind, Name: p.User + "sync"}, {Kind: UserKind, Name: "system:admin"}, {Kind: GroupKind, Name: "system:masters"}, {Kind: ServiceAccountKind, Name: "default", Namespace: "x"}} {
			if who, ok := p.Parse(s); ok {
				t.Errorf("%v: %v is %v of ours", p, s, who)
			}
		}
	}
}

// Many subjects are spread over several bindings, and one more or less changes one of them.
func TestWantShards(t *testing.T) {
	var rules []core.Rule
	for i := range 3 * MaxSubjects {
		rules = append(rules, rule(core.RuleID(i+1), core.GroupSubject(core.GroupName(fmt.Sprintf("g%d", i))), policy.Viewer, scope("p1")))
	}
	before := Want(basic(rules...))
	after := Want(basic(rules[1:]...))
	total, changed := 0, 0
	for _, o := range before.Objects {
		if role, _, _ := strings.Cut(o.Name, "."); o.Kind != Namespace && (role != o.Role || !regexp.MustCompile(bindingName).MatchString(o.Name)) {
			t.Errorf("%s of %s: the bootstrap's policy refuses the name", o.Ref, o.Role)
		}
		if len(o.Subjects) > MaxSubjects {
			t.Errorf("%s holds %d subjects", o.Ref, len(o.Subjects))
		}
		if o.Kind == RoleBinding {
			total += len(o.Subjects)
		}
		i := slices.IndexFunc(after.Objects, func(p Object) bool { return p.Ref == o.Ref })
		if i < 0 || !slices.Equal(after.Objects[i].Subjects, o.Subjects) {
			changed++
		}
	}
	if total != len(rules) || changed != 2 { // one RoleBinding, one ClusterRoleBinding
		t.Errorf("%d of %d subjects bound; one rule less changes %d bindings, want 2", total, len(rules), changed)
	}
}

// fake is a cluster in memory with the store's memory of it. It does to objects what an API server does.
type fake struct {
	objects  map[Ref]Object
	recorded map[Ref]Record
	version  int
	writes   int
}

func newFake() *fake { return &fake{objects: map[Ref]Object{}, recorded: map[Ref]Record{}} }

func (f *fake) state() State {
	var s State
	for _, r := range slices.SortedFunc(maps.Keys(f.objects), compareRefs) {
		o := f.objects[r]
		if o.Kind == Namespace || o.Labels[LabelManagedBy] == ManagedBy {
			s.Objects = append(s.Objects, o)
		}
	}
	return s
}

func (f *fake) put(o Object) Object {
	f.version++
	o.ResourceVersion = strconv.Itoa(f.version)
	if o.UID == "" {
		o.UID = "uid-" + o.ResourceVersion
	}
	f.objects[o.Ref] = o
	return o
}

// apply makes the changes of a plan as sync does, and fails the test where an API server would refuse.
func (f *fake) apply(t *testing.T, p Plan) {
	t.Helper()
	for _, o := range p.Adopted {
		f.recorded[o.Ref] = f.recorded[o.Ref].Seen(o.UID)
	}
	for _, r := range p.Gone {
		delete(f.recorded, r)
	}
	granted, exchanged := false, false
	for _, c := range p.Changes {
		f.writes++
		gains := len(c.Object.Subjects) > 0 && c.Verb != Delete && len(without(c.Object.Subjects, set(f.objects[c.Object.Ref].Subjects))) > 0
		if len(c.Loses) > 0 && (granted || exchanged && !gains) {
			t.Errorf("%s takes access away after access was given (SYN-019)", c)
		}
		old, there := f.objects[c.Object.Ref]
		switch c.Verb {
		case Create:
			if there {
				t.Fatalf("%s: exists", c)
			}
			o := f.put(c.Object)
			if o.Kind != Namespace {
				f.recorded[o.Ref] = f.recorded[o.Ref].Claimed("c", noon).Seen(o.UID)
			}
		case Update, Delete:
			if !there || old.UID != c.Object.UID || old.ResourceVersion != c.Object.ResourceVersion || f.recorded[c.Object.Ref].UID != old.UID {
				t.Fatalf("%s: conflict, or not ours", c)
			}
			if c.Verb == Delete {
				if len(old.Subjects) > 0 {
					t.Errorf("%s holds subjects", c)
				}
				delete(f.objects, c.Object.Ref)
				f.recorded[c.Object.Ref] = Record{UID: old.UID, Reaped: true}
				continue
			}
			f.put(c.Object)
		}
		granted, exchanged = granted || gains && len(c.Loses) == 0, exchanged || gains
	}
}

func (f *fake) sync(t *testing.T, w World, o Options) Plan {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = w.Now
	}
	if o.ReapAfter = time.Hour; o.Newest == 0 {
		o.Newest = 99
	}
	p := Diff(Want(w), f.state(), f.recorded, o)
	f.apply(t, p)
	return p
}

// bound is every subject of every binding of ours that gives somebody something.
func (f *fake) bound() []string {
	var out []Object
	for _, o := range f.state().Objects {
		if len(o.Subjects) > 0 && f.recorded[o.Ref].UID == o.UID {
			out = append(out, o)
		}
	}
	return show(out)
}

// Whatever the rules were before, one Diff makes the cluster hold what they say now, a second finds nothing to do, and what
// is foreign stays as it was, byte for byte.
func TestDiffConverges(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := newFake()
		foreign := []Object{
			f.put(Object{Ref: Ref{Kind: Namespace, Name: "kube-system"}}),
			f.put(Object{Ref: Ref{ClusterRoleBinding, "", "cluster-admin"}, Labels: map[string]string{LabelManagedBy: ManagedBy}, Role: "cluster-admin", Subjects: []Subject{{Kind: GroupKind, Name: "system:masters"}}}),
			f.put(Object{Ref: Ref{RoleBinding, "ns1", "fleetpass-editor-ns"}, Labels: map[string]string{LabelManagedBy: ManagedBy}, Role: "fleetpass-editor-ns", Subjects: []Subject{{Kind: UserKind, Name: "fleetpass:eve@example.com"}}}),
			f.put(Object{Ref: Ref{RoleBinding, "ns2", "theirs"}, Role: "edit", Subjects: []Subject{{Kind: UserKind, Name: "bob"}}}),
		}
		for step := range 6 {
			w := randomWorld(r)
			w.Stamp.Revision += core.Revision(step)
			if step > 0 { // drift: somebody edits or deletes objects of ours
				for ref, rec := range f.recorded {
					o, ok := f.objects[ref]
					switch {
					case !ok || rec.Reaped:
					case r.IntN(6) == 0:
						delete(f.objects, ref)
					case r.IntN(4) == 0:
						o.Subjects = append(slices.Clone(o.Subjects), Subject{Kind: UserKind, Name: "fleetpass:mallory@example.com"})
						f.put(o)
					}
				}
			}
			f.sync(t, w, Options{Full: r.IntN(2) == 0, Now: noon.Add(time.Duration(step) * 40 * time.Minute)})
			want := slices.DeleteFunc(show(Want(w).Objects), func(s string) bool { return strings.HasPrefix(s, "ns1/fleetpass-editor-ns:") })
			got := f.bound()
			if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
				t.Fatalf("seed %d step %d: -want +got:\n%s", seed, step, diff)
			}
			before := f.writes
			w.Stamp.Revision++ // a change elsewhere: our objects are right
			if f.sync(t, w, Options{Now: noon.Add(time.Duration(step) * 40 * time.Minute)}); f.writes != before {
				t.Fatalf("seed %d step %d: a second Diff writes", seed, step)
			}
		}
		for _, o := range foreign {
			if diff := cmp.Diff(o, f.objects[o.Ref]); diff != "" {
				t.Fatalf("seed %d: a foreign object changed:\n%s", seed, diff)
			}
		}
	}
}

func sorted(s []string) []string {
	s = append([]string{}, s...)
	slices.Sort(s)
	return s
}

func randomWorld(r *rand.Rand) World {
	w := basic()
	for _, p := range []string{"p3", "p4"} {
		if r.IntN(2) == 0 {
			w.Scopes = append(w.Scopes, Scope{ID: scope(p), Kind: core.Project, Parent: scope("dep"), Namespace: core.Namespace("ns-" + p)})
		}
	}
	if r.IntN(3) == 0 {
		w.Scopes[1].Parent = core.ClusterScope(cluster1) // moved
	}
	all := []core.ScopeID{core.AccountScope(tenant), core.ClusterScope(cluster1), scope("dep"), scope("p1"), scope("p2"), scope("p3"), scope("gone")}
	roles := policy.Roles()
	for i := range r.IntN(12) {
		who := []core.Subject{ada, team, ci, core.UserSubject("bob@example.com"), core.GroupSubject("ops")}[r.IntN(5)]
		rule := rule(core.RuleID(i+1), who, roles[r.IntN(len(roles))].ID, all[r.IntN(len(all))])
		if r.IntN(4) == 0 {
			rule.ExpiresAt = noon.Add(time.Duration(r.IntN(3)-1) * time.Hour)
		}
		w.Rules = append(w.Rules, rule)
	}
	return w
}

// A binding that is not wanted any more is emptied, stays, and goes with a full run after ReapAfter.
func TestDiffReaps(t *testing.T) {
	f := newFake()
	f.sync(t, basic(rule(1, ada, policy.Viewer, scope("p1"))), Options{})
	ref := Ref{RoleBinding, "ns1", "fleetpass-viewer-ns"}
	first := f.objects[ref]
	none := basic()
	f.sync(t, none, Options{Full: true})
	if o := f.objects[ref]; len(o.Subjects) != 0 || o.UID != first.UID {
		t.Fatalf("after the revocation: %+v", o)
	}
	f.sync(t, none, Options{Full: true, Now: noon.Add(59 * time.Minute)})
	f.sync(t, none, Options{Full: false, Now: noon.Add(2 * time.Hour)})
	if _, ok := f.objects[ref]; !ok {
		t.Fatal("reaped too early, or by a run that is not full")
	}
	f.sync(t, none, Options{Full: true, Now: noon.Add(time.Hour)})
	if _, ok := f.objects[ref]; ok {
		t.Fatal("not reaped")
	}
	// The cluster is restored from a backup of before: the binding, with its old uid and subjects, is known and emptied (SYN-017).
	f.objects[ref] = first
	f.sync(t, none, Options{})
	if o := f.objects[ref]; len(o.Subjects) != 0 {
		t.Fatalf("a restored binding keeps its subjects: %+v", o)
	}
}

// A writer leaves an object that bears a later stamp than its own as it is, and does the rest (SYN-011, K8S-023). A stamp that
// nobody can have written holds nothing up.
func TestDiffLeavesWhatIsLater(t *testing.T) {
	vision := Ref{RoleBinding, "ns1", "fleetpass-viewer-ns"}
	granted := basic(rule(1, ada, policy.Viewer, scope("p1")), rule(2, ada, policy.Viewer, scope("p2")))
	for _, tt := range []struct {
		found Stamp
		late  bool
	}{
		{Stamp{"e1", 11}, true}, {Stamp{"e1", 12}, true}, {Stamp{"e2", 1}, true},
		{Stamp{"e1", 10}, false}, {Stamp{"e0", 999}, false}, {Stamp{"", 0}, false},
		{Stamp{"e1", 13}, false}, {Stamp{"e1", 1 << 60}, false}, // the tenant is at 12
	} {
		f := newFake()
		f.sync(t, granted, Options{})
		o := f.objects[vision]
		o.Annotations = maps.Clone(o.Annotations)
		o.Annotations[AnnotationEpoch], o.Annotations[AnnotationRevision] = tt.found.Epoch, strconv.Itoa(int(tt.found.Revision))
		f.put(o)
		p := f.sync(t, basic(), Options{Newest: 12}) // all is revoked at revision 10
		if got := len(f.objects[vision].Subjects) > 0; got != tt.late || len(p.Late) > 0 != tt.late {
			t.Errorf("%+v: left alone: %v, reported: %v, want %v", tt.found, got, p.Late, tt.late)
		}
		if o := f.objects[Ref{RoleBinding, "ns2", "fleetpass-viewer-ns"}]; len(o.Subjects) > 0 {
			t.Errorf("%+v on one object keeps another as it was", tt.found)
		}
	}
}

func TestDiffClaims(t *testing.T) {
	ref := Ref{RoleBinding, "ns1", "fleetpass-viewer-ns"}
	w := basic(rule(1, ada, policy.Viewer, scope("p1")))
	crashed := func(claim string, subjects ...Subject) *fake {
		f := newFake()
		f.sync(t, basic(), Options{}) // the namespaces
		f.recorded[ref] = Record{Claim: "secret"}
		if claim != "" {
			f.put(Object{Ref: ref, Labels: map[string]string{LabelManagedBy: ManagedBy}, Annotations: map[string]string{AnnotationClaim: claim}, Role: ref.Name, Subjects: subjects})
		}
		return f
	}
	mallory := Subject{Kind: UserKind, Name: "fleetpass:mallory@example.com"}

	f := crashed("secret", mallory) // we died after the POST
	if p := f.sync(t, w, Options{}); len(p.Adopted) != 1 {
		t.Errorf("not adopted: %+v", p)
	}
	if got := f.bound(); !slices.Contains(got, "ns1/fleetpass-viewer-ns: fleetpass:ada@example.com") {
		t.Errorf("adopted, and holds %v", got)
	}
	f = crashed("guess", mallory) // somebody else's, who wants us to adopt it (K8S-021)
	if p := f.sync(t, w, Options{}); len(p.Impostors) != 1 || len(p.Adopted) != 0 || f.objects[ref].Subjects[0] != mallory {
		t.Errorf("a forged claim: %+v", p)
	}
	f = crashed("") // we died before the POST, or it is still on its way, and the rule is gone by now
	f.sync(t, basic(), Options{})
	if o, ok := f.objects[ref]; !ok || len(o.Subjects) != 0 {
		t.Errorf("an open claim is not settled by an empty binding: %+v", f.objects[ref])
	}
	f = crashed("secret", mallory) // once the uid is known, the claim opens nothing any more
	f.recorded[ref] = Record{Claim: "secret", UID: "another"}
	if p := f.sync(t, w, Options{}); len(p.Impostors) != 1 {
		t.Errorf("a copied claim: %+v", p)
	}
}

// In a namespace that does not bear the project's label nobody is bound; it is said, and mended as soon as it does.
func TestDiffWaitsForNamespace(t *testing.T) {
	f := newFake()
	f.put(Object{Ref: Ref{Kind: Namespace, Name: "ns1"}})
	w := basic(rule(1, ada, policy.Viewer, scope("p1")), rule(2, team, policy.Viewer, scope("p2")))
	p := f.sync(t, w, Options{})
	if len(p.Pending) != 1 || !strings.Contains(p.Pending[0].Reason, LabelProject+"="+string(scope("p1"))) {
		t.Errorf("pending: %v", p.Pending)
	}
	if got := f.bound(); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "ns1/") }) || !slices.Contains(got, "ns2/fleetpass-viewer-ns: fleetpass:team") {
		t.Errorf("bound: %v", got)
	}
	ns := f.objects[Ref{Kind: Namespace, Name: "ns1"}]
	ns.Labels = map[string]string{LabelProject: ProjectLabel(scope("p1"))}
	f.put(ns)
	if p := f.sync(t, w, Options{}); len(p.Pending) != 0 || !slices.Contains(f.bound(), "ns1/fleetpass-viewer-ns: fleetpass:ada@example.com") {
		t.Errorf("after labelling: %v, %v", p.Pending, f.bound())
	}
	ns = f.objects[ns.Ref]
	ns.Labels = map[string]string{LabelProject: ProjectLabel(scope("another"))}
	f.put(ns)
	p = f.sync(t, w, Options{})
	if len(p.Pending) != 1 || len(p.Removals) != 0 || len(f.objects[Ref{RoleBinding, "ns1", "fleetpass-viewer-ns"}].Subjects) != 0 {
		t.Errorf("after the label went to another project: %+v", p)
	}
}

// Removals that nothing explains stay, others go, in the same binding too.
func TestHold(t *testing.T) {
	f := newFake()
	f.sync(t, basic(rule(1, ada, policy.Viewer, scope("p1")), rule(2, team, policy.Viewer, scope("p1"))), Options{})
	plan := func() Plan {
		return Diff(Want(basic(rule(3, ci, policy.Viewer, scope("p1")))), f.state(), f.recorded, Options{Now: noon, Newest: 99})
	}
	p := plan()
	if len(p.Removals) != 4 {
		t.Fatalf("removals: %v", p.Removals)
	}
	adas := slices.DeleteFunc(slices.Clone(p.Removals), func(r Removal) bool { return r.Subject.Kind != UserKind })
	held := p.Hold(adas, 1)
	if len(held.Held) != 2 {
		t.Errorf("held: %v", held.Held)
	}
	f.apply(t, held)
	if diff := cmp.Diff([]string{"/fleetpass-viewer: fleetpass:ada@example.com fleetpass:app:ci", "ns1/fleetpass-viewer-ns: fleetpass:ada@example.com fleetpass:app:ci"}, f.bound()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	p = plan()
	if got := p.Hold(p.Removals, 0); len(got.Changes) != 0 || len(got.Held) != 2 {
		t.Errorf("all held, and still %v", got.Changes)
	}
	if got := p.Hold(p.Removals, 2); len(got.Held) != 0 || len(got.Changes) != 2 {
		t.Errorf("within the cap, and held %v", got.Held)
	}
}
