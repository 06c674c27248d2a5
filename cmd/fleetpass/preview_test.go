package main

import (
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/api"
)

// A preview that shows no change says why only as far as that is known.
func TestPreviewWithoutChanges(t *testing.T) {
	whole := api.ClusterPreview{ClusterName: "gpu"}
	partial, problem := whole, whole
	partial.Partial, problem.Problems = true, []string{"no such namespace"}
	changed := whole
	changed.Changes = []api.ClusterChange{{Verb: api.ChangeCreate, Kind: "RoleBinding", Name: "x"}}
	for name, tt := range map[string]struct {
		preview api.RulePreview
		want    string // empty: nothing of the kind
	}{
		"the same":        {api.RulePreview{Clusters: []api.ClusterPreview{whole}}, "has the same by another rule"},
		"left out":        {api.RulePreview{Clusters: []api.ClusterPreview{whole, partial}}, "No binding would change that you may see"},
		"problems":        {api.RulePreview{Clusters: []api.ClusterPreview{problem}}, "see the problems above"},
		"left out, both":  {api.RulePreview{Clusters: []api.ClusterPreview{problem, partial}}, "No binding would change that you may see"},
		"more clusters":   {api.RulePreview{Clusters: []api.ClusterPreview{whole}, More: 3}, "No binding would change in these clusters."},
		"changed":         {api.RulePreview{Clusters: []api.ClusterPreview{whole, changed}}, ""},
		"without cluster": {api.RulePreview{}, ""},
	} {
		var out strings.Builder
		writePreview(&out, tt.preview)
		said := ""
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "No binding would change") {
				said += line
			}
		}
		if tt.want == "" && said != "" || !strings.Contains(said, tt.want) || strings.Count(said, "\n") > 1 {
			t.Errorf("%s: %q, want %q", name, said, tt.want)
		}
		if tt.want != "has the same by another rule" && strings.Contains(said, "has the same") {
			t.Errorf("%s: %q says why, which is not known", name, said)
		}
	}
}
