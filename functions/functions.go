// Package functions is the table of contents of the system: every deployable function with its name, paths, trigger and
// handler. A composition root wires a System (New) and serves one row (Lambda, Cloud Functions) or all of them (localdev).
package functions

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/fleetpass/fleetpass/core/strict"
	coresync "github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/core/web"
	"github.com/fleetpass/fleetpass/functions/admin"
	"github.com/fleetpass/fleetpass/functions/dispatch"
	"github.com/fleetpass/fleetpass/functions/evaluate"
	"github.com/fleetpass/fleetpass/functions/jwks"
	"github.com/fleetpass/fleetpass/functions/kubeconfig"
	"github.com/fleetpass/fleetpass/functions/login"
	"github.com/fleetpass/fleetpass/functions/maintain"
	"github.com/fleetpass/fleetpass/functions/oidccallback"
	"github.com/fleetpass/fleetpass/functions/samlacs"
	"github.com/fleetpass/fleetpass/functions/sync"
	"github.com/fleetpass/fleetpass/functions/token"
)

// Trigger is what calls a function.
type Trigger string

// The triggers.
const (
	HTTP     Trigger = "http"     // requests to its paths
	Stream   Trigger = "stream"   // each event of the outbox, through the store's change stream
	Queue    Trigger = "queue"    // each message of the sync queue
	Schedule Trigger = "schedule" // every minute
)

// Function is one deployable function. Exactly one of Handler, Event and Tick is set, by its trigger.
type Function struct {
	Name    string // as _HANDLER or FUNCTION_TARGET gives it
	Trigger Trigger
	Paths   []string // http: the patterns that it serves, in net/http's form "METHOD /path/{wildcard}"

	Handler func(*System) http.Handler                                   // http
	Event   func(*System) func(ctx context.Context, body []byte) error   // stream, queue: one event or message
	Tick    func(*System) func(ctx context.Context, now time.Time) error // schedule
}

// Table has every function of the system. A row here, a package beside this file and an entry in infra's Terraform are
// all that a new function takes.
var Table = []Function{
	{Name: "login", Trigger: HTTP, Paths: login.Paths, Handler: func(s *System) http.Handler {
		return login.Handler(login.Deps{OAuth: s.OAuth, Sessions: s.Sessions, Directory: s.Directory, Ring: s.Ring, SSO: s.SSO, Appoint: s.Access.FirstAdministrator, Base: s.Base, BrowserBase: s.BrowserBase})
	}},
	{Name: "samlacs", Trigger: HTTP, Paths: samlacs.Paths, Handler: func(s *System) http.Handler {
		return samlacs.Handler(samlacs.Deps{SSO: s.SSO})
	}},
	{Name: "oidccallback", Trigger: HTTP, Paths: oidccallback.Paths, Handler: func(s *System) http.Handler {
		return oidccallback.Handler(oidccallback.Deps{SSO: s.SSO})
	}},
	{Name: "token", Trigger: HTTP, Paths: token.Paths, Handler: func(s *System) http.Handler {
		return token.Handler(token.Deps{OAuth: s.OAuth})
	}},
	{Name: "jwks", Trigger: HTTP, Paths: jwks.Paths, Handler: func(s *System) http.Handler {
		return jwks.Handler(jwks.Deps{OAuth: s.OAuth, Ring: s.Ring})
	}},
	{Name: "evaluate", Trigger: HTTP, Paths: evaluate.Paths, Handler: func(s *System) http.Handler {
		return evaluate.Handler(evaluate.Deps{Access: s.Access, Ring: s.Ring, Now: s.Now, Base: s.Base})
	}},
	{Name: "kubeconfig", Trigger: HTTP, Paths: kubeconfig.Paths, Handler: func(s *System) http.Handler {
		return kubeconfig.Handler(kubeconfig.Deps{Access: s.Access, Org: s.Org, Ring: s.Ring, Now: s.Now, Base: s.Base, IssuerCA: s.IssuerCA})
	}},
	{Name: "admin", Trigger: HTTP, Paths: admin.Paths, Handler: func(s *System) http.Handler {
		return admin.Handler(admin.Deps{DB: s.DB, Ring: s.Ring, Org: s.Org, Directory: s.Directory, Access: s.Access, SSO: s.SSO, Sync: s.Sync, Queue: s.Queue, Now: s.Now, Issuers: s.Issuers, Base: s.Base, BrowserBase: s.BrowserBase, IssuerCA: s.IssuerCA})
	}},
	{Name: "dispatch", Trigger: Stream, Event: func(s *System) func(context.Context, []byte) error { return s.Dispatch }},
	{Name: "sync", Trigger: Queue, Event: func(s *System) func(context.Context, []byte) error { return s.synchronize }},
	{Name: "maintain", Trigger: Schedule, Tick: func(s *System) func(context.Context, time.Time) error { return s.Maintain }},
}

