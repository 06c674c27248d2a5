package kube

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"sigs.k8s.io/yaml"
)

// Bootstrap returns the manifest that a cluster's administrator applies once, and its version. It holds the ClusterRoles
// of every system role; the right of Fleetpass's own identity to bind exactly those, to write bindings and to create
// namespaces; and the ValidatingAdmissionPolicies that confine it further. They fail closed: without the manifest sync can
// do nothing, and with it nothing but its work. The version is a hash of the contents, and stands in an annotation of
// every object: a cluster that bears another one has an older manifest, or one for other prefixes.
func Bootstrap(p Prefixes) (manifest []byte, version string, err error) {
	objects := bootstrap(p)
	plain, err := json.Marshal(objects, json.Deterministic(true))
	if err != nil {
		return nil, "", fmt.Errorf("kube: bootstrap: %w", err)
	}
	sum := sha256.Sum256(plain)
	version = hex.EncodeToString(sum[:8])

	var out bytes.Buffer
	out.WriteString("# Fleetpass bootstrap " + version + ": apply once as the cluster's administrator (kubectl apply -f FILE),\n" +
		"# and again when Fleetpass says that it is outdated.\n")
	for _, o := range objects {
		o.metadata().Annotations = map[string]string{AnnotationBootstrap: version}
		doc, err := yaml.Marshal(o)
		if err != nil {
			return nil, "", fmt.Errorf("kube: bootstrap: %w", err)
		}
		out.WriteString("---\n")
		out.Write(doc)
	}
	return out.Bytes(), version, nil
}

// SyncRole is the ClusterRole of Fleetpass's own identity; it tells the version of the bootstrap in a cluster.
const SyncRole = "fleetpass-sync"

type manifestObject interface{ metadata() *Metadata }

func (m *Metadata) metadata() *Metadata { return m }

// generic is an object of a kind that only the bootstrap writes.
type generic struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   `json:"metadata"`
	RoleRef    *roleRefOf  `json:"roleRef,omitempty"`
	Subjects   []subjectOf `json:"subjects,omitempty"`
	Spec       any         `json:"spec,omitempty"`
}

type roleRefOf struct {
	APIGroup string `json:"apiGroup"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

type subjectOf struct {
	APIGroup string `json:"apiGroup"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

const rbacGroup = "rbac.authorization.k8s.io"

func (r *ClusterRole) metadata() *Metadata { return &r.Metadata }

func bootstrap(p Prefixes) []manifestObject {
	var objects []manifestObject
	var names, namespaced, clusterWide []string
	for _, r := range ClusterRoles() {
		objects = append(objects, &r)
		names = append(names, r.Metadata.Name)
		if strings.HasSuffix(r.Metadata.Name, "-ns") {
			namespaced = append(namespaced, r.Metadata.Name)
		} else {
			clusterWide = append(clusterWide, r.Metadata.Name)
		}
	}
	self := p.User + SyncUser
	sync := clusterRole(SyncRole, []PolicyRule{
		{APIGroups: []string{rbacGroup}, Resources: []string{"rolebindings", "clusterrolebindings"}, Verbs: []string{"get", "list", "create", "update", "delete"}},
		{APIGroups: []string{rbacGroup}, Resources: []string{"clusterroles"}, ResourceNames: names, Verbs: []string{"bind"}},
		{APIGroups: []string{rbacGroup}, Resources: []string{"clusterroles"}, ResourceNames: append([]string{SyncRole}, names...), Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"get", "list", "create"}},
	})
	return append(objects,
		confineBindings(p, self, namespaced, clusterWide), policyBinding("fleetpass-confine-bindings"),
		confineNamespaces(self), policyBinding("fleetpass-confine-namespaces"),
		// The identity itself comes last, when all that confines it is there.
		&sync,
		&generic{
			APIVersion: rbacGroup + "/v1", Kind: "ClusterRoleBinding", Metadata: Metadata{Name: SyncRole},
			RoleRef:  &roleRefOf{rbacGroup, "ClusterRole", SyncRole},
			Subjects: []subjectOf{{rbacGroup, "User", self}},
		})
}

// admissionPolicy is the spec of a ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1).
type admissionPolicy struct {
	FailurePolicy    string           `json:"failurePolicy"`
	MatchConstraints matchConstraints `json:"matchConstraints"`
	MatchConditions  []named          `json:"matchConditions"`
	Variables        []named          `json:"variables,omitempty"`
	Validations      []validation     `json:"validations"`
}

type matchConstraints struct {
	ResourceRules []resourceRule `json:"resourceRules"`
}

type resourceRule struct {
	APIGroups   []string `json:"apiGroups"`
	APIVersions []string `json:"apiVersions"`
	Operations  []string `json:"operations"`
	Resources   []string `json:"resources"`
}

type named struct {
	Name       string `json:"name"`
	Expression string `json:"expression"`
}

type validation struct {
	Expression string `json:"expression"`
	Message    string `json:"message"`
}

func admission(name, self, group string, resources []string, variables []named, validations []validation) *generic {
	return &generic{
		APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicy", Metadata: Metadata{Name: name},
		Spec: admissionPolicy{
			FailurePolicy: "Fail",
			MatchConstraints: matchConstraints{[]resourceRule{{
				APIGroups: []string{group}, APIVersions: []string{"*"},
				Operations: []string{"CREATE", "UPDATE", "DELETE"}, Resources: resources,
			}}},
			MatchConditions: []named{{"fleetpass-itself", "request.userInfo.username == " + celString(self)}},
			Variables:       variables,
			Validations:     validations,
		},
	}
}

