package outbound_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/outbound"
)

// serve starts a TLS server, and returns its address, its certificate and how many connections it saw.
func serve(t testing.TB, h http.Handler) (address, ca string, connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), connections
}

func port(address string) string { return address[strings.LastIndexByte(address, ':'):] }

// dev allows this machine, and the ports of the servers.
func dev(t testing.TB, servers ...string) *outbound.Client {
	t.Helper()
	allow := "127.0.0.0/8"
	for _, s := range servers {
		allow += "," + port(s)
	}
	return outbound.New(policy(t, allow))
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// NET-001: nothing is sent to an address that is not allowed; the same request goes through where it is.
func TestDialRefused(t *testing.T) {
	at, ca, seen := serve(t, http.HandlerFunc(hello))
	strict := outbound.New(policy(t, port(at)))
	strict.Resolve(func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})
	for _, u := range []string{at, "https://example.com" + port(at), "https://metadata.google.internal" + port(at), "https://localhost" + port(at), "https://[::ffff:127.0.0.1]" + port(at)} {
		if _, err := strict.Get(t.Context(), u, ca); !errors.Is(err, core.Invalid) || !strings.Contains(err.Error(), "FLEETPASS_OUTBOUND_ALLOW") {
			t.Errorf("%s: %v, want it refused", u, err)
		}
		// Whoever uses the client by itself is held to the same.
		hc, err := strict.HTTP(ca)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hc.Get(u); !errors.Is(err, core.Invalid) {
			t.Errorf("%s by the client: %v", u, err)
		}
	}
	if seen.Load() != 0 {
		t.Fatalf("%d connections came", seen.Load())
	}
	open := dev(t, at) // the twin
	open.Resolve(func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})
	for _, u := range []string{at, "https://example.com" + port(at)} {
		if body, err := open.Get(t.Context(), u, ca); err != nil || string(body) != "hello" {
			t.Errorf("%s: %q %v", u, body, err)
		}
	}
}

// NET-003: the name is resolved once for a connection, every address is judged, and it is one of them that is dialled.
func TestRebinding(t *testing.T) {
	at, ca, seen := serve(t, http.HandlerFunc(hello))
	there, public := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("203.0.113.7")
	for _, tt := range []struct {
		name    string
		allow   string
		answers [][]netip.Addr
		ok      bool
	}{
		{"allowed", "127.0.0.0/8", [][]netip.Addr{{there}}, true},
		{"mapped, allowed", "127.0.0.0/8", [][]netip.Addr{{netip.MustParseAddr("::ffff:127.0.0.1")}}, true},
		{"first public, then private", "203.0.113.0/24", [][]netip.Addr{{public}, {there}}, false},
		{"A public, AAAA private", "203.0.113.0/24", [][]netip.Addr{{public, netip.MustParseAddr("::1")}}, false},
		{"A private, AAAA public", "2606::/16", [][]netip.Addr{{there, netip.MustParseAddr("2606::1")}}, false},
		{"metadata among allowed ones", "127.0.0.0/8,169.254.0.0/16", [][]netip.Addr{{there, netip.MustParseAddr("169.254.169.254")}}, false},
		{"none", "127.0.0.0/8", [][]netip.Addr{{}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := outbound.New(policy(t, tt.allow+","+port(at)))
			c.Hurry(time.Second/4, 1<<20)
			var asked atomic.Int64
			c.Resolve(func(context.Context, string) ([]netip.Addr, error) {
				n := int(asked.Add(1)) - 1
				return slices.Clone(tt.answers[min(n, len(tt.answers)-1)]), nil
			})
			before := seen.Load()
			_, err := c.Get(t.Context(), "https://example.com"+port(at), ca)
			if (err == nil) != tt.ok {
				t.Errorf("got %v, want ok=%v", err, tt.ok)
			}
			if asked.Load() != 1 {
				t.Errorf("asked the resolver %d times", asked.Load())
			}
			if came := seen.Load() - before; (came == 1) != tt.ok {
				t.Errorf("%d connections", came)
			}
		})
	}
}

