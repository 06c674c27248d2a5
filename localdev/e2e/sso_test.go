package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"

	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/localdev/idp"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// People of an identity provider sign in by SAML and by OpenID Connect, for the command line, which knows who they are then.
func TestFederatedSignIn(t *testing.T) {
	s, seed := system(t)
	cli, err := BuildCLI(t.Context(), t.TempDir())
	must(t, err)
	for i, who := range seed.Federated {
		t.Run(string(who.Alias), func(t *testing.T) {
			p, err := NewPerson(who.Person, t.TempDir(), Tools{Fleetpass: cli}, s)
			must(t, err)
			p.browse = federated(who)
			must(t, p.Login(t.Context()))
			out, err := p.Fleetpass(t.Context(), "whoami")
			must(t, err)
			t.Log(out)
			groups := []string{"researchers", "partner:researchers"}[i]
			for _, want := range []string{who.Email, groups, []string{"15011", "15012"}[i], "25001", "30001", "30003"} {
				if !strings.Contains(out, want) {
					t.Errorf("whoami lacks %q:\n%s", want, out)
				}
			}
		})
	}
}

// However the provider misbehaves, nobody is signed in, and the trace names the cause first.
func TestMisbehaviour(t *testing.T) {
	s, seed := system(t)
	for _, m := range idp.Faults() {
		who := seed.Federated[0]
		if m.Protocol == idp.OIDC {
			who = seed.Federated[1]
		}
		t.Run(string(m.Protocol)+"/"+string(m.Fault), func(t *testing.T) {
			// The twin, which is also what a replay repeats.
			if _, err := NewBrowser(nil).SignInAt(t.Context(), s.BrowserBase+"/t/acme/login", who, idp.Behave); err != nil {
				t.Fatal(err)
			}
			b := NewBrowser(nil)
			body, err := b.SignInAt(t.Context(), s.BrowserBase+"/t/acme/login", who, m.Fault)
			must(t, err)
			if _, status := b.Page(); status < 400 || status > 499 {
				t.Fatalf("status %d: %.300s", status, body)
			}
			if _, err := b.Visit(t.Context(), s.BrowserBase+"/t/acme/"); err != nil || strings.Contains(b.body, "You are signed in") {
				t.Errorf("somebody is signed in: %v", err)
			}
			traces, _, err := s.SSO.Traces(t.Context(), "acme", 1, "")
			must(t, err)
			if len(traces) != 1 || len(traces[0].Checks) == 0 {
				t.Fatalf("trace %+v", traces)
			}
			for _, c := range traces[0].Checks {
				if c.Result == "failed" {
					if c.Name != m.Fails || c.Fix == "" {
						t.Errorf("the first failed check is %+v, want %s", c, m.Fails)
					}
					break
				}
			}
			if traces[0].Outcome != "refused" {
				t.Errorf("outcome %s", traces[0].Outcome)
			}
		})
	}
}

