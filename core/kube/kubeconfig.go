package kube

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/fleetpass/fleetpass/core"
)

// Access is one cluster in a kubeconfig.
type Access struct {
	ID        core.ClusterID
	Name      string         // as people call it; any string
	Server    string         // https://HOST[:PORT][/PATH]
	CA        string         // PEM; empty: the system's
	Namespace core.Namespace // to begin in; may be empty
}

// KubeconfigOptions is what the contexts of a kubeconfig share.
type KubeconfigOptions struct {
	TenantURL string // the issuer, https://HOST/t/TENANT
	IssuerCA  string // PEM, where the issuer's certificate is not a public one; empty else
	Command   string // the credential plugin; default "fleetpass"
	Current   string // name of the cluster to begin with; default: the first
}

// EnvIssuerCA is the environment variable that hands the issuer's CA to the credential plugin, as base64 of PEM. Nothing
// in it is secret.
const EnvIssuerCA = "FLEETPASS_ISSUER_CA_DATA"

// Kubeconfig returns one file for all the clusters. Credentials come from the exec plugin, so the file holds no secret and
// no identity, and may be handed to anybody. Names that occur twice get a number. It is marshalled, never pasted
// together: no name can become structure.
func Kubeconfig(clusters []Access, o KubeconfigOptions) ([]byte, error) {
	if u, err := url.Parse(o.TenantURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, core.BadField("tenantURL", "must be the URL of the tenant")
	}
	if o.Command == "" {
		o.Command = "fleetpass"
	}
	conf := kubeconfig{APIVersion: "v1", Kind: "Config", Clusters: []namedCluster{}, Contexts: []namedContext{}, Users: []namedUser{}}
	taken := map[string]bool{}
	for _, c := range clusters {
		u, err := url.Parse(c.Server)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return nil, core.BadField("server", fmt.Sprintf("of cluster %s must be an https URL", c.ID))
		}
		name := unique(taken, c)
		conf.Clusters = append(conf.Clusters, namedCluster{name, clusterEntry{Server: c.Server, CA: encoded(c.CA)}})
		conf.Users = append(conf.Users, namedUser{name, userEntry{plugin(o, c.ID)}})
		conf.Contexts = append(conf.Contexts, namedContext{name, contextEntry{Cluster: name, User: name, Namespace: string(c.Namespace)}})
		if conf.Current == "" || c.Name == o.Current {
			conf.Current = name
		}
	}
	out, err := yaml.Marshal(conf)
	if err != nil {
		return nil, fmt.Errorf("kube: kubeconfig: %w", err)
	}
	return out, nil
}

func encoded(pem string) string { return base64.StdEncoding.EncodeToString([]byte(pem)) }

// unique is the cluster's name without characters that do not print, with a number if it was there before.
func unique(taken map[string]bool, c Access) string {
	name := strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '_'
		}
		return r
	}, c.Name), "_")
	if strings.TrimSpace(name) == "" {
		name = string(c.ID)
	}
	base := name
	for n := 2; taken[name]; n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	taken[name] = true
	return name
}

// plugin is the credential plugin for one cluster (client.authentication.k8s.io/v1).
func plugin(o KubeconfigOptions, c core.ClusterID) execEntry {
	e := execEntry{
		APIVersion:      "client.authentication.k8s.io/v1",
		Command:         o.Command,
		Args:            []string{"credential", "--tenant-url", o.TenantURL, "--cluster", string(c)},
		InteractiveMode: "IfAvailable",
		InstallHint:     "fleetpass, the credential plugin, is not installed: get it where you got this file.",
	}
	if o.IssuerCA != "" {
		e.Env = []envEntry{{EnvIssuerCA, encoded(o.IssuerCA)}}
	}
	return e
}

type kubeconfig struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Current    string         `json:"current-context,omitempty"`
	Clusters   []namedCluster `json:"clusters"`
	Contexts   []namedContext `json:"contexts"`
	Users      []namedUser    `json:"users"`
}

type namedCluster struct {
	Name    string       `json:"name"`
	Cluster clusterEntry `json:"cluster"`
}

type clusterEntry struct {
	Server string `json:"server"`
	CA     string `json:"certificate-authority-data,omitempty"`
}

type namedContext struct {
	Name    string       `json:"name"`
	Context contextEntry `json:"context"`
}

type contextEntry struct {
	Cluster   string `json:"cluster"`
	User      string `json:"user"`
	Namespace string `json:"namespace,omitempty"`
}

type namedUser struct {
	Name string    `json:"name"`
	User userEntry `json:"user"`
}

type userEntry struct {
	Exec execEntry `json:"exec"`
}

type execEntry struct {
	APIVersion         string     `json:"apiVersion"`
	Command            string     `json:"command"`
	Args               []string   `json:"args"`
	Env                []envEntry `json:"env,omitempty"`
	InstallHint        string     `json:"installHint"`
	InteractiveMode    string     `json:"interactiveMode"`
	ProvideClusterInfo bool       `json:"provideClusterInfo"`
}

type envEntry struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
