package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

func (a *app) auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "audit", Short: "See who did what, export it, and prove that nobody changed it",
		Long: `Every change, sign-in and refusal leaves a record. Each minute the new records are sealed into the tenant's hash chain, so
that a record that is changed, removed or slipped in later shows.`,
	}
	c.AddCommand(a.auditLogCommand(), a.auditExportCommand(), a.auditVerifyCommand())
	return c
}

// longWithin bounds what reads a whole log. Every single request has its own, shorter bound.
const longWithin = 2 * time.Hour

// withLongClient is withClient for what reads a whole log.
func (a *app) withLongClient(ctx context.Context, server string, do func(context.Context, *account, *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, longWithin)
	defer cancel()
	acc, err := a.open(server)
	if err != nil {
		return err
	}
	return do(ctx, acc, acc.client())
}

// recordFlags say which records are asked for.
type recordFlags struct{ from, to, subject, action, entity, result, request, cluster, search string }

func (f *recordFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.from, "from", "", "since `when`: that long ago, such as 24h or 7d, or from 2026-12-31T18:00:00Z on")
	c.Flags().StringVar(&f.to, "to", "", "until `when`, in the same spelling")
	c.Flags().StringVar(&f.subject, "subject", "", "by whom: an e-mail or a client `id`")
	c.Flags().StringVar(&f.action, "action", "", "`what`: create, update, delete, sign-in, sign-out or reset-password")
	c.Flags().StringVar(&f.entity, "entity", "", "on what: a `TYPE` such as user or access-rule, or TYPE/ID")
	c.Flags().StringVar(&f.result, "result", "", "`how` it ended: Succeeded or Failed")
	c.Flags().StringVar(&f.request, "request", "", "of the request with that `id`")
	c.Flags().StringVar(&f.cluster, "cluster", "", "in the cluster with that `id`")
	c.Flags().StringVar(&f.search, "search", "", "with that `text` in it")
}

func (f *recordFlags) query(now time.Time) (url.Values, error) {
	q := url.Values{}
	for _, bound := range []struct{ param, value string }{{"from", f.from}, {"to", f.to}} {
		if bound.value == "" {
			continue
		}
		t, err := parsePast("--"+bound.param, bound.value, now)
		if err != nil {
			return nil, err
		}
		q.Set(bound.param, t.Format(time.RFC3339Nano))
	}
	kind, id, _ := strings.Cut(f.entity, "/")
	for param, value := range map[string]string{
		"subject": f.subject, "action": f.action, "entityType": kind, "entityId": id, "result": f.result,
		"requestId": f.request, "clusterId": f.cluster, "search": f.search,
	} {
		if value != "" {
			q.Set(param, value)
		}
	}
	return q, nil
}

// parsePast reads how long ago something was, with d for days of 24 hours, or a time of RFC 3339.
func parsePast(flag, s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || d < 0 {
		return time.Time{}, core.BadField(flag, "must be how long ago, such as 24h or 7d, or a time such as 2026-12-31T18:00:00Z")
	}
	return now.Add(-d).UTC().Truncate(time.Millisecond), nil
}

func (a *app) auditLogCommand() *cobra.Command {
	var server string
	var which recordFlags
	var limit int
	c := &cobra.Command{
		Use: "log", Short: "List who did what, the newest first", Args: cobra.NoArgs,
		Example: `  fleetpass audit log --from 24h --result Failed
  fleetpass audit log --entity access-rule --subject ada@example.com`,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return core.BadField("--limit", "must be at least 1")
			}
			query, err := which.query(time.Now())
			if err != nil {
				return err
			}
			query.Set("limit", strconv.Itoa(min(limit, api.MaxLimit)))
			return a.withLongClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				list := []api.AuditRecord{}
				for rec, err := range client.AuditLog(ctx, query) {
					if err != nil {
						return err
					}
					if list = append(list, rec); len(list) == limit {
						break
					}
				}
				return a.print(list, func(w io.Writer) { showRecords(w, list) })
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	which.add(c)
	c.Flags().IntVarP(&limit, "limit", "n", api.DefaultLimit, "`how many`, at most")
	return c
}

func showRecords(w io.Writer, list []api.AuditRecord) {
	if len(list) == 0 {
		fmt.Fprintln(w, "No records.")
		return
	}
	rows := [][]string{{"TIME", "WHO", "DID", "WHAT", "RESULT", "FROM", "WHY"}}
	for _, r := range list {
		who := r.Subject
		if r.Home != "" {
			who += " (" + string(r.Home) + ")"
		}
		why := slices.DeleteFunc([]string{r.Reason, r.Comment}, func(s string) bool { return s == "" })
		rows = append(rows, []string{r.Timestamp.Local().Format("2006-01-02 15:04:05"), who, r.Action, r.EntityType + " " + orElse(r.EntityName, r.EntityID),
			r.Result, r.SourceIP, strings.Join(why, "; ")})
	}
	table(w, rows)
}

func (a *app) auditExportCommand() *cobra.Command {
	var server, format string
	var which recordFlags
	c := &cobra.Command{
		Use: "export", Short: "Write the audit log to standard output, the oldest record first", Args: cobra.NoArgs,
		Long: `Writes the audit log to standard output, the oldest record first: as csv with a heading (cells that a spreadsheet would take
for a formula begin with an apostrophe), as ndjson with one record a line, or as cloudevents, a batch of CloudEvents 1.0.`,
		Example: "  fleetpass audit export --format csv --from 30d > audit.csv",
		RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"csv", "ndjson", "cloudevents"}, format) {
				return core.BadField("--format", "must be csv, ndjson or cloudevents")
			}
			query, err := which.query(time.Now())
			if err != nil {
				return err
			}
			query.Set("format", format)
			return a.withLongClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				return export(ctx, client, query, a.out)
			})
		},
	}
	serverFlag(c, &server)
	which.add(c)
	c.Flags().StringVar(&format, "format", "csv", "`csv`, ndjson or cloudevents")
	return c
}

// export writes the parts of a file as one: one heading, one batch.
func export(ctx context.Context, client *api.Client, query url.Values, w io.Writer) error {
	heading := []byte(strings.Join(api.AuditColumns, ",") + "\r\n")
	batch, events := query.Get("format") == "cloudevents", 0
	query.Set("cursor", "") // from the beginning, in steps
	for part := 0; ; part++ {
		data, next, err := client.AuditFile(ctx, query)
		if err != nil {
			return err
		}
		if part > 0 {
			data = bytes.TrimPrefix(data, heading) // of csv; nothing else begins so
		}
		if batch {
			if data, err = moreEvents(data, &events); err != nil {
				return fmt.Errorf("%s answers with something else than a batch of CloudEvents: %w", client.Server, err)
			}
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		if next == "" {
			break
		}
		query.Set("cursor", next)
	}
	if !batch {
		return nil
	}
	end := "\n]\n"
	if events == 0 {
		end = "[]\n"
	}
	_, err := io.WriteString(w, end)
	return err
}

// moreEvents is the events of another batch, to be written behind n others of one batch.
func moreEvents(data []byte, n *int) ([]byte, error) {
	var list []jsontext.Value
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	var out []byte
	for _, event := range list {
		before := ",\n"
		if *n == 0 {
			before = "[\n"
		}
		out = append(append(out, before...), event...)
		*n++
	}
	return out, nil
}
