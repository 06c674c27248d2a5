package admin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/strict"
	"github.com/fleetpass/fleetpass/core/web"
)

// maxBody bounds the body of a request, in bytes. The longest legitimate one is a cluster with a bundle of certificates.
const maxBody = 32 << 10

// reasonHeader says why a change is made, for the audit log.
const reasonHeader = "X-Request-Reason"

// maxQuery bounds the query of a request, in bytes.
const maxQuery = 8 << 10

// call is one authenticated request.
type call struct {
	*Deps
	ctx    context.Context
	w      http.ResponseWriter
	r      *http.Request
	now    time.Time
	tenant core.TenantID
	actor  core.Actor
	meta   org.Tenant
	user   directory.User        // of a person
	app    directory.Application // of an application
	key    core.ApplicationID    // of a person whose token was made with an access key
	params url.Values
	body   []byte    // of the request
	scope  org.Scope // the scope {id}, where the row of the table says inScope
}

// reply is a successful answer. A reply without a body is 204.
type reply struct {
	status int
	json   any
	raw    []byte // JSON that is there already
	yaml   []byte
	file   *file
	next   string // of a list: the cursor of the next page
	denied error  // of a batch that was carried out in part: why something was refused
	total  int    // of a list: how many match in all
	list   bool
	dry    bool // nothing was changed: what a change would do
}

// file is an answer that is neither JSON nor YAML.
type file struct {
	media string
	body  []byte
}

func ok(v any) (reply, error)         { return reply{status: http.StatusOK, json: v}, nil }
func created(v any) (reply, error)    { return reply{status: http.StatusCreated, json: v}, nil }
func accepted() (reply, error)        { return reply{status: http.StatusAccepted, json: struct{}{}}, nil }
func noContent() (reply, error)       { return reply{status: http.StatusNoContent}, nil }
func yaml(doc []byte) (reply, error)  { return reply{status: http.StatusOK, yaml: doc}, nil }
func failed(err error) (reply, error) { return reply{}, err }

// serve is the frame of every call: who is it, may they, what do they say, do it, answer. Each step ends the call if it
// fails, and nothing is changed before the last but one.
func (e endpoint) serve(d *Deps) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{Deps: d, ctx: r.Context(), w: w, r: r, now: d.Now()}
		rep, err := c.run(e)
		if err != nil {
			web.Fail(w, r, err)
			return
		}
		switch {
		case rep.yaml != nil:
			w.Header().Set("Content-Type", "application/yaml")
			w.WriteHeader(rep.status)
			_, _ = w.Write(rep.yaml) // the client went away; there is nobody to tell
		case rep.file != nil:
			w.Header().Set("Content-Type", rep.file.media)
			if rep.next != "" {
				w.Header().Set(api.HeaderNext, rep.next)
			}
			w.WriteHeader(rep.status)
			_, _ = w.Write(rep.file.body)
		case rep.raw != nil:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(rep.status)
			_, _ = w.Write(rep.raw)
		case rep.json != nil:
			if rep.list && rep.total >= 0 {
				w.Header().Set(api.HeaderTotal, strconv.Itoa(rep.total))
			}
			if rep.next != "" {
				w.Header().Set(api.HeaderNext, rep.next)
			}
			web.JSON(w, rep.status, rep.json)
		default:
			w.WriteHeader(rep.status)
		}
	}
}

func (c *call) run(e endpoint) (reply, error) {
	if err := c.authenticate(); err != nil {
		return reply{}, err
	}
	c.actor.Via = core.Via{Method: e.method, Path: c.r.URL.Path, Status: e.status}
	rep, err := c.carryOut(e)
	if denial := cmp.Or(rep.denied, err); errors.Is(denial, core.Denied) && e.method != http.MethodGet {
		c.recordDenial(e, denial)
	}
	return rep, err
}

// carryOut is what is done for a caller who is known.
func (c *call) carryOut(e endpoint) (reply, error) {
	if err := c.authorize(e.need); err != nil {
		return reply{}, err
	}
	if err := c.readQuery(e.query); err != nil {
		return reply{}, err
	}
	cond, err := readConditions(c.r, e)
	if err != nil {
		return reply{}, err
	}
	if c.actor.Reason, err = readReason(c.r); err != nil {
		return reply{}, err
	}
	if err := c.readBody(e); err != nil {
		return reply{}, err
	}
	if e.object != nil && (cond.match != nil || e.method == http.MethodGet) {
		return c.conditionally(e, cond)
	}
	rep, err := c.readIdempotencyKey(e, c.body)
	switch {
	case err != nil:
		return reply{}, err
	case rep != nil && c.params.Get(dryRun) != "true": // which makes nothing
		if e.need.in == byHandler { // whoever lost every right since is not shown what it made
			if err := c.holdsSomewhere(e.need.entity, e.need.action); err != nil {
				return reply{}, err
			}
		}
		return c.once(rep, func() (reply, error) { return e.do(c) })
	}
	return e.do(c)
}

