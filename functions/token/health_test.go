package token_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store/storetest"
)

// counted is a Wrapper that counts what it unwraps, and can be away.
type counted struct {
	locked
	unwrapped atomic.Int64
}

func (c *counted) Unwrap(ctx context.Context, purpose string, t core.TenantID, wrapped []byte) ([]byte, error) {
	c.unwrapped.Add(1)
	return c.locked.Unwrap(ctx, purpose, t, wrapped)
}

func newCounted(t *testing.T) *counted {
	plain, err := localkeys.New(bytes.Repeat([]byte{7}, localkeys.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return &counted{locked: locked{Wrapper: plain, purpose: keys.PurposeSigning}}
}

// health asks an instance.
func (i *instance) health(t *testing.T, method string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	i.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "https://fleet.test/health", nil))
	return w
}

// Both names answer the same, with one look: Cloud Run lets nobody ask by the second, which others expect.
func TestHealthByBothNames(t *testing.T) {
	r := newRig(t, 1)
	w := newCounted(t)
	i := r.newInstance(w)
	var bodies []string
	for _, path := range []string{"/health", "/healthz"} {
		got := httptest.NewRecorder()
		i.handler.ServeHTTP(got, httptest.NewRequestWithContext(t.Context(), "GET", "https://fleet.test"+path, nil))
		if got.Code == http.StatusNotFound {
			t.Errorf("GET %s is not there", path)
		}
		bodies = append(bodies, got.Body.String())
	}
	if bodies[0] != bodies[1] || !strings.Contains(bodies[0], `"checks"`) {
		t.Errorf("%q", bodies)
	}
}

// The answer names what fails, and says nothing else; what is well again is told as such within seconds.
func TestHealth(t *testing.T) {
	r := newRig(t, 1)
	w := newCounted(t)
	i := r.newInstance(w)
	want := func(what string, status int, body string) {
		t.Helper()
		r.clock.advance(6 * time.Second)
		got := i.health(t, "GET")
		if got.Code != status || got.Body.String() != body || got.Header().Get("Cache-Control") != "no-store" || (status == 503) != (got.Header().Get("Retry-After") != "") {
			t.Errorf("%s: %d %s %v, want %d %s", what, got.Code, got.Body, got.Header(), status, body)
		}
	}
	const ok = `{"status":"ok","checks":{"store":"ok","key":"ok"}}`
	want("before there are operators", 503, `{"status":"not initialised","checks":{"store":"ok","key":"not initialised"}}`)
	if _, err := r.first().org.EnsureSystem(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("all well", 200, ok)
	i.faulty.Plan = func(storetest.Call) storetest.Fault { return storetest.Refuse }
	want("the store is away", 503, `{"status":"failing","checks":{"store":"failing","key":"unknown"}}`)
	i.faulty.Plan = nil
	want("the store is back", 200, ok)
	w.away.Store(true)
	want("the key is away, though it is in memory", 503, `{"status":"failing","checks":{"store":"ok","key":"failing"}}`)
	w.away.Store(false)
	want("the key is back", 200, ok)
	if log := r.log.String(); !strings.Contains(log, "the wrapper is away") {
		t.Errorf("the log does not say why: %s", log)
	}
}

// Another key's private half in the place of the operators' own does not sign for them.
func TestHealthVerifies(t *testing.T) {
	r := newRig(t, 1)
	if _, err := r.first().org.EnsureSystem(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newCounted(t)
	i := r.newInstance(&swapped{Wrapper: w, with: func() []byte { return []byte("no key") }})
	if got := i.health(t, "GET"); got.Code != 503 || !strings.Contains(got.Body.String(), `"key":"failing"`) {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if got := r.newInstance(w).health(t, "GET"); got.Code != 200 {
		t.Errorf("the twin: %d %s", got.Code, got.Body)
	}
}

// swapped is a Wrapper that opens everything to something else.
type swapped struct {
	keys.Wrapper
	with func() []byte
}

func (s *swapped) Unwrap(context.Context, string, core.TenantID, []byte) ([]byte, error) {
	return s.with(), nil
}

// However many ask, however often, the store and the key service are asked once in five seconds.
func TestHealthIsKept(t *testing.T) {
	r := newRig(t, 1)
	if _, err := r.first().org.EnsureSystem(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := newCounted(t)
	i := r.newInstance(w)
	ask := func() {
		var wg gosync.WaitGroup
		for n := range 100 {
			wg.Go(func() {
				method := http.MethodGet
				if n%2 == 1 {
					method = http.MethodHead
				}
				if got := i.health(t, method); got.Code != 200 {
					t.Errorf("%s: %d %s", method, got.Code, got.Body)
				}
			})
		}
		wg.Wait()
	}
	ask()
	if n := w.unwrapped.Load(); n != 1 {
		t.Errorf("100 requests at once unwrapped %d times", n)
	}
	if n := i.counter.Reset().Gets; n != 1 {
		t.Errorf("100 requests at once read %d times", n)
	}
	r.clock.advance(4 * time.Second)
	ask()
	if n := w.unwrapped.Load(); n != 1 {
		t.Errorf("four seconds later: unwrapped %d times", n)
	}
	r.clock.advance(2 * time.Second)
	ask() // the twin
	if n := w.unwrapped.Load(); n != 2 {
		t.Errorf("six seconds later: unwrapped %d times, want 2", n)
	}
	// Who asks and goes away spoils the answer for nobody.
	r.clock.advance(6 * time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	i.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "https://fleet.test/healthz", nil))
	if got := i.health(t, "GET"); got.Code != 200 {
		t.Errorf("after one who went away: %d %s", got.Code, got.Body)
	}
}
