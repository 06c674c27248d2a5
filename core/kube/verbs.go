package kube

import "github.com/fleetpass/fleetpass/core/policy"

// This file is the one place that says what a permission of the platform means as Kubernetes verbs. Everything else about
// our ClusterRoles is derived from it and from the permission matrix in core/policy.
//
// Three decisions shape it:
//
//   - Rights over anything in a namespace are in the `-ns` roles, which are only ever bound in project namespaces. The
//     cluster-wide roles read a few kinds that lie in no namespace, and nothing else.
//   - Kubernetes cannot show that a Secret exists without showing what is in it. So to view credentials grants nothing,
//     and to edit them is to replace them whole: PATCH answers with all of the Secret, and `deletecollection` with all
//     that it deleted, so neither is granted. A `delete` in the foreground answers with the Secret too: who may delete
//     credentials, which no role may that cannot also replace them, can read one that way, once. Whoever may create pods in a namespace can mount every Secret in it: that
//     is how Kubernetes is made, and no verb here changes it.
//   - Reading logs, and a shell, a port or a console in a container, go with the right to make or change workloads, not
//     with the right to see them.
//
// What is kept by Fleetpass and has no kind in Kubernetes (environments, templates, compute resources, git, S3, NFS and
// host path data sources, node pools, the organization, access and the dashboards beside metrics) has no row.

// when says which action on the entity grants the verbs.
type when map[policy.Action][]string

var (
	// crud is the common case.
	crud = when{
		policy.View:   {"get", "list", "watch"},
		policy.Edit:   {"update", "patch"},
		policy.Create: {"create"},
		policy.Delete: {"delete", "deletecollection"},
	}
	read = when{policy.View: {"get", "list", "watch"}}
	look = when{policy.View: {"get"}}

	// scale is a part of another object: to change it is to edit that.
	scale = when{policy.View: {"get"}, policy.Edit: {"update", "patch"}}

	// secret never reads: see above.
	secret = when{policy.Edit: {"update"}, policy.Create: {"create"}, policy.Delete: {"delete"}}

	// inside is what reaches into a container. A WebSocket begins with a GET and SPDY with a POST, so both verbs it takes.
	inside = when{policy.Edit: {"get", "create"}, policy.Create: {"get", "create"}}
	logs   = when{policy.Edit: {"get"}, policy.Create: {"get"}}
)

// row grants verbs on resources of one API group to who may do something to any of the entities.
type row struct {
	entities  []policy.Entity
	clusters  bool // true: in the cluster-wide role; the resources lie in no namespace
	group     string
	resources []string
	verbs     when
}

func of(e ...policy.Entity) []policy.Entity { return e }

// table is the meaning of the permission matrix in Kubernetes.
var table = []row{
	// Workloads: the pods themselves and what makes them; what shows them to others; and what happened to them.
	{of(policy.Workloads), false, "", []string{"pods", "services"}, crud},
	{of(policy.Workloads), false, "apps", []string{"deployments", "statefulsets", "replicasets"}, crud},
	{of(policy.Workloads), false, "apps", []string{"deployments/scale", "statefulsets/scale", "replicasets/scale"}, scale},
	{of(policy.Workloads), false, "networking.k8s.io", []string{"ingresses"}, crud},
	{of(policy.Workloads), false, "discovery.k8s.io", []string{"endpointslices"}, read},
	{of(policy.Workloads), false, "", []string{"events"}, read},
	{of(policy.Workloads), false, "events.k8s.io", []string{"events"}, read},
	{of(policy.Workloads), false, "", []string{"pods/log"}, logs},
	{of(policy.Workloads), false, "", []string{"pods/exec", "pods/attach", "pods/portforward"}, inside},
	{of(policy.Workloads), false, "argoproj.io", []string{"workflows"}, crud},
	{of(policy.Workloads), false, "tekton.dev", []string{"taskruns", "pipelineruns"}, crud},
	{of(policy.Workloads), false, "ray.io", []string{"rayclusters"}, crud},
	{of(policy.Workloads), false, "kubeflow.org", []string{"scheduledworkflows"}, crud},
	{of(policy.Workloads), false, "amlarc.azureml.com", []string{"amljobs"}, crud},
	{of(policy.Workloads), false, "kubevirt.io", []string{"virtualmachineinstances"}, crud},

	{of(policy.Jobs, policy.Workloads), false, "batch", []string{"jobs", "cronjobs"}, crud},

	{of(policy.Trainings, policy.Workloads), false, "kubeflow.org", []string{"tfjobs", "pytorchjobs", "xgboostjobs", "mpijobs"}, crud},
	{of(policy.Trainings, policy.Workloads), false, "ray.io", []string{"rayjobs"}, crud},

	{of(policy.Workspaces, policy.Workloads), false, "kubeflow.org", []string{"notebooks"}, crud},
	{of(policy.Workspaces, policy.Workloads), false, "workspace.devfile.io", []string{"devworkspaces"}, crud},

	{of(policy.Inferences), false, "serving.knative.dev", []string{"services"}, crud},
	{of(policy.Inferences), false, "machinelearning.seldon.io", []string{"seldondeployments"}, crud},
	{of(policy.Inferences), false, "ray.io", []string{"rayservices"}, crud},

	// Their logs, for those who may make them but not workloads at large.
	{of(policy.Inferences, policy.Jobs, policy.Trainings, policy.Workspaces), false, "", []string{"pods/log"}, logs},

	// What workloads use.
	{of(policy.ConfigMapAssets), false, "", []string{"configmaps"}, crud},
	{of(policy.PVCAssets), false, "", []string{"persistentvolumeclaims"}, crud},
	{of(policy.DataVolumes), false, "", []string{"persistentvolumeclaims"}, read},
	{of(policy.Credentials, policy.SecretAssets), false, "", []string{"secrets"}, secret},

	// The project: its own namespace, by name, and the bounds set on it.
	{of(policy.Project), false, "", []string{"namespaces"}, look},
	{of(policy.Project), false, "", []string{"resourcequotas", "limitranges"}, read},
	{of(policy.OverviewDashboard, policy.AnalyticsDashboard, policy.ConsumptionDashboard), false, "metrics.k8s.io", []string{"pods"}, when{policy.View: {"get", "list"}}},

	// The cluster: what one must know of it to write a workload that it takes.
	{of(policy.Cluster), true, "storage.k8s.io", []string{"storageclasses"}, read},
	{of(policy.Cluster), true, "scheduling.k8s.io", []string{"priorityclasses"}, read},
	{of(policy.Cluster), true, "node.k8s.io", []string{"runtimeclasses"}, read},
	{of(policy.Nodes), true, "", []string{"nodes"}, read},
	{of(policy.Nodes), true, "metrics.k8s.io", []string{"nodes"}, when{policy.View: {"get", "list"}}},
}
