package kube

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/policy"
)

// NamespaceRole is the name of the ClusterRole that holds a role's rights in the namespace of a project:
// "fleetpass-l1-researcher-ns". False: there is no such role.
func NamespaceRole(id core.RoleID) (string, bool) {
	name, ok := ClusterWideRole(id)
	return name + "-ns", ok
}

// ClusterWideRole is the name of the ClusterRole that holds what a role may read of the cluster itself:
// "fleetpass-l1-researcher". False: there is no such role.
func ClusterWideRole(id core.RoleID) (string, bool) {
	r, ok := policy.RoleByID(id)
	return "fleetpass-" + strings.ReplaceAll(strings.ToLower(r.Name), " ", "-"), ok
}

// RoleOf is the role that one of our ClusterRoles belongs to. False: it is none of ours.
func RoleOf(clusterRole string) (core.RoleID, bool) {
	for _, r := range policy.Roles() {
		if name, _ := ClusterWideRole(r.ID); clusterRole == name || clusterRole == name+"-ns" {
			return r.ID, true
		}
	}
	return 0, false
}

// ClusterRole is a Kubernetes ClusterRole (rbac.authorization.k8s.io/v1), as much of it as we write.
type ClusterRole struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Metadata   Metadata     `json:"metadata"`
	Rules      []PolicyRule `json:"rules"`
}

// Metadata is the metadata of an object in a manifest.
type Metadata struct {
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// PolicyRule grants verbs on resources.
type PolicyRule struct {
	APIGroups     []string `json:"apiGroups"`
	Resources     []string `json:"resources"`
	ResourceNames []string `json:"resourceNames,omitempty"`
	Verbs         []string `json:"verbs"`
}

// ClusterRoles returns the static ClusterRoles, two for each system role, sorted by name. Some may hold no rules; no
// binding to those is ever wanted.
func ClusterRoles() []ClusterRole {
	var out []ClusterRole
	for _, r := range policy.Roles() {
		ns, _ := NamespaceRole(r.ID)
		cluster, _ := ClusterWideRole(r.ID)
		out = append(out, clusterRole(ns, rules(&r.Permissions, false)), clusterRole(cluster, rules(&r.Permissions, true)))
	}
	slices.SortFunc(out, func(a, b ClusterRole) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	return out
}

func clusterRole(name string, rules []PolicyRule) ClusterRole {
	return ClusterRole{
		APIVersion: "rbac.authorization.k8s.io/v1",
		Kind:       "ClusterRole",
		Metadata:   Metadata{Name: name, Labels: map[string]string{LabelManagedBy: ManagedBy}},
		Rules:      rules,
	}
}

// rules derives the rules of one ClusterRole. Resources of one API group that take the same verbs share a rule.
func rules(p *policy.Permissions, clusters bool) []PolicyRule {
	type resource struct{ group, name string }
	verbs := map[resource]map[string]bool{}
	for _, row := range table {
		if row.clusters != clusters {
			continue
		}
		for action, granted := range row.verbs {
			if !slices.ContainsFunc(row.entities, func(e policy.Entity) bool { return p.Has(e, action) }) {
				continue
			}
			for _, name := range row.resources {
				r := resource{row.group, name}
				if verbs[r] == nil {
					verbs[r] = map[string]bool{}
				}
				for _, v := range granted {
					verbs[r][v] = true
				}
			}
		}
	}
	shared := map[[2]string][]string{} // API group and verbs -> resources
	for r, set := range verbs {
		k := [2]string{r.group, strings.Join(inOrder(set), " ")}
		shared[k] = append(shared[k], r.name)
	}
	var out []PolicyRule
	for k, resources := range shared {
		slices.Sort(resources)
		out = append(out, PolicyRule{APIGroups: []string{k[0]}, Resources: resources, Verbs: strings.Fields(k[1])})
	}
	slices.SortFunc(out, func(a, b PolicyRule) int {
		return cmp.Or(cmp.Compare(a.APIGroups[0], b.APIGroups[0]), slices.Compare(a.Resources, b.Resources))
	})
	return out
}

var verbOrder = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}

func inOrder(set map[string]bool) []string {
	var out []string
	for _, v := range verbOrder {
		if set[v] {
			out = append(out, v)
		}
	}
	return out
}

// catalogue is what Want asks about the roles: their names, and which of the two ClusterRoles hold anything.
type catalogue struct {
	namespaced, clusterWide map[core.RoleID]string // only where the ClusterRole has rules
}

var roles = sync.OnceValue(func() catalogue {
	c := catalogue{map[core.RoleID]string{}, map[core.RoleID]string{}}
	for _, r := range policy.Roles() {
		if len(rules(&r.Permissions, false)) > 0 {
			c.namespaced[r.ID], _ = NamespaceRole(r.ID)
		}
		if len(rules(&r.Permissions, true)) > 0 {
			c.clusterWide[r.ID], _ = ClusterWideRole(r.ID)
		}
	}
	return c
})
