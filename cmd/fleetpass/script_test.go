package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/localdev/cluster"
	"github.com/fleetpass/fleetpass/localdev/e2e"
	"github.com/fleetpass/fleetpass/localdev/idp"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// The scripts in testdata/script are the stories of the command line, told against a whole Fleetpass: one that runs in
// this process, or, to try another, the one whose URL, CA file and seed.json (as localdev writes it) these name.
const (
	envServer = "FLEETPASS_TEST_SERVER"
	envCA     = "FLEETPASS_TEST_CA"
	envSeed   = "FLEETPASS_TEST_SEED"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"fleetpass":      main,
		"person-browser": personBrowser,
	})
}

// personBrowser is a person with a browser: it opens the address in its argument and signs in as $PERSON with $PASSWORD.
// For PERSON "nobody" it opens the tab and goes for a coffee. Each visit leaves a line in $TABS. Where $PROVIDER is set, the
// address leads to an identity provider, which misbehaves as $MISBEHAVE says; whatever page the person ends at, they read it.
func personBrowser() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "person-browser:", err)
			os.Exit(1)
		}
	}
	if tabs := os.Getenv("TABS"); tabs != "" {
		f, err := os.OpenFile(tabs, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		check(err)
		_, err = fmt.Fprintln(f, "a tab")
		check(err)
		check(f.Close())
	}
	if os.Getenv("PERSON") == "nobody" {
		return
	}
	b := e2e.NewBrowser(nil)
	_, err := b.Visit(ctx, os.Args[1])
	check(err)
	if os.Getenv("PROVIDER") != "" {
		_, err := b.AtProvider(ctx, stack.Person{Email: os.Getenv("PERSON"), Password: os.Getenv("PASSWORD")}, idp.Fault(os.Getenv("MISBEHAVE")))
		check(err)
		return
	}
	page, err := b.Submit(ctx, map[string]string{"username": os.Getenv("PERSON"), "password": os.Getenv("PASSWORD")})
	check(err)
	if !strings.Contains(page, "You are signed in") {
		check(fmt.Errorf("the last page is %s", page))
	}
}

// site is the Fleetpass that scripts run against.
type site struct {
	server, ca string
	seed       stack.Seed
	stack      *stack.Stack // nil if it is another's
}

