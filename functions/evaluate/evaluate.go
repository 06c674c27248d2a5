// Package evaluate is the function that answers "may she?": the OpenID AuthZEN Authorization API 1.0, with its Access
// Evaluation, Access Evaluations and Search APIs and its metadata. It owns that wire form, and who may ask about whom in an
// evaluation; the answers are core/access's.
//
// A resource's type is an entity as the roles spell it ("workloads"), and its id is the scope that it lies in: the
// tenant's id for the account, or the id of a cluster, department or project. Who asks about one particular thing in a
// scope may send the thing's own id and the scope as resource.properties.scope. An action's name is view, edit, create or
// delete. What groups a subject is in, the directory knows; nothing about it is taken from the request.
package evaluate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/core/web"
)

// Deps is what the function needs, all of it.
type Deps struct {
	Access *access.Service
	Ring   *keys.Ring
	Now    func() time.Time // UTC
	Base   string           // the URL that every issuer begins with: https://HOST, without a slash at the end
}

// Paths is every pattern that Handler serves.
var Paths = []string{
	"POST /t/{tenant}/access/v1/evaluation",
	"POST /t/{tenant}/access/v1/evaluations",
	"POST /t/{tenant}/access/v1/search/subject",
	"POST /t/{tenant}/access/v1/search/resource",
	"POST /t/{tenant}/access/v1/search/action",
	"GET /.well-known/authzen-configuration/t/{tenant}",
	"GET /t/{tenant}/.well-known/authzen-configuration",
}

// Handler serves Paths.
func Handler(d Deps) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(Paths[0], d.evaluation)
	mux.HandleFunc(Paths[1], d.evaluations)
	mux.HandleFunc(Paths[2], d.search(d.subjects))
	mux.HandleFunc(Paths[3], d.search(d.resources))
	mux.HandleFunc(Paths[4], d.search(d.actions))
	mux.HandleFunc(Paths[5], d.metadata)
	mux.HandleFunc(Paths[6], d.metadata)
	return web.Exact(mux)
}

// maxBody bounds a request in bytes, and maxEvaluations the questions in one: each may need a second one, whether the
// caller may ask it.
const (
	maxBody        = 64 << 10
	maxEvaluations = access.MaxAsks / 2
)

// evaluation serves the Access Evaluation API (AuthZEN §6). A denial is a 200 that says so; an error status is about the
// request alone.
func (d Deps) evaluation(w http.ResponseWriter, r *http.Request) {
	echo(w, r)
	c, err := d.authenticate(r)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	req, err := web.Decode[evaluation](w, r, maxBody)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	d.one(w, r, c, req)
}

func (d Deps) one(w http.ResponseWriter, r *http.Request, c access.Caller, req evaluation) {
	q, err := req.question("", c)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	answers, err := d.answer(r.Context(), c, []question{q})
	if err == nil {
		err = answers[0].forbidden
	}
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, answers[0])
}

// evaluations serves the Access Evaluations API (AuthZEN §7): several questions at one and the same revision. Without
// questions in the list it is the Access Evaluation API.
func (d Deps) evaluations(w http.ResponseWriter, r *http.Request) {
	echo(w, r)
	c, err := d.authenticate(r)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	req, err := web.Decode[evaluations](w, r, maxBody)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	stop, err := req.semantic()
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	if len(req.Evaluations) == 0 {
		d.one(w, r, c, req.evaluation)
		return
	}
	questions, err := req.questions(c)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	answers, err := d.answer(r.Context(), c, questions)
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	for i, a := range answers {
		if stop(a.Decision) {
			answers = answers[:i+1]
			break
		}
	}
	web.JSON(w, http.StatusOK, struct {
		Evaluations []answer `json:"evaluations"`
	}{answers})
}

