package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		child(path)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, path string, o Options) *DB {
	t.Helper()
	db, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func tempFile(t *testing.T) string { return filepath.Join(t.TempDir(), "store.db") }

func commit(t *testing.T, db *DB, ops ...store.Op) {
	t.Helper()
	if err := db.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, db *DB, k store.Key) store.Item {
	t.Helper()
	items, err := db.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return items[0]
}

// Without fsync, which the suite could not tell the lack of; TestKill and others run with it.
func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T, now func() time.Time) store.DB {
		return open(t, tempFile(t), Options{Now: now, NoSync: true})
	})
}

func TestReopen(t *testing.T) {
	path := tempFile(t)
	db := open(t, path, Options{})
	k := store.Meta("acme")
	commit(t, db, store.Put(k, 0, []byte("kept")))
	before := get(t, db, k)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, want only its owner to read it (%v)", info.Mode(), err)
	}
	db = open(t, path, Options{})
	if it := get(t, db, k); it.Version != before.Version || string(it.Body) != "kept" {
		t.Errorf("after reopening: %+v, before: %+v", it, before)
	}
	commit(t, db, store.Put(k, before.Version, nil))
	if v := get(t, db, k).Version; v == before.Version {
		t.Errorf("version %d was used again after reopening", v)
	}
}

// A file that another process has, or that is not ours, is refused with a sentence that names it.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, fill func(tx *bbolt.Tx) error) string {
		path := filepath.Join(dir, name)
		b, err := bbolt.Open(path, 0o600, nil)
		if err == nil {
			err = errors.Join(b.Update(fill), b.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := write("foreign.db", func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("theirs"))
		return err
	})
	newer := write("newer.db", func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket(aboutBucket)
		if err != nil {
			return err
		}
		return b.Put(formatKey, []byte("2"))
	})
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	held := filepath.Join(dir, "held.db")
	holder := open(t, held, Options{})

	for _, tt := range []struct {
		path, want string
		kind       core.Kind
	}{
		{held, "in use by another process", core.Unavailable},
		{foreign, "something else", core.Unsupported},
		{newer, `format "2"`, core.Unsupported},
		{text, "not a database of ours, or is damaged", ""},
		{dir, "directory", ""},
		{filepath.Join(dir, "nowhere", "store.db"), "no such file", ""},
	} {
		_, err := Open(tt.path, Options{LockTimeout: 50 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), tt.path) || !strings.Contains(err.Error(), tt.want) || tt.kind != "" && !errors.Is(err, tt.kind) {
			t.Errorf("open %s: error %v, want one that says %q and is %q", tt.path, err, tt.want, tt.kind)
		}
	}
	// The twin: once the holder lets go, the file opens.
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, held, Options{LockTimeout: 50 * time.Millisecond})
}

func TestClosed(t *testing.T) {
	db := open(t, tempFile(t), Options{})
	k := store.Meta("acme")
	commit(t, db, store.Put(k, 0, nil))
	for range 2 { // closing twice is no error
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := db.Get(t.Context(), k)
	_, sweepErr := db.Sweep(t.Context(), 1)
	errs := map[string]error{"get": err, "sweep": sweepErr, "commit": db.Commit(t.Context(), store.Check(k, 0))}
	for _, err := range db.List(t.Context(), store.Users("acme")) {
		errs["list"] = err
	}
	for _, method := range []string{"get", "list", "commit", "sweep"} {
		if !errors.Is(errs[method], core.Unavailable) {
			t.Errorf("%s on a closed store: error %v, want %q", method, errs[method], core.Unavailable)
		}
	}
}

// Commits that are under way while the store closes either happened or were refused; none hangs.
func TestCloseUnderLoad(t *testing.T) {
	path := tempFile(t)
	db := open(t, path, Options{NoSync: true})
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[store.Key]bool{}
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				k := store.User("acme", core.Email(fmt.Sprint(w, " ", i)))
				if err := db.Commit(context.Background(), store.Put(k, 0, nil)); err != nil {
					if !errors.Is(err, core.Unavailable) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				acked[k] = true
				mu.Unlock()
			}
		})
	}
	for n := 0; n < 50; {
		mu.Lock()
		n = len(acked)
		mu.Unlock()
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	db = open(t, path, Options{NoSync: true})
	for k := range acked {
		if get(t, db, k).Version == 0 {
			t.Fatalf("%s was acknowledged, and is gone", k)
		}
	}
}

// hold makes the writer wait inside a request until the returned function is called.
func hold(t *testing.T, db *DB) (release func()) {
	t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	go db.submit(context.Background(), "hold", 0, func(*batch) error {
		close(held)
		<-free
		return nil
	})
	<-held
	return sync.OnceFunc(func() { close(free) })
}