// readBody takes the request's body in, so that it can be read more than once. What it says, decode finds out.
func (c *call) readBody(e endpoint) error {
	limit := cmp.Or(e.body, maxBody)
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, int64(limit)))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fmt.Errorf("the body is over %d bytes: %w", limit, core.TooLarge)
	case err != nil:
		return core.BadField(strict.Body, "ended before it was complete")
	}
	c.body = data
	if e.in == nil {
		return c.noBody()
	}
	return nil
}

// decode reads the request's body, strictly.
func decode[T any](c *call) (T, error) {
	r := *c.r
	r.Body = io.NopCloser(bytes.NewReader(c.body))
	return web.Decode[T](c.w, &r, max(len(c.body), 1))
}

// noBody refuses a body where there is nothing to say, but for an empty object, which some clients always send.
func (c *call) noBody() error {
	if len(c.body) == 0 {
		return nil
	}
	return strict.JSON(c.body, maxBody, &struct{}{})
}

// readQuery reads the parameters of the request. Each may be given once, but for subjectIds and filterBy, which may have [] behind
// their names, as some clients write lists; one that is unknown, or that
// the API has and this version does not understand, is refused by name and never passed over: a filter that is ignored
// gives an answer that looks right.
func (c *call) readQuery(known []string) error {
	if len(c.r.URL.RawQuery) > maxQuery {
		return fmt.Errorf("the query is over %d bytes: %w", maxQuery, core.TooLarge)
	}
	params, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return core.BadField("query", "must be percent-encoded name=value pairs joined with &")
	}
	if v := params[filterBy+"[]"]; len(v) > 0 && slices.Contains(known, filterBy) {
		params[filterBy] = append(params[filterBy], v...)
		delete(params, filterBy+"[]")
	}
	names := make([]string, 0, len(params))
	for name := range params {
		names = append(names, name)
	}
	slices.Sort(names) // so that of several faults, always the same one is named
	for _, name := range names {
		shown := name
		if len(shown) > 64 {
			shown = shown[:64]
		}
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return core.BadField(strings.ToValidUTF8(shown, "?"), "is not a parameter of this call, which has none")
		case !slices.Contains(known, name):
			return core.BadField(strings.ToValidUTF8(shown, "?"), "is not a parameter that is understood here; these are: "+strings.Join(known, ", "))
		case len(params[name]) > 1 && name != "subjectIds" && name != "subjectIds[]" && name != filterBy:
			return core.BadField(name, "appears twice; give it once")
		}
	}
	c.params = params
	return nil
}

// number is a parameter that is a number from min to max.
func (c *call) number(name string, absent, min, max int) (int, error) {
	if !c.params.Has(name) {
		return absent, nil
	}
	s := c.params.Get(name)
	n, err := strconv.Atoi(s)
	if err != nil || n < min || n > max || strconv.Itoa(n) != s {
		return 0, core.BadField(name, fmt.Sprintf("must be a number from %d to %d", min, max))
	}
	return n, nil
}

// flag is a parameter that is true or false.
func (c *call) flag(name string) (bool, error) {
	switch c.params.Get(name) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "":
		if !c.params.Has(name) {
			return false, nil
		}
	}
	return false, core.BadField(name, `must be "true" or "false"`)
}

// maxOffset bounds how far into a list a caller may ask to go by number: all that is passed over is read.
const maxOffset = maxSifted

// paging reads the parameters limit and offset.
func (c *call) paging() (limit, offset int, err error) {
	if limit, err = c.number("limit", api.DefaultLimit, 1, api.MaxLimit); err != nil {
		return 0, 0, err
	}
	if offset, err = c.number("offset", 0, 0, maxPassed); err == nil && offset > maxOffset {
		err = fmt.Errorf("offset: at most %d entries can be passed over; go on from there with the cursor that answers give, which "+
			"goes as far as the list does: %w", maxOffset, core.Limit)
	}
	return limit, offset, err
}

// each is the wire form of every entry; never nil, so that an empty list is [] on the wire.
func each[T, W any](list []T, wire func(T) W) []W {
	out := make([]W, 0, len(list))
	for _, v := range list {
		out = append(out, wire(v))
	}
	return out
}

// by says who made something, as the API does: an e-mail or a client id.
func by(s core.Subject) string { return s.ID }
