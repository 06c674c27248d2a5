package evaluate

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/web"
)

// search is a request of one of the Search APIs (AuthZEN §8): an evaluation without what is looked for, and which page.
type search struct {
	evaluation `json:",inline"`
	Page       *pageRequest `json:"page"`
}

// pageRequest says which page of the results is asked for (AuthZEN §8.2).
type pageRequest struct {
	Token      string `json:"token"`
	Limit      *int64 `json:"limit"`
	Properties free   `json:"properties"`
	Others     free   `json:",embed"`
}

// found is the answer of a Search API (AuthZEN §8.3). It has no total: to know it, all pages would have to be looked through.
type found struct {
	Results []any        `json:"results"`
	Page    pageResponse `json:"page"`
	Context at           `json:"context"`
}

type pageResponse struct {
	Next  string `json:"next_token"` // empty: there is no other page
	Count int    `json:"count"`
}

// at says at which revision of the tenant the results are true.
type at struct {
	Revision core.Revision `json:"revision"`
}

type foundEntity struct { // a subject or a resource
	Type string `json:"type"`
	ID   string `json:"id"`
}

type foundAction struct {
	Name string `json:"name"`
}

// finder makes the question of one of the Search APIs, and finds a page of its results.
type finder func(ctx context.Context, c access.Caller, req search, q access.Search) ([]any, string, core.Revision, error)

// search serves a Search API. What it does not know (a kind of subject, an entity, an action, a scope) finds nothing, as an
// evaluation of it would say no; an error status is about the request alone.
func (d Deps) search(find finder) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		echo(w, r)
		answer, err := d.found(w, r, find)
		if err != nil {
			web.Fail(w, r, err)
			return
		}
		web.JSON(w, http.StatusOK, answer)
	}
}

func (d Deps) found(w http.ResponseWriter, r *http.Request, find finder) (found, error) {
	c, err := d.authenticate(r)
	if err != nil {
		return found{}, err
	}
	req, err := web.Decode[search](w, r, maxBody)
	if err != nil {
		return found{}, err
	}
	least, err := req.least("")
	if err != nil {
		return found{}, err
	}
	q, err := req.page()
	if err != nil {
		return found{}, err
	}
	results, next, revision, err := find(r.Context(), c, req, q)
	switch {
	case err != nil:
		return found{}, err
	case revision < least: // no results would look as if there were none
		return found{}, fmt.Errorf("%s: %w", notReached, core.Conflict)
	}
	return found{Results: results, Page: pageResponse{next, len(results)}, Context: at{revision}}, nil
}

// page reads which page is asked for. A page of the standard may be asked to have no results at all, which ours has not.
func (s search) page() (q access.Search, err error) {
	if s.Page == nil || s.Page.Limit == nil {
		return q, nil
	}
	if *s.Page.Limit < 1 {
		return q, core.BadField("/page/limit", "must be 1 or more")
	}
	q.Limit = int(min(*s.Page.Limit, access.MaxFound)) // it is the most that the caller takes, and less is no fault
	return q, nil
}

// subjects serves the Subject Search API (AuthZEN §8.4).
func (d Deps) subjects(ctx context.Context, c access.Caller, req search, q access.Search) ([]any, string, core.Revision, error) {
	if err := req.complete("", "/subject", "/subject/type", "/action", "/action/name", "/resource", "/resource/type", "/resource/id"); err != nil {
		return nil, "", 0, err
	}
	scope, err := req.scope("")
	if err != nil {
		return nil, "", 0, err
	}
	q.Subject.Kind, q.Scope = core.SubjectKind(req.Subject.Type), scope
	q.Entity, _ = policy.ParseEntity(req.Resource.Type)
	q.Action, _ = policy.ParseAction(req.Action.Name)
	return pageOf(ctx, c, req, q, "subject", d.Access.FindSubjects, func(s core.Subject) any {
		return foundEntity{string(s.Kind), s.ID}
	})
}

