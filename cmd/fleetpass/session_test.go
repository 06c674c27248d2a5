package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

const (
	east = core.ClusterID("11111111-1111-4111-8111-111111111111")
	west = core.ClusterID("22222222-2222-4222-8222-222222222222")
)

// copyOf is the same account as another process sees it.
func copyOf(c *account) *account {
	other := *c
	return &other
}

func TestManyAtOnceRenewOnce(t *testing.T) {
	f := newFakeIssuer(t)
	c := f.account(t, session{Refresh: "refresh-0"})
	var wait sync.WaitGroup
	tokens := make([]string, 20)
	for n := range tokens {
		wait.Go(func() {
			pass, err := copyOf(c).pass(t.Context(), east)
			if err != nil {
				t.Error(err)
			}
			tokens[n] = pass.Token
		})
	}
	wait.Wait()
	for _, token := range tokens {
		if token != "cluster-1" {
			t.Errorf("tokens %q", tokens)
			break
		}
	}
	if f.refreshes != 1 || f.exchanges != 1 {
		t.Errorf("%d refreshes and %d exchanges for 20 calls, want 1 and 1", f.refreshes, f.exchanges)
	}
	if _, err := c.pass(t.Context(), west); err != nil || f.refreshes != 1 || f.exchanges != 2 {
		t.Errorf("another cluster: %v, %d refreshes, %d exchanges; want none and one more", err, f.refreshes, f.exchanges)
	}
}

func TestWhatIsUsableIsNotRenewed(t *testing.T) {
	f := newFakeIssuer(t)
	c := f.account(t, session{Refresh: "refresh-0", Access: "a", Expires: time.Now().Add(time.Minute),
		Clusters: map[core.ClusterID]clusterPass{east: {"e", time.Now().Add(time.Minute)}, west: {"w", time.Now().Add(renewBefore / 2)}}})
	f.Close() // nobody can be asked
	if token, err := c.access(t.Context()); err != nil || token != "a" {
		t.Errorf("access token %q %v", token, err)
	}
	if pass, err := c.pass(t.Context(), east); err != nil || pass.Token != "e" {
		t.Errorf("cluster token %+v %v", pass, err)
	}
	if _, err := c.pass(t.Context(), west); !errors.Is(err, core.Unavailable) {
		t.Errorf("a token about to end was given out: %v", err)
	}
}

func TestTheSuccessorIsKeptWhateverFollows(t *testing.T) {
	f := newFakeIssuer(t)
	f.failExchange = http.StatusServiceUnavailable
	c := f.account(t, session{Refresh: "refresh-0"})
	if _, err := c.pass(t.Context(), east); !errors.Is(err, core.Unavailable) {
		t.Errorf("got %v", err)
	}
	if s, err := c.load(); err != nil || s.Refresh != "refresh-1" || s.Access != "access-1" {
		t.Errorf("the rotated refresh token is lost: %+v %v", s, err)
	}
	f.failExchange = 0
	if _, err := c.pass(t.Context(), east); err != nil || f.refreshes != 1 {
		t.Errorf("afterwards: %v, %d refreshes", err, f.refreshes)
	}
}

func TestASessionThatEnded(t *testing.T) {
	f := newFakeIssuer(t)
	c := f.account(t, session{Refresh: "refresh-0"})
	t.Run("is kept while the server is ill", func(t *testing.T) {
		ill := copyOf(c)
		ill.Server = "https://127.0.0.1:1/t/acme"
		if _, err := ill.access(t.Context()); !errors.Is(err, core.Unavailable) {
			t.Errorf("got %v", err)
		}
		if s, _ := c.load(); s.Refresh != "refresh-0" {
			t.Error("the session was thrown away")
		}
	})
	t.Run("is dropped when the server says so", func(t *testing.T) {
		f.ended = true
		for range 2 {
			if _, err := c.access(t.Context()); !errors.Is(err, errNotSignedIn) || !strings.Contains(err.Error(), "fleetpass login") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line that says what to do", err)
			}
		}
		if f.refreshes != 1 {
			t.Errorf("it was asked %d times", f.refreshes)
		}
	})
}

func TestNobodyWaitsForEver(t *testing.T) {
	f := newFakeIssuer(t)
	c := f.account(t, session{Refresh: "refresh-0"})
	unlock, err := c.dir.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := copyOf(c).pass(ctx, east); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "another fleetpass") {
		t.Errorf("got %v", err)
	}
	// Who has no session and nobody to ask does not even wait for the lock.
	empty := f.account(t, session{})
	other, err := empty.dir.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other()
	if _, err := copyOf(empty).pass(t.Context(), east); !errors.Is(err, errNotSignedIn) {
		t.Errorf("got %v", err)
	}
}

func TestOneTab(t *testing.T) {
	f := newFakeIssuer(t)
	c := f.account(t, session{})
	tabs := 0
	var mu sync.Mutex
	c.once = true
	c.signIn = func(context.Context, *api.Issuer) (api.Tokens, error) {
		mu.Lock()
		defer mu.Unlock()
		tabs++
		return api.Tokens{}, errors.New("nobody came")
	}
	var wait sync.WaitGroup
	for range 10 { // a weekend of polling
		wait.Go(func() {
			if _, err := copyOf(c).pass(t.Context(), east); err == nil {
				t.Error("a token without a sign-in")
			}
		})
	}
	wait.Wait()
	if tabs != 1 {
		t.Errorf("%d tabs, want 1", tabs)
	}
	if _, err := copyOf(c).pass(t.Context(), east); !errors.Is(err, errNotSignedIn) || !strings.Contains(err.Error(), "was not finished") {
		t.Errorf("got %v", err)
	}
	// `fleetpass login` is a person who wants a tab, and clears the way for the next one of kubectl's.
	person := copyOf(c)
	person.once = false
	person.signIn = func(context.Context, *api.Issuer) (api.Tokens, error) {
		return api.Tokens{Access: "a", Expires: time.Now().Add(time.Hour), Refresh: "refresh-0"}, nil
	}
	if pass, err := person.pass(t.Context(), east); err != nil || pass.Token == "" {
		t.Fatalf("%+v %v", pass, err)
	}
	if s, err := c.load(); err != nil || !s.Unfinished.IsZero() {
		t.Errorf("%+v %v", s, err)
	}
}

func TestADamagedFileSaysNothingOfItsContent(t *testing.T) {
	f := newFakeIssuer(t)
	c := f.account(t, session{})
	if err := c.dir.write("session.json", []byte(`{"access":"canary`)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.access(t.Context()); err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
}
