package admin

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// scopeFilters are the parameters of the lists of departments and of projects.
var scopeFilters = append([]string{"clusterId"}, listParams...)

func createDepartment(c *call) (reply, error) {
	req, err := decode[api.DepartmentRequest](c)
	if err != nil {
		return failed(err)
	}
	if req.ClusterID == "" {
		req.ClusterID, _ = req.ParentID.ClusterOf()
	}
	cluster := core.ClusterScope(req.ClusterID)
	if req.ParentID != "" && req.ParentID != cluster {
		return failed(core.BadField("parentId", "must be the cluster, or be left out"))
	}
	if err := c.mayCreateIn(policy.Department, "clusterId", cluster, core.Cluster); err != nil {
		return failed(err)
	}
	sc, err := c.Org.CreateDepartment(c.ctx, c.actor, c.tenant, req.ClusterID, req.Name)
	if err != nil {
		return failed(err)
	}
	return created(wireDepartment(sc))
}

func createProject(c *call) (reply, error) {
	req, err := decode[api.ProjectRequest](c)
	if err != nil {
		return failed(err)
	}
	field := "parentId"
	if req.ParentID == "" {
		field, req.ParentID = "clusterId", core.ClusterScope(req.ClusterID)
	}
	if cluster, _ := req.ParentID.ClusterOf(); req.ClusterID != "" && req.ClusterID != cluster {
		return failed(core.BadField("clusterId", "must be the cluster that the parent lies in, or be left out"))
	}
	if err := c.mayCreateIn(policy.Project, field, req.ParentID, core.Cluster, core.Department); err != nil {
		return failed(err)
	}
	sc, err := c.Org.CreateProject(c.ctx, c.actor, c.tenant, org.NewProject{
		Name: req.Name, Parent: req.ParentID, Namespace: string(req.RequestedNamespace),
	})
	if err != nil {
		return failed(fieldNames.rename(err))
	}
	return created(wireProject(sc))
}

// mayCreateIn asks whether the caller may create an entity below a scope that the request names in a field. What is not
// there, or not of one of the kinds, is the request's fault.
func (c *call) mayCreateIn(e policy.Entity, field string, parent core.ScopeID, kinds ...core.ScopeKind) error {
	if parent == "" {
		return core.BadField(field, "is missing")
	}
	if err := c.holdsSomewhere(e, policy.Create); err != nil {
		return err
	}
	rec, err := c.Org.Scope(c.ctx, c.tenant, parent)
	if err == nil && slices.Contains(kinds, rec.Value.Kind) {
		err = c.allowed(e, policy.Create, parent)
	} else if err == nil || errors.Is(err, core.Limit) {
		err = core.NotFound
	}
	if errors.Is(err, core.NotFound) {
		return fmt.Errorf("%s: no such %s: %w", field, kinds[0], core.NotFound)
	}
	return err
}

// rename spells the fields of a service's errors as the API does.
type rename map[string]string

var fieldNames = rename{"parent": "parentId", "namespace": "requestedNamespace"}

func (names rename) rename(err error) error {
	var f *core.FieldError
	if errors.As(err, &f) && names[f.Field] != "" {
		return core.BadField(names[f.Field], f.Fix)
	}
	return err
}

func getDepartment(c *call) (reply, error) { return ok(wireDepartment(c.scope)) }
func getProject(c *call) (reply, error)    { return ok(wireProject(c.scope)) }

func putDepartment(c *call) (reply, error) {
	req, err := decode[api.DepartmentRequest](c)
	if err != nil {
		return failed(err)
	}
	if req.ClusterID != "" && req.ClusterID != c.scope.Cluster {
		return failed(core.BadField("clusterId", "must be the present one: a department stays in its cluster"))
	}
	if req.ParentID != "" && req.ParentID != c.scope.Parent {
		return failed(core.BadField("parentId", "must be the present one: a department stays in its cluster"))
	}
	sc, err := c.Org.Replace(c.ctx, c.actor, c.tenant, c.scope.ID, req.Name, c.scope.Parent, nil)
	if err != nil {
		return failed(err)
	}
	return ok(wireDepartment(sc))
}

