package kubernetes

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/sync"
)

// Each write is returned with the id under which the API server has it in its audit log. What cannot be such an id is the
// server's fancy, and goes nowhere.
func TestAuditID(t *testing.T) {
	header := ""
	c, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if header != "" {
			w.Header()["Audit-Id"] = []string{header}
		}
		fmt.Fprint(w, `{"metadata":{"name":"b","namespace":"ns","uid":"u","resourceVersion":"8"}}`)
	}, Limits{})
	o := kube.Object{Ref: kube.Ref{Kind: kube.RoleBinding, Namespace: "ns", Name: "b"}, Role: "r", UID: "u", ResourceVersion: "7"}
	for sent, want := range map[string]string{
		"":                                       "",
		"b1d0f5e1-2a3c-4f0e-9d7b-0123456789ab":   "b1d0f5e1-2a3c-4f0e-9d7b-0123456789ab",
		strings.Repeat("x", sync.MaxAuditID):     strings.Repeat("x", sync.MaxAuditID),
		strings.Repeat("x", sync.MaxAuditID+1):   "",
		"two words":                              "",
		"caf\xc3\xa9":                            "",
		"eyJhbGciOiJFUzI1NiJ9 and what comes on": "",
	} {
		header = sent
		for _, verb := range []kube.Verb{kube.Create, kube.Update, kube.Delete} {
			got, err := c.Apply(t.Context(), kube.Change{Verb: verb, Object: o})
			if err != nil || got.AuditID != want {
				t.Errorf("%s with the header %q: %q, want %q (%v)", verb, sent, got.AuditID, want, err)
			}
		}
	}
}
