package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

// place is a scope with its names.
type place struct {
	ID   core.ScopeID
	Type api.ScopeType
	Name string // as people call it
	path string // with the cluster's name before it: "east/vision"
}

// String is "project vision".
func (p place) String() string {
	if p.Type == api.ScopeTenant || p.Type == api.ScopeSystem {
		return "account " + p.Name
	}
	return string(p.Type) + " " + p.Name
}

// scopeFlags name a scope: the lowest one given is meant, and those above it narrow the search.
type scopeFlags struct {
	account                      bool
	cluster, department, project string
}

func (f scopeFlags) empty() bool { return f == scopeFlags{} }

// resolve finds the scope that the flags name.
func (f scopeFlags) resolve(ctx context.Context, c *api.Client) (place, error) {
	switch {
	case f.account && (f.cluster != "" || f.department != "" || f.project != ""):
		return place{}, core.BadField("--account", "is the whole account; leave out the other scopes")
	case f.account:
		return findAccount(ctx, c)
	case f.department != "" && f.project != "":
		return place{}, core.BadField("--department", "and --project exclude each other; a project has one name in its cluster")
	}
	var in core.ClusterID
	if f.cluster != "" {
		p, err := findCluster(ctx, c, f.cluster)
		if err != nil || f.department == "" && f.project == "" {
			return p, err
		}
		in = core.ClusterID(p.ID)
	}
	if f.department != "" {
		return find(ctx, c, in, f.department, api.ScopeDepartment)
	}
	return find(ctx, c, in, f.project, api.ScopeProject)
}

// parsePlace finds the scope that a person named in one word: "account"; "cluster/NAME", "department/NAME" or
// "project/NAME"; or a bare name or id, which must then mean one scope only.
func parsePlace(ctx context.Context, c *api.Client, s string) (place, error) {
	kind, name, cut := strings.Cut(s, "/")
	switch {
	case s == "account":
		return findAccount(ctx, c)
	case cut && kind == "cluster":
		return findCluster(ctx, c, name)
	case cut && kind == "department":
		return find(ctx, c, "", name, api.ScopeDepartment)
	case cut && kind == "project":
		return find(ctx, c, "", name, api.ScopeProject)
	case cut:
		return place{}, core.BadField("--in", `must be "account", "cluster/NAME", "department/NAME", "project/NAME", or a name or id alone`)
	}
	return find(ctx, c, "", s, api.ScopeProject, api.ScopeDepartment, api.ScopeCluster)
}

func findAccount(ctx context.Context, c *api.Client) (place, error) {
	me, err := c.Me(ctx)
	return place{
		ID: core.AccountScope(me.TenantID), Type: api.ScopeTypeOf(me.TenantID, core.Account), Name: string(me.TenantID),
		path: string(me.TenantID),
	}, err
}

func findCluster(ctx context.Context, c *api.Client, name string) (place, error) {
	return find(ctx, c, "", name, api.ScopeCluster)
}

// find looks for a scope by its name or id among those that the caller may view. Names are not unique across clusters: if
// several match, the error names them.
func find(ctx context.Context, c *api.Client, in core.ClusterID, name string, kinds ...api.ScopeType) (place, error) {
	var found []place
	clusters := map[core.ClusterID]string{}
	for cl, err := range c.Clusters(ctx) {
		if err != nil {
			return place{}, err
		}
		clusters[cl.UUID] = cl.Name
	}
	match := func(kind api.ScopeType, id core.ScopeID, cluster core.ClusterID, its string) {
		if (its == name || string(id) == name) && (in == "" || in == cluster) {
			p := place{ID: id, Type: kind, Name: its, path: its}
			if kind != api.ScopeCluster {
				p.path = clusters[cluster] + "/" + its
			}
			found = append(found, p)
		}
	}
	for _, kind := range kinds {
		switch kind {
		case api.ScopeCluster:
			for id, its := range clusters {
				match(kind, core.ClusterScope(id), id, its)
			}
		case api.ScopeDepartment:
			for d, err := range c.Departments(ctx) {
				if err != nil {
					return place{}, err
				}
				match(kind, d.ID, d.ClusterID, d.Name)
			}
		case api.ScopeProject:
			for p, err := range c.Projects(ctx) {
				if err != nil {
					return place{}, err
				}
				match(kind, p.ID, p.ClusterID, p.Name)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		what := strings.Join(names(kinds), ", ")
		return place{}, fmt.Errorf("there is no %s %q that you may see: %w", what, name, core.NotFound)
	}
	var all []string
	for _, p := range found {
		all = append(all, fmt.Sprintf("%s %s (id %s)", p.Type, p.path, p.ID))
	}
	return place{}, core.BadField(name, "means several scopes; use an id, or name the cluster: "+strings.Join(all, "; "))
}

func names(kinds []api.ScopeType) (all []string) {
	for _, k := range kinds {
		all = append(all, string(k))
	}
	return all
}
