package e2e

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/fleetpass/fleetpass/localdev/cluster"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// system starts a seeded system without clusters.
func system(t *testing.T) (*stack.Stack, stack.Seed) {
	t.Helper()
	s, err := stack.New(stack.Options{Dir: filepath.Join(t.TempDir(), "system"), Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(s.Close)
	seed, err := s.Seed(t.Context())
	must(t, err)
	return s, seed
}

// joined starts a seeded system and two real clusters that have joined it.
func joined(t *testing.T) Fleet {
	t.Helper()
	bin := cluster.Need(t)
	s, seed := system(t)
	dir := t.TempDir()
	cli, err := BuildCLI(t.Context(), dir)
	must(t, err)
	return joinAll(t, s, seed, bin, cli, dir)
}

// joinAll starts the seeded clusters and has them join.
func joinAll(t *testing.T, s *stack.Stack, seed stack.Seed, bin *cluster.Binaries, cli, dir string) Fleet {
	t.Helper()
	f := Fleet{System: s, Seed: seed, Dir: dir, Tools: Tools{Fleetpass: cli, Kubectl: bin.Kubectl}}
	for i, c := range seed.Clusters {
		conf, err := s.Authentication(seed.Tenant, c.ID)
		must(t, err)
		api, err := cluster.Start(t.Context(), cluster.Options{Name: c.Name, Dir: filepath.Join(dir, c.Name), AuthenticationConfig: conf, AuditPolicy: true, Binaries: bin})
		must(t, err)
		t.Cleanup(api.Close)
		must(t, s.Join(t.Context(), seed.Tenant, c.ID, api))
		*[]**cluster.Cluster{&f.East, &f.West}[i] = api
	}
	return f
}

// The main story, as `make demo` tells it.
func TestStory(t *testing.T) {
	figures, err := Story(t.Context(), joined(t), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("from command to effect: grant %v, revoke %v; catching up %v", figures.Grant, figures.Revoke, figures.CatchUp)
}
