package sync

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

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
	// InFlight are the bindings that a run was about to write, or wrote without hearing the outcome. The next run writes
	// them whatever they hold, so that a request still under way comes to a conflict. See Service.Reconcile.
	InFlight []string `json:"inFlight,omitzero"`
	// AllInFlight: they were too many to name.
	AllInFlight bool `json:"allInFlight,omitzero"`
}

// lease keeps a second run off a cluster. It is a courtesy: what keeps a late writer from harm is that every write is
// conditional.
type lease struct {
	Holder string    `json:"holder"`
	Until  time.Time `json:"until"`
}

var (
	records  store.Table[record]
	recorded store.Table[kube.Record]
)

// Wanted notes the revision that clusters shall come to. It is idempotent; a lower revision than the one noted changes
// nothing.
func (s *Service) Wanted(ctx context.Context, t core.TenantID, clusters []core.ClusterID, rev core.Revision) error {
	for _, c := range clusters {
		err := store.Retry(ctx, func() error {
			rec, err := s.record(ctx, t, c)
			if err != nil || rec.Value.Wanted >= rev {
				return err
			}
			rec.Value.Wanted = rev
			if rec.Value.WantedSince.IsZero() {
				rec.Value.WantedSince = s.Now()
			}
			op, err := records.Put(rec.Key, rec.Version, rec.Value)
			if err != nil {
				return err
			}
			return s.DB.Commit(ctx, op)
		})
		if err != nil {
			return fmt.Errorf("sync: cluster %s: %w", c, err)
		}
	}
	return nil
}

// Status returns what is known of a cluster. One that was never wanted anything of has the zero Status.
func (s *Service) Status(ctx context.Context, t core.TenantID, c core.ClusterID) (Status, error) {
	rec, err := s.record(ctx, t, c)
	return rec.Value.Status, err
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

// clip makes a text fit for the record. Names in a cluster may be of any bytes.
func clip(s string) string {
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
