package admin

import (
	"errors"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/sso"
)

// listTraces is a page of the sign-in traces, the newest first, a line each: a whole page in full would be megabytes.
func listTraces(c *call) (reply, error) {
	limit, err := c.number("limit", api.DefaultLimit, 1, api.MaxLimit)
	if err != nil {
		return failed(err)
	}
	const fix = "must be the next of an answer, as it came"
	before := c.params.Get("cursor")
	found, next, err := c.SSO.Traces(c.ctx, c.tenant, limit, before)
	if f, wrong := errors.AsType[*core.FieldError](err); wrong && f.Field == "before" { // the cursor is a trace's ID
		err = core.BadField("cursor", fix)
	}
	if err != nil {
		return failed(err)
	}
	return ok(api.TraceList{Traces: each(found, wireTraceSummary), Next: next})
}

func getTrace(c *call) (reply, error) {
	id, err := c.id("trace")
	if err != nil {
		return failed(err)
	}
	t, err := c.SSO.Trace(c.ctx, c.tenant, id)
	if err != nil {
		return failed(err)
	}
	w := api.Trace{
		TraceSummary: wireTraceSummary(t), Sent: t.Sent, Received: t.Received, Checks: each(t.Checks, wireCheck),
		Request: t.Request, Address: t.Address,
	}
	if id := t.Identity; id != nil {
		w.Identity = &api.TraceIdentity{
			Email: id.Email, Subject: id.Subject, FirstName: id.FirstName, LastName: id.LastName,
			Groups: append([]core.GroupName{}, id.Groups...), UID: id.UID, GID: id.GID, SupplementaryGroups: id.SupplementaryGroups,
		}
	}
	return ok(w)
}

func wireTraceSummary(t sso.Trace) api.TraceSummary {
	w := api.TraceSummary{ID: t.ID, At: t.At, Alias: string(t.Alias), Type: api.IdPType(t.Kind), Outcome: string(t.Outcome), Test: t.Test}
	if t.Identity != nil {
		w.Email = t.Identity.Email
	}
	if f, failed := (&sso.Report{Checks: t.Checks}).Failure(); failed {
		w.Failure = string(f.Name)
	}
	return w
}

func wireCheck(c sso.Check) api.TraceCheck {
	return api.TraceCheck{Name: string(c.Name), Result: string(c.Result), Found: c.Found, Expected: c.Expected, Fix: c.Fix}
}
