package admin

import (
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
)

// logged is a record with its place in the log.
type logged = store.Record[audit.Record]

func loggedText(name string, value func(audit.Record) string) field[logged] {
	return textField(name, func(r logged) string { return value(r.Value) })
}

var auditFields = []field[logged]{
	timeField("timestamp", func(r logged) time.Time { return r.Value.At }),
	loggedText("subject", func(r audit.Record) string { return r.Subject.ID }).search(),
	loggedText("subjectType", func(r audit.Record) string { return string(subjectType(r)) }).also("subject_type"),
	loggedText("sourceIp", func(r audit.Record) string { return r.Address }).also("source_ip").search(),
	loggedText("action", func(r audit.Record) string { return string(r.Action) }),
	loggedText("httpMethod", func(r audit.Record) string { return r.Method }).also("http_method"),
	loggedText("url", func(r audit.Record) string { return r.Path }).search(),
	loggedText("entityType", func(r audit.Record) string { return r.EntityType }).also("entity_type"),
	loggedText("entityName", func(r audit.Record) string { return r.Name }).also("entity_name").search(),
	loggedText("entityId", func(r audit.Record) string { return r.EntityID }).also("entity_id").search(),
	loggedText("scope", func(r audit.Record) string { return string(r.Scope) }),
	loggedText("result", func(r audit.Record) string { return string(r.Result) }),
	numberField("httpStatusCode", func(r logged) int64 { return int64(r.Value.Status) }).also("http_status_code"),
	loggedText("clusterId", func(r audit.Record) string { return string(clusterOf(r)) }).also("cluster"),
	loggedText("requestId", func(r audit.Record) string { return string(r.Request) }).also("request_id").search(),
	loggedText("reason", func(r audit.Record) string { return r.Reason }).search(),
	loggedText("comment", func(r audit.Record) string { return r.Comment }).search(),
	loggedText("home", func(r audit.Record) string { return string(r.Home) }),
}

var (
	auditTable = table[logged]{name: "audit", fields: auditFields, natural: "timestamp", descending: true}
	fileTable  = table[logged]{name: "audit-file", fields: auditFields, natural: "timestamp"} // what is archived begins at the beginning
)

// auditFilters are the parameters that say which records are asked for, beside filterBy and search.
var auditFilters = append([]string{"from", "to", "start", "end"}, auditEquals...)

// auditEquals are those that name what a field must be.
var auditEquals = []string{"subject", "action", "entityType", "entityId", "result", "requestId", "clusterId"}

// listAudit is a page of the audit log. The cursor names the last record that was looked at for the page before: records
// that come meanwhile shift nothing.
func listAudit(c *call) (reply, error) {
	found, _, err := c.auditPage(auditTable, 0)
	if err != nil {
		return failed(err)
	}
	return ok(api.AuditLog{Records: each(found.values, wireAudit), Next: found.next})
}

// auditPage reads a page of records; with size 0, as many as the parameters say.
func (c *call) auditPage(t table[logged], size int) (found[logged], listing[logged], error) {
	l, err := readListing(c, t)
	if err != nil {
		return found[logged]{}, l, err
	}
	if size > 0 {
		l.limit = size
	}
	q, err := c.auditSpan()
	if err != nil {
		return found[logged]{}, l, err
	}
	for _, name := range auditEquals {
		if !c.params.Has(name) {
			continue
		}
		cond, err := auditEqual(name, c.params.Get(name))
		if err != nil {
			return found[logged]{}, l, err
		}
		l.conditions = append(l.conditions, cond)
	}
	page, err := l.page(func(s start) iter.Seq2[entry[logged], error] {
		q.After, q.OldestFirst, q.Limit = s.after, !s.back, s.want
		return func(yield func(entry[logged], error) bool) {
			for rec, err := range q.Records(c.ctx, c.DB, c.tenant) {
				if !yield(entry[logged]{rec.Key.Sort(), rec}, err) {
					return
				}
			}
		}
	})
	return page, l, err
}

var (
	auditActions = []string{string(audit.Create), string(audit.Update), string(audit.Delete), string(audit.SignIn), string(audit.SignOut), string(audit.ResetPassword)}
	auditResults = []string{string(audit.Succeeded), string(audit.Failed)}
)

// auditEqual is the condition that a field is that text. What can only be one of a few is refused if it is none of them:
// it would find nothing, and look as if nothing had happened.
func auditEqual(name, want string) (condition[logged], error) {
	if want == "" {
		return condition[logged]{}, core.BadField(name, "must not be empty; leave it out for every value")
	}
	if err := checkText(name, want); err != nil {
		return condition[logged]{}, err
	}
	for param, values := range map[string][]string{"action": auditActions, "result": auditResults} {
		if name == param && !slices.Contains(values, want) {
			return condition[logged]{}, core.BadField(name, "must be one of "+strings.Join(values, ", "))
		}
	}
	f, err := fieldOf(name, name, auditFields)
	return condition[logged]{field: f, op: equal, want: fact{text: want}, param: name}, err
}

