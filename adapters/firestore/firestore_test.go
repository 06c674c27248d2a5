package firestore_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	apiv1 "cloud.google.com/go/firestore/apiv1"
	pb "cloud.google.com/go/firestore/apiv1/firestorepb"

	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/localdev/parts"
)

// newClient connects to the emulator, or to what stands before it.
func newClient(t testing.TB, host string) *apiv1.Client {
	t.Helper()
	client, err := apiv1.NewClient(t.Context(), firestore.Emulator(host)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// newProject is one of the test's own, emptied at its end: the emulator's queries get slower with all that it holds.
func newProject(t testing.TB, host string) string {
	t.Helper()
	project := "test-" + strings.ToLower(core.NewID()[:12])
	t.Cleanup(func() {
		req, err := http.NewRequest(http.MethodDelete, "http://"+host+"/emulator/v1/projects/"+project+"/databases/(default)/documents", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("emptying the emulator: %v", err)
			return
		}
		res.Body.Close()
	})
	return project
}

func TestStore(t *testing.T) {
	host := parts.NeedFirestore(t)
	client := newClient(t, host)
	storetest.Run(t, func(t *testing.T, now func() time.Time) store.DB {
		return firestore.New(client, newProject(t, host), firestore.DefaultDatabase, firestore.Options{Now: now})
	})
}

func TestDial(t *testing.T) {
	host := parts.NeedFirestore(t)
	t.Setenv(firestore.EmulatorVariable, host)
	db, err := firestore.Dial(t.Context(), newProject(t, host), "", firestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := store.User("acme", "a")
	if err := db.Commit(t.Context(), store.Put(k, 0, []byte("x"))); err != nil {
		t.Error(err)
	}
	if items, err := db.Get(t.Context(), k); err != nil || string(items[0].Body) != "x" {
		t.Errorf("%+v, error %v", items, err)
	}
	for range 2 {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := db.Get(t.Context(), k); !errors.Is(err, core.Unavailable) {
		t.Errorf("after the end: error %v", err)
	}
	for _, bad := range [][2]string{{"", ""}, {"a/b", ""}, {"a", "b/c"}} {
		if _, err := firestore.Dial(t.Context(), bad[0], bad[1], firestore.Options{}); !errors.Is(err, core.Invalid) {
			t.Errorf("project %q, database %q: error %v", bad[0], bad[1], err)
		}
	}
}

// What no commit of ours wrote is an error, never an item and never an absence.
func TestForeignDocuments(t *testing.T) {
	host := parts.NeedFirestore(t)
	client, project := newClient(t, host), newProject(t, host)
	db := firestore.New(client, project, firestore.DefaultDatabase, firestore.Options{})
	database := "projects/" + project + "/databases/" + firestore.DefaultDatabase
	if _, err := client.Commit(t.Context(), &pb.CommitRequest{Database: database, Writes: []*pb.Write{{Operation: &pb.Write_Update{Update: &pb.Document{
		Name:   database + "/documents/user/=acme/items/=a",
		Fields: map[string]*pb.Value{firestore.SortField: {ValueType: &pb.Value_BytesValue{BytesValue: []byte("a")}}},
	}}}}}); err != nil {
		t.Fatal(err)
	}
	k := store.User("acme", "a")
	if items, err := db.Get(t.Context(), k); err == nil || errors.Is(err, core.Unavailable) {
		t.Errorf("%+v, error %v", items, err)
	}
	for it, err := range db.List(t.Context(), store.Users("acme")) {
		if err == nil {
			t.Errorf("listed %+v", it)
		}
	}
	if err := db.Commit(t.Context(), store.Put(k, 0, nil)); err == nil || errors.Is(err, core.Conflict) {
		t.Errorf("commit: %v", err)
	}
}
