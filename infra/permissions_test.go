// Package infra_test holds what the clouds are told of the functions to what the functions are and do.
package infra_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/store/storetest"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/sync/synctest"
	"github.com/fleetpass/fleetpass/functions"
)

var update = flag.Bool("update", false, "write permissions.json anew from what the functions were seen to do")

// rights is what one function may do: the kinds of item for each verb, the purposes of keys, and whether it sends to the
// queue. The Terraform of both clouds reads it from permissions.json.
type rights struct {
	Get    []string `json:"get"`
	Query  []string `json:"query"`
	Put    []string `json:"put"`
	Delete []string `json:"delete"`
	Check  []string `json:"check"`
	Wrap   []string `json:"wrap"`
	Unwrap []string `json:"unwrap"`
	Send   bool     `json:"send"`
}

// each names every permission, as "verb kind".
func (p rights) each() []string {
	var out []string
	for verb, kinds := range map[string][]string{"get": p.Get, "query": p.Query, "put": p.Put, "delete": p.Delete, "check": p.Check, "wrap": p.Wrap, "unwrap": p.Unwrap} {
		for _, k := range kinds {
			out = append(out, verb+" "+k)
		}
	}
	if p.Send {
		out = append(out, "send")
	}
	sort.Strings(out)
	return out
}

// touched is what the look at the code tells apart: "item KIND" for what is done by keys, "query KIND" for what is listed.
func (p rights) touched() []string {
	var all []string
	for _, k := range slices.Concat(p.Get, p.Put, p.Delete, p.Check) {
		all = append(all, "item "+k)
	}
	for _, k := range p.Query {
		all = append(all, "query "+k)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// keyRecorder is a keys.Wrapper that notes for which purposes it is asked.
type keyRecorder struct {
	keys.Wrapper
	mu            gosync.Mutex
	wraps, opened map[string]bool
}

func (k *keyRecorder) Wrap(ctx context.Context, purpose string, t core.TenantID, plain []byte) ([]byte, error) {
	k.note(&k.wraps, purpose)
	return k.Wrapper.Wrap(ctx, purpose, t, plain)
}

func (k *keyRecorder) Unwrap(ctx context.Context, purpose string, t core.TenantID, wrapped []byte) ([]byte, error) {
	k.note(&k.opened, purpose)
	return k.Wrapper.Unwrap(ctx, purpose, t, wrapped)
}

func (k *keyRecorder) note(into *map[string]bool, purpose string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if *into == nil {
		*into = map[string]bool{}
	}
	(*into)[purpose] = true
}

// sends is a sync.Queue that notes that it is used, before the one that the cloud carries messages from.
type sends struct {
	c    *cloud
	mu   gosync.Mutex
	used bool
}

func (q *sends) Send(_ context.Context, m ...sync.Message) error {
	q.mu.Lock()
	q.used = true
	q.mu.Unlock()
	q.c.mu.Lock()
	defer q.c.mu.Unlock()
	q.c.messages = append(q.c.messages, m...)
	return nil
}

// outbox is the store, which hands on the events that are committed to it.
type outbox struct {
	store.DB
	c *cloud
}

func (o outbox) Commit(ctx context.Context, ops ...store.Op) error {
	err := o.DB.Commit(ctx, ops...)
	if err == nil {
		o.c.mu.Lock()
		defer o.c.mu.Unlock()
		for _, op := range ops {
			if op.Verb == store.VerbPut && op.Key.IsOutbox() {
				o.c.events = append(o.c.events, op.Body)
			}
		}
	}
	return err
}

// deployed is one function in a process of its own: it shares the store with the others, and nothing else.
type deployed struct {
	functions.Function
	*functions.System
	handler http.Handler
	db      *storetest.Recorder
	keys    *keyRecorder
	queue   *sends
}

func (d *deployed) seen() rights {
	purposes := func(m map[string]bool) []string {
		out := []string{}
		for p := range m {
			out = append(out, p)
		}
		slices.Sort(out)
		return out
	}
	return rights{
		Get: d.db.Kinds(storetest.Get), Query: d.db.Kinds(storetest.Query), Put: d.db.Kinds(storetest.Put), Delete: d.db.Kinds(storetest.Delete),
		Check: d.db.Kinds(storetest.Check), Wrap: purposes(d.keys.wraps), Unwrap: purposes(d.keys.opened), Send: d.queue.used,
	}
}

// cloud is every function of the table over one store, each recorded by itself, with what a platform does between them:
// routing, the change stream, the queue, the schedule.
type cloud struct {
	*testing.T
	functions map[string]*deployed
	routes    *http.ServeMux
	db        *bolt.DB
	wrapper   keys.Wrapper
	hash      string // FLEETPASS_WELCOME_SHA256
	clusters  map[core.ClusterID]*synctest.Memory
	dead      map[core.ClusterID]bool  // clusters that do not answer
	answered  map[string]map[bool]bool // by pattern: good answers, refusals
	idp       provider                 // by whatever protocol it is spoken to

	bearer   string // of acme's administrator, and when it was had
	bearerAt time.Time
	headers  map[string]string // of every request, while set

	mu       gosync.Mutex
	now      time.Time
	events   [][]byte
	messages []sync.Message
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{
		T: t, functions: map[string]*deployed{}, routes: http.NewServeMux(), clusters: map[core.ClusterID]*synctest.Memory{}, dead: map[core.ClusterID]bool{},
		answered: map[string]map[bool]bool{}, now: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC),
	}
	c.idp = newProvider(c)
	var err error
	c.db, err = bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true, Now: c.clock})
	c.must(err)
	t.Cleanup(func() { _ = c.db.Close() })
	c.wrapper, err = localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	c.must(err)
	for _, f := range functions.Table {
		c.functions[f.Name] = &deployed{Function: f, db: &storetest.Recorder{DB: outbox{c.db, c}}, keys: &keyRecorder{Wrapper: c.wrapper}, queue: &sends{c: c}}
		for _, p := range f.Paths {
			c.routes.Handle(p, http.NotFoundHandler())
		}
	}
	c.cold()
	return c
}

