package trace_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/trace"
)

// docs/observability.md has every metric as it is, and no other.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| metric | unit | attributes | counts |\n|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var want []string
	for _, m := range trace.Metrics {
		var attrs []string
		for _, a := range m.Attributes {
			attrs = append(attrs, "`"+string(a)+"`")
		}
		kind := "counter"
		if m.Buckets != nil {
			kind = "histogram"
		}
		want = append(want, fmt.Sprintf("| `%s` | %s, %s | %s | %s |", m.Name, kind, m.Unit, strings.Join(attrs, ", "), m.Says))
	}
	if got := strings.Split(table, "\n"); !slices.Equal(got, want) {
		t.Errorf("docs/observability.md must have this table:\n%s", strings.Join(want, "\n"))
	}
}

// No attribute of a metric grows with the number of tenants, people or clusters.
func TestNoMetricNamesAnybody(t *testing.T) {
	for _, m := range trace.Metrics {
		for _, a := range m.Attributes {
			if slices.Contains([]string{string(trace.TenantKey), string(trace.ClusterKey), string(trace.RequestKey), "client.address", "url.path", "user.id"}, string(a)) {
				t.Errorf("%s has the attribute %s", m.Name, a)
			}
		}
	}
}
