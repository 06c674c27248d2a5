package kube

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// MaxSubjects is how many subjects one binding holds. A name is at most 320 bytes with its prefix, so such a binding is
// below 1 MiB, and etcd takes 1.5 MiB.
const MaxSubjects = 2000

// Scope is a department or project, as much of it as a cluster's bindings depend on.
type Scope struct {
	ID        core.ScopeID
	Kind      core.ScopeKind
	Parent    core.ScopeID
	Namespace core.Namespace // of a project
}

// World is all that a cluster's desired state depends on.
type World struct {
	Tenant   core.TenantID
	Cluster  core.ClusterID
	Prefixes Prefixes
	Stamp    Stamp                 // what the objects are marked with
	Scopes   []Scope               // the live departments and projects of the cluster
	Rules    []core.Rule           // those of the cluster and those of the account; expired ones grant nothing
	Disabled map[core.Subject]bool // people and applications that may not act: bound nowhere, whatever the rules say
	Now      time.Time
}

// Desired is what a cluster must hold.
type Desired struct {
	Tenant   core.TenantID
	Cluster  core.ClusterID
	Prefixes Prefixes
	Stamp    Stamp
	Objects  []Object  // sorted by Ref; bindings have their names, labels, role and subjects
	Problems []Problem // rules and projects that come to nothing, and why
}

// Problem is something that is not as it should be and that a person may have to mend. Ref is empty where it is about a
// rule or project that comes to no object.
type Problem struct {
	Ref    Ref
	Reason string // one sentence for people
}

// String is for logs and statuses.
func (p Problem) String() string {
	if p.Ref == (Ref{}) {
		return p.Reason
	}
	return p.Ref.String() + ": " + p.Reason
}

// Want computes what a cluster must hold: a namespace for each project; in it, for each role, one RoleBinding with
// everybody who has that role by a rule at the project or above it; and for each role one ClusterRoleBinding with
// everybody who has it anywhere in the cluster, which gives a few harmless reads. A project moved or made later is
// covered by the rules above it without any rule changing.
func Want(w World) Desired {
	d := Desired{Tenant: w.Tenant, Cluster: w.Cluster, Prefixes: w.Prefixes, Stamp: w.Stamp}
	at := d.byScope(w)

	everywhere := map[core.RoleID]members{} // role -> everybody who has it in this cluster
	for _, holders := range at {
		for role, m := range holders {
			everywhere[role] = everywhere[role].and(m)
		}
	}
	for role, m := range everywhere {
		if name, ok := roles().clusterWide[role]; ok {
			d.bind(Ref{Kind: ClusterRoleBinding}, name, m)
		}
	}

	owner := map[core.Namespace]core.ScopeID{}
	projects := slices.Clone(w.Scopes)
	slices.SortFunc(projects, func(a, b Scope) int { return cmp.Compare(a.ID, b.ID) })
	for _, p := range projects {
		if p.Kind != core.Project {
			continue
		}
		if ns, err := core.ParseNamespace("namespace", string(p.Namespace)); err != nil || ns != p.Namespace {
			d.problem("project %s: namespace %q is not one that a project may have", p.ID, p.Namespace)
			continue
		}
		if first, taken := owner[p.Namespace]; taken {
			d.problem("project %s: namespace %s is project %s's", p.ID, p.Namespace, first)
			continue
		}
		owner[p.Namespace] = p.ID
		d.Objects = append(d.Objects, d.namespace(p))

		holders := map[core.RoleID]members{}
		path := core.Path{core.AccountScope(w.Tenant), core.ClusterScope(w.Cluster), p.Parent, p.ID}
		if p.Parent == path[1] {
			path[2] = "" // right below its cluster
		}
		for _, scope := range path {
			for role, m := range at[scope] {
				holders[role] = holders[role].and(m)
			}
		}
		for role, m := range holders {
			if name, ok := roles().namespaced[role]; ok {
				d.bind(Ref{Kind: RoleBinding, Namespace: p.Namespace}, name, m)
			}
		}
	}
	slices.SortFunc(d.Objects, func(a, b Object) int { return compareRefs(a.Ref, b.Ref) })
	return d
}

// members is a set of subjects.
type members map[Subject]bool

// and adds n's members to m, which may be nil, and returns it. It never changes n.
func (m members) and(n members) members {
	if m == nil {
		m = make(members, len(n))
	}
	for s := range n {
		m[s] = true
	}
	return m
}

// byScope gathers who has which role at each scope, from the rules that hold now and in this cluster.
func (d *Desired) byScope(w World) map[core.ScopeID]map[core.RoleID]members {
	known := map[core.ScopeID]bool{core.AccountScope(w.Tenant): true, core.ClusterScope(w.Cluster): true}
	for _, s := range w.Scopes {
		known[s.ID] = true
	}
	at := map[core.ScopeID]map[core.RoleID]members{}
	refused := map[core.Subject]bool{}
	for _, r := range w.Rules {
		if !known[r.Scope] || !r.Live(w.Now) || w.Disabled[r.Subject] {
			continue
		}
		if _, ok := NamespaceRole(r.Role); !ok {
			d.problem("rule %d: role %d is unknown", r.ID, r.Role)
			continue
		}
		s, err := w.Prefixes.Subject(r.Subject)
		if err != nil {
			if !refused[r.Subject] {
				refused[r.Subject] = true
				d.problem("rule %d: %v", r.ID, err)
			}
			continue
		}
		if at[r.Scope] == nil {
			at[r.Scope] = map[core.RoleID]members{}
		}
		if at[r.Scope][r.Role] == nil {
			at[r.Scope][r.Role] = members{}
		}
		at[r.Scope][r.Role][s] = true
	}
	return at
}