func policyBinding(name string) *generic {
	return &generic{
		APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicyBinding", Metadata: Metadata{Name: name},
		Spec: map[string]any{"policyName": name, "validationActions": []string{"Deny"}},
	}
}

// reservedPrefixes begin the names that a cluster gives a meaning of its own.
var reservedPrefixes = []string{"system:", "kube:", "openshift:", "fleetpass-id:"}

// reservedNames are whole ones: the groups that OpenShift's managed offerings give a cluster to.
var reservedNames = []string{"cluster-admins", "dedicated-admins"}

// celUnreserved is a CEL expression that is true if a name, which is an expression itself, means nothing to a cluster. It
// knows no Unicode, and need not: a cluster compares names to the byte.
func celUnreserved(name string) string {
	return fmt.Sprintf("!(%s.lowerAscii() in %s) && %s.all(r, !%s.lowerAscii().startsWith(r))", name, celList(reservedNames), celList(reservedPrefixes), name)
}

// bindingName is what a binding's name looks like: its role's, and behind it perhaps the number of a shard.
const bindingName = "^[a-z0-9-]+([.][1-9][0-9]{0,3})?$"

// confineBindings lets our identity write bindings that bear our label, of our ClusterRoles and named after them, to
// prefixed people and groups that are not itself, in namespaces that are projects. Taking access away is allowed in any
// namespace, so that a lost namespace label does not freeze what was granted before; and a binding that lost our label
// may get it back, if it bears a claim still.
func confineBindings(p Prefixes, self string, namespaced, clusterWide []string) *generic {
	labelled := func(o string) string {
		return fmt.Sprintf("%s.metadata.?labels[%s].orValue('') == %s", o, celString(LabelManagedBy), celString(ManagedBy))
	}
	return admission("fleetpass-confine-bindings", self, rbacGroup, []string{"rolebindings", "clusterrolebindings"},
		[]named{
			{"o", "request.operation == 'DELETE' ? oldObject : object"},
			{"wide", "request.resource.resource == 'clusterrolebindings'"},
			{"gives", "request.operation != 'DELETE' && has(object.subjects) && object.subjects.size() > 0"},
		},
		[]validation{
			{fmt.Sprintf("%s && (request.operation != 'UPDATE' || %s || oldObject.metadata.?annotations[%s].orValue('') != '')",
				labelled("variables.o"), labelled("oldObject"), celString(AnnotationClaim)), "not a binding of Fleetpass"},
			{fmt.Sprintf("variables.o.roleRef.kind == 'ClusterRole' && variables.o.roleRef.name in (variables.wide ? %s : %s)", celList(clusterWide), celList(namespaced)),
				"not a role that Fleetpass may bind there"},
			{"variables.o.metadata.name.split('.')[0] == variables.o.roleRef.name && variables.o.metadata.name.matches(" + celString(bindingName) + ")",
				"not named after its role"},
			{fmt.Sprintf("variables.wide || !variables.gives || (namespaceObject.metadata.?labels[%s].orValue('') != '' && !(%s))",
				celString(LabelProject), clusterOwn("request.namespace")), "the namespace is not a project"},
			{fmt.Sprintf("!variables.gives || object.subjects.all(s, !(s.kind == 'User' && s.name == %s) && %s && "+
				"((s.kind == 'User' && s.name.startsWith(%s) && s.name.size() > %d) || (s.kind == 'Group' && s.name.startsWith(%s) && s.name.size() > %d)))",
				celString(self), celUnreserved("s.name"), celString(p.User), len(p.User), celString(p.Group), len(p.Group)),
				"a subject is not one that Fleetpass may bind"},
		})
}

// confineNamespaces lets our identity create namespaces for projects, and do nothing else to namespaces.
func confineNamespaces(self string) *generic {
	label := func(l string) string { return "object.metadata.?labels[" + celString(l) + "].orValue('')" }
	return admission("fleetpass-confine-namespaces", self, "", []string{"namespaces"}, nil, []validation{
		{"request.operation == 'CREATE'", "Fleetpass never changes or deletes a namespace"},
		{fmt.Sprintf("request.operation != 'CREATE' || (%s == %s && %s != '' && %s in ['baseline', 'restricted'])",
			label(LabelManagedBy), celString(ManagedBy), label(LabelProject), label(LabelEnforce)),
			"a namespace of Fleetpass bears its labels and enforces Pod Security baseline or restricted"},
		{"request.operation != 'CREATE' || !(" + clusterOwn("object.metadata.name") + ")", "the namespace is one of the cluster itself"},
	})
}

// clusterOwn is a CEL expression that is true of the namespaces of the cluster itself.
func clusterOwn(name string) string {
	return fmt.Sprintf("%s in ['default', 'openshift', 'fleetpass', 'fleetpass-system'] || %s.startsWith('kube-') || %s.startsWith('openshift-')", name, name, name)
}

// celString is a CEL string literal. Whatever is not plain is escaped, so that no name can end the literal.
func celString(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range s {
		if r >= ' ' && r < 0x7f && r != '\'' && r != '\\' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('\'')
	return b.String()
}

func celList(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = celString(s)
	}
	slices.SortFunc(quoted, cmp.Compare)
	return "[" + strings.Join(quoted, ", ") + "]"
}