// NET-003: what a resolver finds inside is not told to whoever typed the name.
func TestRefusalHidesAddress(t *testing.T) {
	c := outbound.New(outbound.Policy{})
	c.Resolve(func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("10.9.8.7")}, nil
	})
	_, err := c.Get(t.Context(), "https://db.corp.example/", "")
	if !errors.Is(err, core.Invalid) || strings.Contains(err.Error(), "10.9.8.7") || !strings.Contains(err.Error(), "db.corp.example") {
		t.Errorf("got %v", err)
	}
}

// NET-001, NET-005: redirects are judged like first addresses, and counted.
func TestRedirects(t *testing.T) {
	inside, _, insideSeen := serve(t, http.HandlerFunc(hello)) // on a port that is not allowed
	var at string
	mux := http.NewServeMux()
	mux.HandleFunc("/end", hello)
	mux.HandleFunc("/to", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Query().Get("u"), http.StatusTemporaryRedirect)
	})
	at, ca, _ := serve(t, mux)
	c := dev(t, at)
	to := func(u string, hops int) string {
		for range hops {
			u = at + "/to?u=" + url.QueryEscape(u)
		}
		return u
	}
	for _, u := range []string{to(at+"/end", 1), to(at+"/end", 3), to("/end", 1)} {
		if body, err := c.Get(t.Context(), u, ca); err != nil || string(body) != "hello" {
			t.Errorf("%s: %q %v", u, body, err)
		}
	}
	for name, u := range map[string]string{
		"four": to(at+"/end", 4), "to plain http": to("http://127.0.0.1"+port(at)+"/end", 1), "to another port": to(inside, 1), "through three": to(inside, 3),
		"to metadata": to("https://169.254.169.254/latest", 1), "with a user": to("https://a@127.0.0.1"+port(at)+"/end", 1), "to a file": to("file:///etc/passwd", 1),
		"decimal": to("https://2130706433"+port(at)+"/end", 1), "for ever": at + "/to?u=",
	} {
		if _, err := c.Get(t.Context(), u, ca); !errors.Is(err, core.Invalid) && !errors.Is(err, core.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := insideSeen.Load(); n != 0 {
		t.Errorf("%d connections inside", n)
	}
	// A form may hold a client's secret: it goes nowhere else.
	hc, err := c.HTTP(ca)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := hc.PostForm(to(at+"/end", 1), url.Values{"client_secret": {"s"}}); err == nil {
		t.Errorf("a POST was redirected: %s", r.Status)
	}
	if r, err := hc.PostForm(at+"/end", url.Values{"client_secret": {"s"}}); err != nil || r.StatusCode != 200 {
		t.Errorf("the twin: %v", err)
	}
}

// An Authorization goes to the host that it was meant for, and to no other, nor to another port of it.
func TestAuthorizationStays(t *testing.T) {
	var got atomic.Value
	other, ca2, _ := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("Authorization")) }))
	mux := http.NewServeMux()
	mux.HandleFunc("/same", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/end", http.StatusFound) })
	mux.HandleFunc("/other", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusFound) })
	mux.HandleFunc("/end", func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("Authorization")) })
	at, ca, _ := serve(t, mux)
	c := dev(t, at, other)
	for path, want := range map[string]string{"/same": "Bearer x", "/other": ""} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer x")
		if status, _, err := c.Send(r, ca+ca2); err != nil || status != 200 {
			t.Fatalf("%s: %d %v", path, status, err)
		}
		if got.Load() != want {
			t.Errorf("%s: %q arrived, want %q", path, got.Load(), want)
		}
	}
}

