package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// chromium starts Debian's chromium, headless, with a profile of its own. It trusts no certificate authority of ours.
func chromium(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI needs a real browser: %v", err)
		}
		t.Skipf("SKIPPED, NOTHING WAS TESTED: no chromium: %v", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(options, more...)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A real browser signs in for the command line: no certificate warning, cookies on plain http://localhost, a strict
// content security policy, and the way back to the loopback listener all hold in it.
func TestChromiumSignsIn(t *testing.T) {
	ctx := chromium(t)
	s, seed := system(t)
	cli, err := BuildCLI(t.Context(), t.TempDir())
	must(t, err)
	p, err := NewPerson(seed.Researcher, t.TempDir(), Tools{Fleetpass: cli}, s)
	must(t, err)
	p.browse = func(_ context.Context, address string) error {
		err := chromedp.Do(ctx,
			chromedp.Navigate(address),
			chromedp.SendKeys(chromedp.CSS("#username"), p.Email),
			chromedp.SendKeys(chromedp.CSS("#password"), "not it"),
			chromedp.Submit(chromedp.CSS("form")),
			chromedp.WaitVisible(chromedp.CSS("[role=alert]")),
			chromedp.SendKeys(chromedp.CSS("#password"), p.Password),
			chromedp.Submit(chromedp.CSS("form")),
			chromedp.WaitNotPresent(chromedp.CSS("#password")),
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
	if err != nil || !strings.Contains(out, p.Email) {
		t.Errorf("whoami: %s %v", out, err)
	}
}