// resources serves the Resource Search API (AuthZEN §8.5). What it finds are scopes, as an evaluation takes them for the id of a
// resource; what lies in one, by its own id, Fleetpass does not know.
func (d Deps) resources(ctx context.Context, c access.Caller, req search, q access.Search) ([]any, string, core.Revision, error) {
	if err := req.complete("", "/subject", "/subject/type", "/subject/id", "/action", "/action/name", "/resource", "/resource/type"); err != nil {
		return nil, "", 0, err
	}
	ask := access.Ask{Subject: core.Subject{Kind: core.SubjectKind(req.Subject.Type), ID: req.Subject.ID}}
	aboutCaller(c, &ask)
	q.Subject, q.UserID = ask.Subject, ask.UserID
	q.Entity, _ = policy.ParseEntity(req.Resource.Type)
	q.Action, _ = policy.ParseAction(req.Action.Name)
	return pageOf(ctx, c, req, q, "resource", d.Access.FindScopes, func(id core.ScopeID) any {
		return foundEntity{req.Resource.Type, string(id)}
	})
}

// actions serves the Action Search API (AuthZEN §8.6).
func (d Deps) actions(ctx context.Context, c access.Caller, req search, q access.Search) ([]any, string, core.Revision, error) {
	if err := req.complete("", "/subject", "/subject/type", "/subject/id", "/resource", "/resource/type", "/resource/id"); err != nil {
		return nil, "", 0, err
	}
	scope, err := req.scope("")
	if err != nil {
		return nil, "", 0, err
	}
	ask := access.Ask{Subject: core.Subject{Kind: core.SubjectKind(req.Subject.Type), ID: req.Subject.ID}}
	aboutCaller(c, &ask)
	q.Subject, q.UserID, q.Scope = ask.Subject, ask.UserID, scope
	q.Entity, _ = policy.ParseEntity(req.Resource.Type)
	return pageOf(ctx, c, req, q, "action", d.Access.FindActions, func(a policy.Action) any { return foundAction{a.String()} })
}

// pageOf finds a page, whose place the token says, and makes the token of the next one.
func pageOf[T any](ctx context.Context, c access.Caller, req search, q access.Search, what string,
	find func(context.Context, access.Caller, access.Search) (access.Found[T], error), wire func(T) any) ([]any, string, core.Revision, error) {
	bound := questionOf(c.Tenant, what, q)
	if req.Page != nil && req.Page.Token != "" {
		var err error
		if q.After, err = readToken(req.Page.Token, bound); err != nil {
			return nil, "", 0, err
		}
	}
	page, err := find(ctx, c, q)
	var field *core.FieldError
	if q.After != "" && errors.As(err, &field) {
		return nil, "", 0, errToken
	} else if err != nil {
		return nil, "", 0, err
	}
	out := make([]any, 0, len(page.Results))
	for _, v := range page.Results {
		out = append(out, wire(v))
	}
	return out, writeToken(page.Next, bound), page.Revision, nil
}

var errToken = core.BadField("/page/token", "must be the next_token of an answer to the same question, as it came")

const (
	tokenForm = 1
	maxToken  = 1 << 10 // bytes, as it comes
)

// questionOf is what a page's token is bound to: the tenant, and all that is asked but for how many results a page may have. A
// token gives no right to anything: it only says where to go on in what the caller may see, which every page asks anew.
func questionOf(t core.TenantID, what string, q access.Search) (sum [16]byte) {
	h := sha256.New()
	for _, s := range []string{string(t), what, string(q.Subject.Kind), q.Subject.ID, string(q.UserID), q.Entity.String(), q.Action.String(), string(q.Scope)} {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	copy(sum[:], h.Sum(nil))
	return sum
}

// writeToken makes the token of the page at a place; no place, no page, no token.
func writeToken(place string, bound [16]byte) string {
	if place == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(append(append([]byte{tokenForm}, bound[:]...), place...))
}

// readToken reads the token of a page of that question. Whatever is wrong with it, the answer is the same.
func readToken(s string, bound [16]byte) (string, error) {
	if len(s) > maxToken {
		return "", errToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) <= 1+len(bound) || b[0] != tokenForm || [16]byte(b[1:17]) != bound || !utf8.Valid(b[17:]) {
		return "", errToken
	}
	return string(b[17:]), nil
}
