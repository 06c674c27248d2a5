package e2e

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/fleetpass/fleetpass/localdev/cluster"
	"github.com/fleetpass/fleetpass/localdev/parts"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// The main story holds on what is deployed, too: on the Lambda binary over DynamoDB, and on Google's archive over Firestore,
// each with its change stream, queue and key service.
func TestStoryAsDeployed(t *testing.T) {
	bin := cluster.Need(t)
	cli, err := BuildCLI(t.Context(), t.TempDir())
	must(t, err)
	for runtime, need := range map[stack.Runtime]func(parts.TB) string{stack.Lambda: parts.NeedDynamoDB, stack.GCF: parts.NeedFirestore} {
		t.Run(string(runtime), func(t *testing.T) {
			need(t)
			dir := t.TempDir()
			s, err := stack.New(stack.Options{Dir: filepath.Join(dir, "system"), Runtime: runtime, Log: slog.New(slog.DiscardHandler)})
			must(t, err)
			t.Cleanup(s.Close)
			seed, err := s.Seed(t.Context())
			must(t, err)
			figures, err := Story(t.Context(), joinAll(t, s, seed, bin, cli, dir), os.Stderr)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("from command to effect: grant %v, revoke %v; catching up %v", figures.Grant, figures.Revoke, figures.CatchUp)
		})
	}
}
