package evaluate

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/policy"
)

// free is an object whose members are the caller's own affair: those that are not known are not looked at.
type free map[string]jsontext.Value

// evaluation is a request of the Access Evaluation API (AuthZEN §6.1). Unlike the rest of Fleetpass, this API passes over members
// that it does not know, here and in what is below: clients of a later version of the standard may send them.
type evaluation struct {
	Subject  *subject  `json:"subject"`
	Action   *action   `json:"action"`
	Resource *resource `json:"resource"`
	Context  free      `json:"context"`
	Others   free      `json:",embed"`
}

type subject struct {
	Type       string `json:"type"` // user, group or application
	ID         string `json:"id"`   // e-mail, name, client id
	Properties free   `json:"properties"`
	Others     free   `json:",embed"`
}

type action struct {
	Name       string `json:"name"`
	Properties free   `json:"properties"`
	Others     free   `json:",embed"`
}

type resource struct {
	Type       string `json:"type"`
	ID         string `json:"id"`
	Properties free   `json:"properties"`
	Others     free   `json:",embed"`
}

// evaluations is a request of the Access Evaluations API (AuthZEN §7.1): what its own four members say is the default for
// the list.
type evaluations struct {
	evaluation  `json:",inline"`
	Evaluations []evaluation `json:"evaluations"`
	Options     free         `json:"options"`
}

// semantic is when to stop answering (AuthZEN §7.1.2.1).
func (e evaluations) semantic() (stop func(decision bool) bool, err error) {
	const field = "/options/evaluations_semantic"
	s := "execute_all"
	if v, ok := e.Options["evaluations_semantic"]; ok {
		if err := json.Unmarshal(v, &s); err != nil {
			return nil, core.BadField(field, "must be a string")
		}
	}
	switch s {
	case "execute_all":
		return func(bool) bool { return false }, nil
	case "deny_on_first_deny":
		return func(decision bool) bool { return !decision }, nil
	case "permit_on_first_permit":
		return func(decision bool) bool { return decision }, nil
	}
	return nil, core.BadField(field, "must be execute_all, deny_on_first_deny or permit_on_first_permit")
}

// questions fills in the defaults (AuthZEN §7.1.1): a member that is given replaces the default, but for its type, id or name,
// if it has none of its own. An evaluation that lacks something all the same is one that fails, and spoils no other (§7.2.1).
func (e evaluations) questions(c access.Caller) ([]question, error) {
	if len(e.Evaluations) > maxEvaluations {
		return nil, core.BadField("/evaluations", fmt.Sprintf("must be at most %d", maxEvaluations))
	}
	var out []question
	for i, one := range e.Evaluations {
		one.Subject = over(one.Subject, e.Subject, func(s, d *subject) { s.Type, s.ID = cmp.Or(s.Type, d.Type), cmp.Or(s.ID, d.ID) })
		one.Action = over(one.Action, e.Action, func(a, d *action) { a.Name = cmp.Or(a.Name, d.Name) })
		one.Resource = over(one.Resource, e.Resource, func(r, d *resource) { r.Type, r.ID = cmp.Or(r.Type, d.Type), cmp.Or(r.ID, d.ID) })
		if one.Context == nil {
			one.Context = e.Context
		}
		q, err := one.question("/evaluations/"+strconv.Itoa(i), c)
		q.bad = err
		out = append(out, q)
	}
	return out, nil
}

// over is what is given over its default.
func over[T any](given, absent *T, fill func(given, absent *T)) *T {
	switch {
	case given == nil:
		return absent
	case absent != nil:
		fill(given, absent)
	}
	return given
}

// question brings an evaluation into our own terms. What is missing is an error that names it; what is not known (a kind
// of subject, an entity, an action, a scope) is a question like any other, and its answer is no.
func (e evaluation) question(at string, c access.Caller) (question, error) {
	if err := e.complete(at, "/subject", "/subject/type", "/subject/id", "/action", "/action/name", "/resource", "/resource/type", "/resource/id"); err != nil {
		return question{}, err
	}
	var q question
	q.ask.Subject = core.Subject{Kind: core.SubjectKind(e.Subject.Type), ID: e.Subject.ID}
	q.another = !aboutCaller(c, &q.ask)
	q.ask.Entity, _ = policy.ParseEntity(e.Resource.Type)
	q.ask.Action, _ = policy.ParseAction(e.Action.Name)
	var err error
	if q.ask.Scope, err = e.scope(at); err != nil {
		return q, err
	}
	q.least, err = e.least(at)
	return q, err
}

