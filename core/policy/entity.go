package policy

import "strings"

// Entity is a kind of thing that a permission is about. The zero Entity is none of them and permits nothing.
type Entity uint8

// The entities, in the order of roles.yaml.
const (
	Department Entity = iota + 1
	EventsHistory
	Policies
	Project
	Settings
	Tenant
	Cluster
	ClusterConfig
	NodePools
	Nodes
	AccessRules
	Apps
	Groups
	SystemRoles
	Users
	AnalyticsDashboard
	ConsumptionDashboard
	OverviewDashboard
	Inferences
	Jobs
	Trainings
	Workloads
	Workspaces
	ConfigMapAssets
	ComputeResources
	Credentials
	DataVolumes
	DataVolumeSharing
	Environments
	GitAssets
	HostPathAssets
	NFSAssets
	PVCAssets
	S3Assets
	SecretAssets
	Templates
)

// NumEntities is how many entities there are: they are 1 to NumEntities.
const NumEntities = int(Templates)

var entities = [NumEntities + 1]struct{ name, group, label string }{
	Department:           {"department", "organization", "Departments"},
	EventsHistory:        {"events-history", "organization", "Event history"},
	Policies:             {"policies", "organization", "Policies"},
	Project:              {"project", "organization", "Projects"},
	Settings:             {"settings", "organization", "Settings"},
	Tenant:               {"tenant", "organization", "Account"},
	Cluster:              {"cluster", "physical-resource", "Clusters"},
	ClusterConfig:        {"cluster-config", "physical-resource", "Cluster configuration"},
	NodePools:            {"nodepools", "physical-resource", "Node pools"},
	Nodes:                {"nodes", "physical-resource", "Nodes"},
	AccessRules:          {"access_rules", "iam", "Access rules"},
	Apps:                 {"apps", "iam", "Applications"},
	Groups:               {"groups", "iam", "Groups"},
	SystemRoles:          {"roles", "iam", "Roles"},
	Users:                {"users", "iam", "Users"},
	AnalyticsDashboard:   {"dashboards-analytics", "dashboard", "Analytics dashboard"},
	ConsumptionDashboard: {"dashboards-consumption", "dashboard", "Consumption dashboard"},
	OverviewDashboard:    {"dashboards-overview", "dashboard", "Overview dashboard"},
	Inferences:           {"inferences", "workload", "Inferences"},
	Jobs:                 {"jobs", "workload", "Jobs"},
	Trainings:            {"trainings", "workload", "Trainings"},
	Workloads:            {"workloads", "workload", "Workloads"},
	Workspaces:           {"workspaces", "workload", "Workspaces"},
	ConfigMapAssets:      {"cm-volume-assets", "workload-asset", "Config map data sources"},
	ComputeResources:     {"compute-resources", "workload-asset", "Compute resources"},
	Credentials:          {"credentials", "workload-asset", "Credentials"},
	DataVolumes:          {"datavolumes", "workload-asset", "Data volumes"},
	DataVolumeSharing:    {"datavolumes/sharedscopes", "workload-asset", "Data volume sharing"},
	Environments:         {"environments", "workload-asset", "Environments"},
	GitAssets:            {"git-assets", "workload-asset", "Git data sources"},
	HostPathAssets:       {"host-path-assets", "workload-asset", "Host path data sources"},
	NFSAssets:            {"nfs-assets", "workload-asset", "NFS data sources"},
	PVCAssets:            {"pvc-assets", "workload-asset", "PVC data sources"},
	S3Assets:             {"s3-assets", "workload-asset", "S3 data sources"},
	SecretAssets:         {"secret-volume-assets", "workload-asset", "Secret data sources"},
	Templates:            {"templates", "workload-asset", "Templates"},
}

// Known says whether e is one of the entities.
func (e Entity) Known() bool { return e >= 1 && int(e) <= NumEntities }

// String is the entity as the API spells it: "access_rules".
func (e Entity) String() string {
	if !e.Known() {
		return "unknown"
	}
	return entities[e].name
}

// Group is the part of the system that the entity belongs to, as the API spells it: "iam".
func (e Entity) Group() string {
	if !e.Known() {
		return ""
	}
	return entities[e].group
}

// Label is the entity in words for people: "Access rules".
func (e Entity) Label() string {
	if !e.Known() {
		return ""
	}
	return entities[e].label
}

// ParseEntity reads an entity as the API spells it, exactly. Anything else is false, and the zero Entity.
func ParseEntity(s string) (Entity, bool) {
	for e := Entity(1); e.Known(); e++ {
		if entities[e].name == s {
			return e, true
		}
	}
	return 0, false
}

// Entities returns every entity, in the order of roles.yaml.
func Entities() []Entity {
	all := make([]Entity, NumEntities)
	for i := range all {
		all[i] = Entity(i + 1)
	}
	return all
}

// Action is what is done to an entity; as a set, several of them.
type Action uint8

// The actions.
const (
	View Action = 1 << iota
	Edit
	Create
	Delete
)

// allActions is the set of all of them.
const allActions = View | Edit | Create | Delete

// Actions returns the four actions, each by itself.
func Actions() []Action { return []Action{View, Edit, Create, Delete} }

// Single says whether a is exactly one known action.
func (a Action) Single() bool { return a&^allActions == 0 && a != 0 && a&(a-1) == 0 }

// Split returns the actions of a set, each by itself.
func (a Action) Split() []Action {
	var out []Action
	for _, one := range Actions() {
		if a&one != 0 {
			out = append(out, one)
		}
	}
	return out
}

// String is the action as the API spells it: "view"; a set is joined with "+".
func (a Action) String() string {
	switch a {
	case View:
		return "view"
	case Edit:
		return "edit"
	case Create:
		return "create"
	case Delete:
		return "delete"
	}
	if a == 0 || a&^allActions != 0 {
		return "unknown"
	}
	var parts []string
	for _, one := range a.Split() {
		parts = append(parts, one.String())
	}
	return strings.Join(parts, "+")
}

// ParseAction reads one action as the API spells it, exactly. Anything else is false, and the zero Action.
func ParseAction(s string) (Action, bool) {
	for _, a := range Actions() {
		if a.String() == s {
			return a, true
		}
	}
	return 0, false
}
