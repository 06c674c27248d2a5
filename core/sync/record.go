package sync

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/sync/errgroup"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/store"
)

// Status is what is known of one cluster's synchronization.
type Status struct {
	Wanted      core.Revision `json:"wanted"`               // the revision that the cluster shall come to
	WantedSince time.Time     `json:"wantedSince,omitzero"` // when it was first behind; zero: it is not
	Reached     core.Revision `json:"reached"`              // the revision that all its objects conform to, but for Pending
	ReachedAt   time.Time     `json:"reachedAt,omitzero"`
	TriedAt     time.Time     `json:"triedAt,omitzero"`
	FullAt      time.Time     `json:"fullAt,omitzero"` // of the last full reconcile that succeeded

	LastError   string    `json:"lastError,omitzero"` // of the last run; empty: it went well, and found no impostors
	LastErrorAt time.Time `json:"lastErrorAt,omitzero"`
	Failures    int       `json:"failures,omitzero"` // runs in a row
	Terminal    bool      `json:"terminal,omitzero"` // trying again does not help: somebody must mend something

	// RetryAt is when the message that tries again is due; it was sent before this was written. Zero: none is awaited, or a
	// run has begun since.
	RetryAt      time.Time `json:"retryAt,omitzero"`
	Tries        int       `json:"tries,omitzero"`        // that failed in a row, since the cluster was last given up
	FailingSince time.Time `json:"failingSince,omitzero"` // the first of Tries
	GivenUpAt    time.Time `json:"givenUpAt,omitzero"`    // when it last went to the dead letters; zero: it has gone well since

	Bootstrap string `json:"bootstrap,omitzero"` // "current", "outdated" or "missing"
	Counts    Counts `json:"counts"`

	// Problems are the things that wait for a person: namespaces without label, foreign objects, refused subjects, removals
	// held back. At most maxProblems of them; Counts has how many there are.
	Problems []string `json:"problems,omitzero"`
}

// Counts is the extent of a cluster's objects at the last run, and of that run's work.
type Counts struct {
	Namespaces int `json:"namespaces"`
	Bindings   int `json:"bindings"`
	Subjects   int `json:"subjects"`
	Writes     int `json:"writes"` // changes made by the last run
	Foreign    int `json:"foreign"`
	Impostors  int `json:"impostors,omitzero"` // bindings that pretend to be ours and give somebody a role of ours
	Pending    int `json:"pending"`
	Held       int `json:"held"`
}

const (
	maxProblems = 40
	maxText     = 400      // bytes of an error or problem that are kept
	maxTexts    = 12 << 10 // bytes of all problems as JSON: with what is in flight they fit into one item
)

// record is a cluster's item in the store.
type record struct {
	Status
	Lease *lease `json:"lease,omitzero"`
	// Answered is the revision at which the last run read the cluster; 0: it did not come so far. Silent is how many runs in
	// a row the cluster could not be read, since it did not answer.
	Answered core.Revision `json:"answered,omitzero"`
	Silent   int           `json:"silent,omitzero"`
	// InFlight are the bindings that a run was about to write, or wrote without hearing the outcome. The next run writes
	// them whatever they hold, so that a request still under way comes to a conflict. See Service.Reconcile.
	InFlight []string `json:"inFlight,omitzero"`
	// AllInFlight: they were too many to name.
	AllInFlight bool `json:"allInFlight,omitzero"`
}

var (
	records  store.Table[record]
	recorded store.Table[kube.Record]
)

// perRead is of how many clusters the records are read at once: each with its scope, and the tenant's item with them.
const perRead = (store.MaxGet - 1) / 2

