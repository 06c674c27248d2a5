package sso

import (
	"context"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// MaxTraces bounds a page of traces.
const MaxTraces = 100

// Traces is a page of a tenant's traces, the newest first: those before the one of the ID before, or from the newest on if that
// is "". next is what to give as before for the page that follows; "" if there is none. A limit of 0 or less, or over
// MaxTraces, is MaxTraces.
func (s *Service) Traces(ctx context.Context, t core.TenantID, limit int, before string) (page []Trace, next string, err error) {
	if limit <= 0 || limit > MaxTraces {
		limit = MaxTraces
	}
	r := store.Traces(t)
	r.Descending, r.Limit = true, limit+1
	if before != "" {
		key, err := traceKey(t, before)
		if err != nil {
			return nil, "", core.BadField("before", "is not the id of a trace")
		}
		r.To = key.Sort()
	}
	for rec, err := range traces.List(ctx, s.DB, r) {
		if err != nil {
			return nil, "", err
		}
		if len(page) == limit {
			next = page[limit-1].ID
			break
		}
		page = append(page, rec.Value)
	}
	return page, next, nil
}

// Trace reads one trace. One that is absent, or too old, is core.NotFound.
func (s *Service) Trace(ctx context.Context, t core.TenantID, id string) (Trace, error) {
	key, err := traceKey(t, id)
	if err != nil {
		return Trace{}, err
	}
	rec, err := traces.Get(ctx, s.DB, key)
	if err != nil {
		return Trace{}, fmt.Errorf("trace %s: %w", id, err)
	}
	return rec.Value, nil
}
