package maintain_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/functions/maintain"
)

// deployment is a new store, as a deployer's first minute finds it.
type deployment struct {
	*world
	dir *directory.Service
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	w := &world{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), queue: &queue{}}
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), bolt.Options{NoSync: true, Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	ring := keys.NewRing(db, wrapper, w.clock)
	w.Deps = maintain.Deps{
		DB: db, Org: &org.Service{DB: db, Ring: ring, Now: w.clock}, Access: &access.Service{DB: db, Now: w.clock}, Ring: ring,
		Sync: &sync.Service{DB: db, Now: w.clock}, Queue: w.queue, Log: slog.New(slog.NewJSONHandler(&w.logs, nil)),
	}
	return &deployment{w, &directory.Service{DB: db, Ring: ring, Now: w.clock, Cost: directory.Cost{Memory: 64, Time: 1, Threads: 1}, Keeps: w.Access.KeepsAdministrator}}
}

// sha256sum is what `printf %s TOKEN | sha256sum` writes.
func sha256sum(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// comesIn says whether a person becomes an operator with the token.
func (d *deployment) comesIn(t *testing.T, token, email string) bool {
	t.Helper()
	_, err := d.dir.RedeemWelcome(t.Context(), core.Actor{Tenant: core.SystemTenant}, token, email, "correct horse battery", d.Access.FirstAdministrator)
	if err != nil && !errors.Is(err, core.Unauthenticated) && !errors.Is(err, core.NotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// minute runs with the hash of a token, or with none, and returns what was logged.
func (d *deployment) minute(t *testing.T, token string) string {
	t.Helper()
	d.logs.Reset()
	d.WelcomeHash = ""
	if token != "" {
		d.WelcomeHash = sha256sum(token)
	}
	d.pass(time.Minute)
	d.run(t)
	log := d.logs.String()
	if token != "" && (strings.Contains(log, token) || strings.Contains(log, d.WelcomeHash)) {
		t.Errorf("the log tells the token, or its hash: %s", log)
	}
	return log
}

// The deployer makes a token and gives its hash; the first minute makes the operators' tenant, and whoever has the token
// becomes its administrator, once. Nothing that runs again changes that.
func TestFirstOperator(t *testing.T) {
	d := newDeployment(t)
	const token = "k3Jx0000000000000000000000000000000000000000000000000000000000aa"
	if log := d.minute(t, ""); !strings.Contains(log, "FLEETPASS_WELCOME_SHA256") || !strings.Contains(log, "sha256sum") || strings.Count(log, "\n") != 1 {
		t.Errorf("without a hash the log has to say, in one line, what to do: %s", log)
	}
	if d.comesIn(t, token, "op@fleet.test") || d.comesIn(t, "", "op@fleet.test") {
		t.Error("somebody came in before there was anything")
	}
	if log := d.minute(t, token); !strings.Contains(log, "/t/system/welcome") {
		t.Errorf("the log does not say that the first operator is awaited: %s", log)
	}
	for range 3 { // again, with the hash and without
		for _, again := range []string{token, ""} {
			if log := d.minute(t, again); strings.Contains(log, "welcome") || strings.Contains(log, "WELCOME") {
				t.Errorf("a later minute: %s", log)
			}
		}
	}
	for _, wrong := range []string{"", "x", token[1:], sha256sum(token)} {
		if d.comesIn(t, wrong, "op@fleet.test") {
			t.Errorf("%q opens", wrong)
		}
	}
	if !d.comesIn(t, token, "op@fleet.test") {
		t.Fatal("the token does not open")
	}
	d.minute(t, token)
	if d.comesIn(t, token, "second@fleet.test") {
		t.Error("the token opens twice")
	}
	if is, err := d.Access.Administered(t.Context(), core.SystemTenant); err != nil || !is {
		t.Errorf("the operator is no administrator: %v %v", is, err)
	}
}

// Another hash makes another token wait while nobody could let anybody in; as soon as somebody can, it counts for nothing. A
// hash that was taken up is never taken up again, so an old variable revives no old token.
func TestFirstOperatorAgain(t *testing.T) {
	d := newDeployment(t)
	first, second, third, fourth := strings.Repeat("1", 64), strings.Repeat("2", 64), strings.Repeat("3", 64), strings.Repeat("4", 64)
	d.minute(t, first)
	d.pass(org.WelcomeLife)
	d.minute(t, first)
	if d.comesIn(t, first, "op@fleet.test") {
		t.Error("the first token ran out, and opens")
	}
	d.minute(t, second)
	if d.minute(t, first); d.comesIn(t, first, "op@fleet.test") {
		t.Error("the first hash was given again, and its token opens")
	}
	if !d.comesIn(t, second, "op@fleet.test") {
		t.Error("the second token does not open")
	}
	if log := d.minute(t, third); !strings.Contains(log, "counts for nothing") {
		t.Errorf("refused in silence: %s", log)
	}
	if log := d.minute(t, third); strings.Contains(log, "counts for nothing") {
		t.Errorf("said every minute: %s", log)
	}
	if d.comesIn(t, third, "evil@fleet.test") {
		t.Error("with an administrator there, a new hash lets somebody in")
	}
	// The twin: without that administrator a new hash does.
	d.dir.Keeps = nil
	if _, err := d.dir.Disable(t.Context(), core.SystemActor(core.SystemTenant), core.SystemTenant, "op@fleet.test"); err != nil {
		t.Fatal(err)
	}
	if d.minute(t, third); d.comesIn(t, third, "next@fleet.test") {
		t.Error("a hash that was refused counts later")
	}
	if d.minute(t, fourth); !d.comesIn(t, fourth, "next@fleet.test") {
		t.Error("nobody can come in any more")
	}
}

// Two first minutes at once make one tenant.
func TestFirstOperatorAtOnce(t *testing.T) {
	d := newDeployment(t)
	token := strings.Repeat("5", 64)
	d.WelcomeHash = sha256sum(token)
	var wg gosync.WaitGroup
	var mu gosync.Mutex
	made := map[org.Operators]int{}
	for range 8 {
		wg.Go(func() {
			did, err := d.Org.EnsureOperators(t.Context(), d.WelcomeHash, d.Access.Administered)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			made[did]++
		})
	}
	wg.Wait()
	if made[org.OperatorsMade] != 1 || made[org.OperatorsUnchanged] != 7 {
		t.Errorf("%v", made)
	}
	if !d.comesIn(t, token, "op@fleet.test") {
		t.Error("the token does not open")
	}
}

// What keeps the operators' tenant from being looked at holds up no job, and is an error.
func TestFirstOperatorFailsAlone(t *testing.T) {
	d := newDeployment(t)
	d.minute(t, strings.Repeat("6", 64))
	d.tenant(t, acme)
	rule := d.rule(t, d.cluster(t, "one").ID, d.clock().Add(time.Second))
	d.pass(time.Minute)
	d.WelcomeHash = sha256sum("another")
	whole := *d.Org
	d.Org.DB = &storetest.Faulty{DB: whole.DB, Plan: func(c storetest.Call) storetest.Fault {
		for _, k := range c.Keys {
			if k == org.WelcomeKey(core.SystemTenant) {
				return storetest.Refuse
			}
		}
		return storetest.NoFault
	}}
	if err := maintain.Handle(t.Context(), d.Deps, d.clock()); !errors.Is(err, core.Unavailable) {
		t.Errorf("%v, want core.Unavailable", err)
	}
	if _, err := d.Access.Get(t.Context(), acme, rule.ID); !errors.Is(err, core.NotFound) {
		t.Errorf("the rule that ended: %v", err)
	}
	*d.Org = whole
	d.run(t) // the twin
}
