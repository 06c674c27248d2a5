package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
)

func (a *app) auditVerifyCommand() *cobra.Command {
	var server, written string
	c := &cobra.Command{
		Use: "verify", Short: "Prove that nobody changed the audit log", Args: cobra.NoArgs,
		Long: `Fetches every record and every link of the hash chain as they are stored, and computes every hash here: the server is not
asked whether its log is right. The first fault is told: a record or a link that was changed by as little as a byte,
removed, or added past the seal. The exit code is 1 then.

Somebody who can write the whole store could also remove the newest links together with their records, or compute a new
chain. Neither shows by itself. So write the head down, somewhere else, and give it the next time with --head: then both
show. (The server's own log has every head too, once a minute.)

Records are sealed each minute. What is not sealed yet is counted, and proven by nothing.`,
		Example: "  fleetpass audit verify --head 1204:5f0c…",
		RunE: func(c *cobra.Command, _ []string) error {
			head, err := parseHead("--head", written)
			if err != nil {
				return err
			}
			return a.withLongClient(c.Context(), server, func(ctx context.Context, acc *account, client *api.Client) error {
				return a.verifyAudit(ctx, client, head)
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	c.Flags().StringVar(&written, "head", "", "a `NUMBER:HASH` that an earlier run printed: the chain must still hold it")
	return c
}

func formatHead(h audit.Head) string { return strconv.FormatUint(h.N, 10) + ":" + h.Hash }

// parseHead reads what formatHead wrote; empty is no head.
func parseHead(flag, s string) (audit.Head, error) {
	if s == "" {
		return audit.Head{}, nil
	}
	number, hash, _ := strings.Cut(s, ":")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n == 0 || len(hash) != 64 || strings.Trim(hash, "0123456789abcdef") != "" {
		return audit.Head{}, core.BadField(flag, "must be NUMBER:HASH as fleetpass audit verify printed it: the number of a link and 64 hexadecimal digits")
	}
	return audit.Head{N: n, Hash: hash}, nil
}

// verdict is what audit verify found, for programs.
type verdict struct {
	Tenant       core.TenantID `json:"tenant"`
	Intact       bool          `json:"intact"`
	Links        uint64        `json:"links"`
	Records      int           `json:"records"`       // that the links name and that are as they were sealed
	Head         string        `json:"head,omitzero"` // to write down
	Unsealed     int           `json:"unsealed"`      // records that nothing proves yet
	MoreUnsealed bool          `json:"moreUnsealed,omitzero"`
	Since        time.Time     `json:"unsealedSince,omitzero"`
	Fault        *auditFault   `json:"fault,omitzero"`
}

type auditFault struct {
	Link    uint64 `json:"link,omitzero"`   // at fault, or that names the record at fault
	Record  string `json:"record,omitzero"` // its place in the log: its time and its id
	What    string `json:"what"`
	Message string `json:"message"`
}

// verifyAudit walks the log of the client's tenant, and fails with exit code 1 if something is wrong with it.
func (a *app) verifyAudit(ctx context.Context, client *api.Client, head audit.Head) error {
	_, id, _ := strings.Cut(client.Server, "/t/")
	tenant, err := core.ParseTenantID("--server", id)
	if err != nil {
		return err
	}
	shown := false
	r, err := audit.Walk(ctx, &distantLog{client: client}, audit.NewVerifier(tenant, head), func(r audit.Report) {
		if a.terminal && a.output == "" {
			shown = true
			fmt.Fprintf(a.err, "\r%d links, %d records", r.Head.N, r.Sealed)
		}
	})
	if shown {
		fmt.Fprint(a.err, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	v := verdict{
		Tenant: tenant, Intact: r.Fault == nil, Links: r.Head.N, Records: r.Sealed,
		Unsealed: r.Unsealed, MoreUnsealed: r.MoreUnsealed, Since: r.Since,
	}
	if r.Head.N > 0 {
		v.Head = formatHead(r.Head)
	}
	if f := r.Fault; f != nil {
		shown := &audit.Fault{Link: f.Link, Record: readable(f.Record), What: f.What}
		v.Fault = &auditFault{f.Link, shown.Record, f.What, strings.TrimPrefix(shown.Error(), "audit: ")}
	}
	if err := a.print(v, func(w io.Writer) { a.showVerdict(w, v) }); err != nil {
		return err
	}
	if v.Fault != nil {
		return exitCode(1)
	}
	return nil
}

// readable spells a record's place with a slash between its parts.
func readable(place string) string { return strings.ReplaceAll(place, "\x1f", "/") }

func (a *app) showVerdict(w io.Writer, v verdict) {
	if v.Fault != nil {
		fmt.Fprintln(w, a.tick(false), clean(capital(v.Fault.Message))+".")
		fmt.Fprintf(w, "  What is before it, %d links with %d records, is as it was sealed; nothing behind it was looked at.\n", v.Links, v.Records)
		return
	}
	fmt.Fprintln(w, a.tick(true), "The audit log of", v.Tenant, "is as it was sealed.")
	rows := [][]string{{"links", strconv.FormatUint(v.Links, 10)}, {"records", strconv.Itoa(v.Records)}, {"head", v.Head}, {"not sealed yet", unsealed(v)}}
	table(w, rows)
	if v.Head != "" {
		fmt.Fprintln(w, "Write the head down somewhere else: given with --head, it shows later if the newest links were cut off, or the chain made anew.")
	}
}

func unsealed(v verdict) string {
	switch {
	case v.Unsealed == 0:
		return "none"
	case v.MoreUnsealed:
		return fmt.Sprintf("over %d, since %s", v.Unsealed, v.Since.Local().Format("2006-01-02 15:04:05"))
	}
	return fmt.Sprintf("%d, since %s", v.Unsealed, v.Since.Local().Format("2006-01-02 15:04:05"))
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// distantLog is the log behind the API. All that is believed of its answers is which bytes are stored.
type distantLog struct {
	client *api.Client
	next   string // the cursor of the next page of places
}

// Chain implements audit.Source.
func (d *distantLog) Chain(ctx context.Context, after uint64) (audit.ChainPage, error) {
	got, err := d.client.AuditChain(ctx, after)
	if err != nil {
		return audit.ChainPage{}, err
	}
	page := audit.ChainPage{More: got.More, Unsealed: stored(got.Unsealed), MoreUnsealed: got.MoreUnsealed}
	for _, l := range got.Links {
		page.Links = append(page.Links, audit.StoredLink{Stored: audit.Stored{Sort: string(l.Place), Body: l.Body}, Records: stored(l.Records)})
	}
	return page, nil
}

func stored(list []api.AuditStored) []audit.Stored {
	out := make([]audit.Stored, len(list))
	for i, s := range list {
		out[i] = audit.Stored{Sort: string(s.Place), Body: s.Body}
	}
	return out
}

// Places implements audit.Source.
func (d *distantLog) Places(ctx context.Context, after string) (sorts []string, more bool, err error) {
	if after == "" {
		d.next = ""
	}
	got, err := d.client.AuditPlaces(ctx, d.next)
	if err != nil {
		return nil, false, err
	}
	for _, p := range got.Places {
		sorts = append(sorts, string(p))
	}
	d.next = got.Next
	return sorts, d.next != "", nil
}
