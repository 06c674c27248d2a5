package admin

import (
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
	params url.Values
	scope  org.Scope // the scope {id}, where the row of the table says inScope
}

// reply is a successful answer. A reply without a body is 204.
type reply struct {
	status int
	json   any
	yaml   []byte
	total  int // of a list: how many match in all
	list   bool
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
		case rep.json != nil:
			if rep.list {
				w.Header().Set(api.HeaderTotal, strconv.Itoa(rep.total))
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
	if err := c.authorize(e.need); err != nil {
		return reply{}, err
	}
	if err := c.readQuery(e.query); err != nil {
		return reply{}, err
	}
	if e.method == http.MethodGet || e.method == http.MethodDelete {
		if err := c.noBody(); err != nil {
			return reply{}, err
		}
	}
	return e.do(c)
}

// decode reads the request's body, strictly.
func decode[T any](c *call) (T, error) { return web.Decode[T](c.w, c.r, maxBody) }

// noBody refuses a body where there is nothing to say, but for an empty object, which some clients always send.
func (c *call) noBody() error {
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fmt.Errorf("the body is over %d bytes: %w", maxBody, core.TooLarge)
	case err != nil:
		return core.BadField(strict.Body, "ended before it was complete")
	case len(data) == 0:
		return nil
	}
	return strict.JSON(data, maxBody, &struct{}{})
}

// readQuery reads the parameters of the request. Each may be given once, but for subjectIds; one that is unknown, or that
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
		case len(params[name]) > 1 && name != "subjectIds":
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

// maxOffset bounds how far into a list a caller may ask to go.
const maxOffset = 1 << 30

// paging reads the parameters limit and offset.
func (c *call) paging() (limit, offset int, err error) {
	if limit, err = c.number("limit", api.DefaultLimit, 1, api.MaxLimit); err != nil {
		return 0, 0, err
	}
	offset, err = c.number("offset", 0, 0, maxOffset)
	return limit, offset, err
}

// page cuts the part out of a list that the parameters limit and offset ask for.
func page[T any](c *call, all []T) ([]T, error) {
	limit, offset, err := c.paging()
	if err != nil {
		return nil, err
	}
	offset = min(offset, len(all))
	return all[offset:min(offset+limit, len(all))], nil
}

// listed answers with a page of a list, each entry in its wire form.
func listed[T, W any](c *call, all []T, wire func(T) W) (reply, error) {
	part, err := page(c, all)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, json: each(part, wire), total: len(all), list: true}, nil
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
