package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	keyring "github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/functions/admin"
)

// registry is an audit log behind the admin API, over HTTP, and the command line in front of it. Whoever writes the store
// can do to the log what they like.
type registry struct {
	*testing.T
	db     store.DB
	client *api.Client
	rules  *access.Service
	n      int
}

const acme core.TenantID = "acme"

func newRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{T: t}
	file, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	r.must(err)
	t.Cleanup(func() { _ = file.Close() })
	r.db = store.Conditional(file)
	wrapper, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	r.must(err)
	now := func() time.Time { return time.Now().UTC() }
	ring := keyring.NewRing(r.db, wrapper, now)
	orgs := &org.Service{DB: r.db, Ring: ring, Now: now}
	people := &directory.Service{DB: r.db, Ring: ring, Now: now}
	r.rules = &access.Service{DB: r.db, Now: now}
	var handler http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { handler.ServeHTTP(w, q) }))
	t.Cleanup(server.Close)
	handler = web.Edge{Function: "admin", Log: slog.New(slog.DiscardHandler)}.Wrap(admin.Handler(admin.Deps{
		DB: r.db, Ring: ring, Org: orgs, Directory: people, Access: r.rules, Now: now, Base: server.URL,
	}))
	_, err = orgs.EnsureSystem(t.Context())
	r.must(err)
	_, err = orgs.CreateTenant(t.Context(), core.SystemActor(core.SystemTenant), string(acme), "Acme")
	r.must(err)
	machine, _, err := people.CreateApplication(t.Context(), core.SystemActor(acme), acme, directory.NewApplication{Name: "auditor"})
	r.must(err)
	_, err = r.rules.Seed(t.Context(), acme, access.NewRule{Subject: core.ApplicationSubject(machine.ID), Role: policy.SystemAdministrator, Scope: core.AccountScope(acme)})
	r.must(err)
	issuer := server.URL + "/t/acme"
	raw, err := token.Mint(t.Context(), ring, acme, keyring.ES256, token.Access{
		Issuer: issuer, Audience: issuer, Subject: string(machine.ID), Client: string(machine.ID), Kind: core.Application,
		IssuedAt: now(), Expires: now().Add(10 * time.Minute),
	})
	r.must(err)
	r.client = &api.Client{Server: issuer, HTTP: server.Client(), Token: func(context.Context) (string, error) { return raw, nil }}
	return r
}

func (r *registry) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// act leaves a record, through the API.
func (r *registry) act() {
	r.Helper()
	r.n++
	_, err := r.client.Do(r.Context(), "POST", "/api/v1/groups", nil, api.GroupRequest{Name: fmt.Sprintf("=group %d", r.n)}, nil)
	r.must(err)
}

func (r *registry) seal() audit.Head {
	r.Helper()
	head, _, err := audit.Seal(r.Context(), r.db, acme, time.Now())
	r.must(err)
	return head
}

// verify runs the command, and returns what it says and whether it exits with 0.
func (r *registry) verify(head audit.Head) (verdict, bool) {
	r.Helper()
	var out bytes.Buffer
	a := &app{out: &out, err: io.Discard, output: "json"}
	err := a.verifyAudit(r.Context(), r.client, head)
	var code exitCode
	if err != nil && (!errors.As(err, &code) || code != 1) {
		r.Fatal(err)
	}
	var v verdict
	r.must(json.Unmarshal(out.Bytes(), &v))
	if v.Intact != (err == nil) || v.Intact != (v.Fault == nil) {
		r.Errorf("%+v, and %v", v, err)
	}
	return v, err == nil
}

func (r *registry) items(rng store.Range) []store.Item {
	r.Helper()
	var all []store.Item
	for it, err := range r.db.List(r.Context(), rng) {
		r.must(err)
		all = append(all, it)
	}
	return all
}

func (r *registry) log() []store.Item   { return r.items(store.Audits(acme, time.Time{})) }
func (r *registry) chain() []store.Item { return r.items(store.AuditSeals(acme)) }

// sealedBy is the records that a link names.
func (r *registry) sealedBy(it store.Item) []store.Item {
	r.Helper()
	var link audit.Link
	r.must(json.Unmarshal(it.Body, &link))
	var keys []store.Key
	for _, e := range link.Entries {
		keys = append(keys, store.AuditSort(acme, e.Sort))
	}
	all, err := r.db.Get(r.Context(), keys...)
	r.must(err)
	return all
}

func (r *registry) commit(ops ...store.Op) {
	r.Helper()
	r.must(r.db.Commit(r.Context(), ops...))
}

// filled has a few records in three links, and one that is not sealed.
func filled(t *testing.T) *registry {
	t.Helper()
	r := newRegistry(t)
	for range 3 {
		r.act()
		r.act()
		r.seal()
	}
	r.act()
	return r
}