// putProject renames and moves a project. A move takes it away from those whose rules hold for it, and gives it to others:
// so it needs, beside edit, delete where the project is and create where it goes, and the delegation guard.
func putProject(c *call) (reply, error) {
	req, err := decode[api.ProjectRequest](c)
	if err != nil {
		return failed(err)
	}
	if req.ClusterID != "" && req.ClusterID != c.scope.Cluster {
		return failed(core.BadField("clusterId", "must be the present one: a project stays in its cluster"))
	}
	if req.RequestedNamespace != "" && req.RequestedNamespace != c.scope.Namespace {
		return failed(core.BadField("requestedNamespace", "must be the present one: what runs in it does not move"))
	}
	parent := cmp.Or(req.ParentID, c.scope.Parent)
	if parent != c.scope.Parent {
		if cluster, _ := parent.ClusterOf(); cluster != c.scope.Cluster {
			return failed(core.BadField("parentId", "must be the project's cluster or a department of it"))
		}
		if err := c.mayCreateIn(policy.Project, "parentId", parent, core.Cluster, core.Department); err != nil {
			return failed(err)
		}
		if err := c.allowed(policy.Project, policy.Delete, c.scope.ID); err != nil {
			return failed(fmt.Errorf("to move a project: %w", err))
		}
		if err := c.Access.CoversMove(c.ctx, c.actor, c.scope.ID, parent); err != nil {
			return failed(err)
		}
	}
	sc, err := c.Org.Replace(c.ctx, c.actor, c.tenant, c.scope.ID, req.Name, parent, nil)
	if err != nil {
		return failed(fieldNames.rename(err))
	}
	return ok(wireProject(sc))
}

func deleteDepartment(c *call) (reply, error) { return c.deleteScope(policy.Project) }
func deleteProject(c *call) (reply, error)    { return c.deleteScope() }

// deleteScope deletes the scope {id}. With cascade, the caller must be allowed to delete what may lie below, too.
func (c *call) deleteScope(below ...policy.Entity) (reply, error) {
	cascade, err := c.flag("cascade")
	if err != nil {
		return failed(err)
	}
	for _, e := range below {
		if !cascade {
			break
		}
		if err := c.Access.Allowed(c.ctx, c.actor, e, policy.Delete, c.scope.ID); err != nil {
			return failed(fmt.Errorf("cascade: %w", err))
		}
	}
	if err := c.Org.DeleteScope(c.ctx, c.actor, c.tenant, c.scope.ID, cascade); err != nil {
		return failed(err)
	}
	return noContent()
}

// scopeTable is of departments and projects. Their order is that of the parents' ids, and below one parent of the names.
func scopeTable(name string) table[org.Scope] {
	return table[org.Scope]{name: name, fields: slices.Concat(scopeFields, []field[org.Scope]{
		textField("clusterId", func(s org.Scope) string { return string(s.Cluster) }),
		textField("parentId", func(s org.Scope) string { return string(s.Parent) }),
		textField("requestedNamespace", func(s org.Scope) string { return string(s.Namespace) }).search(),
	})}
}

var (
	departmentTable, projectTable = scopeTable("departments"), scopeTable("projects")

	scopeFields = []field[org.Scope]{
		textField("name", func(s org.Scope) string { return s.Name }).search(),
		textField("createdBy", func(s org.Scope) string { return by(s.CreatedBy) }),
		timeField("creationTime", func(s org.Scope) time.Time { return s.CreatedAt }).also("createdAt"),
		timeField("lastUpdated", func(s org.Scope) time.Time { return s.UpdatedAt }).also("updatedAt"),
	}
)

func listDepartments(c *call) (reply, error) {
	f, err := c.scopesOf(core.Department, policy.Department, departmentTable)
	if err != nil {
		return failed(err)
	}
	rep, err := answer(f, wireDepartment)
	rep.json = api.DepartmentList{Departments: each(f.values, wireDepartment), Next: f.next}
	return rep, err
}

func listProjects(c *call) (reply, error) {
	f, err := c.scopesOf(core.Project, policy.Project, projectTable)
	if err != nil {
		return failed(err)
	}
	rep, err := answer(f, wireProject)
	rep.json = api.ProjectList{Projects: each(f.values, wireProject), Next: f.next}
	return rep, err
}

