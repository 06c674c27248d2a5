package transfer_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	apiv1 "cloud.google.com/go/firestore/apiv1"

	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/transfer"
	"github.com/fleetpass/fleetpass/localdev/parts"
)

func newDynamoDB(t *testing.T, c *clock) store.DB {
	t.Helper()
	config, name := dynamodb.LocalConfig(parts.NeedDynamoDB(t)), "t"+core.NewID()[:16]
	client := dynamodb.NewClient(config)
	if err := dynamodb.CreateTable(t.Context(), client, name); err != nil {
		t.Fatal(err)
	}
	return dynamodb.New(client, name, dynamodb.Options{Now: c.Now})
}

func newFirestore(t *testing.T, c *clock) store.DB {
	t.Helper()
	client, err := apiv1.NewClient(t.Context(), firestore.Emulator(parts.NeedFirestore(t))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return firestore.New(client, "transfer-"+core.NewID()[:8], firestore.DefaultDatabase, firestore.Options{Now: c.Now})
}

// A tenant that went from bolt through DynamoDB and Firestore into bolt again is the same to the byte, at every stop, and
// each leg is interrupted on the way.
func TestThroughTheClouds(t *testing.T) {
	c := newClock()
	home := newSite(t, newBolt(t, c), c, master(t, 1))
	f := home.fill()
	clusters := clustersOf(t, home.db)
	want := dump(t, home.db, acme, clusters...)
	stops := []struct {
		name string
		open func(*testing.T, *clock) store.DB
		keys byte
	}{
		{"DynamoDB", newDynamoDB, 2},
		{"Firestore", newFirestore, 3},
		{"bolt", func(t *testing.T, c *clock) store.DB { return newBolt(t, c) }, 1},
	}
	from := home
	for _, stop := range stops {
		began := time.Now()
		to := newSite(t, stop.open(t, c), c, master(t, stop.keys))
		w := transfer.Wrappers{From: from.keys, To: to.keys}
		for n, fault := range []storetest.Fault{storetest.Refuse, storetest.LoseAnswer, storetest.LoseAnswer, storetest.Refuse} {
			calls := 0
			broken := to.copier(from.db, w)
			broken.To = &storetest.Faulty{DB: to.db, Plan: func(call storetest.Call) storetest.Fault {
				if call.Method == "Commit" {
					calls++
				}
				if call.Method == "Commit" && calls > n {
					return fault
				}
				return storetest.NoFault
			}}
			if _, err := broken.Tenant(t.Context(), acme); !errors.Is(err, core.Unavailable) {
				t.Fatalf("%s, fault %d: %v", stop.name, n, err)
			}
		}
		r, err := to.copier(from.db, w).Tenant(t.Context(), acme)
		if err != nil {
			t.Fatalf("%s: %v", stop.name, err)
		}
		same(t, stop.name, want, dump(t, to.db, acme, clusters...), true)
		t.Logf("%s: %+v %v", stop.name, r, time.Since(began))
		if again, err := to.copier(from.db, w).Tenant(t.Context(), acme); err != nil || !again.Already {
			t.Errorf("%s, once more: %+v, %v", stop.name, again, err)
		}
		from = to
	}
	from.works(home, f)

	// Nothing of it lies with any other tenant.
	if got := dump(t, from.db, "globex"); len(got) != 0 {
		t.Errorf("globex came along: %v", fmt.Sprint(got))
	}
}
