package idp

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// How long things are kept.
const (
	waitingLife = 15 * time.Minute // a sign-in that waits for a person
	sessionLife = 8 * time.Hour    // a person who need not sign in again
)

// cookie is the browser's session here. Its name differs from Fleetpass's own, for a host's cookies are shared by its ports.
const cookie = "local-idp"

// session is somebody who is signed in here.
type session struct {
	Email    string
	AuthTime time.Time // when they gave their password
	Index    string    // names the session in SAML
}

// waiting is a sign-in that a service asked for, until somebody is there.
type waiting struct {
	asked asked
	since time.Time
	fault Fault         // asked for by whoever began it; Behave: the one of all
	fresh bool          // the password has to be given now (ForceAuthn, prompt=login)
	max   time.Duration // how old a proof may be; 0: as old as the session
	none  bool          // no page may be shown (IsPassive, prompt=none)
	hint  string        // an e-mail
}

// asked is a request of a service, in its protocol.
type asked interface {
	protocol() Protocol
	service() string // for people

	// answer says who it is; misbehaving so. refuse says why not.
	answer(p *Provider, w http.ResponseWriter, r *http.Request, who Person, s session, f Fault)
	refuse(p *Provider, w http.ResponseWriter, r *http.Request, why reason)
}

// reason is why a request is answered with an error.
type reason string

const (
	cancelled     reason = "cancelled"      // by the person
	loginRequired reason = "login required" // and no page may be shown
)

// begin keeps a request and sends the browser to the login page. That a page of its own goes on has a reason: a browser brings a
// SameSite=Lax cookie to where it is redirected, and would not bring it with a form that another site posts.
func (p *Provider) begin(w http.ResponseWriter, r *http.Request, wait waiting) {
	wait.fault = Fault(r.FormValue("misbehave"))
	if !wait.asked.protocol().has(wait.fault) {
		p.problem(w, http.StatusBadRequest, noFault)
		return
	}
	wait.since = p.now()
	p.mu.Lock()
	handle := p.waiting.put(wait.since, waitingLife, wait)
	p.mu.Unlock()
	http.Redirect(w, r, p.path+"/login?request="+url.QueryEscape(handle), http.StatusSeeOther)
}

// What the pages say.
const (
	gone    = "This sign-in is over, or it took too long. Start again at the application."
	noFault = "There is no such misbehaviour in this protocol."
	badPass = "The e-mail or the password is not right, or the person is disabled."
)

// showLogin goes on at once where it can, and asks for the password where not.
func (p *Provider) showLogin(w http.ResponseWriter, r *http.Request) {
	handle, now := r.FormValue("request"), p.now()
	p.mu.Lock()
	wait, ok := p.waiting.get(now, handle)
	s, in := p.session(r, now)
	p.mu.Unlock()
	fault := Fault(r.FormValue("misbehave"))
	switch {
	case !ok:
		p.problem(w, http.StatusBadRequest, gone)
	case !wait.asked.protocol().has(fault):
		p.problem(w, http.StatusBadRequest, noFault)
	case in && !wait.fresh && (wait.max == 0 || now.Sub(s.AuthTime) <= wait.max):
		p.finish(w, r, handle, s, fault)
	case wait.none:
		p.refuse(w, r, handle, loginRequired)
	default:
		p.page(w, http.StatusOK, "Sign in", p.loginForm(handle, wait, wait.hint, fault)...)
	}
}

// login takes the form. The handle of the request stands for a token against forged forms: it cannot be guessed, and who has one
// of their own can make a browser sign in with a password that they know, which here harms nobody.
func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	handle, email, fault := r.PostFormValue("request"), r.PostFormValue("email"), Fault(r.PostFormValue("misbehave"))
	now := p.now()
	p.mu.Lock()
	wait, ok := p.waiting.get(now, handle)
	who, known := p.person(email)
	p.mu.Unlock()
	switch {
	case !ok:
		p.problem(w, http.StatusBadRequest, gone)
		return
	case !wait.asked.protocol().has(fault):
		p.problem(w, http.StatusBadRequest, noFault)
		return
	case r.PostFormValue("cancel") != "":
		p.refuse(w, r, handle, cancelled)
		return
	case !known || who.Password == "" || !same(who.Password, r.PostFormValue("password")):
		p.page(w, http.StatusForbidden, "Sign in", append(alert(badPass),
			p.loginForm(handle, wait, email, fault)...)...)
		return
	}
	s := session{Email: canonical(email), AuthTime: now, Index: newID()}
	p.mu.Lock()
	if c, err := r.Cookie(cookie); err == nil {
		delete(p.sessions, c.Value)
	}
	value := p.sessions.put(now, sessionLife, s)
	p.mu.Unlock()
	http.SetCookie(w, p.cookie(value, 0))
	p.finish(w, r, handle, s, fault)
}

// finish answers the service. Each request is answered once.
func (p *Provider) finish(w http.ResponseWriter, r *http.Request, handle string, s session, fault Fault) {
	wait, ok := p.taken(handle)
	p.mu.Lock()
	who, known := p.person(s.Email)
	for _, f := range []Fault{wait.fault, p.fault} {
		if fault == Behave && ok && wait.asked.protocol().has(f) {
			fault = f
		}
	}
	p.mu.Unlock()
	switch {
	case !ok || !known:
		p.problem(w, http.StatusBadRequest, gone)
	case fault == Cancelled:
		wait.asked.refuse(p, w, r, cancelled)
	default:
		wait.asked.answer(p, w, r, who, s, fault)
	}
}

// refuse answers the service with an error.
func (p *Provider) refuse(w http.ResponseWriter, r *http.Request, handle string, why reason) {
	wait, ok := p.taken(handle)
	if !ok {
		p.problem(w, http.StatusBadRequest, gone)
		return
	}
	wait.asked.refuse(p, w, r, why)
}

func (p *Provider) taken(handle string) (waiting, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting.take(p.now(), handle)
}

// session is who is signed in in the browser. The caller holds p.mu.
func (p *Provider) session(r *http.Request, now time.Time) (session, bool) {
	c, err := r.Cookie(cookie)
	if err != nil {
		return session{}, false
	}
	s, ok := p.sessions.get(now, c.Value)
	if _, may := p.person(s.Email); !ok || !may {
		return session{}, false
	}
	return s, true
}

// logout ends the browser's session.
func (p *Provider) logout(w http.ResponseWriter, r *http.Request) {
	p.signOut(w, r)
	p.page(w, http.StatusOK, "You are signed out")
}

func (p *Provider) signOut(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookie); err == nil {
		p.mu.Lock()
		delete(p.sessions, c.Value)
		p.mu.Unlock()
	}
	http.SetCookie(w, p.cookie("", -1))
}

func (p *Provider) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: cookie, Value: value, Path: p.path + "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: strings.HasPrefix(p.options.Pages, "https:"),
	}
}

// same compares secrets without saying by its duration how much of them agrees.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
