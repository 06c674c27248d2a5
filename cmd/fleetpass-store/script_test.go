package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/adapters/storequeue"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/transfer"
	"github.com/fleetpass/fleetpass/functions"
)

func TestMain(m *testing.M) {
	if os.Getenv("FLEETPASS_TEST_WAITS") != "" {
		waitsForever()
	}
	testscript.Main(m, map[string]func(){
		"fleetpass-store": main,
		"seed-store":      seedStore,
		"look-at-store":   lookAtStore,
		"half-copy":       halfCopy,
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return v
}

// site opens a Fleetpass over a bolt file and a file of master keys.
func site(path, master string) (*functions.System, func()) {
	now := func() time.Time { return time.Now().UTC() }
	db := must(bolt.Open(path, bolt.Options{}))
	s := must(functions.New(functions.Config{
		DB: db, Wrapper: must(localkeys.Open(master, true)), Queue: storequeue.New(db, now), Base: "https://fleetpass.example", Log: slog.New(slog.DiscardHandler),
		Dial:      func(sync.Target) (sync.Cluster, error) { return nil, core.Unavailable },
		Providers: map[sso.Kind]sso.Provider{},
	}))
	s.Directory.Cost = directory.Cost{Memory: 64, Time: 1, Threads: 1}
	return s, func() { must(0, db.Close()) }
}

// seed-store STORE MASTER-KEYS TENANT... fills a new store.
func seedStore() {
	ctx := context.Background()
	s, done := site(os.Args[1], os.Args[2])
	defer done()
	must(s.Org.EnsureSystem(ctx))
	for _, t := range os.Args[3:] {
		t := core.TenantID(t)
		welcome := must(s.Org.CreateTenant(ctx, core.SystemActor(core.SystemTenant), string(t), "Tenant "+string(t)))
		must(s.Directory.RedeemWelcome(ctx, core.Actor{Tenant: t}, welcome, "ada@example.com", "correct horse battery", s.Access.FirstAdministrator))
		must(s.Org.CreateCluster(ctx, core.SystemActor(t), t, "gpu-east", org.Reach{Mode: org.Agent}))
	}
}

// look-at-store STORE MASTER-KEYS TENANT signs in there.
func lookAtStore() {
	ctx := context.Background()
	s, done := site(os.Args[1], os.Args[2])
	defer done()
	t := core.TenantID(os.Args[3])
	u := must(s.Directory.Authenticate(ctx, core.Actor{Tenant: t, Address: "192.0.2.1"}, "ada@example.com", "correct horse battery", false))
	key := must(s.Ring.Signer(ctx, t, "ES256"))
	scopes := must(s.Org.Scopes(ctx, t))
	_ = must(key.Sign(nil, bytes.Repeat([]byte{1}, 32), crypto.SHA256))
	fmt.Printf("%s is there, signs with %s, sees %d scope(s)\n", u.Email, key.ID, len(scopes))
}

// half-copy FROM TO TENANT begins a copy, and is stopped.
func halfCopy() {
	from := must(bolt.Open(os.Args[1], bolt.Options{}))
	to := must(bolt.Open(os.Args[2], bolt.Options{}))
	commits := 0
	k := transfer.Copier{From: from, FromName: "elsewhere", Now: time.Now, To: &storetest.Faulty{DB: to, Plan: func(c storetest.Call) storetest.Fault {
		if c.Method == "Commit" {
			commits++
		}
		if commits > 5 {
			return storetest.Refuse
		}
		return storetest.NoFault
	}}}
	if _, err := k.Tenant(context.Background(), core.TenantID(os.Args[3])); !errors.Is(err, core.Unavailable) {
		must(0, fmt.Errorf("it ended with %v", err))
	}
	must(0, from.Close())
	must(0, to.Close())
}

// waitsForever is a program that is interrupted and goes on all the same.
func waitsForever() {
	ctx, stop := interrupts()
	defer stop()
	os.Stdout.WriteString("ready\n")
	<-ctx.Done()
	os.Stdout.WriteString("interrupted\n")
	select {}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "AWS_REGION=", "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=", "FIRESTORE_EMULATOR_HOST=")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"mode": mode, "flip": flip, "first-bytes": firstBytes},
	})
}

// mode PERMISSIONS FILE checks permissions, such as -rw-------.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	if err != nil || info.Mode().String() != args[0] {
		ts.Fatalf("%s has mode %v, want %s (%v)", args[1], info.Mode(), args[0], err)
	}
}

// flip FILE changes a bit in the middle of a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	data := []byte(ts.ReadFile(args[0]))
	data[len(data)/2] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// first-bytes FILE OTHER writes half of a file into another.
func firstBytes(ts *testscript.TestScript, _ bool, args []string) {
	data := ts.ReadFile(args[0])
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(data[:len(data)/2]), 0o600))
}

// Nothing is left beside an export, whole or not.
func TestExportLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s, done := site(filepath.Join(dir, "store.db"), filepath.Join(dir, "master.key"))
	must(s.Org.EnsureSystem(t.Context()))
	done()
	if code := run([]string{"export", "-q", "--from", "bolt:" + filepath.Join(dir, "store.db"), "--tenant", "nobody", filepath.Join(dir, "out.jsonl")}); code != 1 {
		t.Errorf("exit code %d", code)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left %v, %v", entries, err)
	}
}
