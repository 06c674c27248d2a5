package store_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/events"
)

type pet struct {
	Name  string            `json:"name"`
	Age   int               `json:"age,omitzero"`
	Tags  map[string]string `json:"tags,omitempty"`
	Token []byte            `json:"token,omitempty"`
}

var pets store.Table[pet]

func open(t *testing.T, now func() time.Time) store.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{Now: now, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestTable(t *testing.T) {
	db := open(t, nil)
	ctx := t.Context()
	k := store.User("acme", "rex")
	if r, err := pets.Get(ctx, db, k); !errors.Is(err, core.NotFound) || r.Exists() {
		t.Fatalf("absent: %+v, %v", r, err)
	}
	rex := pet{Name: "Rex", Age: 3, Tags: map[string]string{"b": "2", "a": "1"}}
	op, err := pets.Put(k, 0, rex)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"name":"Rex","age":3,"tags":{"a":"1","b":"2"}}`; string(op.Body) != want {
		t.Errorf("body %s, want %s", op.Body, want)
	}
	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	if err := db.Commit(ctx, op.Until(at)); err != nil {
		t.Fatal(err)
	}
	r, err := pets.Get(ctx, db, k)
	if err != nil || !r.Exists() || r.Key != k || !r.Expires.Equal(at) || !cmp.Equal(r.Value, rex) {
		t.Errorf("got %+v (%v)", r, err)
	}
	// What another has changed meanwhile is not written over.
	op, err = pets.Put(k, r.Version, pet{Name: "Max"})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(ctx, op); err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(ctx, op); !errors.Is(err, core.Conflict) {
		t.Errorf("written over: %v", err)
	}
}

func TestTableList(t *testing.T) {
	db := open(t, nil)
	ctx := t.Context()
	for _, name := range []string{"b", "a", "c"} {
		op, err := pets.Put(store.User("acme", core.Email(name)), 0, pet{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Commit(ctx, op); err != nil {
			t.Fatal(err)
		}
	}
	list := func(db store.DB) (names string, err error) {
		for r, e := range pets.List(ctx, db, store.Users("acme")) {
			if err != nil {
				t.Fatal("something came after the error")
			}
			names, err = names+r.Value.Name, e
		}
		return names, err
	}
	if names, err := list(db); names != "abc" || err != nil {
		t.Errorf("listed %q (%v)", names, err)
	}
	// An error never looks like the end of the list, be it the store's or the decoder's.
	faulty := &storetest.Faulty{DB: db, Plan: storetest.FaultOnce("List", storetest.LoseAnswer)}
	if names, err := list(faulty); !errors.Is(err, core.Unavailable) {
		t.Errorf("through a fault: listed %q (%v)", names, err)
	}
	if err := db.Commit(ctx, store.Put(store.User("acme", "bb"), 0, []byte(`{"name":7}`))); err != nil {
		t.Fatal(err)
	}
	if names, err := list(db); names != "ab" || err == nil {
		t.Errorf("with a broken record: listed %q (%v)", names, err)
	}
}

func TestDecode(t *testing.T) {
	k := store.User("acme", "rex")
	decode := func(body string) (store.Record[pet], error) {
		return pets.Decode(store.Item{Key: k, Version: 5, Body: []byte(body)})
	}
	if r, err := pets.Decode(store.Item{Key: k}); err != nil || r.Exists() || r.Key != k {
		t.Errorf("absent: %+v, %v", r, err)
	}
	// A member that only a newer version of the code knows does no harm.
	if r, err := decode(`{"name":"Rex","wings":2}`); err != nil || r.Value.Name != "Rex" || r.Version != 5 {
		t.Errorf("unknown member: %+v, %v", r, err)
	}
	for name, tt := range map[string]struct{ body, says string }{
		"wrong type":   {`{"name":"Rex","age":"s3cret"}`, `"/age"`},
		"wrong bytes":  {`{"name":"Rex","token":"s3cret!"}`, `"/token"`},
		"wrong number": {`{"name":"Rex","age":1.5}`, `"/age"`},
		"in a map":     {`{"tags":{"a":["s3cret"]}}`, `"/tags/a"`},
		"broken":       {`{"name":"s3cret"`, "not JSON"},
		"duplicate":    {`{"name":"a","name":"s3cret"}`, "not JSON"},
		"not UTF-8":    {"{\"name\":\"s3cret\xff\"}", "not JSON"},
		"trailing":     {`{"name":"Rex"} s3cret`, "not JSON"},
		"empty":        {"", "not JSON"},
		"not a record": {`"s3cret"`, "string"},
	} {
		r, err := decode(tt.body)
		if err == nil || !strings.Contains(err.Error(), k.String()) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: error %v, want one that names the item and says %s", name, err, tt.says)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows the body: %v", name, err)
		}
		if !cmp.Equal(r.Value, pet{}) {
			t.Errorf("%s: half a record: %+v", name, r.Value)
		}
	}
}

// What decodes is what was meant: written and read again it is the same. What does not, gives no value.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{}`, `null`, `{"name":"Rex","age":3}`, `{"tags":{"a":"b"},"token":"AAEC"}`, `{"Name":"x"}`, `[1]`, ``, "{\"name\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	k := store.User("acme", "rex")
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := pets.Decode(store.Item{Key: k, Version: 1, Body: body})
		if err != nil {
			if !cmp.Equal(r.Value, pet{}) {
				t.Errorf("%q: error %v beside %+v", body, err, r.Value)
			}
			return
		}
		op, err := pets.Put(k, 0, r.Value)
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		again, err := pets.Decode(store.Item{Key: k, Version: 1, Body: op.Body})
		if err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if op2, err := pets.Put(k, 0, again.Value); err != nil || string(op2.Body) != string(op.Body) {
			t.Errorf("%q became %q, and that %q (%v)", body, op.Body, op2.Body, err)
		}
	})
}

