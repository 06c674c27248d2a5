package oauth

import (
	"context"
	"errors"
	"fmt"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// Finished is a sign-in that succeeded.
type Finished struct {
	Cookie   string // of the new session
	Location string // where the browser takes the answer, or goes on to; empty: the sign-in was for no client
}

// Finish ends a sign-in that somebody completed: it opens a session with a new id, issues the code for the authorization
// request that the sign-in was for, which it judges again as it is now, and consumes the sign-in, all in one commit. One
// that was finished before is core.NotFound, and core.Conflict too, for who may read again and retry. The zero record stands
// for a proof that no sign-in led to: a welcome link. more is what else the proof changes, in the same commit. A request with
// max_age is answered even if the identity provider does not say when the person proved who they are, or the browser would go
// round for ever; its tokens then have no auth_time, by which a client that must know can tell (OpenID Connect Core §3.1.3.7).
func (s *Server) Finish(ctx context.Context, actor core.Actor, login store.Record[session.Login], p session.Proof, more ...store.Op) (Finished, error) {
	t := actor.Tenant
	actor.Subject, actor.UserID = core.UserSubject(p.User.Email), p.User.ID
	var r Request
	var tenant org.Tenant
	if login.Value.Query != "" {
		var err error
		if r, err = s.Authorize(ctx, t, login.Value.Query); err != nil {
			return Finished{}, err
		}
		tenant = r.tenant
	} else {
		items, err := s.DB.Get(ctx, store.Meta(t))
		if err != nil {
			return Finished{}, err
		}
		meta, err := org.Decode(items[0])
		if err != nil {
			return Finished{}, err
		}
		tenant = meta.Value
	}
	cookie, sess, ops, err := s.Sessions.Open(tenant, actor, p)
	if err != nil {
		return Finished{}, err
	}
	if login.Exists() {
		ops = append(ops, store.Delete(login.Key, login.Version))
	}
	out := Finished{Cookie: cookie}
	switch {
	case login.Value.Query == "":
		out.Location = login.Value.Next
	case r.hinted != "" && r.hinted != p.User.ID:
		// The client asked for one person, and another signed in: it gets no answer about that other one.
		refusal := s.Refusal(r, refuse(LoginRequired, "somebody else signed in than id_token_hint names"))
		var e *Error
		if errors.As(refusal, &e) {
			out.Location = e.Redirect
		}
	default:
		location, op, err := s.Issue(r, sess)
		if err != nil {
			return Finished{}, err
		}
		out.Location, ops = location, append(ops, op)
	}
	err = s.DB.Commit(ctx, append(ops, more...)...)
	if errors.Is(err, core.Conflict) {
		return Finished{}, fmt.Errorf("this sign-in is over: %w: %w", core.NotFound, core.Conflict)
	}
	return out, err
}
