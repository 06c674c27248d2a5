package audit

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Report says what a Verifier found.
type Report struct {
	Head   Head
	Sealed int // records that the chain names and that are unchanged

	// Unsealed is how many records wait for the next Seal: nothing proves them yet. Since is the time of the oldest.
	Unsealed     int
	MoreUnsealed bool // there are more than Unsealed
	Since        time.Time

	Fault *Fault // the first fault of the log; nil: none
}

// The ways in which a log can be at fault.
const (
	Changed  = "changed"  // it holds other bytes than were sealed
	Removed  = "removed"  // it is not there
	Added    = "added"    // a record that no link names
	Repeated = "repeated" // a sealed record that waits to be sealed again
	Replaced = "replaced" // a link that is not the one that was written down
	CutOff   = "cut off"  // the chain ends before the link that was written down
)

// Fault is the first place at which the log is not what was sealed.
type Fault struct {
	Link   uint64 // the link at fault, or that names the record at fault; 0: no link does
	Record string // the record's sort key; empty: the link itself is at fault
	What   string // Changed, Removed and so on
}

// Error says the fault as a sentence.
func (f *Fault) Error() string {
	switch {
	case f.What == Replaced:
		return fmt.Sprintf("audit: link %d of the chain is another than the one that was written down", f.Link)
	case f.What == CutOff:
		return fmt.Sprintf("audit: link %d of the chain and those behind it, which were there when the head was written down, were cut off", f.Link)
	case f.What == Repeated:
		return fmt.Sprintf("audit: record %q of link %d stands among those to be sealed as well", f.Record, f.Link)
	case f.Record == "":
		return fmt.Sprintf("audit: link %d of the chain was %s", f.Link, f.What)
	case f.Link == 0:
		return fmt.Sprintf("audit: record %q was %s: no link of the chain names it", f.Record, f.What)
	}
	return fmt.Sprintf("audit: record %q of link %d was %s", f.Record, f.Link, f.What)
}

// Verify walks a tenant's chain in the store, as Walk does.
func Verify(ctx context.Context, db store.DB, t core.TenantID) (Report, error) {
	return Walk(ctx, InStore{DB: db, Tenant: t}, NewVerifier(t, Head{}), nil)
}

// Walk reads a tenant's chain and its log to the end and has each page of them verified, until a fault is found. It calls
// progress, if that is not nil, after each page. An error means that the answer is not known.
//
// Records and links are made meanwhile. So the places of the log are read between two readings of the chain: whatever
// stands in the log by then, the second reading must name.
func Walk(ctx context.Context, src Source, v *Verifier, progress func(Report)) (Report, error) {
	show := func() {
		if progress != nil {
			progress(v.Report)
		}
	}
	if err := walkChain(ctx, src, v, show); err != nil || v.Fault != nil {
		return v.Report, err
	}
	v.listing = true
	for after := ""; ; {
		sorts, more, err := src.Places(ctx, after)
		if err != nil {
			return v.Report, err
		}
		for _, s := range sorts {
			if s <= after {
				return v.Report, fmt.Errorf("audit: the places of the log do not come in order: %q after %q", s, after)
			}
			after = s
		}
		v.Places(sorts)
		show()
		if !more {
			break
		}
		if len(sorts) == 0 {
			return v.Report, fmt.Errorf("audit: a page of the log's places is empty, and not the last")
		}
	}
	if err := walkChain(ctx, src, v, show); err != nil {
		return v.Report, err
	}
	v.End()
	return v.Report, nil
}

func walkChain(ctx context.Context, src Source, v *Verifier, show func()) error {
	for {
		page, err := src.Chain(ctx, v.Head.N)
		if err != nil {
			return err
		}
		v.Chain(page)
		show()
		switch {
		case v.Fault != nil || !page.More:
			return nil
		case len(page.Links) == 0:
			return fmt.Errorf("audit: a page of the chain is empty, and not the last")
		}
	}
}

// Verifier compares a log with its chain, from nothing but the stored bytes. It finds a link or a record that was changed
// by as little as a byte, removed, or added past the seal. Links cut off the end together with their records show only
// if a head that was written down earlier, elsewhere, is known: without one, and against somebody who can write the whole
// store, a chain that anybody can compute proves nothing (maintain logs the head each minute).
//
// It remembers the place of every sealed record, about 100 bytes for each. After a fault it takes in nothing more.
type Verifier struct {
	Report
	tenant  core.TenantID
	known   Head
	prev    string
	named   map[string]naming // by the record's place
	listing bool              // the log's places are being read: what is sealed from here on need not be among them
	stray   []string          // places in the log that no link names so far
}

