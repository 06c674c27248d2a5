package dynamodb_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/localdev/parts"
)

// table makes a table of the test's own, and says how to reach it.
func table(t testing.TB) (config dynamodb.Config, name string) {
	t.Helper()
	config, name = dynamodb.LocalConfig(parts.NeedDynamoDB(t)), "t"+core.NewID()[:16]
	if err := dynamodb.CreateTable(t.Context(), dynamodb.NewClient(config), name); err != nil {
		t.Fatal(err)
	}
	return config, name
}

// ownTable makes a table in a DynamoDB Local of the test's own: it gets several times slower with all that it has served. This is
// for tests that make thousands of requests.
func ownTable(t testing.TB) (config dynamodb.Config, name string) {
	t.Helper()
	parts.NeedDynamoDB(t) // which knows what to do where there is none
	endpoint, stop, err := parts.DynamoDB(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	config, name = dynamodb.LocalConfig(endpoint), "t"+core.NewID()[:16]
	if err := dynamodb.CreateTable(t.Context(), dynamodb.NewClient(config), name); err != nil {
		t.Fatal(err)
	}
	return config, name
}

// Every subtest has tenants of its own in one table, but those that try histories have a server.
func TestStore(t *testing.T) {
	t.Parallel()
	config, name := table(t)
	client := dynamodb.NewClient(config)
	storetest.Run(t, func(t *testing.T, now func() time.Time) store.DB {
		if strings.Contains(t.Name(), "Histories") {
			config, name := ownTable(t)
			return dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{Now: now})
		}
		return dynamodb.New(client, name, dynamodb.Options{Now: now})
	})
}

func TestCreateTableTwice(t *testing.T) {
	config, name := table(t)
	client := dynamodb.NewClient(config)
	db := dynamodb.New(client, name, dynamodb.Options{})
	put(t, db, store.Meta("acme"), "x")
	if err := dynamodb.CreateTable(t.Context(), client, name); err != nil {
		t.Error(err)
	}
	if it := get(t, db, store.Meta("acme")); string(it.Body) != "x" {
		t.Error("the table's items are gone")
	}
}

func get(t testing.TB, db store.DB, k store.Key) store.Item {
	t.Helper()
	items, err := db.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return items[0]
}

// put writes over whatever is there and returns the version.
func put(t testing.TB, db store.DB, k store.Key, body string) store.Version {
	t.Helper()
	if err := db.Commit(t.Context(), store.Put(k, get(t, db, k).Version, []byte(body))); err != nil {
		t.Fatal(err)
	}
	return get(t, db, k).Version
}

// Each call is one request when nothing fails. What reads outside a transaction, which is a snapshot anyhow, asks for a consistent
// read: DynamoDB Local would never show that it did not.
func TestOneRequest(t *testing.T) {
	direct, name := table(t)
	p, config := newProxy(t, direct)
	db, past := dynamodb.New(dynamodb.NewClient(config), name, dynamodb.Options{}), dynamodb.New(dynamodb.NewClient(direct), name, dynamodb.Options{})
	user := func(n int) store.Key { return store.User("acme", core.Email(fmt.Sprintf("u%03d", n))) }
	for n := range 30 {
		put(t, past, user(n), "x")
	}
	v := func(n int) store.Version { return get(t, past, user(n)).Version }
	list := func(r store.Range, want int) func() error {
		return func() error {
			n := 0
			for _, err := range db.List(t.Context(), r) {
				if err != nil {
					return err
				}
				n++
			}
			if n != want {
				return fmt.Errorf("%d items, want %d", n, want)
			}
			return nil
		}
	}
	limited, bounded, down := store.Users("acme"), store.Users("acme"), store.Users("acme")
	limited.Limit = 10
	bounded.From, bounded.To = "u005", "u010"
	down.Descending, down.Limit = true, 10
	commit := func(ops ...store.Op) func() error {
		return func() error { return db.Commit(t.Context(), ops...) }
	}
	for _, tt := range []struct {
		what, operation string
		call            func() error
	}{
		{"get", "GetItem", func() error { _, err := db.Get(t.Context(), user(1)); return err }},
		{"get of several", "TransactGetItems", func() error { _, err := db.Get(t.Context(), user(1), user(2), user(999)); return err }},
		{"list", "Query", list(store.Users("acme"), 30)},
		{"list of nothing", "Query", list(store.Groups("acme"), 0)},
		{"list with a limit", "Query", list(limited, 10)},
		{"list on from a page", "Query", list(limited.After("u009"), 10)},
		{"list between two names", "Query", list(bounded, 5)},
		{"list down", "Query", list(down, 10)},
		{"list on down", "Query", list(down.After("u020"), 10)},
		{"create", "PutItem", commit(store.Put(user(100), 0, []byte("x")))},
		{"replace", "PutItem", commit(store.Put(user(1), v(1), []byte("y")))},
		{"delete", "DeleteItem", commit(store.Delete(user(2), v(2)))},
		{"check", "GetItem", commit(store.Check(user(3), v(3)))},
		{"delete of absent", "GetItem", commit(store.Delete(user(999), 0))},
		{"checks", "TransactGetItems", commit(store.Check(user(3), v(3)), store.Check(user(999), 0))},
		{"several", "TransactWriteItems", commit(store.Put(user(101), 0, nil), store.Check(user(3), v(3)), store.Delete(user(4), v(4)))},
	} {
		p.set(nil)
		if err := tt.call(); err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		if _, requests := p.counts(); len(requests) != 1 || requests[tt.operation] != 1 {
			t.Errorf("%s: requests %v, want one %s", tt.what, requests, tt.operation)
		}
		var asked struct{ ConsistentRead bool }
		if err := json.Unmarshal(p.lastRequest(), &asked); err != nil {
			t.Errorf("%s: %v", tt.what, err)
		}
		if want := tt.operation == "GetItem" || tt.operation == "Query"; asked.ConsistentRead != want {
			t.Errorf("%s: ConsistentRead %v, want %v", tt.what, asked.ConsistentRead, want)
		}
	}
}