// A real browser signs in by SAML and by OpenID Connect, with the system and the provider on two sites over TLS: the provider's
// post arrives without our cookies, the redirect that answers it brings them, and the way ends at the command line. Nothing on
// the way has a cookie for other sites.
func TestChromiumSignsInAtProviders(t *testing.T) {
	s, err := stack.New(stack.Options{Apart: true, Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(s.Close)
	seed, err := s.Seed(t.Context())
	must(t, err)
	cli, err := BuildCLI(t.Context(), t.TempDir())
	must(t, err)
	for _, who := range seed.Federated {
		t.Run(string(who.Alias), func(t *testing.T) {
			ctx := chromium(t, chromedp.Flag("ignore-certificate-errors-spki-list", spki(t, s)))
			p, err := NewPerson(who.Person, t.TempDir(), Tools{Fleetpass: cli}, s)
			must(t, err)
			p.browse = func(_ context.Context, address string) error {
				err := chromedp.Do(ctx,
					chromedp.Navigate(address),
					// Their organization is found by the e-mail's domain.
					chromedp.SendKeys(chromedp.CSS("#username"), p.Email),
					chromedp.Submit(chromedp.CSS("form")),
					chromedp.WaitVisible(chromedp.CSS("#email")),
					chromedp.SendKeys(chromedp.CSS("#email"), p.Email),
					chromedp.SendKeys(chromedp.CSS("#password"), p.Password),
					chromedp.Submit(chromedp.CSS("form")),
					chromedp.WaitNotPresent(chromedp.CSS("form")),
				)
				if err != nil {
					return err
				}
				text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
				t.Logf("the browser ends at: %s", strings.Join(strings.Fields(text), " "))
				return err
			}
			must(t, p.Login(t.Context()))
			out, err := p.Fleetpass(t.Context(), "whoami")
			must(t, err)
			for _, want := range []string{who.Email, "researchers", "25001", "30001", "30003"} {
				if !strings.Contains(out, want) {
					t.Errorf("whoami lacks %q:\n%s", want, out)
				}
			}
			jar, err := chromedp.CallBrowser(ctx, storage.GetCookies, storage.GetCookiesParams{})
			must(t, err)
			for _, c := range jar.Cookies {
				if strings.HasPrefix(c.Name, "__Host-") && c.SameSite != network.CookieSameSiteLax && c.SameSite != network.CookieSameSiteStrict {
					t.Errorf("cookie %s is sent to us from other sites: %q", c.Name, c.SameSite)
				}
			}
		})
	}
}

// spki is how chromium is told to trust the certificate of a system on this machine: the SHA-256 of its public key.
func spki(t *testing.T, s *stack.Stack) string {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.IssuerCA))
	c, err := tls.Dial("tcp", strings.TrimPrefix(s.Base, "https://"), &tls.Config{RootCAs: pool})
	must(t, err)
	defer c.Close()
	sum := sha256.Sum256(c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A provider that changes its key at once costs nobody a sign-in: the answer that no known certificate signed has the metadata
// read again, the change is in force for that very answer, and it is recorded and told. So is one that is announced beforehand.
func TestRotatedCertificate(t *testing.T) {
	var ahead atomic.Int64 // the system's clock, ahead of the machine's: metadata is read again once a minute at most
	now := func() time.Time { return time.Now().UTC().Add(time.Duration(ahead.Load())) }
	s, err := stack.New(stack.Options{Dir: t.TempDir(), Now: now})
	must(t, err)
	t.Cleanup(s.Close)
	seed, err := s.Seed(t.Context())
	must(t, err)
	signIn := func(who stack.Federated) {
		t.Helper()
		b := NewBrowser(nil)
		body, err := b.SignInAt(t.Context(), s.BrowserBase+"/t/acme/login", who, idp.Behave)
		must(t, err)
		if !strings.Contains(body, "You are signed in") {
			at, status := b.Page()
			t.Fatalf("%s ended at %s with %d: %.500s", who.Email, at.Path, status, body)
		}
	}
	for _, who := range seed.Federated {
		signIn(who)
	}
	before, err := s.SSO.Connection(t.Context(), "acme", "corp")
	must(t, err)
	ahead.Add(int64(2 * time.Minute))
	must(t, s.IDP.RotateKeys())
	for _, who := range seed.Federated {
		signIn(who)
	}
	after, err := s.SSO.Connection(t.Context(), "acme", "corp")
	must(t, err)
	if !after.Value.Refresh.ChangedAt.After(before.Value.Refresh.ChangedAt) || slices.EqualFunc(before.Value.SAML.IdP.Certificates, after.Value.SAML.IdP.Certificates, bytes.Equal) {
		t.Errorf("the connection was not changed: %+v", after.Value.Refresh)
	}
	if !recorded(t, s, audit.EntityIdentityProvider, audit.Update) {
		t.Error("the change of the certificate is not in the audit log")
	}

	// An orderly rollover: published, read by maintain, then used.
	must(t, s.IDP.PublishNext())
	ahead.Add(int64(2 * time.Hour))
	must(t, s.System.Maintain(t.Context(), now()))
	rolled, err := s.SSO.Connection(t.Context(), "acme", "corp")
	must(t, err)
	if n, was := len(rolled.Value.SAML.IdP.Certificates), len(after.Value.SAML.IdP.Certificates); n != was+1 {
		t.Fatalf("%d certificates after the next one was published, %d before; %+v", n, was, rolled.Value.Refresh)
	}
	signIn(seed.Federated[0])
	must(t, s.IDP.UseNext())
	signIn(seed.Federated[0])
}

// recorded says whether the audit log of the tenant has such a record of a success.
func recorded(t *testing.T, s *stack.Stack, entity string, action audit.Action) bool {
	t.Helper()
	for _, r := range []store.Range{store.AuditsNew("acme"), store.Audits("acme", time.Time{})} {
		for it, err := range s.DB.List(t.Context(), r) {
			must(t, err)
			if strings.Contains(string(it.Body), `"entityType":"`+entity+`"`) && strings.Contains(string(it.Body), `"action":"`+string(action)+`"`) {
				return true
			}
		}
	}
	return false
}
