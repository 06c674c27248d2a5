package storetest

import (
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core/store"
)

// Units are DynamoDB's capacity units, by which it bills and throttles. They follow from the items alone, so a test on any store
// can hold a request to its price. adapters/dynamodb holds these sums to what DynamoDB itself reports.
type Units struct {
	Read  float64 // each a strongly consistent read of 4 KiB; in a transaction, 2 KiB
	Write float64 // each a write of 1 KiB; in a transaction, 512 bytes
}

const (
	readUnit  = 4 << 10
	writeUnit = 1 << 10
	pageBytes = 1 << 20 // where DynamoDB ends a page of a Query
)

// GetUnits is the price of a Get of these items. One is a plain read, several are a transaction. An absent item costs one unit;
// so does an expired one here, which DynamoDB may still have.
func GetUnits(items []store.Item) Units {
	each := 1.0
	if len(items) > 1 {
		each = 2
	}
	var u Units
	for _, it := range items {
		u.Read += each * units(size(it), readUnit)
	}
	return u
}

// PageUnits is the price of one page of a List that reads these items: that of their sizes together.
func PageUnits(items []store.Item) Units {
	sum := 0
	for _, it := range items {
		sum += size(it)
	}
	return Units{Read: units(sum, readUnit)}
}

// CommitUnits is the price of a commit over the items that its operations found. A write costs by the larger of the old and the
// new item, and a check by the item. A commit that writes nothing is a Get. A refused one costs at most this much.
func CommitUnits(ops []store.Op, old []store.Item) Units {
	var u Units
	writes := false
	for i, op := range ops {
		n := size(old[i])
		if op.Verb == store.VerbPut {
			n = max(n, size(store.Item{Key: op.Key, Version: 1, Body: op.Body, Expires: op.Expires}))
		}
		u.Write += units(n, writeUnit)
		writes = writes || op.Verb == store.VerbPut || op.Verb == store.VerbDelete && op.Expect != 0
	}
	if !writes {
		return GetUnits(old)
	}
	if len(ops) > 1 {
		u.Write *= 2
	}
	return u
}

// units rounds up, and is at least one.
func units(bytes, unit int) float64 { return float64(max(1, (bytes+unit-1)/unit)) }

// size is what DynamoDB counts of an item, in bytes: the names and the values of its attributes. An absent one has none.
func size(it store.Item) int {
	if it.Version == 0 {
		return 0
	}
	n := len("p") + len(it.Key.Leading()) + len("s") + len(it.Key.Sort()) + len("v") + versionSize
	if len(it.Body) > 0 {
		n += len("b") + len(it.Body)
	}
	if !it.Expires.IsZero() {
		n += len("e") + numberSize(it.Expires)
	}
	return n
}

// versionSize is the size of a random number of 64 bits, whatever the versions of this store look like.
const versionSize = 11

// numberSize is that of a number: a byte for every two significant digits, and one.
func numberSize(t time.Time) int {
	digits := strings.TrimRight(strconv.FormatInt(t.Unix(), 10), "0")
	return (len(digits)+1)/2 + 1
}
