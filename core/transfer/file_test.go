package transfer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/transfer"
)

func (s *site) export(w transfer.Wrappers, tenants ...core.TenantID) ([]byte, []transfer.Result) {
	s.t.Helper()
	var b bytes.Buffer
	e := transfer.Exporter{From: s.db, FromName: "the source", Wrappers: w, Now: s.clock.Now}
	r, err := e.Export(context.Background(), &b, tenants...)
	if err != nil {
		s.t.Fatal(err)
	}
	return b.Bytes(), r
}

func open(t testing.TB, c *clock, data []byte) (*transfer.File, error) {
	return transfer.Open(t.Context(), bytes.NewReader(data), int64(len(data)), c.Now)
}

// A tenant that went through a file is the same to the byte, and works.
func TestFile(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	f := from.fill()
	clusters := clustersOf(t, from.db)
	want := dump(t, from.db, acme, clusters...)
	for name, w := range map[string]struct{ out, in transfer.Wrappers }{
		"keys as they are": {},
		"keys wrapped for the file": {
			transfer.Wrappers{From: from.keys, To: master(t, 5)},
			transfer.Wrappers{From: master(t, 5), To: master(t, 1)},
		},
	} {
		data, results := from.export(w.out, acme)
		if len(results) != 1 || results[0].Items+results[0].Due != len(want) {
			t.Errorf("%s: %d items: %+v", name, len(want), results)
		}
		file, err := open(t, c, data)
		if err != nil {
			t.Fatal(err)
		}
		if file.Items != len(want) || file.Rewrapped != (w.out.To != nil) || file.Source != "the source" || fmt.Sprint(file.Tenants()) != "[acme]" {
			t.Errorf("%s: %+v", name, file)
		}
		to := newSite(t, newBolt(t, c), c, master(t, 1))
		if _, err := to.copier(file, w.in).Tenant(t.Context(), acme); err != nil {
			t.Fatal(err)
		}
		same(t, name, want, dump(t, to.db, acme, clusters...), w.out.To != nil)
		to.works(from, f)
		if _, err := to.copier(file, w.in).Tenant(t.Context(), "globex"); !errors.Is(err, core.NotFound) {
			t.Errorf("a tenant that is not in the file: %v", err)
		}
	}
	// All of them in one file, and what expires meanwhile is not brought back.
	all, err := transfer.Tenants(t.Context(), from.db)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := from.export(transfer.Wrappers{}, all...)
	c.advance(90 * time.Minute)
	file, err := open(t, c, data)
	if err != nil {
		t.Fatal(err)
	}
	to := newSite(t, newBolt(t, c), c, from.keys)
	if _, err := to.copier(file, transfer.Wrappers{}).All(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range all {
		same(t, string(id), dump(t, from.db, id, clusters...), dump(t, to.db, id, clusters...), false)
	}
}

// A source that changes while it is exported makes no file.
func TestExportOfAMovingSource(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	e := transfer.Exporter{From: &busy{from.db, "used#", 1, func() {
		from.put(store.Session(acme, "new"), []byte("{}"), c.Now().Add(time.Hour))
	}}, FromName: "the source", Now: c.Now}
	var b bytes.Buffer
	if _, err := e.Export(t.Context(), &b, acme); !errors.Is(err, core.Conflict) {
		t.Errorf("error %v", err)
	}
	if _, err := open(t, c, b.Bytes()); !errors.Is(err, core.Invalid) {
		t.Errorf("what was written of it is taken for a file: %v", err)
	}
}

// forge writes lines with a header and a trailer that fit them.
func forge(header string, lines ...string) []byte {
	if header == "" {
		header = `{"fleetpass":"export","format":1,"source":"x","at":"2026-05-01T12:00:00Z","tenants":["acme"]}`
	}
	body := strings.Join(append([]string{header}, lines...), "\n") + "\n"
	sum := sha256.Sum256([]byte(body))
	return fmt.Appendf(nil, "%s{\"items\":%d,\"sha256\":%q}\n", body, len(lines), hex.EncodeToString(sum[:]))
}

const (
	entryLine = `{"partition":"tenant#system","sort":"acme","body":"{\"id\":\"acme\",\"name\":\"A\",\"state\":\"active\",\"createdAt\":\"2026-05-01T12:00:00Z\"}"}`
	metaLine  = `{"partition":"meta#acme","sort":"tenant","body":"{\"id\":\"acme\",\"state\":\"active\",\"revision\":1}"}`
	userLine  = `{"partition":"user#acme","sort":"ada","body":"{}"}`
)

// Whatever is wrong with a file is said with its line, nothing of it is quoted, and nothing of it is used.
func TestHostileFiles(t *testing.T) {
	c := newClock()
	if _, err := open(t, c, forge("", entryLine, metaLine, userLine)); err != nil {
		t.Fatalf("the good file: %v", err)
	}
	secret := "hunter2"
	for name, data := range map[string][]byte{
		"empty":                        nil,
		"one empty line":               []byte("\n"),
		"no trailer":                   []byte(strings.Join([]string{strings.SplitN(string(forge("")), "\n", 2)[0], entryLine, metaLine, ""}, "\n")),
		"another format":               forge(`{"fleetpass":"export","format":2,"source":"x","at":"2026-05-01T12:00:00Z","tenants":["acme"]}`, entryLine, metaLine),
		"another kind of file":         forge(`{"fleetpass":"seed","format":1,"source":"x","at":"2026-05-01T12:00:00Z","tenants":["acme"]}`, entryLine, metaLine),
		"no tenants":                   forge(`{"fleetpass":"export","format":1,"source":"x","at":"2026-05-01T12:00:00Z","tenants":[]}`),
		"a tenant that can be none":    forge(`{"fleetpass":"export","format":1,"source":"x","at":"2026-05-01T12:00:00Z","tenants":["acme","` + secret + `/"]}`),
		"an unknown member":            forge("", entryLine, metaLine, `{"partition":"user#acme","sort":"ada","body":"{}","hunter":"`+secret+`"}`),
		"a member twice":               forge("", entryLine, metaLine, `{"partition":"user#acme","sort":"ada","sort":"bob","body":"{}"}`),
		"no JSON":                      forge("", entryLine, metaLine, secret),
		"two values in a line":         forge("", entryLine, metaLine, userLine+userLine),
		"a key of no constructor":      forge("", entryLine, metaLine, `{"partition":"`+secret+`#acme","sort":"ada","body":"{}"}`),
		"a key that reaches elsewhere": forge("", entryLine, metaLine, `{"partition":"user#globex","sort":"`+secret+`","body":"{}"}`),
		"another tenant's entry":       forge("", entryLine, strings.ReplaceAll(entryLine, "acme", "globex"), metaLine),
		"another tenant's job":         forge("", entryLine, metaLine, line(store.Due("globex", time.Unix(1e9, 0), secret))),
		"an event":                     forge("", entryLine, metaLine, line(store.Outbox("acme", time.Unix(1e9, 0), secret))),
		"a message":                    forge("", entryLine, metaLine, line(store.Queued(secret))),
		"an unknown cluster's rules":   forge("", entryLine, metaLine, line(store.ClusterRule("acme", core.ClusterScope(core.NewClusterID()), 1))),
		"no body":                      forge("", entryLine, metaLine, `{"partition":"user#acme","sort":"ada"}`),
		"two bodies":                   forge("", entryLine, metaLine, `{"partition":"user#acme","sort":"ada","body":"{}","bytes":"e30="}`),
		"a body too large":             forge("", entryLine, metaLine, `{"partition":"user#acme","sort":"ada","body":"`+strings.Repeat("k", store.MaxBody+1)+`"}`),
		"a line too long":              forge("", entryLine, metaLine, `{"partition":"user#acme","sort":"ada","body":"`+strings.Repeat("k", 1<<20)+`"}`),
		"an expiry before time":        forge("", entryLine, metaLine, `{"partition":"user#acme","sort":"ada","body":"{}","expires":-1}`),
		"an expiry behind time":        forge("", entryLine, metaLine, `{"partition":"user#acme","sort":"ada","body":"{}","expires":253402300800}`),
		"out of order":                 forge("", entryLine, metaLine, userLine, `{"partition":"user#acme","sort":"a","body":"{}"}`),
		"twice the same":               forge("", entryLine, metaLine, userLine, userLine),
		"a partition in two pieces":    forge("", entryLine, metaLine, userLine, `{"partition":"group#acme","sort":"a","body":"{}"}`, `{"partition":"user#acme","sort":"bob","body":"{}"}`),
		"no registry entry":            forge("", metaLine, userLine),
		"no meta":                      forge("", entryLine, userLine),
		"half a copy":                  forge("", strings.Replace(entryLine, "active", "arriving", 1), metaLine),
		"an entry of another":          forge("", strings.Replace(entryLine, `\"acme`, `\"globex`, 1), metaLine),
		"a meta of another":            forge("", entryLine, strings.Replace(metaLine, `\"acme`, `\"globex`, 1)),
		"a meta that does not decode":  forge("", entryLine, strings.Replace(metaLine, `\"active\"`, secret, 1)),
		"an erased tenant with users":  forge("", strings.Replace(entryLine, "active", "erased", 1), userLine),
		"something behind the end":     append(forge("", entryLine, metaLine), "{}\n"...),
		"a trailer that is an item":    append(bytes.TrimSuffix(forge("", entryLine, metaLine), []byte("}\n")), `,"sort":"x"}`+"\n"...),
	} {
		_, err := open(t, c, data)
		if !errors.Is(err, core.Invalid) {
			t.Errorf("%s: error %v", name, err)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
	}
}

func line(k store.Key) string {
	return fmt.Sprintf(`{"partition":%q,"sort":%s,"body":"{}"}`, k.Leading(), strings.ReplaceAll(fmt.Sprintf("%q", k.Sort()), `\x1f`, `\u001f`))
}

// A byte that is changed, and an end that is cut off, wherever it is, is noticed before anything is written.
func TestDamage(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	data, _ := from.export(transfer.Wrappers{}, "globex")
	if _, err := open(t, c, data); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(data); i += 3 { // each byte in turn takes too long with the race detector
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		if _, err := open(t, c, bad); err == nil && !bytes.EqualFold(bad, data) { // the sum may be in capitals
			t.Fatalf("byte %d of %d changed unnoticed", i, len(data))
		}
		if _, err := open(t, c, data[:i]); !errors.Is(err, core.Invalid) {
			t.Fatalf("cut off at byte %d of %d: %v", i, len(data), err)
		}
	}
}

// A file that changes between the check and the copy does not make a tenant.
func TestFileChangesAfterTheCheck(t *testing.T) {
	c := newClock()
	from := newSite(t, newBolt(t, c), c, master(t, 1))
	from.fill()
	data, _ := from.export(transfer.Wrappers{}, acme)
	at := bytes.Index(data, []byte(`\"email\":\"person-3`))
	if at < 0 {
		t.Fatal("no person")
	}
	file, err := open(t, c, data)
	if err != nil {
		t.Fatal(err)
	}
	data[at+len(`\"email\":\"pers`)] = 'X'
	to := newSite(t, newBolt(t, c), c, from.keys)
	if _, err := to.copier(file, transfer.Wrappers{}).Tenant(t.Context(), acme); !errors.Is(err, core.Conflict) {
		t.Errorf("error %v", err)
	}
	if items, err := to.db.Get(t.Context(), store.Meta(acme)); err != nil || items[0].Version != 0 {
		t.Errorf("there is a tenant: %v", err)
	}
}

// Whatever is taken for an export can be copied into a store and comes out of it again.
func FuzzOpen(f *testing.F) {
	c := newClock()
	f.Add(forge("", entryLine, metaLine, userLine))
	f.Add(forge("", entryLine, metaLine, line(store.Due("acme", time.Unix(1e9, 0), "x")), line(store.Audit("acme", time.Unix(1e9, 0), "x"))))
	f.Add(forge("", strings.Replace(entryLine, "active", "erased", 1)))
	f.Add(forge("", entryLine, metaLine, `{"partition":"user#acme","sort":"ada","bytes":"/w==","expires":99999999999}`))
	f.Add([]byte("{}\n{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		// The fuzzer cannot guess a SHA-256, so the trailer is made to fit what it made of the rest.
		if lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"); len(lines) > 1 {
			data = forge(lines[0], lines[1:len(lines)-1]...)
		}
		file, err := open(t, c, data)
		if err != nil {
			return
		}
		db := newBolt(t, c)
		to := &transfer.Copier{From: file, FromName: "fuzz", To: db, Now: c.Now}
		if _, err := to.All(t.Context()); err != nil {
			t.Fatalf("%q is taken for an export, and does not copy: %v", data, err)
		}
		var again bytes.Buffer
		e := transfer.Exporter{From: db, FromName: "fuzz", Now: c.Now}
		if _, err := e.Export(t.Context(), &again, file.Tenants()...); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, c, again.Bytes()); err != nil {
			t.Fatalf("%q does not come out as it went in: %v", data, err)
		}
	})
}
