package policy

import (
	"strings"

	"github.com/fleetpass/fleetpass/core"
)

//go:generate go test -run ^TestRoleTable$ -update .

// Permissions is what may be done, per entity. Index it by Entity; place 0 stays empty.
type Permissions [NumEntities + 1]Action

// Has says whether a single action on an entity is among them.
func (p *Permissions) Has(e Entity, a Action) bool {
	return e.Known() && a.Single() && p[e]&a != 0
}

// Within says whether every permission of p is also in q. If not, it names the first that is missing.
func (p *Permissions) Within(q *Permissions) (Entity, Action, bool) {
	for e := Entity(1); e.Known(); e++ {
		if missing := p[e] &^ q[e]; missing != 0 {
			return e, missing & -missing, false
		}
	}
	return 0, 0, true
}

// Role is one of the system roles. Roles cannot be created, edited or deleted.
type Role struct {
	ID          core.RoleID
	Name        string
	Description string
	Permissions Permissions
}

// The ids of the system roles. They never change: rules name roles by them.
const (
	SystemAdministrator          core.RoleID = 1
	Editor                       core.RoleID = 3
	ResearchManager              core.RoleID = 4
	L1Researcher                 core.RoleID = 5
	MLEngineer                   core.RoleID = 6
	Viewer                       core.RoleID = 7
	L2Researcher                 core.RoleID = 8
	EnvironmentAdministrator     core.RoleID = 9
	DataSourceAdministrator      core.RoleID = 10
	ComputeResourceAdministrator core.RoleID = 11
	TemplateAdministrator        core.RoleID = 12
	DepartmentViewer             core.RoleID = 13
	CredentialsAdministrator     core.RoleID = 14
	ApplicationAdministrator     core.RoleID = 15
	CloudSupport                 core.RoleID = 16
	DepartmentAdministrator      core.RoleID = 17
	CloudOperator                core.RoleID = 18
	DataVolumeAdministrator      core.RoleID = 19
)

// maxRole is the highest id given so far.
const maxRole = DataVolumeAdministrator

// none is what an unknown role permits.
var none Permissions

// byID finds a role's permissions in one step, since Decide does so for every rule that it meets.
var byID = func() (t [maxRole + 1]*Permissions) {
	for i := range t {
		t[i] = &none
	}
	for i := range roles {
		t[roles[i].ID] = &roles[i].Permissions
	}
	return t
}()

func permissionsOf(id core.RoleID) *Permissions {
	if uint(id) < uint(len(byID)) {
		return byID[id]
	}
	return &none
}

// Permits says whether a role permits a single action on an entity. What is unknown is not permitted.
func Permits(role core.RoleID, e Entity, a Action) bool { return permissionsOf(role).Has(e, a) }

// Roles returns the system roles, in the order of roles.yaml.
func Roles() []Role { return append([]Role(nil), roles[:]...) }

// RoleByID finds a role.
func RoleByID(id core.RoleID) (Role, bool) {
	for i := range roles {
		if roles[i].ID == id {
			return roles[i], true
		}
	}
	return Role{}, false
}

// RoleByName finds a role by its name, without regard to case, since people type it.
func RoleByName(name string) (Role, bool) {
	for i := range roles {
		if strings.EqualFold(roles[i].Name, name) {
			return roles[i], true
		}
	}
	return Role{}, false
}

// roleName is for reasons: the role's name, or its number if it is unknown.
func roleName(id core.RoleID) string {
	if r, ok := RoleByID(id); ok {
		return r.Name
	}
	return "an unknown role"
}