func (d *Desired) problem(format string, args ...any) {
	d.Problems = append(d.Problems, Problem{Reason: fmt.Sprintf(format, args...)})
}

// namespace is the namespace of a project as it is created. An existing one is never changed.
func (d *Desired) namespace(p Scope) Object {
	return Object{
		Ref: Ref{Kind: Namespace, Name: string(p.Namespace)},
		Labels: map[string]string{
			LabelManagedBy: ManagedBy,
			LabelProject:   ProjectLabel(p.ID),
			LabelEnforce:   "baseline",
		},
		Annotations: map[string]string{AnnotationTenant: string(d.Tenant), AnnotationCluster: string(d.Cluster)},
	}
}

// bind adds the bindings of a ClusterRole to everybody in m: one, or as many as MaxSubjects makes necessary. A subject's
// binding is chosen by a hash of its name, so that one rule more or less changes one binding, and not all behind it.
func (d *Desired) bind(at Ref, role string, m members) {
	var shards [][]Subject
	for n := 1; ; n *= 2 {
		shards = make([][]Subject, n)
		most := 0
		for s := range m {
			i := shard(s, n)
			shards[i] = append(shards[i], s)
			most = max(most, len(shards[i]))
		}
		if most <= MaxSubjects {
			break
		}
	}
	for i, subjects := range shards {
		if len(subjects) == 0 {
			continue
		}
		slices.SortFunc(subjects, CompareSubjects)
		ref := at
		ref.Name = role
		if i > 0 {
			ref.Name += "." + strconv.Itoa(i)
		}
		d.Objects = append(d.Objects, Object{
			Ref:         ref,
			Labels:      map[string]string{LabelManagedBy: ManagedBy},
			Annotations: map[string]string{AnnotationTenant: string(d.Tenant), AnnotationCluster: string(d.Cluster)},
			Role:        role,
			Subjects:    subjects,
		})
	}
}

func shard(s Subject, n int) int {
	h := fnv.New32a()
	h.Write([]byte(s.Kind))
	h.Write([]byte{0})
	h.Write([]byte(s.Name))
	return int(h.Sum32() % uint32(n))
}

// Subject is how a cluster names one of our subjects. Names that Kubernetes or OpenShift give a meaning to, and those that
// could not have come through our own parsers, are core.Invalid: a rule with such a subject came by another way.
func (p Prefixes) Subject(s core.Subject) (Subject, error) {
	bad := func(why string) (Subject, error) {
		return Subject{}, fmt.Errorf("subject %q cannot be bound in a cluster: %s: %w", s.String(), why, core.Invalid)
	}
	if core.Reserved(s.ID) {
		return bad("the name is reserved")
	}
	switch s.Kind {
	case core.User:
		if e, err := core.ParseEmail("user", s.ID); err != nil || string(e) != s.ID {
			return bad("not an e-mail in canonical form")
		}
		return Subject{Kind: UserKind, Name: p.User + s.ID}, nil
	case core.Group:
		if g, err := core.ParseGroupName("group", s.ID); err != nil || string(g) != s.ID {
			return bad("not the name of a group")
		}
		return Subject{Kind: GroupKind, Name: p.Group + s.ID}, nil
	case core.Application:
		if !clientID(s.ID) {
			return bad("not a client id")
		}
		return Subject{Kind: UserKind, Name: p.User + AppPrefix + s.ID}, nil
	}
	return bad("its kind is unknown")
}

// Parse is the reverse of Subject: whose name it is that a cluster's binding holds. False: nobody's of ours.
func (p Prefixes) Parse(s Subject) (core.Subject, bool) {
	var out core.Subject
	switch s.Kind {
	case UserKind:
		name, ok := strings.CutPrefix(s.Name, p.User)
		if !ok {
			return core.Subject{}, false
		}
		if id, ok := strings.CutPrefix(name, AppPrefix); ok {
			out = core.ApplicationSubject(core.ApplicationID(id))
		} else {
			out = core.UserSubject(core.Email(name))
		}
	case GroupKind:
		name, ok := strings.CutPrefix(s.Name, p.Group)
		if !ok {
			return core.Subject{}, false
		}
		out = core.GroupSubject(core.GroupName(name))
	}
	again, err := p.Subject(out)
	return out, err == nil && again == s
}

// clientID says whether an application's id is of characters that mean nothing anywhere: letters, digits, "-", "_", ".".
func clientID(s string) bool {
	return s != "" && len(s) <= 255 && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	}) < 0
}