// scopesOf is a page of the scopes of a kind that the caller may view. It reads the names of those alone.
func (c *call) scopesOf(k core.ScopeKind, e policy.Entity, t table[org.Scope]) (none found[org.Scope], err error) {
	held, err := c.held(e, policy.View)
	if err != nil {
		return none, err
	}
	w := org.Where{Kind: k, Within: held}
	if w.Cluster, err = scopeParam[core.ClusterID](c, "clusterId"); err != nil {
		return none, err
	}
	l, err := readListing(c, t)
	if err != nil {
		return none, err
	}
	direct := func(cond condition[org.Scope]) bool {
		return cond.name == "parentId" && cond.op == equal && cond.want.text != ""
	}
	if i := slices.IndexFunc(l.conditions, direct); i >= 0 { // the index serves it
		w.Parent = core.ScopeID(l.conditions[i].want.text)
		l.conditions = slices.Delete(l.conditions, i, i+1)
	}
	names, err := c.Org.Names(c.ctx, c.tenant, w)
	if err != nil {
		return none, err
	}
	return l.page(c.named(names))
}

// named is the source of the scopes of an index of names.
func (c *call) named(n *org.Names) source[org.Scope] {
	return ranges(n.Parts, records(func(r store.Range) iter.Seq2[store.Record[org.Scope], error] { return n.List(c.ctx, r) }))
}

// visible says which scopes the caller may view as the entity. Who may view none is denied: an empty list would look as
// if there were none.
func (c *call) visible(e policy.Entity) (func(org.Scope) bool, error) {
	return c.within(e, policy.View)
}

// held is the scopes in which the caller was given a permission, which it then holds in all that lies in them, too. Who
// holds it nowhere is denied.
func (c *call) held(e policy.Entity, a policy.Action) ([]org.Scope, error) {
	held, err := c.Access.PermittedScopes(c.ctx, c.tenant, c.actor.Subject, e, a)
	if err == nil && len(held) == 0 {
		err = lacks(e, a)
	}
	return held, err
}

// within says of a scope whether the caller holds a permission there. Who holds it nowhere is denied.
func (c *call) within(e policy.Entity, a policy.Action) (func(org.Scope) bool, error) {
	held, err := c.held(e, a)
	if err != nil {
		return nil, err
	}
	within := map[core.ScopeID]bool{}
	for _, sc := range held {
		within[sc.ID] = true
	}
	return func(sc org.Scope) bool {
		for _, up := range org.PathOf(c.tenant, sc) {
			if up != "" && within[up] {
				return true
			}
		}
		return false
	}, nil
}

// scopeNames is the names of the rules' scopes, for people. A scope that is being swept away has its id for a name.
func (c *call) scopeNames(rules []core.Rule) (map[core.ScopeID]string, error) {
	names := map[core.ScopeID]string{core.AccountScope(c.tenant): c.meta.Name}
	var keys []store.Key
	for _, r := range rules {
		if _, seen := names[r.Scope]; !seen {
			names[r.Scope] = string(r.Scope)
			keys = append(keys, store.Scope(c.tenant, r.Scope))
		}
	}
	for chunk := range slices.Chunk(keys, store.MaxGet) {
		items, err := c.DB.Get(c.ctx, chunk...)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			rec, err := org.DecodeScope(it)
			if errors.Is(err, core.NotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			names[rec.Value.ID] = rec.Value.Name
		}
	}
	return names, nil
}

// scopePath is the names from the tenant down to a scope.
func (c *call) scopePath(id core.ScopeID) ([]string, error) {
	names := []string{c.meta.Name}
	if id == core.AccountScope(c.tenant) {
		return names, nil
	}
	rec, err := c.Org.Scope(c.ctx, c.tenant, id)
	if errors.Is(err, core.NotFound) {
		return append(names, string(id)), nil
	}
	if err != nil {
		return nil, err
	}
	var path []core.Rule
	for i, up := range org.PathOf(c.tenant, rec.Value) {
		if i > 0 && up != "" {
			path = append(path, core.Rule{Scope: up})
		}
	}
	found, err := c.scopeNames(path)
	if err != nil {
		return nil, err
	}
	for _, up := range path {
		names = append(names, found[up.Scope])
	}
	return names, nil
}

func wireDepartment(sc org.Scope) api.Department {
	return api.Department{
		ID: sc.ID, Name: sc.Name, ClusterID: sc.Cluster, ParentID: sc.Parent,
		CreatedAt: sc.CreatedAt, CreatedBy: by(sc.CreatedBy), UpdatedAt: sc.UpdatedAt,
	}
}

func wireProject(sc org.Scope) api.Project {
	return api.Project{
		ID: sc.ID, Name: sc.Name, ClusterID: sc.Cluster, ParentID: sc.Parent, RequestedNamespace: sc.Namespace,
		CreatedAt: sc.CreatedAt, CreatedBy: by(sc.CreatedBy), UpdatedAt: sc.UpdatedAt,
	}
}