func (c *cloud) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cloud) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *cloud) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// cold starts every function anew: what it had read and unwrapped is forgotten.
func (c *cloud) cold() {
	for _, d := range c.functions {
		var err error
		d.System, err = functions.New(functions.Config{
			DB: d.db, Wrapper: d.keys, Queue: d.queue, Dial: c.dial, Base: "https://fleet.test", Now: c.clock, Log: slog.New(slog.DiscardHandler), WelcomeHash: c.hash,
			Providers: c.providers(),
		})
		c.must(err)
		d.Directory.Cost = directory.Cost{Memory: 64, Time: 1, Threads: 1}
		if d.Trigger == functions.HTTP {
			d.handler = d.Serve(d.Function)
		}
	}
}

// apiServer is a cluster in memory that wants a token, as an API server does.
type apiServer struct {
	*synctest.Memory
	to sync.Target
}

func (a apiServer) Current(ctx context.Context, named ...kube.Ref) (kube.State, error) {
	if _, err := a.to.Token(ctx); err != nil {
		return kube.State{}, err
	}
	return a.Memory.Current(ctx, named...)
}

func (c *cloud) dial(to sync.Target) (sync.Cluster, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead[to.Cluster] {
		return nil, fmt.Errorf("no answer: %w", core.Unavailable)
	}
	if c.clusters[to.Cluster] == nil {
		c.clusters[to.Cluster] = synctest.New()
	}
	return apiServer{c.clusters[to.Cluster], to}, nil
}

// settle carries events and messages until there are none that are due.
func (c *cloud) settle() {
	c.Helper()
	for range 1000 {
		c.mu.Lock()
		events, messages := c.events, c.messages
		c.events, c.messages = nil, nil
		due := false
		for i := 0; i < len(messages); i++ {
			if messages[i].NotBefore.After(c.now) {
				c.messages = append(c.messages, messages[i])
				messages = slices.Delete(messages, i, i+1)
				i--
			}
		}
		c.mu.Unlock()
		dispatch, synchronize := c.functions["dispatch"], c.functions["sync"]
		for _, e := range events {
			due = true
			c.must(dispatch.Event(dispatch.System)(c.Context(), e))
		}
		for _, m := range messages {
			due = true
			body, err := json.Marshal(m)
			c.must(err)
			c.must(synchronize.Event(synchronize.System)(c.Context(), body))
		}
		if !due {
			return
		}
	}
	c.Fatal("events and messages come to no end")
}