// Dispatch handles one event of the outbox.
func (s *System) Dispatch(ctx context.Context, event []byte) (err error) {
	ctx, done := s.dispatching(ctx, event)
	defer done(&err)
	defer s.recovered(ctx, "dispatch", &err)
	return dispatch.Handle(ctx, dispatch.Deps{DB: s.DB, Directory: s.Directory, Sync: s.Sync, Queue: s.Queue, Log: s.Log}, event)
}

// Synchronize handles one message of the sync queue.
func (s *System) Synchronize(ctx context.Context, m coresync.Message) (err error) {
	ctx, done := s.synchronizing(ctx, m)
	defer done(&err)
	defer s.recovered(ctx, "sync", &err)
	return sync.Handle(ctx, sync.Deps{Sync: s.Sync, Queue: s.Queue, Now: s.Now}, m)
}

// maxMessage bounds a queue message, in bytes.
const maxMessage = 4 << 10

func (s *System) synchronize(ctx context.Context, body []byte) error {
	var m coresync.Message
	if err := strict.JSON(body, maxMessage, &m); err != nil {
		s.Log.ErrorContext(trace.With(ctx, s.Telemetry, trace.Act{Function: "sync"}), "a message that is none", "error", err, "bytes", len(body))
		return err
	}
	return s.Synchronize(ctx, m)
}

// Maintain carries out what falls due before the next minute.
func (s *System) Maintain(ctx context.Context, now time.Time) (err error) {
	ctx, done := s.maintaining(ctx)
	defer done(&err)
	defer s.recovered(ctx, "maintain", &err)
	return maintain.Handle(ctx, maintain.Deps{DB: s.DB, Org: s.Org, Access: s.Access, Ring: s.Ring, Sync: s.Sync, SSO: s.SSO, Queue: s.Queue, Log: s.Log, WelcomeHash: s.WelcomeHash}, now)
}

// recovered makes an error of a panic, so that what one event, message or minute brought up ends that one and is tried again
// as any failure is. As at the edge, the value is not logged: it may quote its input.
func (s *System) recovered(ctx context.Context, function string, err *error) {
	if p := recover(); p != nil {
		s.Log.ErrorContext(ctx, "panic", "function", function, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		*err = fmt.Errorf("%s: a handler panicked", function)
	}
}

// Lookup finds a row by name.
func Lookup(name string) (Function, bool) {
	for _, f := range Table {
		if f.Name == name {
			return f, true
		}
	}
	return Function{}, false
}

// Serve is one HTTP function's handler with the edge around it: request ids, the log, security headers. What is not among
// its paths is answered in the same form.
func (s *System) Serve(f Function) http.Handler { return s.serve(f.Name, f) }

// HTTP serves every HTTP function of the table on one mux, as the one host in front of them does in the cloud.
func (s *System) HTTP() http.Handler { return s.serve("none", Table...) }

// serve routes requests to functions. What none of them serves is logged under a name of its own.
func (s *System) serve(missing string, functions ...Function) http.Handler {
	handlers := map[string]http.Handler{}
	edge := web.Edge{Log: s.Log, Now: s.Now, Telemetry: s.Telemetry, StrictTransport: s.BrowserBase == s.Base}
	for _, f := range functions {
		if f.Trigger != HTTP {
			continue
		}
		edge.Function = f.Name
		h := edge.Wrap(f.Handler(s))
		for _, p := range f.Paths {
			handlers[p] = h
		}
	}
	edge.Function = missing
	return web.Routes(handlers, edge)
}
