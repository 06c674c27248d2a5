package sso

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// TestLink begins a test of a connection, once, in whatever browser it is opened.
type TestLink struct {
	URL     string    // one-time
	Trace   string    // the ID of the trace that the test writes
	Expires time.Time // of the link
}

// StartTest makes the link of a test: a sign-in by the connection that goes all the way and changes nothing, so a connection
// can be tested before it is enabled. The trace is there at once, as Started.
func (s *Service) StartTest(ctx context.Context, actor core.Actor, t core.TenantID, a Alias) (TestLink, error) {
	rec, err := s.Connection(ctx, t, a)
	if err != nil {
		return TestLink{}, err
	}
	now, handle := s.Now(), core.NewSecret()
	f := flow{Connection: rec.Value.ID, Alias: a, Trace: newTraceID(now), Test: true, Started: now}
	put, err := flows.Put(store.Flow(t, session.Hash(handle)), 0, f)
	if err != nil {
		return TestLink{}, err
	}
	told, err := s.trace(actor, rec.Value, Trace{ID: f.Trace, Outcome: Started, Test: true}, 0, now.Add(StartedLife))
	if err != nil {
		return TestLink{}, err
	}
	expires := now.Add(session.LoginLife)
	at := s.BrowserBase
	if at == "" {
		at = s.Base
	}
	return TestLink{URL: at + "/t/" + string(t) + "/sso/test?test=" + handle, Trace: f.Trace, Expires: expires},
		s.DB.Commit(ctx, put.Until(expires), told)
}

// VisitTest takes the browser that opened a test's link to the provider. cookie is its login cookie.
func (s *Service) VisitTest(ctx context.Context, actor core.Actor, handle, cookie string) (Departure, error) {
	t := actor.Tenant
	key, plausible := flowKey(t, handle)
	if !plausible {
		return Departure{}, errOver
	}
	fl, err := flows.Get(ctx, s.DB, key)
	if errors.Is(err, core.NotFound) {
		return Departure{}, errOver
	} else if err != nil {
		return Departure{}, err
	}
	f := fl.Value
	if !f.Test || f.Browser != "" || f.Answer != nil || !s.Now().Before(f.Started.Add(session.LoginLife)) {
		return Departure{}, errOver
	}
	tk, err := traceKey(t, f.Trace)
	if err != nil {
		return Departure{}, err
	}
	tr, err := traces.Get(ctx, s.DB, tk)
	if err != nil {
		return Departure{}, fmt.Errorf("the test's trace: %w", err)
	}
	f.Browser = session.Hash(cookie)
	// No fresh proof is asked for: most sign-ins do not, and not every provider can give one.
	return s.depart(ctx, actor, f.Alias, f, &tr, time.Time{}, false, "", store.Delete(fl.Key, fl.Version))
}

// trace makes the operation that writes a trace, filled in from who acts and by what. What is too long for an item is cut.
func (s *Service) trace(actor core.Actor, c Connection, tr Trace, expect store.Version, until time.Time) (store.Op, error) {
	key, err := traceKey(actor.Tenant, tr.ID)
	if err != nil {
		return store.Op{}, err
	}
	tr.At = s.Now()
	tr.Connection, tr.Alias, tr.Kind, tr.Request, tr.Address = c.ID, c.Alias, c.Kind, actor.Request, actor.Address
	tr.Sent, tr.Received = cut(strings.ToValidUTF8(tr.Sent, "\uFFFD"), MaxSent), cut(strings.ToValidUTF8(tr.Received, "\uFFFD"), MaxReceived)
	if tr.Identity != nil && len(tr.Identity.Groups) > maxTracedGroups {
		short := *tr.Identity
		short.Groups = short.Groups[:maxTracedGroups]
		tr.Identity = &short
	}
	for {
		op, err := traces.Put(key, expect, tr)
		if err != nil || len(op.Body) <= store.MaxBody {
			return op.Until(until), err
		}
		switch { // what says least goes first
		case len(tr.Received) > 100:
			tr.Received = cut(tr.Received, len(tr.Received)/2)
		case tr.Sent != "":
			tr.Sent = ""
		case tr.Identity != nil:
			tr.Identity = nil
		default:
			tr.Checks = slices.DeleteFunc(slices.Clone(tr.Checks), func(c Check) bool { return c.Result == Passed })
			tr.Received = ""
		}
	}
}

// maxTracedGroups is how many of a person's groups a trace shows.
const maxTracedGroups = 50

func (s *Service) logger() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}