// auditSpan reads the span of time that is asked for.
func (c *call) auditSpan() (q audit.Query, err error) {
	if q.From, err = c.moment("from", "start"); err != nil {
		return q, err
	}
	q.Before, err = c.moment("to", "end")
	return q, err
}

// moment is a parameter that is a time, under either of its names; zero where it is absent.
func (c *call) moment(name, alias string) (time.Time, error) {
	if c.params.Has(alias) {
		if c.params.Has(name) {
			return time.Time{}, core.BadField(alias, "is the same as "+name+"; give one of them")
		}
		name = alias
	}
	if !c.params.Has(name) {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, c.params.Get(name))
	if t = t.UTC(); err != nil || t.Year() < 1970 || t.Year() > 9998 {
		return time.Time{}, core.BadField(name, "must be a time of RFC 3339, such as 2026-03-01T12:00:00Z")
	}
	// Records bear whole milliseconds. A bound between two of them is as good as the later one.
	return t.Add(time.Millisecond - time.Nanosecond).Truncate(time.Millisecond), nil
}

// clusterOf is the cluster in which something was done, or that its scope lies in.
func clusterOf(r audit.Record) core.ClusterID {
	if r.Cluster != "" {
		return r.Cluster
	}
	id, _ := r.Scope.ClusterOf()
	return id
}

func subjectType(r audit.Record) api.AuditSubject {
	if r.Subject.Kind == core.User {
		return api.AuditUser
	}
	return api.AuditApp
}

func wireAudit(rec logged) api.AuditRecord {
	r := rec.Value
	return api.AuditRecord{
		ID: r.ID, Timestamp: r.At, Tenant: r.Tenant, Home: r.Home, Subject: r.Subject.ID, SubjectType: subjectType(r), UserID: r.UserID, SourceIP: r.Address,
		Action: string(r.Action), HTTPMethod: r.Method, URL: r.Path, EntityType: r.EntityType, EntityName: r.Name, EntityID: r.EntityID, Scope: r.Scope,
		Result: string(r.Result), Status: r.Status, Cluster: clusterOf(r), Request: r.Request, Reason: r.Reason, Comment: r.Comment,
		KubernetesAuditIDs: r.KubernetesAuditIDs,
	}
}

// The bounds of an answer about the hash chain. What is sent is a third larger than the bytes, and has to fit into the
// 6 MB that AWS Lambda can answer with.
const (
	chainLinks = 100     // unless asked otherwise
	chainBytes = 2 << 20 // of links and records
	chainItems = 1000    // unsealed records
	placesPage = 5000
)

// auditChain is part of the hash chain as it is stored, so that whoever asks can verify it without trust in this code.
func auditChain(c *call) (reply, error) {
	limit, err := c.number("limit", chainLinks, 1, api.MaxLimit)
	if err != nil {
		return failed(err)
	}
	var after uint64
	if c.params.Has("after") {
		s := c.params.Get("after")
		if after, err = strconv.ParseUint(s, 10, 64); err != nil || strconv.FormatUint(after, 10) != s {
			return failed(core.BadField("after", "must be the number of a link, or 0"))
		}
	}
	page, err := audit.InStore{DB: c.DB, Tenant: c.tenant, Links: limit, Bytes: chainBytes, Items: chainItems}.Chain(c.ctx, after)
	if err != nil {
		return failed(err)
	}
	return ok(api.AuditChain{
		Links: each(page.Links, func(l audit.StoredLink) api.AuditLink {
			return api.AuditLink{Place: []byte(l.Sort), Body: l.Body, Records: each(l.Records, wireStored)}
		}),
		More: page.More, Unsealed: each(page.Unsealed, wireStored), MoreUnsealed: page.MoreUnsealed,
	})
}

func wireStored(s audit.Stored) api.AuditStored {
	return api.AuditStored{Place: []byte(s.Sort), Body: s.Body}
}

// placesTable only names the cursors of the list of places.
var placesTable = table[string]{name: "audit-places"}

// auditPlaces is where the log holds sealed records: whoever verifies the chain finds there what was added past it.
func auditPlaces(c *call) (reply, error) {
	l, err := readListing(c, placesTable)
	if err != nil {
		return failed(err)
	}
	sorts, more, err := audit.InStore{DB: c.DB, Tenant: c.tenant, Items: placesPage}.Places(c.ctx, l.after)
	if err != nil {
		return failed(err)
	}
	out := api.AuditPlaces{Places: each(sorts, func(s string) []byte { return []byte(s) })}
	if more {
		out.Next = l.cursor(sorts[len(sorts)-1], 0, 0)
	}
	return ok(out)
}
