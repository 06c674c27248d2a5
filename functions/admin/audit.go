package admin

import (
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
)

// listAudit is a page of the audit log, the newest first. The cursor names the last record of the page before: records
// that come meanwhile shift nothing.
func listAudit(c *call) (reply, error) {
	limit, err := c.number("limit", api.DefaultLimit, 1, api.MaxLimit)
	if err != nil {
		return failed(err)
	}
	after, err := c.cursor()
	if err != nil {
		return failed(err)
	}
	log := api.AuditLog{Records: []api.AuditRecord{}}
	for rec, err := range audit.List(c.ctx, c.DB, c.tenant, time.Time{}, after.before(), true) {
		if err != nil {
			return failed(err)
		}
		if !after.follows(rec) {
			continue
		}
		if len(log.Records) == limit {
			last := log.Records[limit-1]
			log.Next = strconv.FormatInt(last.At.UnixMilli(), 10) + "." + last.ID
			break
		}
		log.Records = append(log.Records, wireAudit(rec))
	}
	return ok(log)
}

// cursor is a place in the audit log, which is in order of time, and at one time of id. The zero cursor is before the
// newest record.
type cursor struct {
	at time.Time // to the millisecond, as records are
	id string
}

func (c *call) cursor() (cursor, error) {
	if !c.params.Has("cursor") {
		return cursor{}, nil
	}
	at, id, _ := strings.Cut(c.params.Get("cursor"), ".")
	ms, err := strconv.ParseInt(at, 10, 64)
	if err != nil || ms <= 0 || ms > 1<<47 || strconv.FormatInt(ms, 10) != at || id == "" || len(id) > 64 {
		return cursor{}, core.BadField("cursor", "must be the next of an answer, as it came")
	}
	return cursor{time.UnixMilli(ms).UTC(), id}, nil
}

// before bounds by time what may follow.
func (at cursor) before() time.Time {
	if at.id == "" {
		return time.Time{}
	}
	return at.at.Add(time.Millisecond)
}

func (at cursor) follows(rec audit.Record) bool {
	return at.id == "" || rec.At.Before(at.at) || rec.At.Equal(at.at) && rec.ID < at.id
}

func wireAudit(r audit.Record) api.AuditRecord {
	return api.AuditRecord{
		ID: r.ID, At: r.At, SubjectID: r.Subject.ID, SubjectType: api.SubjectTypeOf(r.Subject.Kind), UserID: r.UserID, HomeTenant: r.Home,
		Action: string(r.Action), EntityType: r.EntityType, EntityID: r.EntityID, EntityName: r.Name, ScopeID: r.Scope,
		Result: string(r.Result), Reason: r.Reason, Request: r.Request, Address: r.Address,
	}
}