// minutes lets time pass as the schedule does, minute by minute.
func (c *cloud) minutes(n int) {
	c.Helper()
	for range n {
		c.pass(time.Minute)
		m := c.functions["maintain"]
		c.must(m.Tick(m.System)(c.Context(), c.clock()))
		c.settle()
	}
}

// signers are the functions that may unwrap a signing key: those that mint tokens. Whoever takes over any other function can
// use no key that is there. That is not to say that they can sign nothing: admin and maintain make keys, so they may wrap one
// that they know ("wrap signing") and put it among a tenant's ("put key"), where it signs like the others (docs/security.md).
var signers = []string{"token", "sync"}

// openers are the functions that may open the secrets that a tenant trusts us with towards its identity providers: those that
// prove to a provider who we are, and admin, where providers are connected. It alone may make the key that they are sealed with
// ("wrap sso"). maintain reads what providers publish, and opens nothing for it.
var openers = []string{"login", "samlacs", "oidccallback", "token", "admin"}

// Every function does exactly what permissions.json allows it, which is what its role in the cloud allows it: nothing that
// it does is missing, and nothing is allowed that it does not do.
func TestPermissions(t *testing.T) {
	c := newCloud(t)
	c.tell()
	if t.Failed() {
		return
	}
	got := map[string]rights{}
	for name, d := range c.functions {
		got[name] = d.seen()
		if slices.Contains(got[name].Unwrap, keys.PurposeSigning) && !slices.Contains(signers, name) {
			t.Errorf("%s unwraps signing keys, which only %v may", name, signers)
		}
		if slices.Contains(got[name].Unwrap, keys.PurposeSSO) != slices.Contains(openers, name) {
			t.Errorf("%s opens sealed secrets, or does not: %v do, and no other", name, openers)
		}
		if slices.Contains(got[name].Wrap, keys.PurposeSSO) != (name == "admin") {
			t.Errorf("%s makes sealing keys, or does not: only admin does", name)
		}
		for _, p := range d.Paths {
			for good, what := range map[bool]string{true: "no good answer", false: "no refusal"} {
				open := strings.HasPrefix(p, "GET /health") || strings.HasSuffix(p, "/openapi.json")
				if !c.answered[p][good] && !(open && !good) {
					t.Errorf("the stories have %s of %s: %s", what, name, p)
				}
			}
		}
	}
	code := constructible(t)
	for name, can := range code {
		does := got[name].touched()
		for _, what := range can {
			reason := unreached[name+": "+what]
			switch done := slices.Contains(does, what); {
			case done && reason != "":
				t.Errorf("%s does %s, which is listed as what it does not: %s", name, what, reason)
			case !done && reason == "":
				t.Errorf("%s can come to %s, and no story has it do so: tell it, or say why not", name, what)
			}
		}
		for _, what := range does {
			if !slices.Contains(can, what) && !listedThenKeyed(what, can) {
				t.Errorf("%s does %s, and the code that it reaches seems to name no such key: the look at the code is blind there", name, what)
			}
		}
	}
	for what := range unreached {
		if name, kind, _ := strings.Cut(what, ": "); !slices.Contains(code[name], kind) {
			t.Errorf("%s is listed as what is not done, and cannot be", what)
		}
	}
	if *update && !t.Failed() {
		c.must(os.WriteFile("permissions.json", encode(got), 0o644))
	}
	file, err := os.ReadFile("permissions.json")
	c.must(err)
	var want map[string]rights
	c.must(json.Unmarshal(file, &want, json.RejectUnknownMembers(true)))
	for _, problem := range compare(got, want) {
		t.Error(problem)
	}
	if len(compare(got, want)) == 0 && !bytes.Equal(file, encode(want)) {
		t.Error("permissions.json is not as -update writes it")
	}
}

