package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// The life of a local user: made with a password that is shown once and is to be changed, given another one, signed out
// everywhere, and deleted, by nobody who may less.
func TestLifeOfAUser(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	account := core.AccountScope(acme)
	signIn := func(password string) (directory.User, error) {
		return w.Directory.Authenticate(t.Context(), core.Actor{Tenant: acme}, "ada@acme.test", password, true)
	}
	made := into[api.NewUser](t, w.as(admin, "POST", "/users", `{"email":"Ada@Acme.test","resetPassword":true,"notify":false}`).want(t, 201))
	if made.Username != "ada@acme.test" || made.ID == "" {
		t.Errorf("made %+v", made)
	}
	if u, err := signIn(made.TempPassword); err != nil || !u.MustChange() || u.ID != made.ID {
		t.Fatalf("the first sign-in: %v, to be changed: %v", err, u.MustChange())
	}
	path := "/users/" + string(made.ID)
	reset := into[api.TempPassword](t, w.as(admin, "POST", path+"/password", "").want(t, 200))
	if _, err := signIn(made.TempPassword); !errors.Is(err, directory.ErrSignIn) {
		t.Errorf("with the password of before: %v", err)
	}
	ada, err := signIn(reset.TempPassword)
	if err != nil || !ada.MustChange() || reset.TempPassword == made.TempPassword {
		t.Errorf("after the reset: %v", err)
	}

	ada, err = w.Directory.ChangePassword(t.Context(), core.Actor{Tenant: acme}, acme, ada.Email, reset.TempPassword, "correct horse battery", true)
	w.must(err)
	w.grant(acme, core.UserSubject(ada.Email), policy.Viewer, account)
	hers := w.userToken(acme, ada)
	w.as(hers, "GET", "/me", "").want(t, 200)
	w.as(admin, "POST", path+"/logout", "").want(t, 204)
	w.as(hers, "GET", "/me", "").want(t, 401)
	clear(w.tokens)
	w.as(w.userToken(acme, ada), "GET", "/me", "").want(t, 200)

	// Whoever edits users for a while only cannot give Ada, who stays, a password that lasts, nor change her; and who holds
	// less than she does cannot take her away.
	temporary := w.app(acme)
	_, err = w.Access.Seed(t.Context(), acme, access.NewRule{
		Subject: core.ApplicationSubject(temporary.ID), Role: policy.SystemAdministrator, Scope: account, ExpiresAt: w.Now().Add(time.Hour),
	})
	w.must(err)
	weaker := w.caller(acme, policy.DepartmentAdministrator, account)
	for bearer, acts := range map[string][][3]string{
		w.appToken(acme, temporary): {{"POST", path + "/password", ""}, {"PATCH", path, `{"firstName":"X"}`}},
		w.appToken(acme, weaker):    {{"POST", path + "/password", ""}, {"PATCH", path, `{"firstName":"X"}`}, {"DELETE", path, ""}},
	} {
		before := w.dump()
		for _, act := range acts {
			w.as(bearer, act[0], act[1], act[2]).want(t, 403)
		}
		if diff := changed(before, w.dump()); len(diff) > 0 {
			t.Errorf("refused, and changed %v", diff)
		}
	}
	w.as(admin, "DELETE", path, "").want(t, 204)
	w.as(admin, "GET", path, "").want(t, 404)
	if _, err := signIn("correct horse battery"); !errors.Is(err, directory.ErrSignIn) {
		t.Errorf("after the end: %v", err)
	}
	for _, body := range []string{`{"email":"b@acme.test","resetPassword":false}`, `{"email":"b@acme.test","notify":true}`, `{"email":"b"}`, `{}`} {
		w.as(admin, "POST", "/users", body).want(t, 400)
	}
}

// interloper is a store between whose reads and commits something else happens.
type interloper struct {
	store.DB
	before func(ops []store.Op) error // of a commit; an error is the commit's
}

func (d *interloper) Commit(ctx context.Context, ops ...store.Op) error {
	if err := d.before(ops); err != nil {
		return err
	}
	return d.DB.Commit(ctx, ops...)
}

// over makes a call over another store, with everything else the same.
func (w *world) over(db store.DB, q request) response {
	d, dir := w.Deps, *w.Directory
	d.DB, d.Directory, d.Access = db, &dir, &access.Service{DB: db, Now: w.Now}
	dir.DB, dir.Keeps = db, d.Access.KeepsAdministrator
	was := w.handler
	defer func() { w.handler = was }()
	w.handler = w.edge(d)
	return w.call(q)
}

