package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/fleetpass/fleetpass/core/api"
)

func (a *app) kubeconfigCommand() *cobra.Command {
	var server, output string
	var merge bool
	c := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Get a kubeconfig for all the clusters that you may use",
		Long: `Prints a kubeconfig with a context for every cluster that you may use. It holds no secret and nobody's identity: kubectl
asks fleetpass credential, which signs in whoever uses it.

--merge writes it into your own kubeconfig instead: contexts of the same name are replaced if they are ours, and ours of
clusters that you may no longer use are removed. The rest stays as it is, but for comments.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, acc *account, client *api.Client) error {
				data, err := client.Kubeconfig(ctx)
				if err != nil {
					return err
				}
				var conf kubeconfig
				if err := yaml.Unmarshal(data, &conf); err != nil || conf.Kind != "Config" {
					return fmt.Errorf("%s answers with something else than a kubeconfig", acc.Server)
				}
				if len(conf.Contexts) == 0 {
					fmt.Fprintln(a.err, "You may use no cluster yet: ask an administrator for an access rule.")
				}
				switch {
				case merge:
					path := output
					if path == "" || path == "-" {
						path = defaultKubeconfig()
					}
					if err := mergeInto(path, conf, acc.Server); err != nil {
						return err
					}
					fmt.Fprintf(a.err, "%d contexts are in %s.\n", len(conf.Contexts), path)
				case output == "" || output == "-":
					_, err = a.out.Write(data)
					return err
				default:
					if err := writeFile(output, data); err != nil {
						return err
					}
					fmt.Fprintf(a.err, "%d contexts are in %s. Use it with `export KUBECONFIG=%s`.\n", len(conf.Contexts), output, output)
				}
				if _, err := exec.LookPath("fleetpass"); err != nil {
					fmt.Fprintln(a.err, "kubectl will look for fleetpass in your PATH, where it is not yet.")
				}
				return nil
			})
		},
	}
	serverFlag(c, &server)
	c.Flags().StringVar(&output, "output", "", "`file` to write; - is standard output")
	c.Flags().BoolVar(&merge, "merge", false, "write into your own kubeconfig ($KUBECONFIG, ~/.kube/config), or the one named by --output")
	return c
}

// defaultKubeconfig is where kubectl itself would write.
func defaultKubeconfig() string {
	for _, path := range filepath.SplitList(os.Getenv("KUBECONFIG")) {
		if path != "" {
			return path
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".kubeconfig"
	}
	return filepath.Join(home, ".kube", "config")
}

// kubeconfig is a kubeconfig whose entries are kept as they are: what we do not know must survive a merge.
type kubeconfig struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Current    string         `json:"current-context,omitempty"`
	Clusters   []entry        `json:"clusters"`
	Contexts   []entry        `json:"contexts"`
	Users      []entry        `json:"users"`
	Others     map[string]any `json:"-"` // "preferences", "extensions" and whatever else a file holds
}

// entry is one named cluster, context or user.
type entry map[string]any

func (e entry) name() string { return text(e, "name") }

// text is a string inside nested maps; "" if it is not there.
func text(v any, path ...string) string {
	for _, p := range path {
		switch m := v.(type) {
		case entry:
			v = m[p]
		case map[string]any:
			v = m[p]
		default:
			return ""
		}
	}
	s, _ := v.(string)
	return s
}

// ours says whether a user entry is the credential plugin for a server.
func (e entry) ours(server string) bool {
	user, _ := e["user"].(map[string]any)
	plugin, _ := user["exec"].(map[string]any)
	args, _ := plugin["args"].([]any)
	if len(args) == 0 || args[0] != "credential" {
		return false
	}
	for i := 1; i+1 < len(args); i++ {
		if (args[i] == "--server" || args[i] == "--tenant-url") && args[i+1] == server {
			return true
		}
	}
	return false
}

// mergeInto puts our entries for a server into a kubeconfig, in place of those that were there.
func mergeInto(path string, conf kubeconfig, server string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // people keep it in a repository of their own: the link stays
	}
	var old kubeconfig
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := errors.Join(yaml.Unmarshal(data, &old), yaml.Unmarshal(data, &old.Others)); err != nil {
			return fmt.Errorf("%s is no kubeconfig, and was left as it is: %w", path, err)
		}
	}
	merged, err := mergeKubeconfig(old, conf, server)
	if err != nil {
		return fmt.Errorf("%s was left as it is: %w", path, err)
	}
	if data, err = yaml.Marshal(merged); err != nil {
		return err
	}
	return writeFile(path, data)
}

// mergeKubeconfig returns the whole file as a map. A name that is taken by something that is not ours is an error, before
// anything is changed.
func mergeKubeconfig(old, conf kubeconfig, server string) (map[string]any, error) {
	// What is ours, by name, is to be replaced; a name is ours only if everything of that name is.
	users, contexts, clusters := map[string]bool{}, map[string]bool{}, map[string]bool{}
	claim := func(ours map[string]bool, name string, is bool) {
		before, seen := ours[name]
		ours[name] = is && (before || !seen)
	}
	for _, u := range old.Users {
		claim(users, u.name(), u.ours(server))
	}
	for _, c := range old.Contexts {
		claim(contexts, c.name(), users[text(c, "context", "user")])
	}
	for _, c := range old.Contexts {
		claim(clusters, text(c, "context", "cluster"), contexts[c.name()])
	}
	merge := func(kind string, old, added []entry, ours map[string]bool) ([]entry, error) {
		keep := slices.DeleteFunc(slices.Clone(old), func(e entry) bool { return ours[e.name()] })
		for _, e := range added {
			if slices.ContainsFunc(keep, func(k entry) bool { return k.name() == e.name() }) {
				return nil, fmt.Errorf("it has a %s named %q of something else: rename that one, or use `fleetpass kubeconfig --output FILE`", kind, e.name())
			}
		}
		return append(keep, added...), nil
	}
	c1, err1 := merge("cluster", old.Clusters, conf.Clusters, clusters)
	c2, err2 := merge("context", old.Contexts, conf.Contexts, contexts)
	c3, err3 := merge("user", old.Users, conf.Users, users)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	out := map[string]any{}
	for k, v := range old.Others {
		out[k] = v
	}
	out["apiVersion"], out["kind"] = "v1", "Config"
	out["clusters"], out["contexts"], out["users"] = c1, c2, c3
	current := old.Current
	if !slices.ContainsFunc(c2, func(e entry) bool { return e.name() == current }) {
		current = conf.Current // there was none, or it has gone
	}
	out["current-context"] = current
	return out, nil
}
