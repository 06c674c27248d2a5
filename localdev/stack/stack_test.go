package stack_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/localdev/stack"
)

// The zero Options work: a system that serves, seeds itself, and leaves nothing behind.
func TestZeroOptions(t *testing.T) {
	s, err := stack.New(stack.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	seed, err := s.Seed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Seed(t.Context())
	if err != nil || again.Admin != seed.Admin {
		t.Errorf("seeding twice: %+v %v", again, err)
	}
	ca, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	for client, base := range map[*http.Client]string{secure: s.Base, http.DefaultClient: s.BrowserBase} {
		res, err := client.Get(base + "/t/acme/.well-known/openid-configuration")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		// Whatever door it is asked at, the issuer is one, and the pages are where no browser warns.
		for _, want := range []string{`"issuer":"` + s.Base + `/t/acme"`, `"authorization_endpoint":"` + s.BrowserBase + `/t/acme/authorize"`} {
			if !strings.Contains(string(body), want) {
				t.Errorf("%s: %s lacks %s", base, body, want)
			}
		}
	}
}
