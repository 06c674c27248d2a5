package admin

import (
	"encoding/csv"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// unrecorded are the calls that are no GET and leave no record when they succeed, with why.
var unrecorded = map[string]string{
	"POST /authorization/permitted-scopes": "it asks, and changes nothing",
	"POST /clusters/{id}/reconcile":        "it only has the timer's next look at a cluster come now",
	"POST /idps/{alias}/refresh":           "it only has the timer's next look at a provider come now; what it finds changed is recorded",
	"POST /idps/{alias}/test":              "nobody is signed in by it and nothing changes; the sign-in trace tells of it",
	"POST /sync/dead-letters/replay":       "it leaves a record for each dead letter, and here there is none",
}

// recordsOf is the tenant's audit records, by sort key, with their items.
func (w *world) recordsOf(t core.TenantID) map[string]store.Item {
	w.Helper()
	all := map[string]store.Item{}
	for it, err := range w.DB.List(w.Context(), store.AuditsNew(t)) {
		w.must(err)
		all[it.Key.Sort()] = it
	}
	return all
}

func (w *world) decode(it store.Item) (r audit.Record) {
	w.Helper()
	w.must(json.Unmarshal(it.Body, &r))
	return r
}

// added is the records of now that are not among those before.
func added(before, now map[string]store.Item) []store.Item {
	maps.DeleteFunc(now, func(k string, _ store.Item) bool { _, was := before[k]; return was })
	return slices.Collect(maps.Values(now))
}

// Every call that changes something leaves exactly one record of it, in the commit of the change, that says who did what by
// which call, and why if that was said. Every call that is denied leaves exactly one record of that.
func TestEveryChangeIsRecorded(t *testing.T) {
	w := newWorld(t)
	all := samples()
	for _, e := range endpoints() {
		if e.method == http.MethodGet {
			continue
		}
		row := e.method + " " + e.path
		sampled := all[row]
		if sampled == nil {
			t.Errorf("%s: no sample", row)
			continue
		}
		s := sampled(w, policy.L1Researcher)
		tenant := tenantOf(e)
		q := request{
			method: e.method, path: "/api/v1" + s.path(e), tenant: tenant, body: s.body,
			header: http.Header{"X-Request-Reason": {"ticket 42"}, "X-Request-Id": {w.name("request")}},
		}
		via := strings.NewReplacer("%20", " ", "/api/v1", "/t/"+string(tenant)+"/api/v1").Replace(q.path)
		check := func(what string, recs []store.Item, who core.Subject, result audit.Result, status int) {
			t.Helper()
			if len(recs) != 1 {
				var all []string
				for _, it := range recs {
					all = append(all, string(it.Body))
				}
				t.Errorf("%s, %s: %d records, want one: %s", row, what, len(recs), strings.Join(all, "\n"))
				return
			}
			r := w.decode(recs[0])
			if r.Subject != who || r.Result != result || r.Method != e.method || r.Path != via || r.Status != status ||
				string(r.Request) != q.header.Get("X-Request-Id") || r.Comment != "ticket 42" || r.Tenant != tenant || r.EntityType == "" || r.Action == "" {
				t.Errorf("%s, %s: the record says %s", row, what, recs[0].Body)
			}
		}

		nobody := w.app(tenant)
		before := w.recordsOf(tenant)
		q.bearer = w.appToken(tenant, nobody)
		if e.need.in != ofOneself {
			if rec := w.call(q); rec.Code == http.StatusForbidden {
				check("denied", added(before, w.recordsOf(tenant)), core.ApplicationSubject(nobody.ID), audit.Failed, http.StatusForbidden)
			} else {
				t.Errorf("%s: status %d for who may do nothing", row, rec.Code)
			}
		}

		q.bearer = w.adminToken(tenant)
		before, dump := w.recordsOf(tenant), w.dump()
		w.call(q).want(t, s.status)
		recs := added(before, w.recordsOf(tenant))
		if why := unrecorded[row]; why != "" {
			if len(recs) != 0 {
				t.Errorf("%s left %d records, although %s", row, len(recs), why)
			}
			continue
		}
		check("done", recs, core.UserSubject(w.admins[tenant].Email), audit.Succeeded, s.status)
		if len(recs) == 1 && !w.together(dump, recs[0].Version) {
			t.Errorf("%s: nothing else that it changed was changed in the record's commit", row)
		}
	}
}

// together says whether something besides audit records and events was changed, since a dump, by the commit of a version;
// or whether things were only taken away.
func (w *world) together(dump map[string]string, version store.Version) bool {
	w.Helper()
	put := false
	for k, v := range w.dump() {
		if dump[k] == v || strings.Contains(k, "/audit-new/") {
			continue
		}
		if strings.HasPrefix(v, fmt.Sprint(version, " ")) {
			return true
		}
		put = put || !strings.Contains(k, "/outbox/") && k != "queue"
	}
	return !put
}

// A change by an operator in a customer's tenant is in that tenant's log, too, with where the operator is from.
func TestOperatorsActIsRecordedTwice(t *testing.T) {
	w := newWorld(t)
	operator := w.adminToken(core.SystemTenant)
	w.call(request{method: "PATCH", path: "/api/v1/tenants/acme", tenant: core.SystemTenant, bearer: operator, body: `{"state":"suspended"}`}).want(t, 200)
	w.call(request{method: "PATCH", path: "/api/v1/tenants/acme", tenant: core.SystemTenant, bearer: operator, body: `{"state":"active"}`}).want(t, 200)
	for tenant, home := range map[core.TenantID]core.TenantID{core.SystemTenant: "", acme: core.SystemTenant} {
		rec := w.call(request{method: "GET", path: "/api/v1/audit/log?entityType=tenant&action=update&subject=admin@system.test", tenant: tenant, bearer: w.adminToken(tenant)})
		found := into[api.AuditLog](t, rec.want(t, 200)).Records
		if len(found) != 2 || found[0].Home != home || found[0].URL != "/t/system/api/v1/tenants/acme" || found[0].SubjectType != api.AuditUser {
			t.Errorf("%s: %+v", tenant, found)
		}
	}
}

// No record, in whatever form it is told, holds what proves who somebody is: not what the API was sent nor what it answered.
func TestAuditTellsNoSecret(t *testing.T) {
	w := newWorld(t)
	secrets := map[string]string{"correct horse battery": "a password", "another horse battery": "a password", "canary-client-secret": "a client secret"}
	gather := func(row string, body []byte) {
		var v any
		if json.Unmarshal(body, &v) != nil {
			return
		}
		for name, s := range leaves(v) {
			name = strings.ToLower(name)
			if s != "" && (strings.Contains(name, "secret") || strings.Contains(name, "password") || strings.Contains(name, "link") || strings.Contains(name, "token") || name == "url" && strings.Contains(row, "test")) {
				secrets[s] = row + " " + name
				if _, tail, ok := strings.Cut(s, "#"); ok {
					secrets[tail] = row + " " + name
				}
				if _, tail, ok := strings.Cut(s, "?"); ok {
					secrets[tail] = row + " " + name
				}
			}
		}
	}
	all := samples()
	for _, e := range endpoints() {
		row := e.method + " " + e.path
		sampled := all[row]
		if sampled == nil {
			t.Errorf("%s: no sample", row)
			continue
		}
		s := sampled(w, policy.L1Researcher)
		tenant := tenantOf(e)
		bearer := w.adminToken(tenant)
		secrets[bearer] = "a token"
		body := strings.Replace(s.body, `"clientSecret":"secret"`, `"clientSecret":"canary-client-secret"`, 1)
		rec := w.call(request{method: e.method, path: "/api/v1" + s.path(e), tenant: tenant, bearer: bearer, body: body})
		if e.method != http.MethodGet {
			gather(row, rec.want(t, s.status).Body.Bytes())
		}
	}
	if len(secrets) < 12 {
		t.Errorf("only %d secrets were gathered: %v", len(secrets), slices.Collect(maps.Values(secrets)))
	}
	for _, tenant := range []core.TenantID{acme, core.SystemTenant} {
		_, _, err := audit.Seal(t.Context(), w.DB, tenant, w.Now())
		w.must(err)
		w.group(tenant) // one record is not sealed
		get := func(path string) string {
			return w.call(request{method: "GET", path: "/api/v1" + path, tenant: tenant, bearer: w.adminToken(tenant)}).want(t, 200).Body.String()
		}
		told := []string{get("/audit/log?limit=500"), get("/audit/log/file"), get("/audit/log/file?format=ndjson"), get("/audit/log/file?format=cloudevents")}
		var chain api.AuditChain
		w.must(json.Unmarshal([]byte(get("/audit/chain?limit=500")), &chain))
		for _, l := range chain.Links {
			for _, r := range l.Records {
				told = append(told, string(r.Body))
			}
		}
		for _, r := range chain.Unsealed {
			told = append(told, string(r.Body))
		}
		if len(told) < 10 || !strings.Contains(told[0], "tenant") {
			t.Fatalf("%s: there is nothing to look at", tenant)
		}
		for _, text := range told {
			for secret, what := range secrets {
				if len(secret) >= 8 && strings.Contains(text, secret) {
					t.Errorf("%s: the log tells %s: %.200s", tenant, what, text)
				}
			}
		}
	}
}

// leaves is the strings of a JSON value by the name of the member that they are in.
func leaves(v any) map[string]string {
	out := map[string]string{}
	switch v := v.(type) {
	case map[string]any:
		for k, in := range v {
			if s, ok := in.(string); ok {
				out[k] = s
				continue
			}
			maps.Copy(out, leaves(in))
		}
	case []any:
		for _, in := range v {
			maps.Copy(out, leaves(in))
		}
	}
	return out
}

// The filters of the log, one by one and together, and what is wrong with one is named.
func TestAuditFilters(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	start := w.Now()
	w.pass(time.Second)
	w.as(admin, "POST", "/groups", `{"name":"one"}`).want(t, 201)
	w.pass(time.Second)
	east := w.cluster(acme)
	w.as(admin, "PUT", "/clusters/"+string(east.Cluster), `{"name":"renamed","server":"https://api.example.test:6443"}`).want(t, 200)
	w.pass(time.Second)
	denied := w.as(w.appToken(acme, w.app(acme)), "DELETE", "/groups/one", "").want(t, 403)
	id := denied.Header().Get("X-Request-ID")
	for query, want := range map[string]string{
		"entityType=group":                                            "group one Failed, group one Succeeded",
		"entityType=group&result=Failed":                              "group one Failed",
		"requestId=" + id:                                             "group one Failed",
		"filterBy=httpStatusCode>=400":                                "group one Failed",
		"filterBy=http_status_code>=400,entity_type==group":           "group one Failed",
		"filterBy=request_id==" + id:                                  "group one Failed",
		"sortBy=entity_type&filterBy=entity_id==one,result==Failed":   "group one Failed",
		"filterBy=entityType==cluster,action==update":                 "cluster renamed Succeeded",
		"clusterId=" + string(east.Cluster) + "&action=update":        "cluster renamed Succeeded",
		"search=RENAMED":                                              "cluster renamed Succeeded",
		"subject=admin@acme.test&sortOrder=asc":                       "group one Succeeded, cluster renamed Succeeded",
		"entityId=one&to=" + rfc(start.Add(2*time.Second)):            "group one Succeeded",
		"entityId=one&start=" + rfc(start.Add(1500*time.Millisecond)): "group one Failed",
		"entityId=one&from=" + rfc(start.Add(time.Second)) + "&end=" + rfc(start.Add(time.Second+time.Millisecond)): "group one Succeeded",
		"filterBy=timestamp>=" + rfc(start.Add(time.Second)) + "&entityId=one&sortBy=result":                        "group one Failed, group one Succeeded",
		"entityId=nothing": "",
	} {
		var got []string
		for _, r := range post[api.AuditLog](w, admin, "GET", "/audit/log?"+query, nil, 200).Records {
			got = append(got, r.EntityType+" "+cmpOr(r.EntityName, r.EntityID)+" "+r.Result)
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s: %q, want %q", query, s, want)
		}
	}
	for query, field := range map[string]string{
		"action=steal": "action", "result=failed": "result", "subject=": "subject", "from=yesterday": "from", "to=2026-05-04": "to", "start=1": "start",
		"from=" + rfc(start) + "&start=" + rfc(start): "start", "filterBy=secret==x": "filterBy", "sortBy=x": "sortBy", "sortOrder=up": "sortOrder", "entityType=%00": "entityType",
	} {
		if f := w.as(admin, "GET", "/audit/log?"+query, "").want(t, 400).failure(t); f.Details.Field != field {
			t.Errorf("%s: names %q, want %q", query, f.Details.Field, field)
		}
	}
	w.as(admin, "GET", "/audit/log/file?format=xml", "").want(t, 400)
	for _, after := range []string{"", "x", "-1", "01", "1.0", "18446744073709551616"} {
		w.as(admin, "GET", "/audit/chain?after="+after, "").want(t, 400)
	}
}

func rfc(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// The log is for who may view the history of events in the whole account, and for nobody else: not even for the
// administrator of everything in a cluster, or a department.
func TestAuditIsForTheAccount(t *testing.T) {
	w := newWorld(t)
	cluster := w.cluster(acme)
	for _, path := range []string{"/audit/log", "/audit/log/file", "/audit/chain", "/audit/chain/places"} {
		w.as(w.appToken(acme, w.caller(acme, policy.SystemAdministrator, cluster.ID)), "GET", path, "").want(t, 403)
		w.as(w.appToken(acme, w.caller(acme, policy.SystemAdministrator, core.AccountScope(acme))), "GET", path, "").want(t, 200)
	}
}

// A filter that finds little looks at a bounded number of records and leads on.
func TestAuditFilterIsBounded(t *testing.T) {
	w := newWorld(t)
	w.group(acme)
	for range 30 { // 3000 records in all
		var ops []store.Op
		for range store.MaxOps {
			w.pass(time.Millisecond)
			op, err := audit.Op(core.SystemActor(acme), w.Now(), audit.Record{Action: audit.SignIn, EntityType: audit.EntitySession})
			w.must(err)
			ops = append(ops, op)
		}
		w.must(w.DB.Commit(t.Context(), ops...))
	}
	admin := w.adminToken(acme)
	first := post[api.AuditLog](w, admin, "GET", "/audit/log?entityType=group&cursor=", nil, 200)
	if len(first.Records) != 0 || first.Next == "" {
		t.Fatalf("%d records, next %q: want none, and where to go on", len(first.Records), first.Next)
	}
	if all := post[api.AuditLog](w, admin, "GET", "/audit/log?entityType=group", nil, 200); len(all.Records) != 1 || all.Next != "" {
		t.Errorf("without a cursor: %d records, next %q", len(all.Records), all.Next)
	}
	second := post[api.AuditLog](w, admin, "GET", "/audit/log?entityType=group&cursor="+first.Next, nil, 200)
	if len(second.Records) != 1 || second.Next != "" {
		t.Errorf("then %d records, next %q", len(second.Records), second.Next)
	}
	for _, path := range []string{"/audit/log?entityType=user&cursor=", "/audit/log/file?entityType=group&cursor=", "/audit/chain/places?cursor="} {
		if f := w.as(admin, "GET", path+first.Next, "").want(t, 400).failure(t); f.Details.Field != "cursor" {
			t.Errorf("a cursor of another question at %s: %+v", path, f)
		}
	}
}

// The forms of the export. No cell of a CSV begins a formula.
func TestAuditFile(t *testing.T) {
	w := newWorld(t)
	names := []string{"=1+1", "+1", "-1", "@SUM(A1)", `say "hi", you`, "plain"}
	for _, n := range names {
		w.as(w.adminToken(acme), "POST", "/groups", encode(t, api.GroupRequest{Name: n})).want(t, 201)
		w.pass(time.Second)
	}
	get := func(format, media string) string {
		rec := w.as(w.adminToken(acme), "GET", "/audit/log/file?entityType=group&format="+format, "").want(t, 200)
		if got := rec.Header().Get("Content-Type"); !strings.HasPrefix(got, media) || rec.Header().Get(api.HeaderNext) != "" {
			t.Errorf("%s: %s, next %q", format, got, rec.Header().Get(api.HeaderNext))
		}
		return rec.Body.String()
	}
	raw := get("csv", "text/csv")
	rows, err := csv.NewReader(strings.NewReader(raw)).ReadAll()
	if err != nil || len(rows) != 1+len(names) || !slices.Equal(rows[0], api.AuditColumns) || strings.Count(raw, "\r\n") != len(rows) {
		t.Fatalf("csv: %q, %v", raw, err)
	}
	at := slices.Index(api.AuditColumns, "entity_id")
	for i, row := range rows[1:] {
		for _, cell := range row {
			if cell != "" && strings.Contains("=+-@", cell[:1]) {
				t.Errorf("the cell %q begins a formula", cell)
			}
		}
		if strings.TrimPrefix(row[at], "'") != names[i] {
			t.Errorf("row %d is of %q, want %q: the oldest come first", i, row[at], names[i])
		}
	}
	lines := slices.Collect(strings.Lines(get("ndjson", "application/x-ndjson")))
	var batch []event.Event
	w.must(json.Unmarshal([]byte(get("cloudevents", "application/cloudevents-batch+json")), &batch))
	if len(lines) != len(names) || len(batch) != len(names) {
		t.Fatalf("%d lines, %d events", len(lines), len(batch))
	}
	for i, e := range batch {
		var line, data api.AuditRecord
		w.must(json.Unmarshal([]byte(lines[i]), &line, json.RejectUnknownMembers(true)))
		w.must(json.Unmarshal(e.Data(), &data, json.RejectUnknownMembers(true)))
		if err := e.Validate(); err != nil || e.Type() != "dev.fleetpass.audit.recorded.v1" || e.Source() != "/t/acme" || e.ID() != data.ID || !e.Time().Equal(data.Timestamp) ||
			e.Subject() != "group/"+names[i] || encode(t, line) != encode(t, data) || line.EntityID != names[i] || e.Extensions()["request"] != string(data.Request) {
			t.Errorf("event %d: %v, %v", i, e, err)
		}
	}
	for format, want := range map[string]string{"csv": strings.Join(api.AuditColumns, ",") + "\r\n", "ndjson": "", "cloudevents": "[]\n"} {
		if got := w.as(w.adminToken(acme), "GET", "/audit/log/file?subject=nobody&format="+format, "").want(t, 200).Body.String(); got != want {
			t.Errorf("%s of nothing: %q", format, got)
		}
	}
}