// NET-007: what never ends, ends.
func TestBounds(t *testing.T) {
	drip := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 4<<20))
	z.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/good", hello)
	mux.HandleFunc("/drip", drip)
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/infinite", func(w http.ResponseWriter, r *http.Request) {
		for chunk := bytes.Repeat([]byte("x"), 32<<10); r.Context().Err() == nil; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/exact", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 64<<10)) })
	mux.HandleFunc("/over", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 64<<10+1)) })
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb.Bytes())
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 4096 {
			w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 100))
		}
	})
	mux.HandleFunc("/missing", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "CANARY", http.StatusNotFound) })
	at, ca, _ := serve(t, mux)
	c := dev(t, at)
	c.Hurry(10*time.Second, 64<<10)
	impatient := dev(t, at)
	impatient.Hurry(300*time.Millisecond, 64<<10)
	for _, tt := range []struct {
		path string
		c    *outbound.Client
		want error
	}{
		{"/good", c, nil},
		{"/exact", c, nil},
		{"/over", c, core.TooLarge},
		{"/infinite", c, core.TooLarge},
		{"/headers", c, core.Unavailable},
		{"/missing", c, core.Unavailable},
		{"/drip", impatient, core.Unavailable},
		{"/silent", impatient, core.Unavailable},
	} {
		_, err := tt.c.Get(t.Context(), at+tt.path, ca)
		if !errors.Is(err, tt.want) || tt.want != nil && !strings.Contains(err.Error(), "127.0.0.1") || err != nil && strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%s: %v, want %v", tt.path, err, tt.want)
		}
	}
	// A bomb is not set off: the bytes are those that came.
	if body, err := c.Get(t.Context(), at+"/bomb", ca); err != nil || len(body) > 64<<10 || !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		t.Errorf("bomb: %d bytes, %v", len(body), err)
	}
}

// NET-007: a server that accepts and then says nothing, or speaks no TLS.
func TestHandshakeBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // reads the ClientHello, and then nothing ever happens
				bufio.NewReader(conn).ReadByte()
				<-t.Context().Done()
				conn.Close()
			}()
		}
	}()
	at := "https://" + l.Addr().String()
	c := dev(t, at)
	c.Hurry(200*time.Millisecond, 1024)
	if _, err := c.Get(t.Context(), at, ""); !errors.Is(err, core.Unavailable) {
		t.Errorf("silent handshake: %v", err)
	}
}

// The system's authorities do not vouch for the test's server: without its certificate nothing is read from it.
func TestAuthority(t *testing.T) {
	at, ca, _ := serve(t, http.HandlerFunc(hello))
	c := dev(t, at)
	if _, err := c.Get(t.Context(), at, ca); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), at, ""); !errors.Is(err, core.Unavailable) || !strings.Contains(err.Error(), "authority") {
		t.Errorf("without its CA: %v", err)
	}
	c.Resolve(func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	})
	if _, err := c.Get(t.Context(), "https://another.test"+port(at), ca); !errors.Is(err, core.Unavailable) || !strings.Contains(err.Error(), "another name") {
		t.Errorf("by another name: %v", err)
	}
	for _, bad := range []string{"x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ca + "rest", strings.Replace(ca, "CERTIFICATE", "PRIVATE KEY", 2), strings.Repeat(ca, 100)} {
		if _, err := c.HTTP(bad); !errors.Is(err, core.Invalid) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

// One client per bundle, kept, and not more than so many.
func TestPools(t *testing.T) {
	_, ca, _ := serve(t, http.HandlerFunc(hello))
	c := outbound.New(outbound.Policy{})
	first, err := c.HTTP(ca)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * outbound.MaxPools {
		if _, err := c.HTTP(ca + strings.Repeat("\n", i+1)); err != nil {
			t.Fatal(err)
		}
		if again, _ := c.HTTP(ca); again != first {
			t.Fatal("a bundle in use got another client")
		}
	}
	if c.Pools() != outbound.MaxPools {
		t.Errorf("%d pools", c.Pools())
	}
}

// Nothing of the environment counts, and nothing is remembered: a proxy would see every secret, and dial for us. net/http
// reads the environment once in a process, so what is set is looked at.
func TestNothingAround(t *testing.T) {
	c, err := outbound.New(outbound.Policy{}).HTTP("")
	if err != nil {
		t.Fatal(err)
	}
	if tr := outbound.Transport(c); tr.Proxy != nil || tr.GetProxyConnectHeader != nil || tr.DialTLSContext != nil || tr.TLSClientConfig.InsecureSkipVerify || c.Jar != nil {
		t.Errorf("%+v", tr)
	}
}
