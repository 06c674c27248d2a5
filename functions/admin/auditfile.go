package admin

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

// The bounds of an exported file. A longer export is several: the header X-Next-Cursor leads from one to the next.
const (
	fileRecords = 5000
	fileBytes   = 4 << 20 // AWS Lambda answers with 6 MB at most
)

// auditFormat is a form in which the log is exported.
type auditFormat struct {
	media        string
	open         string                                        // what the file begins with
	record       func([]byte, api.AuditRecord) ([]byte, error) // appends a record
	between, end string
}

var auditFormats = map[string]auditFormat{
	"csv":         {media: "text/csv; charset=utf-8; header=present", open: csvLine(api.AuditColumns), record: appendCSV},
	"ndjson":      {media: "application/x-ndjson", record: appendJSON, between: "\n", end: "\n"},
	"cloudevents": {media: "application/cloudevents-batch+json; charset=utf-8", open: "[", record: appendCloudEvent, between: ",\n", end: "]\n"},
}

// exportAudit is the log as a file, the oldest record first.
func exportAudit(c *call) (reply, error) {
	format := "csv"
	if c.params.Has("format") {
		format = c.params.Get("format")
	}
	form, ok := auditFormats[format]
	if !ok {
		return failed(core.BadField("format", `must be "csv", "ndjson" or "cloudevents"`))
	}
	found, l, err := c.auditPage(fileTable, fileRecords)
	if err != nil {
		return failed(err)
	}
	body := []byte(form.open)
	for i, r := range found.values {
		n := len(body)
		if i > 0 {
			body = append(body, form.between...)
		}
		if body, err = form.record(body, wireAudit(r)); err != nil {
			return failed(err)
		}
		if len(body) > fileBytes && i > 0 {
			body, found.next = body[:n], l.cursor(found.values[i-1].Key.Sort(), l.passed+i, 0)
			break
		}
	}
	if len(found.values) > 0 || form.open != "" {
		body = append(body, form.end...)
	}
	return reply{status: http.StatusOK, file: &file{media: form.media, body: body}, next: found.next}, nil
}

func appendJSON(b []byte, r api.AuditRecord) ([]byte, error) {
	data, err := json.Marshal(r, json.Deterministic(true))
	return append(b, data...), err
}

// cloudEvent is a record in the JSON format of CloudEvents 1.0.2, with the names that package events gives its facts.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"` // what was acted on
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Request         core.RequestID  `json:"request,omitzero"`
	Data            api.AuditRecord `json:"data"`
}

// auditEventType never changes its meaning: what is incompatible gets another number.
const auditEventType = "dev.fleetpass.audit.recorded.v1"

func appendCloudEvent(b []byte, r api.AuditRecord) ([]byte, error) {
	data, err := json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: r.ID, Source: "/t/" + string(r.Tenant), Type: auditEventType, Subject: r.EntityType + "/" + r.EntityID,
		Time: r.Timestamp, DataContentType: "application/json", Request: r.Request, Data: r,
	}, json.Deterministic(true))
	return append(b, data...), err
}

func appendCSV(b []byte, r api.AuditRecord) ([]byte, error) {
	status := ""
	if r.Status != 0 {
		status = strconv.Itoa(r.Status)
	}
	cells := map[string]string{
		"id": r.ID, "timestamp": r.Timestamp.Format(time.RFC3339Nano), "tenant": string(r.Tenant), "home": string(r.Home),
		"subject": r.Subject, "subject_type": string(r.SubjectType), "user_id": string(r.UserID), "source_ip": r.SourceIP,
		"action": r.Action, "http_method": r.HTTPMethod, "url": r.URL,
		"entity_type": r.EntityType, "entity_name": r.EntityName, "entity_id": r.EntityID, "scope": string(r.Scope),
		"result": r.Result, "http_status_code": status, "cluster": string(r.Cluster), "request_id": string(r.Request),
		"reason": r.Reason, "comment": r.Comment, "kubernetes_audit_ids": strings.Join(r.KubernetesAuditIDs, " "),
	}
	row := make([]string, len(api.AuditColumns))
	for i, name := range api.AuditColumns {
		cell, ok := cells[name]
		if !ok {
			return b, fmt.Errorf("admin: column %s of the audit log has no value", name)
		}
		row[i] = inert(cell)
	}
	return append(b, csvLine(row)...), nil
}

// inert keeps a spreadsheet from taking a cell for a formula, which could send the sheet elsewhere: whoever chose the name
// of an object or a group chose the cell.
func inert(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

// csvLine is one line of RFC 4180.
func csvLine(cells []string) string {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	_ = w.Write(cells) // a buffer takes everything
	w.Flush()
	return b.String()
}
