package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
