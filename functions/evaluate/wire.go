package evaluate

import (
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

// evaluation is a request of the Access Evaluation API (AuthZEN §6.1).
type evaluation struct {
	Subject  *subject  `json:"subject"`
	Action   *action   `json:"action"`
	Resource *resource `json:"resource"`
	Context  free      `json:"context"`
}

type subject struct {
	Type       string `json:"type"` // user, group or application
	ID         string `json:"id"`   // e-mail, name, client id
	Properties free   `json:"properties"`
}

type action struct {
	Name       string `json:"name"`
	Properties free   `json:"properties"`
}

type resource struct {
	Type       string `json:"type"`
	ID         string `json:"id"`
	Properties free   `json:"properties"`
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

// questions fills in the defaults (AuthZEN §7.1.1): a member that is given replaces the default as a whole.
func (e evaluations) questions(c access.Caller) ([]question, error) {
	if len(e.Evaluations) > maxEvaluations {
		return nil, core.BadField("/evaluations", fmt.Sprintf("must be at most %d", maxEvaluations))
	}
	var out []question
	for i, one := range e.Evaluations {
		if one.Subject == nil {
			one.Subject = e.Subject
		}
		if one.Action == nil {
			one.Action = e.Action
		}
		if one.Resource == nil {
			one.Resource = e.Resource
		}
		if one.Context == nil {
			one.Context = e.Context
		}
		q, err := one.question("/evaluations/"+strconv.Itoa(i), c)
		if err != nil {
			return nil, err
		}
		out = append(out, q)
	}
	return out, nil
}

// question brings an evaluation into our own terms. What is missing is an error that names it; what is not known (a kind
// of subject, an entity, an action, a scope) is a question like any other, and its answer is no.
func (e evaluation) question(at string, c access.Caller) (question, error) {
	for _, need := range []struct {
		field string
		ok    bool
	}{
		{"/subject", e.Subject != nil}, {"/subject/type", e.Subject != nil && e.Subject.Type != ""}, {"/subject/id", e.Subject != nil && e.Subject.ID != ""},
		{"/action", e.Action != nil}, {"/action/name", e.Action != nil && e.Action.Name != ""},
		{"/resource", e.Resource != nil}, {"/resource/type", e.Resource != nil && e.Resource.Type != ""}, {"/resource/id", e.Resource != nil && e.Resource.ID != ""},
	} {
		if !need.ok {
			return question{}, core.BadField(at+need.field, "is required")
		}
	}
	var q question
	q.ask.Subject = core.Subject{Kind: core.SubjectKind(e.Subject.Type), ID: e.Subject.ID}
	q.another = !aboutCaller(c, &q.ask)
	q.ask.Entity, _ = policy.ParseEntity(e.Resource.Type)
	q.ask.Action, _ = policy.ParseAction(e.Action.Name)
	q.ask.Scope = core.ScopeID(e.Resource.ID)
	if v, ok := e.Resource.Properties["scope"]; ok {
		var s string
		if err := json.Unmarshal(v, &s); err != nil || s == "" {
			return q, core.BadField(at+"/resource/properties/scope", "must be the id of a scope")
		}
		q.ask.Scope = core.ScopeID(s)
	}
	if v, ok := e.Context["minimum_revision"]; ok {
		var n uint64
		if err := json.Unmarshal(v, &n); err != nil {
			return q, core.BadField(at+"/context/minimum_revision", "must be a revision: a whole number of 0 or more")
		}
		q.least = core.Revision(n)
	}
	return q, nil
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
	Rule     core.RuleID   `json:"rule,omitempty"`   // that allowed it
	Revision core.Revision `json:"revision"`         // of the tenant's access rules and scopes, that the answer is true at
	Error    *problem      `json:"error,omitempty"`  // the question could not be answered, so the decision is false
}

type problem struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

func reply(v access.Verdict, least core.Revision) answer {
	a := answer{Decision: v.Allowed, Context: outcome{Code: v.Code.String(), Reason: v.Why(), Revision: v.Revision}}
	if v.Allowed {
		a.Context.Rule = v.Rule
	}
	if v.Revision < least {
		// Reads are never older than what was acknowledged, so the store was put back, or the number comes from elsewhere.
		// Either way no answer can be given that is known to be new enough.
		const message = "the tenant has not reached the demanded minimum_revision"
		return answer{Context: outcome{Code: "revision_not_reached", Reason: message, Revision: v.Revision,
			Error: &problem{http.StatusConflict, message}}}
	}
	return a
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
