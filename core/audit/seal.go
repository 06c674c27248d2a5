package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Link is one link of a tenant's hash chain: it names records, and the hash of each, and the hash of the link before it.
type Link struct {
	N       uint64        `json:"n"` // from 1, without gaps
	Tenant  core.TenantID `json:"tenant"`
	Prev    string        `json:"prev"` // Hash of link n-1; genesis for the first
	At      time.Time     `json:"at"`
	Entries []Entry       `json:"entries"`
	Hash    string        `json:"hash"` // SHA-256, hex, of the link's canonical JSON with this member empty
}

// Entry names one sealed record.
type Entry struct {
	Sort string `json:"sort"` // the record's place in the log
	Hash string `json:"hash"` // SHA-256, hex, of the stored bytes
}

var links store.Table[Link]

// genesis is what the first link stands on, so that a chain cannot be another tenant's.
func genesis(t core.TenantID) string { return hash([]byte("fleetpass audit chain of " + string(t))) }

func hash(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// canonical is the one spelling of a link in bytes: deterministic JSON in the order of the struct.
func (l Link) canonical() ([]byte, error) { return json.Marshal(l, json.Deterministic(true)) }

// sum is the hash that the link should carry.
func (l Link) sum() (string, error) {
	l.Hash = ""
	b, err := l.canonical()
	return hash(b), err
}

// perLink is how many records one link seals: each takes two operations, to leave the inbox and to enter the log, and the
// link and its check of the head two more.
const perLink = (store.MaxOps - 2) / 2

// Head is where a tenant's chain ends. Who writes it down elsewhere can tell later that the chain was not cut short.
type Head struct {
	N    uint64 // 0: nothing is sealed
	Hash string
}

// Seal appends what is in the tenant's inbox to its hash chain, and returns the chain's head and how many records it
// sealed. Each link is one commit that
// creates link n+1, checks that link n is unchanged, and moves the records it names into the log. So two sealers at once
// cannot fork the chain: one of the two commits is refused, and that sealer goes on from the other's head. A crash
// leaves whole links. How late a record came and what time it bears does not matter: see the package's comment.
func Seal(ctx context.Context, db store.DB, t core.TenantID, now time.Time) (Head, int, error) {
	sealed := 0
	for {
		var head Head
		var n int
		err := store.Retry(ctx, func() (err error) {
			head, n, err = sealOnce(ctx, db, t, now)
			return err
		})
		if err == nil {
			sealed += n
		}
		if err != nil || n < perLink {
			return head, sealed, err
		}
	}
}

func sealOnce(ctx context.Context, db store.DB, t core.TenantID, now time.Time) (Head, int, error) {
	last, err := lastLink(ctx, db, t)
	if err != nil {
		return Head{}, 0, err
	}
	head := Head{last.Value.N, last.Value.Hash}
	fresh := store.AuditsNew(t)
	fresh.Limit = perLink
	var list []store.Op
	link := Link{N: head.N + 1, Tenant: t, Prev: head.Hash, At: now.UTC().Truncate(time.Millisecond)}
	if head.N == 0 {
		link.Prev = genesis(t)
	}
	for it, err := range db.List(ctx, fresh) {
		if err != nil {
			return head, 0, err
		}
		link.Entries = append(link.Entries, Entry{it.Key.Sort(), hash(it.Body)})
		list = append(list, store.Delete(it.Key, it.Version), store.Put(it.Key.Sealed(), 0, it.Body))
	}
	if len(link.Entries) == 0 {
		return head, 0, nil
	}
	if link.Hash, err = link.sum(); err != nil {
		return head, 0, err
	}
	op, err := links.Put(store.AuditSeal(t, link.N), 0, link)
	if err != nil {
		return head, 0, err
	}
	list = append(list, op)
	if last.Exists() {
		list = append(list, store.Check(last.Key, last.Version))
	}
	if err := db.Commit(ctx, list...); err != nil {
		return head, 0, err
	}
	return Head{link.N, link.Hash}, len(link.Entries), nil
}

func lastLink(ctx context.Context, db store.DB, t core.TenantID) (store.Record[Link], error) {
	r := store.AuditSeals(t)
	r.Descending, r.Limit = true, 1
	for rec, err := range links.List(ctx, db, r) {
		return rec, err
	}
	return store.Record[Link]{}, nil
}

// Report says what Verify found.
type Report struct {
	Head     Head
	Sealed   int    // records that the chain names and that are unchanged
	Unsealed int    // records in the inbox: the next Seal takes them, and nothing proves them yet
	Fault    *Fault // the first fault of the chain; nil: none
}

// Fault is the first place at which the log is not what was sealed.
type Fault struct {
	Link   uint64 // the link at fault, or that names the record at fault; 0: no link does
	Record string // the record's sort key; empty: the link itself is at fault
	What   string // "changed", "removed" or "added"
}

// Error says the fault as a sentence.
func (f *Fault) Error() string {
	switch {
	case f.Record == "":
		return fmt.Sprintf("audit: link %d of the chain was %s", f.Link, f.What)
	case f.Link == 0:
		return fmt.Sprintf("audit: record %q was %s: no link of the chain names it", f.Record, f.What)
	}
	return fmt.Sprintf("audit: record %q of link %d was %s", f.Record, f.Link, f.What)
}

// errFault stops a walk at a fault, which the report holds.
var errFault = errors.New("audit: fault found")

// Verify walks a tenant's chain and compares every record with what was sealed. It reports the first fault: a link or a
// record that was changed by as little as a byte, removed, or added past the seal. Links and records cut off the end
// together do not show here: compare the head with one that was written down elsewhere (maintain logs it each minute).
// An error means that the answer is not known.
func Verify(ctx context.Context, db store.DB, t core.TenantID) (Report, error) {
	v := verifier{ctx: ctx, db: db, tenant: t, prev: genesis(t)}
	err := v.run()
	if errors.Is(err, errFault) {
		err = nil
	}
	return v.Report, err
}

type verifier struct {
	ctx    context.Context
	db     store.DB
	tenant core.TenantID
	prev   string
	Report
}

func (v *verifier) fault(link uint64, record, what string) error {
	v.Fault = &Fault{link, record, what}
	return errFault
}

func (v *verifier) run() error {
	if err := v.chain(nil); err != nil {
		return err
	}
	if err := v.extra(); err != nil {
		return err
	}
	for _, err := range v.db.List(v.ctx, store.AuditsNew(v.tenant)) {
		if err != nil {
			return err
		}
		v.Unsealed++
	}
	return nil
}

// chain walks the links from where the report's head stands. With visit it only names the records.
func (v *verifier) chain(visit func(sort string)) error {
	r := store.AuditSeals(v.tenant)
	if v.Head.N > 0 {
		r = r.After(store.AuditSeal(v.tenant, v.Head.N).Sort())
	}
	for it, err := range v.db.List(v.ctx, r) {
		if err != nil {
			return err
		}
		n := v.Head.N + 1
		if it.Key != store.AuditSeal(v.tenant, n) {
			return v.fault(n, "", "removed")
		}
		link, err := v.link(n, it)
		if err != nil {
			return err
		}
		if err := v.records(link); err != nil {
			return err
		}
		v.prev, v.Head = link.Hash, Head{n, link.Hash}
		v.Sealed += len(link.Entries)
		if visit != nil {
			for _, e := range link.Entries {
				visit(e.Sort)
			}
		}
	}
	return nil
}

func (v *verifier) link(n uint64, it store.Item) (Link, error) {
	rec, err := links.Decode(it)
	if err != nil {
		return Link{}, v.fault(n, "", "changed")
	}
	link := rec.Value
	sum, err := link.sum()
	if err != nil {
		return link, err
	}
	same, err := link.canonical()
	if err != nil {
		return link, err
	}
	if sum != link.Hash || link.Prev != v.prev || link.N != n || link.Tenant != v.tenant || !bytes.Equal(same, it.Body) {
		return link, v.fault(n, "", "changed")
	}
	return link, nil
}

func (v *verifier) records(link Link) error {
	keys := make([]store.Key, len(link.Entries))
	for i, e := range link.Entries {
		keys[i] = store.AuditSort(v.tenant, e.Sort)
	}
	if len(keys) == 0 || len(keys) > store.MaxGet {
		return v.fault(link.N, "", "changed")
	}
	items, err := v.db.Get(v.ctx, keys...)
	if err != nil {
		return err
	}
	for i, it := range items {
		switch {
		case it.Version == 0:
			return v.fault(link.N, link.Entries[i].Sort, "removed")
		case hash(it.Body) != link.Entries[i].Hash:
			return v.fault(link.N, link.Entries[i].Sort, "changed")
		}
	}
	return nil
}

// extra looks for records in the log that no link names. Every sealed record was found there, so it is enough to count;
// only if there are more, by a fault or by a Seal meanwhile, are they looked for by name.
func (v *verifier) extra() error {
	count := 0
	for _, err := range v.db.List(v.ctx, store.Audits(v.tenant, time.Time{})) {
		if err != nil {
			return err
		}
		count++
	}
	if count == v.Sealed {
		return nil
	}
	named := make(map[string]bool, count)
	again := verifier{ctx: v.ctx, db: v.db, tenant: v.tenant, prev: genesis(v.tenant)}
	var present []string
	for it, err := range v.db.List(v.ctx, store.Audits(v.tenant, time.Time{})) {
		if err != nil {
			return err
		}
		present = append(present, it.Key.Sort())
	}
	// The links are read after the records, so that whatever a Seal moved by then is named.
	err := again.chain(func(sort string) { named[sort] = true })
	v.Report = again.Report
	if err != nil {
		return err
	}
	for _, sort := range present {
		if !named[sort] {
			return v.fault(0, sort, "added")
		}
	}
	return nil
}
