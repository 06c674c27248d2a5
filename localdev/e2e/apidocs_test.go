package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
)

// The commands of docs/api.md are run as they are printed, by an application that administers the tenant.
func TestAPIDocs(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("curl is not installed, so the commands of docs/api.md cannot be run")
	}
	if err != nil {
		t.Skip("SKIPPED: curl is not installed, so the commands of docs/api.md are not run")
	}
	s, _ := system(t)
	app, secret, err := s.Directory.CreateApplication(t.Context(), core.SystemActor("acme"), "acme", directory.NewApplication{Name: "docs"})
	must(t, err)
	_, err = s.Access.Seed(t.Context(), "acme", access.NewRule{Subject: core.ApplicationSubject(app.ID), Role: policy.SystemAdministrator, Scope: core.AccountScope("acme")})
	must(t, err)
	ran, token := 0, ""
	for _, block := range blocks(read(t, "docs/api.md")) {
		for _, line := range block {
			line = strings.NewReplacer("https://localhost:8443/t/acme", s.Base+"/t/acme", ".dev/ca.crt", s.CAFile, `"ID"`, `"`+string(app.ID)+`"`, "client_id=ID", "client_id="+string(app.ID),
				`"SECRET"`, `"`+secret+`"`, "client_secret=SECRET", "client_secret="+secret, "Bearer TOKEN", "Bearer "+token).Replace(line)
			var args []string
			for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(line, -1) {
				args = append(args, m[1]+m[2])
			}
			if args[0] != "curl" {
				t.Fatalf("what is %q?", line)
			}
			out, err := exec.CommandContext(t.Context(), curl, append([]string{"--fail-with-body", "--silent", "--show-error"}, args[1:]...)...).Output()
			var answer any
			if err != nil || json.Unmarshal(out, &answer) != nil {
				t.Errorf("%s\n%s%v", line, out, err)
				continue
			}
			ran++
			if object, ok := answer.(map[string]any); ok && object["accessToken"] != nil {
				token, _ = object["accessToken"].(string)
			}
		}
	}
	if ran != 9 {
		t.Errorf("%d of 9 commands worked", ran)
	}
}
