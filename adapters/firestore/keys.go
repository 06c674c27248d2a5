package firestore

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetpass/fleetpass/core/store"
)

// Where things lie: the document KIND/REST/items/ID, where KIND#REST is the leading name of the partition and ID is the sort
// key. A trigger on the outbox has the path pattern outbox/{partition}/items/{item}.
const (
	// Group is the collection group of every item: what the TTL policy and the exemptions from indexing are made for.
	Group = "items"
	// OutboxPattern is the path pattern of the documents that are events to carry out.
	OutboxPattern = "outbox/{partition}/" + Group + "/{item}"
)

// The fields of a document. Only k may be indexed: exempt the others, of which b is long and n and e would make a hot spot of
// every index (Firestore's best practices, "exempt fields from indexing").
const (
	SortField   = "k" // bytes: the sort key, by which List orders
	BodyField   = "b" // bytes
	ExpiryField = "e" // timestamp: the field of the TTL policy; absent: never
	MarkField   = "n" // bytes: which commit wrote it (mark.go)
)

// collection is the path of the collection of a partition, below the database's documents.
func collection(leading string) string {
	kind, rest, _ := strings.Cut(leading, "#")
	return kind + "/" + name(rest) + "/" + Group
}

// document is the path of an item's document, below the database's documents.
func document(k store.Key) string { return collection(k.Leading()) + "/" + name(k.Sort()) }

// name makes a document id of any string, so that ids are in the order of the strings and no two strings have the same. An id
// may hold no slash, and be neither "." nor ".." nor __of this form__ (Firestore's limits, "constraints on document IDs");
// it begins with "=", which deals with the latter three. A byte takes two at most: a key of store.MaxKey bytes fits the
// 1,500 of an id whatever it is made of.
func name(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 8)
	b.WriteByte('=')
	for i := range len(s) {
		switch c := s[i]; {
		case c <= '!': // so that every escape sorts below what is not escaped
			b.WriteByte('!')
			b.WriteByte('@' + c)
		case c == '.': // the two of them are neighbours, and stay so
			b.WriteString(".0")
		case c == '/':
			b.WriteString(".1")
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// A Version is the update time of the document in microseconds, which is Firestore's own precision, and one bit that says
// whether the commit put anything that expires. Firestore gives all documents of a commit one update time, and a document
// never the same twice. The bit is the commit's and not the document's, so that all items of a commit have one Version.
func version(t *timestamppb.Timestamp, expires bool) store.Version {
	v := store.Version(t.AsTime().UnixMicro()) << 1
	if expires {
		v |= 1
	}
	return v
}

// mayExpire says that of a version's items some expire.
func mayExpire(v store.Version) bool { return v&1 != 0 }

// updateTime is the update time of the documents of that version; false: no document ever had it.
func updateTime(v store.Version) (*timestamppb.Timestamp, bool) {
	t := timestamppb.New(time.UnixMicro(int64(v >> 1)))
	return t, t.IsValid()
}

// The expiries that a timestamp of Firestore can hold. What lies before has passed as well as the first has.
var (
	firstExpiry = time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)
	lastExpiry  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// expiry is an operation's as a document keeps it; zero: never.
func expiry(op store.Op) time.Time {
	t := op.Until(op.Expires).Expires // rounded up to the second
	switch {
	case t.IsZero():
		return t
	case t.Before(firstExpiry):
		return firstExpiry
	case t.After(lastExpiry):
		return lastExpiry
	}
	return t
}
