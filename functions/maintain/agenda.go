package maintain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	gosync "sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
)

// agenda is what one run has to do for one tenant.
type agenda struct {
	tenant  core.TenantID
	ending  []due.Job               // rules that end before the next run: at most maxRules
	crowded map[time.Time]bool      // the seconds in which more of them end
	jobs    []store.Record[due.Job] // all other kinds of job, few by nature
	ended   []store.Record[due.Job] // rules that ended: at most maxRules
	rules   int                     // how many rules end or ended, which may be very many
}

// maxRules bounds how many rules of one tenant one run looks at: of those that ended, the others stay in the index for the
// next run, since they count for nothing any more; and where more end, it is not looked up in which clusters.
const maxRules = 5000

func (a *agenda) add(rec store.Record[due.Job], now time.Time) {
	job := rec.Value
	if job.Kind != due.RuleExpiry {
		a.jobs = append(a.jobs, rec)
		return
	}
	a.rules++
	switch ending := job.At.After(now); {
	case ending && len(a.ending) < maxRules:
		a.ending = append(a.ending, job)
	case ending:
		if a.crowded == nil {
			a.crowded = map[time.Time]bool{}
		}
		a.crowded[wholeSecond(job.At)] = true
	case len(a.ended) < maxRules:
		a.ended = append(a.ended, rec)
	}
}

// list reads the shards of the index side by side and sorts what falls due by tenant, those with the least to do first. A
// shard that cannot be read to its end holds up no other, and what was read of it is done.
func (r *run) list(ctx context.Context) ([]*agenda, error) {
	ctx, done := context.WithTimeout(ctx, jobTimeout)
	defer done()
	var (
		shards  [store.DueShards]map[core.TenantID]*agenda // a tenant's jobs all lie in one
		failed  [store.DueShards]error
		listing gosync.WaitGroup
	)
	for i := range store.DueShards {
		listing.Go(func() {
			shards[i] = map[core.TenantID]*agenda{}
			failed[i] = r.safely(ctx, func(ctx context.Context) error { return r.listShard(ctx, i, shards[i]) })
		})
	}
	listing.Wait()
	var all []*agenda
	for _, of := range shards {
		for _, a := range of {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b *agenda) int {
		return cmp.Or(cmp.Compare(len(a.jobs)+a.rules, len(b.jobs)+b.rules), cmp.Compare(a.tenant, b.tenant))
	})
	return all, errors.Join(failed[:]...)
}

func (r *run) listShard(ctx context.Context, shard int, into map[core.TenantID]*agenda) error {
	// Whatever is scheduled anew lies at Every from now or later, so the list does not meet it.
	for rec, err := range due.Shard(ctx, r.DB, shard, r.now.Add(Every)) {
		if err != nil {
			return fmt.Errorf("maintain: the due index: %w", err)
		}
		a := into[rec.Value.Tenant]
		if a == nil {
			a = &agenda{tenant: rec.Value.Tenant}
			into[a.tenant] = a
		}
		a.add(rec, r.now)
	}
	return nil
}

var rules store.Table[core.Rule]

// announce has each cluster looked at in the very second that rules end there. Decisions and desired states heed the end by
// themselves, so nothing else is pressing; the rules' items go with the run after. However many rules end in a second, it
// is one message for each cluster.
func (r *run) announce(ctx context.Context, a *agenda) error {
	tenant, err := r.Org.Tenant(ctx, a.tenant)
	if errors.Is(err, core.NotFound) || err == nil && tenant.Value.State == org.Erasing {
		return nil
	}
	if err != nil {
		return err
	}
	at := map[store.Key]time.Time{}
	var keys []store.Key
	for _, job := range a.ending {
		id, err := strconv.ParseUint(job.Ref, 10, 64)
		if err != nil {
			return fmt.Errorf("malformed rule id %q: %w", job.Ref, core.Invalid)
		}
		k := store.Rule(a.tenant, core.RuleID(id))
		if _, twice := at[k]; !twice {
			keys = append(keys, k)
		}
		at[k] = job.At
	}
	where := map[core.ScopeID]map[time.Time]bool{} // the clusters, or the account, and the seconds
	if len(a.crowded) > 0 {
		where[core.AccountScope(a.tenant)] = a.crowded
	}
	for chunk := range slices.Chunk(keys, store.MaxGet) {
		items, err := r.DB.Get(ctx, chunk...)
		if err != nil {
			return err
		}
		for _, it := range items {
			rule, err := rules.Decode(it)
			if err != nil {
				return err
			}
			if !rule.Exists() {
				continue // taken away before its time
			}
			in := core.AccountScope(a.tenant)
			if c, ok := rule.Value.Scope.ClusterOf(); ok {
				in = core.ClusterScope(c)
			}
			if where[in] == nil {
				where[in] = map[time.Time]bool{}
			}
			where[in][wholeSecond(at[it.Key])] = true
		}
	}
	messages, err := r.messages(ctx, a.tenant, where)
	if err != nil || len(messages) == 0 {
		return err
	}
	return r.Queue.Send(ctx, messages...)
}

// messages is one for each cluster and second. What ends at the account ends in every cluster.
func (r *run) messages(ctx context.Context, t core.TenantID, where map[core.ScopeID]map[time.Time]bool) ([]sync.Message, error) {
	if everywhere := where[core.AccountScope(t)]; everywhere != nil {
		delete(where, core.AccountScope(t))
		tree, err := r.Org.Scopes(ctx, t)
		if err != nil {
			return nil, err
		}
		for _, sc := range tree {
			if sc.Kind != core.Cluster {
				continue
			}
			if where[sc.ID] == nil {
				where[sc.ID] = map[time.Time]bool{}
			}
			maps.Copy(where[sc.ID], everywhere)
		}
	}
	var out []sync.Message
	for scope, seconds := range where {
		c, _ := scope.ClusterOf()
		for at := range seconds {
			out = append(out, sync.Message{Tenant: t, Cluster: c, NotBefore: at})
		}
	}
	return out, nil
}

// wholeSecond rounds up: a cluster that is looked at too early keeps the rule.
func wholeSecond(t time.Time) time.Time {
	if s := t.Truncate(time.Second); !s.Equal(t) {
		return s.Add(time.Second)
	}
	return t
}
