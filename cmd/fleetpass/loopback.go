package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

// loopback waits for the browser to come back from a sign-in (RFC 8252 §7.3): on a port that the kernel chose of the
// loopback address, at one path, under its own Host alone, so that no page of another name can be resolved to it, with the
// one state of this sign-in. Exactly one request with that state is heard.
type loopback struct {
	listener net.Listener
	host     string // 127.0.0.1:PORT
	state    string
	issuer   *api.Issuer

	once    sync.Once
	answers chan answer   // the one request's
	outcome chan error    // what became of it, for the page that the browser shows
	closed  chan struct{} // the browser has the page
}

type answer struct {
	code string
	err  error
}

const callbackPath = "/callback"

func listenLoopback(i *api.Issuer, state string) (*loopback, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the browser on 127.0.0.1: %w", err)
	}
	return &loopback{
		listener: l, host: l.Addr().String(), state: state, issuer: i,
		answers: make(chan answer, 1), outcome: make(chan error, 1), closed: make(chan struct{}),
	}, nil
}

func (l *loopback) redirect() string { return "http://" + l.host + callbackPath }

// serve answers until the context ends.
func (l *loopback) serve(ctx context.Context) {
	server := &http.Server{
		Handler:           l,
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	go func() {
		<-ctx.Done()
		within, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(within)
		_ = server.Close()
	}()
	_ = server.Serve(l.listener)
}

// ServeHTTP hears the redirect.
func (l *loopback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	if r.Host != l.host {
		page(w, http.StatusForbidden, "Nothing to see here", "This address is for signing in on the command line.")
		return
	}
	if r.URL.Path != callbackPath || r.URL.RawPath != "" {
		page(w, http.StatusNotFound, "Nothing to see here", "This address is for signing in on the command line.")
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		page(w, http.StatusMethodNotAllowed, "Nothing to see here", "This address is for signing in on the command line.")
		return
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(q["state"]) != 1 || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(l.state)) != 1 {
		// Some other page may have sent the browser here. It learns nothing, and the sign-in goes on.
		page(w, http.StatusBadRequest, "That is not the sign-in that was started", "Go back to the terminal and start again.")
		return
	}
	first := false
	l.once.Do(func() { first = true })
	if !first {
		page(w, http.StatusGone, "Already used", "This sign-in is over. Go back to the terminal.")
		return
	}
	l.answers <- l.read(q)
	defer close(l.closed)
	select {
	case err = <-l.outcome:
	case <-r.Context().Done():
		return
	}
	if err != nil {
		page(w, http.StatusBadRequest, "That did not work", "The terminal says why. You may close this tab.")
		return
	}
	page(w, http.StatusOK, "You are signed in", "Go back to the terminal. You may close this tab.")
}

// read takes the code out of an authorization response (RFC 6749 §4.1.2), after checking who sends it (RFC 9207 §2.4).
func (l *loopback) read(q url.Values) answer {
	if iss := q["iss"]; len(iss) > 1 || len(iss) == 1 && iss[0] != l.issuer.URL || len(iss) == 0 && l.issuer.SendsIssuer {
		return answer{err: errors.New("the browser came back from another server than it was sent to; nothing was accepted")}
	}
	if code := q.Get("error"); code != "" {
		return answer{err: &api.OAuthError{Status: http.StatusBadRequest, Code: code, Description: q.Get("error_description")}}
	}
	if len(q["code"]) != 1 || q.Get("code") == "" {
		return answer{err: errors.New("the browser came back without a code")}
	}
	return answer{code: q.Get("code")}
}

// page is all that the browser ever gets: no script, nothing loaded, nothing of the request echoed.
func page(w http.ResponseWriter, status int, title, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>`+html.EscapeString(title)+` · Fleetpass</title>
<style>:root{color-scheme:light dark}body{font:1.1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:20vh auto;padding:0 1rem}</style>
<h1>`+html.EscapeString(title)+`</h1>
<p>`+html.EscapeString(text)+`</p>
</html>
`)
}

// browserSignIn signs a person in with their browser: authorization code with PKCE. If it cannot open one it prints the
// URL, and waits all the same.
func browserSignIn(say func(string, ...any), open bool) func(context.Context, *api.Issuer) (api.Tokens, error) {
	return func(ctx context.Context, i *api.Issuer) (api.Tokens, error) {
		ctx, cancel := context.WithTimeout(ctx, signInWithin)
		defer cancel()
		state, nonce, verifier := core.NewSecret(), core.NewSecret(), oauth2.GenerateVerifier()
		l, err := listenLoopback(i, state)
		if err != nil {
			return api.Tokens{}, err
		}
		serving, stop := context.WithCancel(context.Background())
		defer stop()
		go l.serve(serving)
		u := i.AuthorizationURL(l.redirect(), state, nonce, oauth2.S256ChallengeFromVerifier(verifier))
		if open && openBrowser(u) == nil {
			say("Your browser is opening. If it does not, open this address on this machine:\n\n  %s\n", u)
		} else {
			say("Open this address in a browser on this machine:\n\n  %s\n", u)
		}
		select {
		case <-ctx.Done():
			return api.Tokens{}, fmt.Errorf("nobody has signed in: %w", ctx.Err())
		case got := <-l.answers:
			t, err := api.Tokens{}, got.err
			if err == nil {
				t, err = i.Redeem(ctx, got.code, l.redirect(), verifier)
			}
			if err == nil {
				err = checkIDToken(t.ID, i.URL, nonce, time.Now().Add(i.Skew))
			}
			l.outcome <- err
			select {
			case <-l.closed:
			case <-time.After(time.Second):
			}
			return t, err
		}
	}
}

// openBrowser opens a URL: with $BROWSER if it is set, else as the desktop does. It fails where there is no desktop.
func openBrowser(u string) error {
	name, args := os.Getenv("BROWSER"), []string{u}
	switch {
	case name != "":
	case runtime.GOOS == "darwin":
		name = "open"
	case runtime.GOOS == "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", u}
	case os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "":
		return errors.New("no desktop")
	default:
		name = "xdg-open"
	}
	cmd := exec.Command(name, args...) // no shell; its output would garble ours
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}
