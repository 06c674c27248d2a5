package bolt

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// childEnv, set to a file's path, makes the test binary the process that is killed.
const childEnv = "BOLT_TEST_CHILD"

const (
	killRounds  = 20
	killWriters = 4
)

// What writer w's n-th commit writes: the chain, which says n, and three items and an event of its own.
func chain(w int) store.Key { return store.Meta(core.TenantID(fmt.Sprintf("writer%d", w))) }

func name(w, n int) string { return fmt.Sprintf("%d.%06d", w, n) }

func links(w, n int) []store.Key {
	return []store.Key{
		store.User(chain(w).Tenant(), core.Email(name(w, n))),
		store.Group("groups", core.GroupName(name(w, n))),
		store.Session("sessions", name(w, n)),
		store.Outbox("events", time.Unix(1_800_000_000, 0), name(w, n)),
	}
}

// child commits for ever, and tells on its standard output what was acknowledged ("commit NAME") and what its feed carried
// out ("event NAME").
func child(path string) {
	var mu sync.Mutex
	say := func(what, name string) {
		mu.Lock()
		defer mu.Unlock()
		os.Stdout.WriteString(what + " " + name + "\n") // one write: a line is whole or not there
	}
	stop := func(err error) {
		say("error", err.Error())
		os.Exit(1)
	}
	ctx := context.Background()
	db, err := Open(path, Options{LockTimeout: 10 * time.Second})
	if err != nil {
		stop(err)
	}
	for w := range killWriters {
		go func() {
			for {
				items, err := db.Get(ctx, chain(w))
				if err != nil {
					stop(err)
				}
				n := 0
				fmt.Sscan(string(items[0].Body), &n)
				n++
				ops := []store.Op{store.Put(chain(w), items[0].Version, fmt.Append(nil, n))}
				for i, k := range links(w, n) {
					body := name(w, n)
					if i < 2 {
						body += strings.Repeat("x", 1000*i*(n%8)) // from a small part of a page to several
					}
					ops = append(ops, store.Put(k, 0, []byte(body)))
				}
				if err := db.Commit(ctx, ops...); err != nil {
					stop(err)
				}
				say("commit", name(w, n))
			}
		}()
	}
	stop(db.Feed(ctx, FeedOptions{}, func(_ context.Context, body []byte) error {
		say("event", string(body))
		return nil
	}))
}

// A process that is killed while it writes leaves nothing half done, loses no commit that was acknowledged, and its events
// are carried out exactly for the commits that are there.
func TestKill(t *testing.T) {
	path := tempFile(t)
	acked := make([]int, killWriters) // the last commit of each writer that was acknowledged
	carried := map[string]bool{}      // events that some feed handed on
	total := 0
	for round := range killRounds {
		for _, line := range runAndKill(t, path, rand.IntN(60)) {
			what, name, _ := strings.Cut(line, " ")
			switch what {
			case "commit":
				var w, n int
				fmt.Sscanf(name, "%d.%d", &w, &n)
				acked[w] = max(acked[w], n)
			case "event":
				carried[name] = true
			default:
				t.Fatalf("round %d: the child said %q", round, line)
			}
		}
		db := open(t, path, Options{LockTimeout: 10 * time.Second})
		db.file.View(func(tx *bbolt.Tx) error {
			for err := range tx.Check() {
				t.Errorf("round %d: damaged file: %v", round, err)
			}
			return nil
		})
		waiting := waitingEvents(db)
		if round%4 == 3 { // a feed in the next process, which may be this one or the next child
			drain(t, db, waiting, carried)
			waiting = nil
		}
		total = 0
		for w := range killWriters {
			total += checkWriter(t, db, w, acked[w], waiting, carried)
		}
		if len(carried) > total {
			t.Errorf("round %d: %d events carried out, of %d commits", round, len(carried), total)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	db := open(t, path, Options{})
	drain(t, db, waitingEvents(db), carried)
	if len(carried) != total || total == 0 {
		t.Errorf("%d events were carried out for %d commits", len(carried), total)
	}
	t.Logf("%d kills, %d commits", killRounds, total)
}

// runAndKill starts a child, kills it once it has said so many lines, and returns all that it said.
func runAndKill(t *testing.T, path string, after int) (lines []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	// Should a child say nothing, the test must not wait for ever.
	guard := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer guard.Stop()
	s := bufio.NewScanner(out)
	for s.Scan() {
		lines = append(lines, s.Text())
		if len(lines) == after+1 {
			time.AfterFunc(rand.N(2*time.Millisecond), func() { cmd.Process.Kill() }) // SIGKILL
		}
	}
	cmd.Wait()
	if len(lines) <= after {
		t.Fatalf("the child ended after %d lines: %q", len(lines), lines)
	}
	return lines
}

// checkWriter checks one writer's chain of commits and returns how many there are.
func checkWriter(t *testing.T, db *DB, w, acked int, waiting []string, carried map[string]bool) int {
	t.Helper()
	head := get(t, db, chain(w))
	last := 0
	fmt.Sscan(string(head.Body), &last)
	if last < acked {
		t.Errorf("writer %d: commit %d was acknowledged, and %d is the last one there", w, acked, last)
	}
	for n := 1; n <= last+2; n++ {
		items, err := db.Get(t.Context(), links(w, n)...)
		if err != nil {
			t.Fatal(err)
		}
		for i, it := range items {
			if (it.Version != 0) != (n <= last) || it.Version != items[0].Version || n <= last && !strings.HasPrefix(string(it.Body), name(w, n)) {
				t.Fatalf("writer %d, commit %d of %d is half done: item %d has version %d, the first %d", w, n, last, i, it.Version, items[0].Version)
			}
		}
		if n == last && items[0].Version != head.Version {
			t.Errorf("writer %d: the last commit has version %d, the chain's head %d", w, items[0].Version, head.Version)
		}
		if waits := slices.Contains(waiting, name(w, n)); n <= last && !waits && !carried[name(w, n)] {
			t.Errorf("writer %d: the event of commit %d was not carried out and does not wait", w, n)
		} else if n > last && (waits || carried[name(w, n)]) {
			t.Errorf("writer %d: commit %d did not happen, and its event did", w, n)
		}
	}
	return last
}

// drain runs a feed until it has carried out all that waits.
func drain(t *testing.T, db *DB, waiting []string, carried map[string]bool) {
	t.Helper()
	left := map[string]bool{}
	for _, body := range waiting {
		left[body] = true
	}
	if len(left) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	db.Feed(ctx, FeedOptions{Workers: 1}, func(_ context.Context, body []byte) error {
		carried[string(body)] = true
		if delete(left, string(body)); len(left) == 0 {
			cancel()
		}
		return nil
	})
	if len(left) > 0 {
		t.Errorf("the feed left %d of %d events", len(left), len(waiting))
	}
}