// traceparent is the example of https://www.w3.org/TR/trace-context/#examples-of-http-traceparent-headers.
const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func TestEmit(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 5e6, time.FixedZone("east", 3600))
	by := core.Actor{Tenant: "acme", Subject: core.UserSubject("ada@example.com"), Request: "req-1", Address: "192.0.2.7", Trace: traceparent}
	op, err := store.Emit("acme", at, by, events.AccessChanged{Revision: 7, All: true})
	if err != nil {
		t.Fatal(err)
	}
	if !op.Key.IsOutbox() || op.Key.Tenant() != "acme" || op.Expect != 0 || op.Verb != store.VerbPut || !op.Expires.After(at) {
		t.Errorf("operation %+v", op)
	}
	env, fact, err := events.Decode(op.Body)
	if err != nil {
		t.Fatal(err)
	}
	if env.Tenant != "acme" || env.Request != "req-1" || env.Trace != traceparent || !env.Time.Equal(at) || !strings.HasSuffix(op.Key.Sort(), env.ID) {
		t.Errorf("envelope %+v of %s", env, op.Key)
	}
	if want := (events.AccessChanged{Revision: 7, All: true}); !cmp.Equal(fact, events.Fact(want)) && !cmp.Equal(fact, events.Fact(&want)) {
		t.Errorf("fact %+v, want %+v", fact, want)
	}
	if body := string(op.Body); strings.Contains(body, "ada@") || strings.Contains(body, by.Address) {
		t.Errorf("the event names who acted: %s", body)
	}
	again, err := store.Emit("acme", at, by, events.AccessChanged{})
	if err != nil || again.Key == op.Key {
		t.Errorf("two events have the key %s (%v)", again.Key, err)
	}
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := errors.New("other")
		ends := func(n int, last error) (func() error, *int) {
			calls := 0
			return func() error {
				if calls++; calls == n {
					return last
				}
				return core.Conflict
			}, &calls
		}
		for _, tt := range []struct {
			name      string
			ends      int
			with      error
			wantCalls int
			want      error
		}{
			{"at once", 1, nil, 1, nil},
			{"after conflicts", 4, nil, 4, nil},
			{"at the last try", 10, nil, 10, nil},
			{"never", 11, nil, 10, core.Conflict},
			{"another error", 3, other, 3, other},
			{"an unknown outcome", 2, core.Unavailable, 2, core.Unavailable},
		} {
			try, calls := ends(tt.ends, tt.with)
			begin := time.Now()
			if err := store.Retry(t.Context(), try); !errors.Is(err, tt.want) || *calls != tt.wantCalls {
				t.Errorf("%s: %d calls and error %v, want %d and %v", tt.name, *calls, err, tt.wantCalls, tt.want)
			}
			var least, most time.Duration
			for n, pause := 1, 2*time.Millisecond; n < tt.wantCalls; n, pause = n+1, 2*pause {
				least, most = least+pause/2, most+pause+pause/2
			}
			if took := time.Since(begin); took < least || took > most {
				t.Errorf("%s: paused for %v, want %v to %v", tt.name, took, least, most)
			}
		}

		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := store.Retry(ctx, func() error { return core.Conflict }); !errors.Is(err, core.Unavailable) || errors.Is(err, core.Conflict) {
			t.Errorf("with an ended context: %v", err)
		}
	})
}

// Retry and versions together lose no update, also where answers are lost: the second look finds what the first try did.
func TestRetryOverStore(t *testing.T) {
	db := open(t, nil)
	k := store.Meta("acme")
	const writers, each = 4, 20
	errs := make(chan error, writers)
	for range writers {
		go func() {
			for range each {
				err := store.Retry(t.Context(), func() error {
					r, err := pets.Get(t.Context(), db, k)
					if err != nil && !errors.Is(err, core.NotFound) {
						return err
					}
					r.Value.Age++
					op, err := pets.Put(k, r.Version, r.Value)
					if err != nil {
						return err
					}
					return db.Commit(t.Context(), op)
				})
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range writers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if r, err := pets.Get(t.Context(), db, k); err != nil || r.Value.Age != writers*each {
		t.Errorf("counted to %d of %d (%v)", r.Value.Age, writers*each, err)
	}
}
