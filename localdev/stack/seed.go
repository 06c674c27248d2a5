package stack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
)

// Seed is what the local system is filled with: an operator, a tenant with an administrator and two researchers, two
// connections to an identity provider with a person in each, and a fleet of two clusters that are known but have not joined yet.
type Seed struct {
	Operator   Person        `json:"operator"` // of tenant system: makes, suspends and erases tenants
	Tenant     core.TenantID `json:"tenant"`
	Admin      Person        `json:"admin"`
	Researcher Person        `json:"researcher"` // in Group
	Colleague  Person        `json:"colleague"`  // in Group
	Group      string        `json:"group"`      // Viewer in the account, so its name is in every cluster's tokens
	Clusters   []Cluster     `json:"clusters"`

	Federated    []Federated `json:"federated"`    // people of the identity provider, one for each connection
	ClientSecret string      `json:"clientSecret"` // of the tenant's connection "partner" at the identity provider
}

// Person is somebody who can sign in. The passwords are random: nothing in this repository opens anything.
type Person struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// Cluster is a seeded cluster with its projects, by name.
type Cluster struct {
	Name     string                  `json:"name"`
	ID       core.ClusterID          `json:"id"`
	Projects map[string]core.ScopeID `json:"projects"`
}

// Namespace is the namespace of a seeded project.
func Namespace(project string) string { return "fleetpass-" + project }

// Seed fills an empty store, or says what a store was filled with before.
func (s *Stack) Seed(ctx context.Context) (Seed, error) {
	file := filepath.Join(s.dir, "seed.json")
	var seed Seed
	if s.Welcome == "" || s.seeded { // the store was there before, or was seeded by now
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, &seed)
		}
		if err == nil {
			err = s.register(ctx, seed)
		}
		return seed, err
	}
	seed, err := s.seed(ctx)
	if err != nil {
		return seed, fmt.Errorf("seeding: %w", err)
	}
	s.seeded = true
	data, err := json.MarshalIndent(seed, "", "  ")
	if err != nil {
		return seed, err
	}
	return seed, os.WriteFile(file, data, 0o600)
}

func (s *Stack) seed(ctx context.Context) (Seed, error) {
	password := func() string { return rand.Text()[:20] }
	seed := Seed{
		Operator:   Person{"operator@fleetpass.example", password()},
		Tenant:     "acme",
		Admin:      Person{"admin@acme.example", password()},
		Researcher: Person{"ada@acme.example", password()},
		Colleague:  Person{"bob@acme.example", password()},
		Group:      "researchers",
	}
	t := seed.Tenant
	actor := core.SystemActor(t)
	if _, err := s.Directory.RedeemWelcome(ctx, core.Actor{Tenant: core.SystemTenant}, s.Welcome, seed.Operator.Email, seed.Operator.Password, s.Access.FirstAdministrator); err != nil {
		return seed, err
	}
	welcome, err := s.Org.CreateTenant(ctx, actor, string(t), "Acme Research")
	if err != nil {
		return seed, err
	}
	if _, err := s.Directory.RedeemWelcome(ctx, core.Actor{Tenant: t}, welcome, seed.Admin.Email, seed.Admin.Password, s.Access.FirstAdministrator); err != nil {
		return seed, err
	}
	if _, err := s.Directory.CreateGroup(ctx, actor, t, seed.Group); err != nil {
		return seed, err
	}
	for i, p := range []Person{seed.Researcher, seed.Colleague} {
		uid, gid := int64(15001+i), int64(25001)
		u, _, err := s.Directory.CreateUser(ctx, actor, t, directory.NewUser{Email: p.Email, Password: p.Password,
			Profile: directory.Profile{UID: &uid, GID: &gid, SupplementaryGroups: []int64{30001, 30002}}})
		if err != nil {
			return seed, err
		}
		if _, err := s.Directory.AddMember(ctx, actor, t, core.GroupName(seed.Group), u.Email); err != nil {
			return seed, err
		}
	}
	for name, projects := range map[string][]string{"gpu-east": {"team-a", "team-b"}, "gpu-west": {"vision"}} {
		c, err := s.seedCluster(ctx, t, name, projects)
		if err != nil {
			return seed, err
		}
		seed.Clusters = append(seed.Clusters, c)
	}
	if seed.Clusters[0].Name > seed.Clusters[1].Name {
		seed.Clusters[0], seed.Clusters[1] = seed.Clusters[1], seed.Clusters[0]
	}
	seed.Federated = []Federated{{Person{"grace@corp.example", password()}, "corp"}, {Person{"linus@partner.example", password()}, "partner"}}
	if err := s.seedConnections(ctx, &seed); err != nil {
		return seed, err
	}
	if err := s.register(ctx, seed); err != nil {
		return seed, err
	}
	viewer, _ := policy.RoleByName("Viewer")
	_, err = s.Access.Seed(ctx, t, access.NewRule{Subject: core.GroupSubject(core.GroupName(seed.Group)), Role: viewer.ID, Scope: core.AccountScope(t), Reason: "seeded"})
	return seed, err
}

func (s *Stack) seedCluster(ctx context.Context, t core.TenantID, name string, projects []string) (Cluster, error) {
	actor := core.SystemActor(t)
	// Until it joins nobody can reach it, which is what agent mode stands for: sync leaves it alone.
	sc, err := s.Org.CreateCluster(ctx, actor, t, name, org.Reach{Mode: org.Agent})
	if err != nil {
		return Cluster{}, err
	}
	c := Cluster{Name: name, ID: sc.Cluster, Projects: map[string]core.ScopeID{}}
	department, err := s.Org.CreateDepartment(ctx, actor, t, c.ID, "research")
	if err != nil {
		return c, err
	}
	for _, p := range projects {
		sc, err := s.Org.CreateProject(ctx, actor, t, org.NewProject{Name: p, Parent: department.ID})
		if err != nil {
			return c, err
		}
		c.Projects[p] = sc.ID
	}
	return c, nil
}

// APIServer is a real cluster that can join: localdev/cluster's are.
type APIServer interface {
	URL() string
	CA() []byte
	Apply(ctx context.Context, manifests []byte) error // as the cluster's administrator
}

// Authentication is the AuthenticationConfiguration with which a cluster's API server trusts the tenant.
func (s *Stack) Authentication(t core.TenantID, c core.ClusterID) ([]byte, error) {
	return kube.Authentication(kube.Issuer{URL: s.OAuth.Issuer(t), CA: s.IssuerCA, Audience: c, Prefixes: kube.DefaultPrefixes})
}

// Join does what a cluster's administrator does once: apply the bootstrap manifest, and tell Fleetpass the address.
func (s *Stack) Join(ctx context.Context, t core.TenantID, c core.ClusterID, api APIServer) error {
	manifest, _, err := kube.Bootstrap(kube.DefaultPrefixes)
	if err != nil {
		return err
	}
	if err := api.Apply(ctx, manifest); err != nil {
		return fmt.Errorf("applying the bootstrap manifest: %w", err)
	}
	// The cluster of the last start is gone with its process, and another has its place.
	_, err = s.Org.UpdateCluster(ctx, core.SystemActor(t), t, c, org.Reach{Mode: org.Issuer, Server: api.URL(), CA: string(api.CA()), Abandon: true})
	return err
}
