package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/localdev/idp"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	must(t, err)
	return string(data)
}

// blocks returns the shell blocks of a Markdown text, as lists of commands without their comments.
func blocks(text string) (all [][]string) {
	for _, b := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
		var lines []string
		for _, l := range strings.Split(strings.TrimSpace(b[1]), "\n") {
			lines = append(lines, strings.TrimSpace(l))
		}
		all = append(all, lines)
	}
	return all
}

// words splits a command as a shell does: at blanks, but for what is quoted.
func words(command string) (out []string) {
	for _, m := range regexp.MustCompile(`"([^"]*)"|(\S+)`).FindAllStringSubmatch(command, -1) {
		out = append(out, m[1]+m[2])
	}
	return out
}

// The README's tour is run as it is printed: first as the researcher, then as the administrator. A comment that says
// Forbidden is a promise, too.
func TestREADMETour(t *testing.T) {
	f := joined(t)
	all := blocks(read(t, "README.md"))
	if len(all) != 4 {
		t.Fatalf("%d shell blocks in README.md: the two commands, the researcher, the administrator, and single sign-on", len(all))
	}
	for _, l := range all[0] {
		target := strings.Fields(strings.TrimPrefix(l, "make "))[0]
		if !strings.Contains(read(t, "Makefile"), "\n"+target+":") {
			t.Errorf("%s: there is no such target", l)
		}
	}
	replace := strings.NewReplacer("https://localhost:8443/t/acme", f.System.OAuth.Issuer("acme"), ".dev/ca.crt", f.System.CAFile)
	run := func(p *Person, line string) {
		t.Helper()
		command, comment, _ := strings.Cut(line, "#")
		args := words(replace.Replace(command))
		var out string
		var err error
		switch {
		case args[0] == "fleetpass" && args[1] == "login":
			err = p.login(t.Context(), args[1:]...)
		case strings.HasPrefix(command, "fleetpass sso test"):
			tester := *p
			tester.browse = func(ctx context.Context, link string) error {
				b := NewBrowser(nil)
				if _, err := b.Visit(ctx, link); err != nil {
					return err
				}
				_, err := b.AtProvider(ctx, f.Seed.Federated[0].Person, idp.Behave)
				return err
			}
			err = tester.login(t.Context(), args[1:]...)
		case args[0] == "fleetpass":
			out, err = p.Fleetpass(t.Context(), args[1:]...)
			// Its exit code says whether a cluster is behind, which it may well be a moment after a change.
			for n := 0; err != nil && strings.Contains(out, "behind for") && n < 50; n++ {
				time.Sleep(100 * time.Millisecond)
				out, err = p.Fleetpass(t.Context(), args[1:]...)
			}
		case args[0] == "kubectl":
			out, err = p.run(t.Context(), p.tools.Kubectl, args[1:]...)
		default:
			t.Fatalf("what is %q?", line)
		}
		switch {
		case strings.Contains(comment, "Forbidden"):
			if err == nil || !strings.Contains(err.Error(), "forbidden") {
				t.Errorf("%s\n%s%v: want Forbidden", line, out, err)
			}
		case err != nil:
			t.Errorf("%s\n%s%v", line, out, err)
		default: // what the comment names is in the answer
			for _, want := range regexp.MustCompile(`fleetpass:[^\s,]+`).FindAllString(comment, -1) {
				if !strings.Contains(out, want) {
					t.Errorf("%s\n%s does not say %s", line, out, want)
				}
			}
		}
	}
	people := []stack.Person{f.Seed.Researcher, f.Seed.Admin}
	var terminals []*Person
	for i, who := range people {
		p, err := NewPerson(who, f.Dir, f.Tools, f.System)
		must(t, err)
		terminals = append(terminals, p)
		if i == 1 { // the administrator's block begins behind a sign-in that the text leaves to the reader
			must(t, p.Login(t.Context()))
		}
		for _, l := range all[i+1] {
			run(p, l)
		}
	}
	for _, l := range all[3] {
		run(terminals[1], l)
	}
	at, err := (&story{Fleet: f}).at(t.Context(), terminals[0], "gpu-east", f.East)
	must(t, err)
	_, err = (&story{Fleet: f}).until(t.Context(), at, "team-a", true, func() error { return nil })
	must(t, err)
}

// What the documentation points at exists.
func TestDocsPointAtWhatIs(t *testing.T) {
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	must(t, err)
	decisions, err := filepath.Glob(filepath.Join(root, "docs", "decisions", "*.md"))
	must(t, err)
	docs = append(append(docs, decisions...), filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md"))
	if len(docs) < 8 {
		t.Fatalf("only %v", docs)
	}
	path := regexp.MustCompile("`((?:core|events|functions|adapters|infra|localdev|cmd|docs)/[A-Za-z0-9_./-]*[A-Za-z0-9_-])/?`")
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, doc := range docs {
		data, err := os.ReadFile(doc)
		must(t, err)
		for _, m := range path.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", doc, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", doc, m[1])
			}
		}
	}
}