// naming is that a link names a record.
type naming struct {
	link uint64
	met  bool // the log was seen to have the record's place, or need not have it
}

// NewVerifier verifies a tenant's log from its beginning. known is a head that was written down earlier; the zero Head is
// none.
func NewVerifier(t core.TenantID, known Head) *Verifier {
	return &Verifier{tenant: t, known: known, prev: genesis(t), named: map[string]naming{}}
}

func (v *Verifier) fault(link uint64, record, what string) { v.Fault = &Fault{link, record, what} }

// Chain takes in the next page of the chain. At the end of the chain, what the page says is unsealed replaces what an
// earlier one said.
func (v *Verifier) Chain(page ChainPage) {
	for _, l := range page.Links {
		if v.link(l); v.Fault != nil {
			return
		}
	}
	if page.More {
		return
	}
	v.Unsealed, v.MoreUnsealed, v.Since = len(page.Unsealed), page.MoreUnsealed, time.Time{}
	for i, rec := range page.Unsealed {
		if by, sealed := v.named[rec.Sort]; sealed {
			v.fault(by.link, rec.Sort, Repeated)
			return
		}
		var r Record
		if i == 0 && json.Unmarshal(rec.Body, &r) == nil {
			v.Since = r.At
		}
	}
}

func (v *Verifier) link(l StoredLink) {
	n := v.Head.N + 1
	if l.Sort != store.AuditSeal(v.tenant, n).Sort() {
		v.fault(n, "", Removed)
		return
	}
	link, ok := v.whole(n, l.Body)
	if !ok {
		v.fault(n, "", Changed)
		return
	}
	if n == v.known.N && link.Hash != v.known.Hash {
		v.fault(n, "", Replaced)
		return
	}
	found := make(map[string][]byte, len(l.Records))
	for _, rec := range l.Records {
		found[rec.Sort] = rec.Body
	}
	for _, e := range link.Entries {
		_, twice := v.named[e.Sort]
		switch body := found[e.Sort]; {
		case twice:
			v.fault(n, "", Changed) // Seal names no record twice
			return
		case body == nil:
			v.fault(n, e.Sort, Removed)
			return
		case hash(body) != e.Hash:
			v.fault(n, e.Sort, Changed)
			return
		}
		v.named[e.Sort] = naming{n, v.listing}
	}
	v.prev, v.Head = link.Hash, Head{n, link.Hash}
	v.Sealed += len(link.Entries)
}

// whole decodes link n and says whether it is one that Seal could have written there, behind the one before it.
func (v *Verifier) whole(n uint64, body []byte) (link Link, ok bool) {
	if json.Unmarshal(body, &link) != nil {
		return link, false
	}
	sum, err := link.sum()
	if err != nil || sum != link.Hash || link.Prev != v.prev || link.N != n || link.Tenant != v.tenant {
		return link, false
	}
	same, err := link.canonical()
	return link, err == nil && bytes.Equal(same, body) && len(link.Entries) > 0 && len(link.Entries) <= perLink
}

// Places takes in the places at which the log holds sealed records, once the chain was read to its end.
func (v *Verifier) Places(sorts []string) {
	v.listing = true
	for _, s := range sorts {
		by, ok := v.named[s]
		if !ok {
			v.stray = append(v.stray, s)
			continue
		}
		by.met = true
		v.named[s] = by
	}
}

// End draws the conclusions, when the whole log and then the rest of the chain were taken in.
func (v *Verifier) End() {
	if v.Fault != nil {
		return
	}
	if v.Head.N < v.known.N {
		v.fault(v.Head.N+1, "", CutOff)
		return
	}
	for _, s := range v.stray {
		if _, ok := v.named[s]; !ok {
			v.fault(0, s, Added)
			return
		}
	}
	missing := "" // the first that was there when its link was read, and that the log has no more
	for s, by := range v.named {
		if !by.met && (missing == "" || s < missing) {
			missing = s
		}
	}
	if missing != "" {
		v.fault(v.named[missing].link, missing, Removed)
	}
}