// authenticate reads who asks, as the token says. Whether they still may, DecideFor reads together with the answer.
func (d Deps) authenticate(r *http.Request) (access.Caller, error) {
	t, err := web.Tenant(r)
	if err != nil {
		return access.Caller{}, err
	}
	raw, err := web.BearerToken(r)
	if err != nil {
		return access.Caller{}, err
	}
	a, err := token.ParseAccess(r.Context(), d.Ring, t, d.issuer(t), raw, d.Now())
	if errors.Is(err, core.NotFound) {
		return access.Caller{}, fmt.Errorf("no such tenant, so no token of it: %w", core.Unauthenticated)
	}
	if err != nil {
		return access.Caller{}, err
	}
	return access.CallerOf(t, a)
}

func (d Deps) issuer(t core.TenantID) string { return d.Base + "/t/" + string(t) }

// question is one evaluation in our own terms.
type question struct {
	ask     access.Ask
	least   core.Revision // the caller wants an answer that is true at this revision or a later one
	another bool          // it is not about the caller
	bad     error         // what it lacks to be one
}

// answer asks core/access everything at once: the questions, and for each one about somebody else, whether the caller may
// view the access rules there: who answers for a scope may know who comes to it.
func (d Deps) answer(ctx context.Context, c access.Caller, questions []question) ([]answer, error) {
	var asks []access.Ask
	view := access.Ask{Subject: c.Subject, UserID: c.UserID, Entity: policy.AccessRules, Action: policy.View, Scope: core.AccountScope(c.Tenant)}
	for _, q := range questions {
		if q.bad != nil {
			continue
		}
		asks = append(asks, q.ask)
		if q.another {
			view.Scope = q.ask.Scope
			asks = append(asks, view)
		}
	}
	if len(asks) == 0 { // there is nothing to answer, and still nobody is to come in who may not
		asks = append(asks, view)
	}
	verdicts, err := d.Access.DecideFor(ctx, c, asks...)
	if err != nil {
		return nil, err
	}
	revision := verdicts[0].Revision
	var out []answer
	for _, q := range questions {
		if q.bad != nil {
			out = append(out, fail(q.bad, revision))
			continue
		}
		v := verdicts[0]
		verdicts = verdicts[1:]
		a := reply(v, q)
		if q.another {
			may := verdicts[0]
			verdicts = verdicts[1:]
			switch {
			case may.Code == policy.UnknownScope:
				// The caller could find that out by asking about itself; and nothing here may depend on the subject.
				v.Decision = policy.Deny(policy.UnknownScope, q.ask.Entity, q.ask.Action, q.ask.Scope)
				a = reply(v, q)
			case !may.Allowed:
				a = refuse(may)
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// echo returns the caller's X-Request-ID as it came (AuthZEN §10.1.4): it is any string to us, so long as it can stand in
// a header.
func echo(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("X-Request-ID")
	if id == "" || len(id) > 256 {
		return
	}
	for _, b := range []byte(id) {
		if b < ' ' || b > '~' {
			return
		}
	}
	w.Header().Set("X-Request-ID", id)
}

// metadata serves the Policy Decision Point Metadata (AuthZEN §9): the issuer is the decision point's identifier. A tenant
// that there is not is 404.
func (d Deps) metadata(w http.ResponseWriter, r *http.Request) {
	t, err := web.Tenant(r)
	if err == nil {
		_, err = d.Ring.JWKS(r.Context(), t) // cached, and core.NotFound without a tenant
	}
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	at := d.issuer(t) + "/access/v1"
	web.JSON(w, http.StatusOK, configuration{
		Point: d.issuer(t), Evaluation: at + "/evaluation", Evaluations: at + "/evaluations",
		Subjects: at + "/search/subject", Resources: at + "/search/resource", Actions: at + "/search/action",
	})
}

// configuration is the metadata of a decision point (AuthZEN §9.1). It has no capabilities that are registered, and is not
// signed: it comes over TLS from the decision point itself.
type configuration struct {
	Point       string `json:"policy_decision_point"`
	Evaluation  string `json:"access_evaluation_endpoint"`
	Evaluations string `json:"access_evaluations_endpoint"`
	Subjects    string `json:"search_subject_endpoint"`
	Resources   string `json:"search_resource_endpoint"`
	Actions     string `json:"search_action_endpoint"`
}