// Whatever is done to the log by who can write the store, `fleetpass audit verify` finds, end to end: the real store, the
// real handler, HTTP, the real command. The untouched log is the twin.
func TestAuditVerifyFinds(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(r *registry)
		want auditFault
		head bool       // shows only with a head that was written down
		with auditFault // what shows with one, where it is something else
	}{
		"nothing": {do: func(*registry) {}},
		"a record removed": {do: func(r *registry) {
			it := r.sealedBy(r.chain()[2])[1]
			r.commit(store.Delete(it.Key, it.Version))
		}, want: auditFault{Link: 3, Record: "some", What: audit.Removed}},
		"two records swapped": {do: func(r *registry) {
			a, b := r.sealedBy(r.chain()[2])[0], r.sealedBy(r.chain()[1])[0]
			r.commit(store.Put(a.Key, a.Version, b.Body), store.Put(b.Key, b.Version, a.Body))
		}, want: auditFault{Link: 2, Record: "some", What: audit.Changed}},
		"a record added past the seal": {do: func(r *registry) {
			it := r.log()[0]
			r.commit(store.Put(store.AuditSort(acme, it.Key.Sort()+"0"), 0, it.Body))
		}, want: auditFault{Record: "some", What: audit.Added}},
		"an unsealed record moved past the seal": {do: func(r *registry) {
			it := r.items(store.AuditsNew(acme))[0]
			r.commit(store.Delete(it.Key, it.Version), store.Put(it.Key.Sealed(), 0, it.Body))
		}, want: auditFault{Record: "some", What: audit.Added}},
		"a link removed": {do: func(r *registry) {
			it := r.chain()[1]
			r.commit(store.Delete(it.Key, it.Version))
		}, want: auditFault{Link: 2, What: audit.Removed}},
		"the newest link removed": {do: func(r *registry) {
			it := r.chain()[2]
			r.commit(store.Delete(it.Key, it.Version))
		}, want: auditFault{Record: "some", What: audit.Added}, with: auditFault{Link: 3, What: audit.CutOff}},
		"the newest link and its records removed": {do: func(r *registry) {
			it := r.chain()[2]
			r.commit(store.Delete(it.Key, it.Version))
			for _, rec := range r.sealedBy(it) {
				r.commit(store.Delete(rec.Key, rec.Version))
			}
		}, want: auditFault{Link: 3, What: audit.CutOff}, head: true},
		"the chain made anew without a record": {do: func(r *registry) {
			for _, it := range r.chain() {
				r.commit(store.Delete(it.Key, it.Version))
			}
			for i, it := range r.log() {
				r.commit(store.Delete(it.Key, it.Version))
				if i != 2 {
					r.commit(store.Put(unsealedKey(r, it), 0, it.Body))
				}
			}
			for range 3 {
				r.seal()
				r.act()
			}
		}, want: auditFault{Link: 3, What: audit.Replaced}, head: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := filled(t)
			before, ok := r.verify(audit.Head{})
			if !ok || before.Links != 3 || before.Unsealed != 1 || before.Since.IsZero() {
				t.Fatalf("untouched: %+v", before)
			}
			written, err := parseHead("--head", before.Head)
			if err != nil {
				t.Fatal(err)
			}
			tt.do(r)
			for _, head := range []audit.Head{{}, written} {
				got, ok := r.verify(head)
				if tt.want.What == "" || tt.head && head.N == 0 {
					if !ok {
						t.Errorf("head %d: %+v, want no fault", head.N, got.Fault)
					}
					continue
				}
				if ok {
					t.Fatalf("head %d: no fault", head.N)
				}
				f, want := *got.Fault, tt.want
				if head.N > 0 && tt.with.What != "" {
					want = tt.with
				}
				if f.Link != want.Link || (f.Record != "") != (want.Record != "") || f.What != want.What || f.Message == "" {
					t.Errorf("head %d: %+v, want %+v", head.N, f, want)
				}
			}
		})
	}
}

// unsealedKey is where a sealed record was before.
func unsealedKey(r *registry, it store.Item) store.Key {
	r.Helper()
	var rec audit.Record
	r.must(json.Unmarshal(it.Body, &rec))
	return store.AuditNew(acme, rec.At, rec.ID)
}

// Every byte of a sealed record, and of the newest link, one after the other.
func TestAuditVerifyFindsEveryByte(t *testing.T) {
	r := filled(t)
	newest := func() store.Item { return r.chain()[2] }
	record := func() store.Item { return r.sealedBy(newest())[0] }
	for what, last := range map[string]func() store.Item{"record": record, "link": newest} {
		good := last()
		version := good.Version
		for i := range good.Body {
			body := bytes.Clone(good.Body)
			body[i] ^= 1
			r.commit(store.Put(good.Key, version, body))
			items, err := r.db.Get(t.Context(), good.Key)
			r.must(err)
			version = items[0].Version
			got, ok := r.verify(audit.Head{})
			if ok {
				t.Errorf("byte %d of a %s was changed, and nothing found", i, what)
			} else if f := got.Fault; f.Link != 3 || f.What != audit.Changed || (f.Record == readable(good.Key.Sort())) != (what == "record") {
				t.Errorf("byte %d of a %s: %+v", i, what, f)
			}
		}
		r.commit(store.Put(good.Key, version, good.Body))
	}
	if v, ok := r.verify(audit.Head{}); !ok {
		t.Errorf("mended: %+v", v.Fault)
	}
}