// complete refuses a request that lacks one of the members, which are named as they are here.
func (e evaluation) complete(at string, members ...string) error {
	given := map[string]bool{"/subject": e.Subject != nil, "/action": e.Action != nil, "/resource": e.Resource != nil}
	if e.Subject != nil {
		given["/subject/type"], given["/subject/id"] = e.Subject.Type != "", e.Subject.ID != ""
	}
	if e.Action != nil {
		given["/action/name"] = e.Action.Name != ""
	}
	if e.Resource != nil {
		given["/resource/type"], given["/resource/id"] = e.Resource.Type != "", e.Resource.ID != ""
	}
	for _, m := range members {
		if !given[m] {
			return core.BadField(at+m, "is required")
		}
	}
	return nil
}

// scope is the scope that the resource lies in.
func (e evaluation) scope(at string) (core.ScopeID, error) {
	v, ok := e.Resource.Properties["scope"]
	if !ok {
		return core.ScopeID(e.Resource.ID), nil
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil || s == "" {
		return "", core.BadField(at+"/resource/properties/scope", "must be the id of a scope")
	}
	return core.ScopeID(s), nil
}

// least is the revision that the caller demands at least.
func (e evaluation) least(at string) (core.Revision, error) {
	v, ok := e.Context["minimum_revision"]
	if !ok {
		return 0, nil
	}
	var n uint64
	if err := json.Unmarshal(v, &n); err != nil {
		return 0, core.BadField(at+"/context/minimum_revision", "must be a revision: a whole number of 0 or more")
	}
	return core.Revision(n), nil
}

// aboutCaller says whether a question is about the caller, who may name itself by e-mail or client id, or by the sub of its
// token. If so, the question is pinned to the very person of the token: not to a later one with the same e-mail.
func aboutCaller(c access.Caller, ask *access.Ask) bool {
	if ask.Subject.Kind != c.Subject.Kind {
		return false
	}
	same := ask.Subject.ID == c.Subject.ID
	if c.Subject.Kind == core.User {
		e, err := core.ParseEmail("id", ask.Subject.ID)
		same = ask.Subject.ID == string(c.UserID) || err == nil && string(e) == c.Subject.ID
	}
	if same {
		ask.Subject, ask.UserID = c.Subject, c.UserID
	}
	return same
}

// answer is a response of the Access Evaluation API (AuthZEN §6.2).
type answer struct {
	Decision bool    `json:"decision"`
	Context  outcome `json:"context"`

	forbidden error // the caller may not ask this
}

// outcome says why.
type outcome struct {
	Code     string        `json:"code,omitempty"`   // for programs
	Reason   string        `json:"reason,omitempty"` // for people
	Rule     core.RuleID   `json:"rule,omitzero"`    // that allowed it
	Revision core.Revision `json:"revision"`         // of the tenant's access rules and scopes, that the answer is true at
	Error    *problem      `json:"error,omitempty"`  // the question could not be answered, so the decision is false
}

type problem struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

// notReached says that a demanded revision is none that the tenant has come to. Reads are never older than what was
// acknowledged, so the store was put back, or the number comes from elsewhere. Either way no answer can be given that is known
// to be new enough.
const notReached = "the tenant has not reached the demanded minimum_revision"

func reply(v access.Verdict, q question) answer {
	if v.Revision < q.least {
		return answer{Context: outcome{Code: "revision_not_reached", Reason: notReached, Revision: v.Revision,
			Error: &problem{http.StatusConflict, notReached}}}
	}
	a := answer{Decision: v.Allowed, Context: outcome{Code: v.Code.String(), Reason: v.WhyYou(), Revision: v.Revision}}
	if q.another {
		a.Context.Reason = v.Why()
	}
	if v.Allowed {
		a.Context.Rule = v.Rule
	}
	return a
}

// fail answers a question of a list that is none.
func fail(err error, at core.Revision) answer {
	return answer{Context: outcome{Code: "bad_request", Revision: at, Error: &problem{http.StatusBadRequest, err.Error()}}}
}

// refuse answers a question about somebody else that the caller may not ask.
func refuse(may access.Verdict) answer {
	err := fmt.Errorf("to ask about others, the caller %s: %w", may.Why(), core.Denied)
	return answer{
		Context: outcome{Code: "caller_not_permitted", Revision: may.Revision,
			Error: &problem{http.StatusForbidden, err.Error()}},
		forbidden: err,
	}
}