// Commits that wait together share a transaction of the file, and each still gets its own answer.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, tempFile(t), Options{})
		k := store.Meta("acme")
		commit(t, db, store.Put(k, 0, nil))
		v := get(t, db, k).Version
		transactions := func() (n int) {
			db.file.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil })
			return n
		}
		before := transactions()

		release := hold(t, db)
		const writers = 40
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				own := store.Put(store.User("acme", core.Email(fmt.Sprint(i))), 0, []byte{byte(i)})
				switch i % 4 {
				case 0, 1:
					errs[i] = db.Commit(t.Context(), own)
				case 2: // wrong from the start
					errs[i] = db.Commit(t.Context(), own, store.Check(k, v+100))
				case 3: // exactly one of these finds what it expects
					errs[i] = db.Commit(t.Context(), own, store.Put(k, v, []byte("won")))
				}
			})
		}
		synctest.Wait()
		release()
		wg.Wait()

		if n := transactions() - before; n != 1 {
			t.Errorf("%d commits that waited together took %d transactions", writers, n)
		}
		won := 0
		versions := map[store.Version]bool{}
		for i, err := range errs {
			it := get(t, db, store.User("acme", core.Email(fmt.Sprint(i))))
			if (err == nil) != (it.Version != 0) || err != nil && !errors.Is(err, core.Conflict) {
				t.Errorf("commit %d: error %v, and the item has version %d", i, err, it.Version)
			}
			if err == nil && versions[it.Version] {
				t.Errorf("two commits have version %d", it.Version)
			}
			versions[it.Version] = true
			switch {
			case i%4 < 2 && err != nil, i%4 == 2 && err == nil:
				t.Errorf("commit %d: error %v", i, err)
			case i%4 == 3 && err == nil:
				won++
			}
		}
		if won != 1 {
			t.Errorf("%d commits replaced the same version", won)
		}

		// What changes nothing is not written.
		before = transactions()
		commit(t, db, store.Check(k, get(t, db, k).Version), store.Delete(store.Group("acme", "none"), 0))
		if n := transactions() - before; n != 0 {
			t.Errorf("a check took %d transactions", n)
		}
	})
}

// A commit whose context ends before the writer has come to it never happens.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, tempFile(t), Options{})
		release := hold(t, db)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		k := store.Meta("acme")
		go func() { done <- db.Commit(ctx, store.Put(k, 0, nil)) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, core.Unavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want %q because of the context", err, core.Unavailable)
		}
		release()
		commit(t, db, store.Put(store.Meta("other"), 0, nil)) // behind it in the queue
		if v := get(t, db, k).Version; v != 0 {
			t.Errorf("an abandoned commit happened, version %d", v)
		}
	})
}

// After a failed write nobody can say what the file holds, so nothing is answered from it; opened anew, it is whole.
func TestFailedWrite(t *testing.T) {
	path := tempFile(t)
	db := open(t, path, Options{})
	k := store.Meta("acme")
	commit(t, db, store.Put(k, 0, []byte("before")))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	db.file.MaxSize = int(info.Size()) // the disk is full
	var ops []store.Op
	for i := range store.MaxOps {
		ops = append(ops, store.Put(store.User("acme", core.Email(fmt.Sprint(i))), 0, make([]byte, store.MaxBody)))
	}
	if err := db.Commit(t.Context(), ops...); !errors.Is(err, core.Unavailable) || !strings.Contains(err.Error(), path) {
		t.Fatalf("commit to a full disk: error %v", err)
	}
	_, err = db.Get(t.Context(), k)
	if commitErr := db.Commit(t.Context(), store.Check(k, 0)); !errors.Is(err, core.Unavailable) || !errors.Is(commitErr, core.Unavailable) {
		t.Errorf("after a failed write: get %v, commit %v", err, commitErr)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, path, Options{})
	if it := get(t, db, k); string(it.Body) != "before" {
		t.Errorf("after reopening: %+v", it)
	}
	commit(t, db, ops...)
}

func TestSweep(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	db := open(t, tempFile(t), Options{Now: func() time.Time { return now }})
	key := func(i int) store.Key { return store.Session("acme", fmt.Sprint(i)) }
	count := func(bucket []byte) (n int) {
		db.file.View(func(tx *bbolt.Tx) error {
			n = tx.Bucket(bucket).Stats().KeyN
			return nil
		})
		return n
	}
	sweep := func(max, want int) {
		t.Helper()
		if n, err := db.Sweep(t.Context(), max); n != want || err != nil {
			t.Errorf("swept %d items (%v), want %d", n, err, want)
		}
	}
	for i := 0; i < 600; i += store.MaxOps {
		var ops []store.Op
		for j := i; j < i+store.MaxOps; j++ {
			ops = append(ops, store.Put(key(j), 0, []byte("x")).Until(now.Add(time.Duration(j)*time.Second)))
		}
		commit(t, db, ops...)
	}
	commit(t, db, store.Put(store.Meta("acme"), 0, []byte("stays")))

	sweep(1000, 1) // item 0 expires at once
	commit(t, db, store.Put(store.Session("acme", "ancient"), 0, nil).Until(time.Unix(-1, 0)))
	sweep(1000, 1)
	now = now.Add(500 * time.Second)
	commit(t, db, store.Put(key(500), 0, []byte("again")))                                                     // made anew, for ever
	commit(t, db, store.Put(key(501), get(t, db, key(501)).Version, []byte("longer")).Until(now.Add(1e6*1e9))) // kept for longer
	commit(t, db, store.Delete(key(502), get(t, db, key(502)).Version))
	sweep(100, 100)
	sweep(1000, 399) // over several transactions
	sweep(1000, 0)
	if items, index := count(itemsBucket), count(expiryBucket); items != 100 || index != 98 {
		t.Errorf("%d items and %d expiries are left, want 100 and 98", items, index)
	}
	now = now.Add(1000 * time.Second)
	sweep(1000, 97)
	for k, want := range map[store.Key]string{key(500): "again", key(501): "longer", store.Meta("acme"): "stays"} {
		if it := get(t, db, k); string(it.Body) != want {
			t.Errorf("%s holds %q, want %q", k, it.Body, want)
		}
	}
}