// Whoever is deleted under If-Match and changes meanwhile, as by a sign-in, stays with all rules. And wherever a deletion
// breaks off, nothing can be done any more with what is left of its subject if anything was lost, and the same call again
// makes an end of it.
func TestDeletionIsWhole(t *testing.T) {
	for _, tt := range []struct {
		noun string
		at   int // the commit of the deletion that something else comes before
	}{{"users", 1}, {"users", 2}, {"users", 3}, {"service-accounts", 1}, {"service-accounts", 2}, {"service-accounts", 3}} {
		noun := tt.noun
		t.Run(fmt.Sprint(noun, tt.at), func(t *testing.T) {
			w := newWorld(t)
			who, path := core.UserSubject("ada@acme.test"), ""
			var enabled func() (is, there bool)
			var touch func()
			if noun == "users" {
				u := w.user(acme, "ada@acme.test")
				path = "/users/" + string(u.ID)
				enabled = func() (bool, bool) {
					rec, err := w.Directory.User(t.Context(), acme, u.Email)
					return err == nil && !rec.Value.Disabled, err == nil
				}
				touch = func() {
					_, err := w.Directory.Authenticate(t.Context(), core.Actor{Tenant: acme}, "ada@acme.test", "correct horse battery", true)
					if (err == nil) != (tt.at == 1) {
						t.Errorf("before commit %d: the sign-in is %v", tt.at, err)
					}
				}
			} else {
				app := w.app(acme)
				who, path = core.ApplicationSubject(app.ID), "/service-accounts/"+string(app.ID)
				enabled = func() (bool, bool) {
					rec, err := w.Directory.Application(t.Context(), acme, app.ID)
					return err == nil && rec.Value.Enabled, err == nil
				}
				touch = func() {
					rec, err := w.Directory.Application(t.Context(), acme, app.ID)
					w.must(err)
					w.must(w.Directory.Seen(t.Context(), rec))
				}
			}
			project := w.project(acme)
			for _, role := range []core.RoleID{policy.Viewer, policy.L1Researcher} {
				w.grant(acme, who, role, project.ID)
			}
			rules := func() int {
				held, err := w.Access.ForSubjects(t.Context(), acme, who)
				w.must(err)
				return len(held)
			}
			bearer := w.adminToken(acme)
			remove := func(before func(n int) error, header http.Header) response {
				n := 0
				db := store.Conditional(&interloper{w.DB, func([]store.Op) error { n++; return before(n) }})
				return w.over(db, request{method: "DELETE", path: "/api/v1" + path, tenant: acme, bearer: bearer, header: header})
			}

			tag := w.as(bearer, "GET", path, "").want(t, 200).Header().Get("ETag")
			w.pass(2 * time.Hour)
			clear(w.tokens)
			bearer = w.adminToken(acme)
			rec := remove(func(n int) error {
				if n == tt.at {
					touch()
				}
				return nil
			}, http.Header{"If-Match": {tag}})
			if tt.at > 1 { // it was as its tag said when it ended
				if _, there := enabled(); rec.Code != http.StatusNoContent || there || rules() != 0 {
					t.Errorf("%d, and it is there: %t, with %d rules", rec.Code, there, rules())
				}
				return
			}
			rec.want(t, 412)
			if is, _ := enabled(); !is || rules() != 2 {
				t.Errorf("refused for its tag, and it is enabled: %t, with %d rules", is, rules())
			}

			for fails := 1; ; fails++ {
				rec := remove(func(n int) error {
					if n == fails {
						return core.Unavailable
					}
					return nil
				}, nil)
				is, there := enabled()
				if rec.Code == http.StatusNoContent {
					if there || rules() != 0 || fails < 3 {
						t.Errorf("deleted in %d commits, and it is there: %t, with %d rules", fails-1, there, rules())
					}
					break
				}
				if fails > 5 || !there || rules() < 2 && is {
					t.Fatalf("broken off at commit %d (%d): it is there: %t, enabled: %t, with %d rules", fails, rec.Code, there, is, rules())
				}
			}
			w.as(bearer, "GET", path, "").want(t, 404)
		})
	}
}
