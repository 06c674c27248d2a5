package admin

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/web"
)

// A caller's refused changes are recorded, maxDenials of them in denialsFor. More of them say nothing new, and whoever may do
// nothing at all must not fill the log that others read.
const (
	maxDenials = 30
	denialsFor = 10 * time.Minute
)

// denied counts the refusals of a caller since a time.
type denied struct {
	N     int       `json:"n"`
	Since time.Time `json:"since"`
}

var denials store.Table[denied]

// recordDenial records that a known caller was refused a change.
func (c *call) recordDenial(e endpoint, denial error) {
	if reason, err := readReason(c.r); err == nil {
		c.actor.Reason = reason // the denial may have come before it was read
	}
	err := store.Retry(c.ctx, func() error {
		key := store.Attempts(c.tenant, "denied", c.actor.Subject.String()) // no e-mail is "denied"
		items, err := c.DB.Get(c.ctx, key)
		if err != nil {
			return err
		}
		was, err := denials.Decode(items[0])
		if err != nil {
			return err
		}
		n := was.Value
		if !c.now.Before(n.Since.Add(denialsFor)) {
			n = denied{Since: c.now}
		}
		if n.N++; n.N > maxDenials {
			return nil
		}
		rec := audit.Record{
			Action: actionOf[e.method], EntityType: entityOf(e.path), EntityID: cmp.Or(c.r.PathValue("id"), c.r.PathValue("alias"), c.r.PathValue("name"), c.r.PathValue("key")),
			Result: audit.Failed, Reason: denial.Error(), Status: http.StatusForbidden,
		}
		if c.params.Get(dryRun) == "true" {
			rec.Reason = "dry run: " + rec.Reason
		}
		over := n.Since.Add(denialsFor)
		if n.N == maxDenials {
			rec.Reason += fmt.Sprintf("; until %s no more of this caller's refusals are recorded", over.UTC().Format(time.RFC3339))
		}
		note, err := audit.Op(c.actor, c.now, rec)
		if err != nil {
			return err
		}
		count, err := denials.Put(key, was.Version, n)
		if err != nil {
			return err
		}
		return c.DB.Commit(c.ctx, note, count.Until(over))
	})
	if err != nil {
		web.Logger(c.ctx).ErrorContext(c.ctx, "a denial was not recorded", "error", err)
	}
}

// actionOf is what a call does, for the record of one that was denied.
var actionOf = map[string]audit.Action{"POST": audit.Create, "PUT": audit.Update, "PATCH": audit.Update, "DELETE": audit.Delete}

// entitiesBelow are what the calls below a path are about, for the record of one that was denied.
var entitiesBelow = []struct{ prefix, entity string }{
	{"/authorization/access-rules", audit.EntityAccessRule}, {"/clusters", audit.EntityCluster}, {"/org-unit/departments", audit.EntityDepartment},
	{"/org-unit/projects", audit.EntityProject}, {"/users", audit.EntityUser}, {"/me", audit.EntityUser}, {"/groups", audit.EntityGroup},
	{"/service-accounts", audit.EntityApplication}, {"/apps", audit.EntityApplication}, {"/idps", audit.EntityIdentityProvider},
	{"/trusted-issuers", audit.EntityTrustedIssuer}, {"/keys", audit.EntityKey}, {"/access-keys", audit.EntityAccessKey},
	{"/user-applications", audit.EntityAccessKey}, {allAccessKeys, audit.EntityAccessKey}, {"/sync", audit.EntityDeadLetter},
}

func entityOf(path string) string {
	for _, e := range entitiesBelow {
		if strings.HasPrefix(path, e.prefix) {
			return e.entity
		}
	}
	return audit.EntityTenant
}

// deniedOf is what a batch was refused, in one error; nil: nothing.
func deniedOf(done []access.Outcome) error {
	var first error
	n := 0
	for _, d := range done {
		if errors.Is(d.Err, core.Denied) {
			first = cmp.Or(first, d.Err)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d were refused, the first: %w", n, len(done), first)
}
