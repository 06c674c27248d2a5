package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/kubernetes"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/localdev/cluster"
)

// bindings is whom each binding of ours binds, as the API server has it.
func (s *site) bindings() map[kube.Ref][]kube.Subject {
	s.t.Helper()
	c, err := kubernetes.New(kubernetes.Config{Server: s.api.URL(), CA: string(s.api.CA()),
		Token: func(context.Context) (string, error) { return s.mint(kube.SyncUser), nil }})
	must(s.t, err)
	defer c.Close()
	have, err := c.Current(s.t.Context())
	must(s.t, err)
	out := map[kube.Ref][]kube.Subject{}
	for _, o := range have.Objects {
		if o.Kind != kube.Namespace {
			out[o.Ref] = o.Subjects
		}
	}
	return out
}

// What a preview foretells is what the API server's own audit log says was written, and whom the bindings bind afterwards;
// and our audit log names those writes by the ids that they have there.
func testPreviews(t *testing.T, s *site) {
	ctx := t.Context()
	dep, err := s.org.CreateDepartment(ctx, s.manager, s.tenant, s.id, "previews")
	must(t, err)
	var p []org.Scope
	for _, name := range []string{"preview-one", "preview-two"} {
		made, err := s.org.CreateProject(ctx, s.manager, s.tenant, org.NewProject{Name: name, Parent: dep.ID})
		must(t, err)
		p = append(p, made)
	}
	s.reconcile(false)
	var last core.Rule
	for _, tt := range []struct {
		name   string
		create []access.NewRule // none: the rule that was made last goes
		writes int
	}{
		{"a first grant", []access.NewRule{{Subject: core.UserSubject("eve@example.com"), Role: policy.MLEngineer, Scope: p[0].ID}}, 2},
		{"a second subject, in the whole department", []access.NewRule{{Subject: core.GroupSubject("ops"), Role: policy.MLEngineer, Scope: dep.ID}}, 3},
		{"given by another rule", []access.NewRule{{Subject: core.GroupSubject("ops"), Role: policy.MLEngineer, Scope: p[1].ID}}, 0},
		{"taken back, and held by another rule", nil, 0},
		{"several at once", []access.NewRule{
			{Subject: core.UserSubject("fay@example.com"), Role: policy.L2Researcher, Scope: dep.ID},
			{Subject: core.UserSubject("gus@example.com"), Role: policy.L2Researcher, Scope: p[1].ID}}, 3},
		{"one of them taken back", nil, 2},
	} {
		var remove []core.RuleID
		if tt.create == nil {
			remove = []core.RuleID{last.ID}
		}
		f, err := s.sync.Preview(ctx, s.tenant, func(ctx context.Context) (sync.RuleChange, error) {
			made, gone, err := s.access.Preview(ctx, s.manager, tt.create, remove)
			return sync.RuleChange{Made: made, Gone: gone}, err
		})
		must(t, err)
		if len(f.Clusters) != 1 || len(f.Clusters[0].Changes) != tt.writes {
			t.Fatalf("%s: foretold %+v", tt.name, f.Clusters)
		}
		want, foretold := s.bindings(), []string{}
		for _, d := range f.Clusters[0].Changes {
			foretold = append(foretold, fmt.Sprintf("%s %s/%s", d.Verb, d.Ref.Namespace, d.Ref.Name))
			after := slices.DeleteFunc(slices.Clone(want[d.Ref]), func(s kube.Subject) bool { return slices.Contains(d.Removes, s) })
			after = append(after, d.Adds...)
			slices.SortFunc(after, kube.CompareSubjects)
			want[d.Ref] = after
		}
		if tt.create != nil {
			made, err := s.access.CreateBatch(ctx, s.manager, tt.create)
			must(t, err)
			if d := cmp.Diff(ids(f.Change.Made), ids(made)); d != "" {
				t.Errorf("%s: rules, -foretold +made:\n%s", tt.name, d)
			}
			last = made[len(made)-1]
		} else {
			s.revoke(last)
		}
		began := time.Now()
		equal(t, s.reconcile(false), foretold...)
		got := s.bindings()
		for _, m := range []map[kube.Ref][]kube.Subject{want, got} {
			for ref := range m {
				m[ref] = append([]kube.Subject{}, m[ref]...)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: bindings, -foretold +there:\n%s", tt.name, d)
		}
		s.audited(tt.name, began, tt.writes)
	}
}

func ids(rules []core.Rule) (out []core.RuleID) {
	for _, r := range rules {
		out = append(out, r.ID)
	}
	return out
}

// audited checks that the writes since then, so many, are in one record of ours by the ids of the API server's audit log.
func (s *site) audited(name string, began time.Time, writes int) {
	s.t.Helper()
	var ours []string
	records := 0
	for rec, err := range audit.List(s.t.Context(), s.sync.DB, s.tenant, began.Truncate(time.Millisecond), time.Time{}, false) {
		must(s.t, err)
		if rec.EntityType == audit.EntityCluster && rec.Cluster == s.id && strings.Contains(rec.Reason, " applied: ") {
			records++
			ours = append(ours, rec.KubernetesAuditIDs...)
		}
	}
	var theirs []string
	_, err := s.api.Writes(func(e cluster.AuditEntry) bool {
		if e.User == "fleetpass:sync" && slices.Contains(ours, e.ID) && e.Code < 300 {
			theirs = append(theirs, e.ID)
		}
		return false
	})
	must(s.t, err)
	slices.Sort(ours)
	slices.Sort(theirs)
	if d := cmp.Diff(ours, theirs); d != "" || len(ours) != writes || records != min(writes, 1) {
		s.t.Errorf("%s: %d records, %d ids of %d writes; -ours +the API server's:\n%s", name, records, len(ours), writes, d)
	}
}