// listedThenKeyed says whether an item may have been found by listing its kind: its key came with it.
func listedThenKeyed(what string, can []string) bool {
	kind, item := strings.CutPrefix(what, "item ")
	return item && slices.Contains(can, "query "+kind)
}

// compare says what is missing and what is superfluous in want.
func compare(got, want map[string]rights) (problems []string) {
	for name := range got {
		if _, ok := want[name]; !ok {
			problems = append(problems, name+" is missing in permissions.json")
		}
	}
	for name, allowed := range want {
		does, ok := got[name]
		if !ok {
			problems = append(problems, "permissions.json names "+name+", which is no function")
		}
		for _, p := range does.each() {
			if !slices.Contains(allowed.each(), p) {
				problems = append(problems, name+" needs, and permissions.json does not allow: "+p)
			}
		}
		for _, p := range allowed.each() {
			if !slices.Contains(does.each(), p) {
				problems = append(problems, name+" is allowed in permissions.json, and does not need: "+p)
			}
		}
	}
	slices.Sort(problems)
	return problems
}

// encode writes one line for each verb of each function, so that a change of what one may do is a line in the diff.
func encode(all map[string]rights) []byte {
	var b strings.Builder
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	sort.Strings(names)
	b.WriteString("{\n")
	for i, name := range names {
		p := all[name]
		fmt.Fprintf(&b, "  %q: {\n", name)
		for _, verb := range []struct {
			name string
			what []string
		}{{"get", p.Get}, {"query", p.Query}, {"put", p.Put}, {"delete", p.Delete}, {"check", p.Check}, {"wrap", p.Wrap}, {"unwrap", p.Unwrap}} {
			quoted := make([]string, len(verb.what))
			for i, w := range verb.what {
				quoted[i] = fmt.Sprintf("%q", w)
			}
			fmt.Fprintf(&b, "    %q: [%s],\n", verb.name, strings.Join(quoted, ", "))
		}
		fmt.Fprintf(&b, "    \"send\": %v\n  }", p.Send)
		if i < len(names)-1 {
			b.WriteString(",")
		}
		b.WriteString("\n")
	}
	b.WriteString("}\n")
	return []byte(b.String())
}

// The comparison itself: what is planted is found, by function and permission.
func TestPermissionsCompare(t *testing.T) {
	does := func() map[string]rights {
		return map[string]rights{"token": {Get: []string{"meta", "family"}, Put: []string{"family"}, Unwrap: []string{"mac", "signing"}}, "dispatch": {Send: true}}
	}
	if problems := compare(does(), does()); len(problems) > 0 {
		t.Errorf("the twin: %q", problems)
	}
	for want, spoil := range map[string]func(map[string]rights){
		"token needs, and permissions.json does not allow: get family":               func(m map[string]rights) { p := m["token"]; p.Get = []string{"meta"}; m["token"] = p },
		"token is allowed in permissions.json, and does not need: delete family":     func(m map[string]rights) { p := m["token"]; p.Delete = []string{"family"}; m["token"] = p },
		"token needs, and permissions.json does not allow: unwrap mac":               func(m map[string]rights) { p := m["token"]; p.Unwrap = []string{"signing"}; m["token"] = p },
		"dispatch needs, and permissions.json does not allow: send":                  func(m map[string]rights) { m["dispatch"] = rights{} },
		"dispatch is allowed in permissions.json, and does not need: unwrap signing": func(m map[string]rights) { m["dispatch"] = rights{Send: true, Unwrap: []string{"signing"}} },
		"dispatch is missing in permissions.json":                                    func(m map[string]rights) { delete(m, "dispatch") },
		"permissions.json names gone, which is no function":                          func(m map[string]rights) { m["gone"] = rights{} },
	} {
		allowed := does()
		spoil(allowed)
		if problems := compare(does(), allowed); len(problems) != 1 || problems[0] != want {
			t.Errorf("%q, want %q", problems, want)
		}
	}
}