func newSite(t *testing.T) *site {
	if server := os.Getenv(envServer); server != "" {
		s := &site{server: server, ca: os.Getenv(envCA)}
		data, err := os.ReadFile(os.Getenv(envSeed))
		if err != nil {
			t.Fatalf("%s is set, so %s must name its seed.json: %v", envServer, envSeed, err)
		}
		if err := json.Unmarshal(data, &s.seed); err != nil {
			t.Fatal(err)
		}
		return s
	}
	running, err := stack.New(stack.Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Close)
	s := &site{ca: running.CAFile, stack: running}
	if s.seed, err = running.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range s.seed.Clusters { // as if both had joined; nothing listens there
		if _, err := running.Org.UpdateCluster(t.Context(), core.SystemActor(s.seed.Tenant), s.seed.Tenant, c.ID, org.Reach{Server: "https://127.0.0.1:1"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = running.Org.UpdateSettings(t.Context(), core.SystemActor(s.seed.Tenant), s.seed.Tenant, func(_ *string, o *org.Settings) { o.PasswordGrant = true })
	if err != nil {
		t.Fatal(err)
	}
	s.server = running.OAuth.Issuer(s.seed.Tenant)
	return s
}

// setup gives a script its environment: nobody is signed in yet.
func (s *site) setup(env *testscript.Env) error {
	seed := s.seed
	ca, err := os.ReadFile(s.ca)
	if err != nil {
		return err
	}
	env.Vars = append(env.Vars,
		"SERVER="+s.server, "CA="+s.ca, "CA64="+base64.StdEncoding.EncodeToString(ca), "BROWSER=person-browser", "TABS="+filepath.Join(env.WorkDir, "tabs"),
		"FLEETPASS_CONFIG_DIR="+filepath.Join(env.WorkDir, "config"), "HOME="+env.WorkDir, "TZ=UTC",
		"ADMIN="+seed.Admin.Email, "ADMIN_PASSWORD="+seed.Admin.Password,
		"ADA="+seed.Researcher.Email, "ADA_PASSWORD="+seed.Researcher.Password,
		"BOB="+seed.Colleague.Email, "BOB_PASSWORD="+seed.Colleague.Password, "GROUP="+seed.Group,
		"EAST="+string(seed.Clusters[0].ID), "WEST="+string(seed.Clusters[1].ID),
		"GRACE="+seed.Federated[0].Email, "GRACE_PASSWORD="+seed.Federated[0].Password,
		"LINUS="+seed.Federated[1].Email, "LINUS_PASSWORD="+seed.Federated[1].Password,
	)
	if s.stack != nil {
		env.Vars = append(env.Vars, "METADATA="+s.stack.IDP.EntityID(), "DISCOVERY="+s.stack.IDP.DiscoveryURL())
		published := httptest.NewRecorder()
		s.stack.IDP.ServeHTTP(published, httptest.NewRequest(http.MethodGet, s.stack.IDP.EntityID(), nil))
		return os.WriteFile(filepath.Join(env.WorkDir, "metadata.xml"), published.Body.Bytes(), 0o600)
	}
	return nil
}

func TestScripts(t *testing.T) {
	s := newSite(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", Setup: s.setup, RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"login": login, "device-login": deviceLogin, "env-from-stdout": envFromStdout, "mode": mode, "at-once": atOnce, "give-up": s.giveUp, "seal": s.seal, "tamper": s.tamper},
		Condition: func(name string) (bool, error) {
			if name != "stack" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return s.stack != nil, nil // the system is in this process
		},
	})
}

// give-up CLUSTER... has clusters fail until they are given up. give-up event TEXT parks an event that nobody can read.
func (s *site) giveUp(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	if args[0] == "event" {
		ts.Check(s.stack.Sync.Park(ctx, s.seed.Tenant, []byte(args[1]), "", sync.ErrUnreadable))
		return
	}
	for _, id := range args {
		m := sync.Message{Tenant: s.seed.Tenant, Cluster: core.ClusterID(id)}
		for range 100 {
			ts.Check(s.stack.Sync.Again(ctx, lostMessages{}, m, core.Unavailable))
			if st, err := s.stack.Sync.Status(ctx, m.Tenant, m.Cluster); err != nil || !st.GivenUpAt.IsZero() {
				ts.Check(err)
				break
			}
		}
	}
}

// seal seals the audit log now.
func (s *site) seal(ts *testscript.TestScript, _ bool, _ []string) {
	_, _, err := audit.Seal(context.Background(), s.stack.DB, s.seed.Tenant, time.Now())
	ts.Check(err)
}

// tamper changes a byte of the oldest sealed audit record behind everybody's back; done twice, it changes it back.
func (s *site) tamper(ts *testscript.TestScript, _ bool, _ []string) {
	ctx := context.Background()
	for it, err := range s.stack.DB.List(ctx, store.Audits(s.seed.Tenant, time.Time{})) {
		ts.Check(err)
		it.Body[len(it.Body)/2] ^= 1
		ts.Check(s.stack.DB.Commit(ctx, store.Put(it.Key, it.Version, it.Body)))
		return
	}
	ts.Fatalf("nothing is sealed")
}

type lostMessages struct{}

func (lostMessages) Send(context.Context, ...sync.Message) error { return nil }

// login EMAIL PASSWORD signs somebody in through the browser flow.
func login(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv("PERSON", args[0])
	ts.Setenv("PASSWORD", args[1])
	if err := ts.Exec("fleetpass", "login", "--server", ts.Getenv("SERVER"), "--ca", ts.Getenv("CA")); (err != nil) != neg {
		ts.Fatalf("login as %s: %v", args[0], err)
	}
}

// env-from-stdout NAME PREFIX sets a variable to the word that follows the prefix in the last command's output.
func envFromStdout(ts *testscript.TestScript, _ bool, args []string) {
	_, after, ok := strings.Cut(ts.ReadFile("stdout"), args[1])
	if !ok || after == "" {
		ts.Fatalf("no %q in the output", args[1])
	}
	ts.Setenv(args[0], strings.Trim(strings.Fields(after)[0], `":,`))
}

// mode PERMISSIONS FILE... checks permissions, such as -rw-------. A file may be a pattern.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	for _, pattern := range args[1:] {
		files, err := filepath.Glob(ts.MkAbs(pattern))
		if err != nil || len(files) == 0 {
			ts.Fatalf("no file %s", pattern)
		}
		for _, name := range files {
			info, err := os.Stat(name)
			if err != nil || info.Mode().String() != args[0] {
				ts.Fatalf("%s has mode %v, want %s (%v)", name, info.Mode(), args[0], err)
			}
		}
	}
}

// TestKubectl is the same with a real API server and kubectl, which calls the plugin as a kubeconfig of ours says.
func TestKubectl(t *testing.T) {
	bin := cluster.Need(t)
	s := newSite(t)
	if s.stack == nil {
		t.Skipf("SKIPPED: %s names a system that this test cannot add a cluster to", envServer)
	}
	east := s.seed.Clusters[0]
	config, err := s.stack.Authentication(s.seed.Tenant, east.ID)
	if err != nil {
		t.Fatal(err)
	}
	api, err := cluster.Start(t.Context(), cluster.Options{Binaries: bin, AuthenticationConfig: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Close)
	if err := s.stack.Join(t.Context(), s.seed.Tenant, east.ID, api); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/kubectl", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "KUBECTL="+bin.Kubectl, "EAST_NAME="+east.Name)
			return s.setup(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"login": login, "mode": mode, "at-once": atOnce},
	})
}

// at-once N COMMAND... runs a command N times at the same time; every one must succeed, or with ! fail.
func atOnce(ts *testscript.TestScript, neg bool, args []string) {
	var n int
	if _, err := fmt.Sscan(args[0], &n); err != nil {
		ts.Fatalf("%s is no number", args[0])
	}
	var env []string
	for _, name := range []string{"PATH", "HOME", "KUBECONFIG", "FLEETPASS_CONFIG_DIR", "BROWSER", "PERSON", "PASSWORD", "TABS", "KUBERNETES_EXEC_INFO", "FLEETPASS_ISSUER_CA_DATA"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	var wait gosync.WaitGroup
	failed := make([]error, n)
	for i := range failed {
		cmd := exec.Command(args[1], args[2:]...)
		cmd.Dir, cmd.Env = ts.MkAbs("."), env
		wait.Go(func() {
			out, err := cmd.CombinedOutput()
			if (err != nil) != neg {
				failed[i] = fmt.Errorf("%v: %s", err, out)
			}
		})
	}
	wait.Wait()
	if err := errors.Join(failed...); err != nil {
		ts.Fatalf("%v", err)
	}
}