// Wanted notes the revision that clusters shall come to. It is idempotent; a lower revision than the one noted changes
// nothing, and neither does a cluster that is not there, or no more. It makes few round trips of many clusters.
func (s *Service) Wanted(ctx context.Context, t core.TenantID, clusters []core.ClusterID, rev core.Revision) error {
	clusters = slices.Compact(slices.Sorted(slices.Values(clusters)))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for some := range slices.Chunk(clusters, perRead) {
		g.Go(func() error {
			err := s.wanted(ctx, t, some, rev)
			if !errors.Is(err, core.Conflict) {
				return err
			}
			for _, c := range some { // a run has written the record of one of them
				if err := store.Retry(ctx, func() error { return s.wanted(ctx, t, []core.ClusterID{c}, rev) }); err != nil {
					return fmt.Errorf("sync: cluster %s: %w", c, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// wanted is Wanted in two round trips, all or nothing.
func (s *Service) wanted(ctx context.Context, t core.TenantID, clusters []core.ClusterID, rev core.Revision) error {
	keys := []store.Key{store.Meta(t)}
	for _, c := range clusters {
		keys = append(keys, store.Sync(t, c), store.Scope(t, core.ClusterScope(c)))
	}
	items, err := s.DB.Get(ctx, keys...)
	if err != nil {
		return err
	}
	var ops []store.Op
	for at := 1; at < len(items); at += 2 {
		rec, err := records.Decode(items[at])
		if err != nil {
			return err
		}
		if rec.Value.Wanted >= rev || !exist(items[0], items[at+1]) {
			continue
		}
		rec.Value.Wanted = rev
		if rec.Value.WantedSince.IsZero() {
			rec.Value.WantedSince = s.Now()
		}
		op, err := records.Put(rec.Key, rec.Version, rec.Value)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	if len(ops) == 0 {
		return nil
	}
	return s.DB.Commit(ctx, ops...)
}

// exist says whether a tenant and a cluster's scope are there: what comes late must leave nothing of those that are not.
func exist(meta, scope store.Item) bool { return meta.Version != 0 && scope.Version != 0 }

// Status returns what is known of a cluster. One that was never wanted anything of has the zero Status.
func (s *Service) Status(ctx context.Context, t core.TenantID, c core.ClusterID) (Status, error) {
	rec, err := s.record(ctx, t, c)
	return rec.Value.Status, err
}

// Statuses returns what is known of several clusters, as Status does, in one round trip for every store.MaxGet of them.
func (s *Service) Statuses(ctx context.Context, t core.TenantID, clusters []core.ClusterID) (map[core.ClusterID]Status, error) {
	known := map[core.ClusterID]Status{}
	var keys []store.Key
	var of []core.ClusterID // by key
	for _, c := range clusters {
		if _, seen := known[c]; !seen {
			known[c] = Status{}
			keys, of = append(keys, store.Sync(t, c)), append(of, c)
		}
	}
	for chunk := range slices.Chunk(keys, store.MaxGet) {
		items, err := s.DB.Get(ctx, chunk...)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			rec, err := records.Decode(it)
			if err != nil {
				return nil, err
			}
			known[of[0]], of = rec.Value.Status, of[1:]
		}
	}
	return known, nil
}

// Holds says how many objects of ours are in a cluster, as far as the store knows. It is for org.Service.
func (s *Service) Holds(ctx context.Context, t core.TenantID, c core.ClusterID) (n int, err error) {
	for rec, err := range recorded.List(ctx, s.DB, store.RecordedIn(t, c)) {
		if err != nil {
			return 0, err
		}
		if !rec.Value.Reaped {
			n++
		}
	}
	return n, nil
}

func (s *Service) record(ctx context.Context, t core.TenantID, c core.ClusterID) (store.Record[record], error) {
	items, err := s.DB.Get(ctx, store.Sync(t, c))
	if err != nil {
		return store.Record[record]{}, err
	}
	return records.Decode(items[0])
}

// tokens is what a bearer token looks like, whole or cut off. An API server is free to repeat in its answer what it was
// sent, and its answer becomes an error.
var tokens = sync.OnceValue(func() *regexp.Regexp { // compiled when there is an error, not when a function starts
	return regexp.MustCompile(`eyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*){0,4}|(?i)\bbearer\s+[A-Za-z0-9._~+/=-]+`)
})

// clip makes a text fit for the record and the log. Names in a cluster may be of any bytes.
func clip(s string) string {
	s = tokens().ReplaceAllString(s, "[token]")
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.Map(func(r rune) rune { // what is no UTF-8, and half a rune, becomes U+FFFD
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// clipAll keeps as many problems as fit.
func clipAll(list []string) []string {
	var out []string
	for size := 0; len(out) < min(len(list), maxProblems); {
		text := clip(list[len(out)])
		if size += len(strconv.Quote(text)) + 1; size > maxTexts {
			break
		}
		out = append(out, text)
	}
	return out
}
