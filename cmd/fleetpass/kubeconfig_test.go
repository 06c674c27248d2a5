package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const mergeServer = "https://fleetpass.test/t/acme"

// generated is what the server gives for clusters of these names.
func generated(t testing.TB, server string, names ...string) kubeconfig {
	t.Helper()
	var b strings.Builder
	list := func(kind, body string) {
		b.WriteString(kind + ":\n")
		for _, n := range names {
			b.WriteString(strings.ReplaceAll(body, "NAME", n))
		}
	}
	b.WriteString("apiVersion: v1\nkind: Config\ncurrent-context: " + names[0] + "\n")
	list("clusters", "- {name: NAME, cluster: {server: 'https://NAME.test'}}\n")
	list("contexts", "- {name: NAME, context: {cluster: NAME, user: NAME}}\n")
	list("users", "- {name: NAME, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: fleetpass, args: [credential, --server, '"+server+"', --cluster, x]}}}\n")
	var c kubeconfig
	if err := yaml.Unmarshal([]byte(b.String()), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

const foreign = `apiVersion: v1
kind: Config
preferences: {colors: true}
current-context: home
clusters:
- {name: home, cluster: {server: 'https://home.test', tls-server-name: kept}}
contexts:
- {name: home, context: {cluster: home, user: me, namespace: kept}}
users:
- {name: me, user: {client-certificate: kept}}
`

func contextsOf(t testing.TB, path string) (names []string, current string, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c kubeconfig
	if err := yaml.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Contexts {
		names = append(names, e.name())
	}
	if len(c.Contexts) != len(c.Users) || len(c.Contexts) != len(c.Clusters) {
		t.Errorf("%d contexts, %d users, %d clusters", len(c.Contexts), len(c.Users), len(c.Clusters))
	}
	return names, c.Current, string(data)
}

func TestMerge(t *testing.T) {
	write := func(t *testing.T, text string) string {
		path := filepath.Join(t.TempDir(), "kube", "config")
		if text == "" {
			return path
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	merge := func(t *testing.T, path, server string, names ...string) {
		t.Helper()
		if err := mergeInto(path, generated(t, server, names...), server); err != nil {
			t.Fatal(err)
		}
	}
	want := func(t *testing.T, path, current string, names ...string) {
		t.Helper()
		got, is, _ := contextsOf(t, path)
		if d := cmp.Diff(names, got); d != "" || is != current {
			t.Errorf("current %q, want %q; contexts (-want +got):\n%s", is, current, d)
		}
	}
	t.Run("into nothing", func(t *testing.T) {
		path := write(t, "")
		merge(t, path, mergeServer, "east", "west")
		want(t, path, "east", "east", "west")
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%v %v", info.Mode(), err)
		}
	})
	t.Run("what is not ours stays", func(t *testing.T) {
		path := write(t, foreign)
		merge(t, path, mergeServer, "east")
		want(t, path, "home", "home", "east")
		_, _, text := contextsOf(t, path)
		if strings.Count(text, "kept") != 3 || !strings.Contains(text, "colors: true") {
			t.Errorf("something was lost:\n%s", text)
		}
	})
	t.Run("again is the same, and what is gone goes", func(t *testing.T) {
		path := write(t, foreign)
		merge(t, path, mergeServer, "east", "west")
		_, _, before := contextsOf(t, path)
		merge(t, path, mergeServer, "east", "west")
		if _, _, after := contextsOf(t, path); after != before {
			t.Errorf("a second merge changes the file:\n%s", cmp.Diff(before, after))
		}
		merge(t, path, mergeServer, "west")
		want(t, path, "home", "home", "west")
	})
	t.Run("another tenant's stay", func(t *testing.T) {
		path := write(t, "")
		merge(t, path, "https://fleetpass.test/t/other", "theirs")
		merge(t, path, mergeServer, "east")
		want(t, path, "theirs", "theirs", "east")
	})
	t.Run("a name that is taken changes nothing", func(t *testing.T) {
		path := write(t, foreign)
		err := mergeInto(path, generated(t, mergeServer, "home"), mergeServer)
		if err == nil || !strings.Contains(err.Error(), `"home"`) {
			t.Errorf("got %v", err)
		}
		if data, _ := os.ReadFile(path); string(data) != foreign {
			t.Errorf("the file was changed:\n%s", data)
		}
	})
	t.Run("what is no kubeconfig is left", func(t *testing.T) {
		path := write(t, "{{{ canary")
		if err := mergeInto(path, generated(t, mergeServer, "east"), mergeServer); err == nil {
			t.Error("no error")
		}
		if data, _ := os.ReadFile(path); string(data) != "{{{ canary" {
			t.Errorf("the file was changed:\n%s", data)
		}
	})
	t.Run("through a link", func(t *testing.T) {
		path := write(t, foreign)
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(path, link); err != nil {
			t.Skip(err)
		}
		merge(t, link, mergeServer, "east")
		want(t, path, "home", "home", "east")
		if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Error("the link is gone")
		}
	})
}

// Whatever a person's kubeconfig holds, a merge neither panics nor loses a foreign entry.
func FuzzMerge(f *testing.F) {
	f.Add(foreign)
	f.Add("users: [{name: x, user: {exec: {args: [credential, --server, 'https://fleetpass.test/t/acme']}}}]")
	f.Add("contexts: [{name: 1}]\nclusters: null\nusers: [null]")
	f.Fuzz(func(t *testing.T, text string) {
		var old kubeconfig
		if yaml.Unmarshal([]byte(text), &old) != nil || yaml.Unmarshal([]byte(text), &old.Others) != nil {
			return
		}
		out, err := mergeKubeconfig(old, generated(t, mergeServer, "east"), mergeServer)
		if err != nil {
			return
		}
		left := map[string]int{}
		for _, u := range out["users"].([]entry) {
			left[u.name()]++
		}
		for _, u := range old.Users {
			if !u.ours(mergeServer) && left[u.name()] == 0 {
				t.Errorf("user %q is lost", u.name())
			}
		}
	})
}