// Acts at the same time as seals: every act's record is in the log, once, and in the end proven.
func TestAuditWhileSealing(t *testing.T) {
	r := newRegistry(t)
	ctx, stop := context.WithCancel(t.Context())
	var sealers, actors gosync.WaitGroup
	for range 2 {
		sealers.Go(func() {
			for ctx.Err() == nil {
				if _, _, err := audit.Seal(ctx, r.db, acme, time.Now()); err != nil && !errors.Is(err, core.Conflict) && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	const each = 12
	for w := range 3 {
		actors.Go(func() {
			for i := range each {
				if _, err := r.client.Do(ctx, "POST", "/api/v1/groups", nil, api.GroupRequest{Name: fmt.Sprintf("%d of %d", i, w)}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	actors.Wait()
	stop()
	sealers.Wait()
	r.seal()
	v, ok := r.verify(audit.Head{})
	if !ok || v.Unsealed != 0 {
		t.Errorf("%+v", v)
	}
	found := map[string]int{}
	for rec, err := range r.client.AuditLog(t.Context(), url.Values{"entityType": {"group"}, "limit": {"5"}}) {
		r.must(err)
		found[rec.EntityID]++
	}
	for w := range 3 {
		for i := range each {
			if n := found[fmt.Sprintf("%d of %d", i, w)]; n != 1 {
				t.Errorf("act %d of %d left %d records", i, w, n)
			}
		}
	}
}

// What is exported in several parts is one file: a heading, a batch, every record once.
func TestAuditExport(t *testing.T) {
	r := newRegistry(t)
	const many = 5_200 // one answer holds 5,000
	actor := core.SystemActor(acme)
	for done := 0; done < many; {
		var ops []store.Op
		for ; len(ops) < store.MaxOps && done < many; done++ {
			op, err := audit.Op(actor, time.Now(), audit.Record{Action: audit.Update, EntityType: audit.EntityUser, EntityID: fmt.Sprintf("=u%d", done)})
			r.must(err)
			ops = append(ops, op)
		}
		r.commit(ops...)
	}
	for format, count := range map[string]func([]byte) (ids []string, err error){
		"csv": func(data []byte) (ids []string, err error) {
			rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
			for _, row := range rows[min(1, len(rows)):] {
				ids = append(ids, strings.TrimPrefix(row[slices.Index(api.AuditColumns, "entity_id")], "'"))
			}
			return ids, err
		},
		"ndjson": func(data []byte) (ids []string, err error) {
			for line := range strings.Lines(string(data)) {
				var rec api.AuditRecord
				err = errors.Join(err, json.Unmarshal([]byte(line), &rec))
				ids = append(ids, rec.EntityID)
			}
			return ids, err
		},
		"cloudevents": func(data []byte) (ids []string, err error) {
			var all []event.Event
			err = json.Unmarshal(data, &all)
			for _, e := range all {
				err = errors.Join(err, e.Validate())
				ids = append(ids, strings.TrimPrefix(e.Subject(), "user/"))
			}
			return ids, err
		},
	} {
		var out bytes.Buffer
		r.must(export(t.Context(), r.client, url.Values{"format": {format}, "entityType": {"user"}}, &out))
		got, err := count(out.Bytes())
		slices.Sort(got)
		if err != nil || len(slices.Compact(got)) != many {
			t.Errorf("%s: %d records, want %d; %v", format, len(got), many, err)
		}
		if strings.Contains(out.String(), "\n=u") || strings.Contains(out.String(), ",=u") {
			t.Errorf("%s: a cell begins a formula", format)
		}
		out.Reset()
		r.must(export(t.Context(), r.client, url.Values{"format": {format}, "subject": {"nobody@acme.test"}}, &out))
		if got, err := count(out.Bytes()); err != nil || len(got) != 0 {
			t.Errorf("%s of nothing: %q, %v", format, out.String(), err)
		}
	}
}

func TestParseHead(t *testing.T) {
	good := audit.Head{N: 12, Hash: strings.Repeat("0f", 32)}
	if got, err := parseHead("--head", formatHead(good)); err != nil || got != good {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"12", ":", "0:" + good.Hash, "x:" + good.Hash, "12:" + good.Hash[1:], "12:" + strings.ToUpper(good.Hash), "12:" + good.Hash + "0", "-1:" + good.Hash} {
		if _, err := parseHead("--head", bad); !errors.Is(err, core.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
