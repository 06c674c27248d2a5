package sso_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
)

// refresh does what the job of a connection does, and says whether it comes back.
func (o *office) refresh(c sso.Connection) (sso.Connection, bool) {
	o.t.Helper()
	stays, err := o.Refresh(o.t.Context(), core.SystemActor(acme), acme, o.job(c))
	if err != nil {
		o.t.Fatal(err)
	}
	rec, err := o.Connection(o.t.Context(), acme, c.Alias)
	if err != nil && stays {
		o.t.Fatal(err)
	}
	return rec.Value, stays
}

// job is the reference of the job that was scheduled for a connection.
func (o *office) job(c sso.Connection) string {
	o.t.Helper()
	for rec, err := range due.List(o.t.Context(), o.db, c.CreatedAt.Add(sso.RefreshEvery+time.Second)) {
		if err != nil {
			o.t.Fatal(err)
		}
		if rec.Value.Kind == due.Metadata && strings.HasPrefix(rec.Value.Ref, c.ID) {
			return rec.Value.Ref
		}
	}
	o.t.Fatalf("no job for %s", c.Alias)
	return ""
}

func TestRefresh(t *testing.T) {
	o := newOffice(t)
	first, second := signing(t, o.now().AddDate(1, 0, 0)), signing(t, o.now().AddDate(2, 0, 0))
	o.press.set(func(p *press) { p.certs = [][]byte{first} })
	made := o.create(saml("okta", "example.com"))
	o.prove("okta")

	o.pass(sso.RefreshEvery)
	c, stays := o.refresh(made)
	if !stays || !c.Refresh.At.Equal(o.now()) || !c.Refresh.ChangedAt.Equal(made.CreatedAt) || len(o.facts()) != 1 || len(o.records()) != 1 {
		t.Errorf("nothing new: %+v, %v, %v", c.Refresh, o.facts(), o.records())
	}

	// A new certificate is applied, recorded and told. What was proven stays so. SAML-153
	o.press.set(func(p *press) { p.certs = [][]byte{first, second} })
	o.pass(sso.RefreshEvery)
	c, _ = o.refresh(made)
	if len(c.SAML.IdP.Certificates) != 2 || !c.Refresh.ChangedAt.Equal(o.now()) || c.ProvenAt.IsZero() {
		t.Errorf("%+v", c)
	}
	if got := o.facts(); !slices.Equal(got, []string{"created", "metadata"}) {
		t.Errorf("events %v", got)
	}
	if got := o.records(); !slices.Contains(got, "fleetpass update okta Succeeded: the provider published new signing certificates: 2 now") {
		t.Errorf("records %q", got)
	}

	// A failure shows, once in the log, and the last good reading stays. SAML-151
	o.press.set(func(p *press) { p.err = fmt.Errorf("idp.example does not answer: %w", core.Unavailable) })
	o.pass(sso.RefreshEvery)
	since := o.now()
	o.refresh(made)
	o.pass(sso.RefreshEvery)
	c, _ = o.refresh(made)
	if len(c.SAML.IdP.Certificates) != 2 || !c.Refresh.FailingSince.Equal(since) || !strings.Contains(c.Refresh.Error, "does not answer") || !c.Refresh.At.Equal(o.now()) {
		t.Errorf("%+v", c.Refresh)
	}
	failures := 0
	for _, r := range o.records() {
		if strings.Contains(r, "Failed") {
			failures++
		}
	}
	if failures != 1 {
		t.Errorf("%d records of one failure", failures)
	}

	// An internal error is shown to nobody, and another provider at the address signs nobody in. SAML-153
	o.press.set(func(p *press) { p.err = fmt.Errorf("disk on fire") })
	if c, _ = o.refresh(made); strings.Contains(c.Refresh.Error, "fire") || c.Refresh.Error == "" {
		t.Errorf("%q", c.Refresh.Error)
	}
	o.press.set(func(p *press) { p.err, p.entity, p.certs = nil, "https://evil.example", [][]byte{first} })
	if c, _ = o.refresh(made); len(c.SAML.IdP.Certificates) != 2 || c.SAML.IdP.EntityID != "https://idp.example" || !strings.Contains(c.Refresh.Error, "https://evil.example") {
		t.Errorf("%+v", c)
	}
	o.press.set(func(p *press) { p.entity, p.certs = "", [][]byte{second} })
	if c, _ = o.refresh(made); len(c.SAML.IdP.Certificates) != 1 || !c.Refresh.FailingSince.IsZero() || c.Refresh.Error != "" {
		t.Errorf("when it is back: %+v", c)
	}

	// A disabled one is left alone; a deleted one ends the job, also where another one took its people over.
	off := false
	o.local("bob@example.com")
	if _, err := o.Update(t.Context(), o.ada, acme, "okta", sso.New{Enabled: &off}); err != nil {
		t.Fatal(err)
	}
	loads := o.press.loads.Load()
	if _, stays := o.refresh(made); !stays || o.press.loads.Load() != loads {
		t.Errorf("disabled: %v, %d loads", stays, o.press.loads.Load()-loads)
	}
	ref := o.job(made)
	if err := o.Delete(t.Context(), o.ada, acme, "okta"); err != nil {
		t.Fatal(err)
	}
	o.pass(time.Second)
	heir := saml("heir", "example.com")
	heir.TakesOver = "okta"
	o.create(heir)
	for range 2 {
		if stays, err := o.Service.Refresh(t.Context(), core.SystemActor(acme), acme, ref); err != nil || stays {
			t.Errorf("%v, %v", stays, err)
		}
	}
}

// What is uploaded is not read again, but its certificates are watched.
func TestRefreshOfAnUpload(t *testing.T) {
	o := newOffice(t)
	o.press.set(func(p *press) { p.certs = [][]byte{signing(t, o.now().AddDate(0, 0, 20))} })
	c := o.create(sso.New{Alias: "okta", Kind: sso.SAML, SAML: &sso.NewSAML{MetadataXML: "https://uploaded.example", FileName: "okta.xml"}})
	if c.SAML.IdP.EntityID != "https://uploaded.example" {
		t.Fatalf("%+v", c.SAML.IdP)
	}
	loads := o.press.loads.Load()
	o.refresh(c)
	if got := o.facts(); o.press.loads.Load() != loads || !slices.Contains(got, "provider 30") {
		t.Errorf("events %v, %d loads", got, o.press.loads.Load()-loads)
	}
	_, err := o.ReadAgain(t.Context(), o.ada, acme, "okta")
	is(t, err, core.Unsupported)
	if got, err := o.Update(t.Context(), o.ada, acme, "okta", sso.New{SAML: &sso.NewSAML{IdPInitiated: true}}); err != nil ||
		got.SAML.IdP.EntityID != "https://uploaded.example" || got.SAML.FileName != "okta.xml" || !got.SAML.IdPInitiated {
		t.Errorf("without another upload: %+v, %v", got.SAML, err)
	}
}

// The end of a certificate is announced 30, 7 and 1 days before and when it has come, once each, however often and by however
// many it is looked at; of several that may sign, only that of the last matters.
func TestExpiryIsAnnouncedOnce(t *testing.T) {
	o := newOffice(t)
	ends := o.now().AddDate(0, 0, 40)
	o.press.set(func(p *press) { p.certs = [][]byte{signing(t, o.now().AddDate(0, 0, 3)), signing(t, ends)} })
	c := o.create(saml("okta", "example.com"))
	if !c.Expiry().Equal(ends) {
		t.Errorf("ends at %v, want %v", c.Expiry(), ends)
	}
	for now := o.now(); now.Before(ends.AddDate(0, 0, 3)); now = now.Add(6 * time.Hour) {
		o.ns.Store(now.UnixNano())
		var working sync.WaitGroup
		for range 3 {
			working.Go(func() { o.Refresh(t.Context(), core.SystemActor(acme), acme, o.job(c)) })
		}
		working.Wait()
		left := ends.Sub(now)
		want := []string{"created"}
		for _, days := range []int{0, 1, 30, 7} {
			if left <= time.Duration(days)*24*time.Hour {
				want = append(want, fmt.Sprint("provider ", days))
			}
		}
		slices.Sort(want)
		if got := o.facts(); now.Sub(c.CreatedAt) < store.OutboxKeep && !slices.Equal(got, want) {
			t.Fatalf("%v before the end: %v, want %v", left, got, want)
		}
	}
	var said []string
	for _, r := range o.records() {
		if strings.Contains(r, "certificate") {
			said = append(said, r)
		}
	}
	if len(said) != 4 || !strings.Contains(said[0], "ends within 30 days") || !strings.Contains(said[3], "ended at") {
		t.Errorf("records %q", said)
	}

	// Its successor begins anew.
	next := o.now().AddDate(0, 0, 5)
	o.press.set(func(p *press) { p.certs = [][]byte{signing(t, next)} })
	o.refresh(c)
	o.refresh(c)
	if got := o.facts(); !slices.Contains(got, "provider 7") || slices.Contains(got[slices.Index(got, "provider 7")+1:], "provider 7") {
		t.Errorf("events %v", got)
	}

	// And our own, after ten years.
	o.press.set(func(p *press) { p.certs = [][]byte{signing(t, o.now().AddDate(50, 0, 0))} })
	o.ns.Store(c.CreatedAt.AddDate(10, 0, -6).UnixNano())
	o.refresh(c)
	o.refresh(c)
	if got := o.facts(); !slices.Equal(got, []string{"metadata", "own 7"}) {
		t.Errorf("events %v", got)
	}
}

// A rotated certificate costs no sign-in: of many that fail by it at once, one reads the metadata, and all of them get what it
// read. Then there is rest for a minute.
func TestReread(t *testing.T) {
	o := newOffice(t)
	first, second := signing(t, o.now().AddDate(1, 0, 0)), signing(t, o.now().AddDate(2, 0, 0))
	o.press.set(func(p *press) { p.certs = [][]byte{first} })
	o.create(saml("okta", "example.com"))
	rec, err := o.Connection(t.Context(), acme, "okta")
	if err != nil {
		t.Fatal(err)
	}
	if _, changed, err := o.Reread(t.Context(), o.ada, rec); changed || err != nil || o.press.loads.Load() != 1 {
		t.Errorf("within a minute: %v, %v, %d loads", changed, err, o.press.loads.Load())
	}

	o.pass(2 * time.Minute)
	hold := make(chan struct{})
	o.press.set(func(p *press) { p.certs, p.hold = [][]byte{second}, hold })
	var working sync.WaitGroup
	var got atomic.Int64
	for range 10 {
		working.Go(func() {
			now, changed, err := o.Reread(t.Context(), o.ada, rec)
			if err != nil || !changed || !slices.Equal(now.Value.SAML.IdP.Certificates[0], second) {
				t.Errorf("%v, %v", changed, err)
			}
			got.Add(1)
		})
	}
	for o.press.loads.Load() != 2 { // until one reads
		time.Sleep(time.Millisecond)
	}
	close(hold)
	working.Wait()
	if n := o.press.loads.Load(); n != 2 || got.Load() != 10 {
		t.Errorf("%d loads for %d sign-ins", n-1, got.Load())
	}
	if f := o.facts(); !slices.Equal(f, []string{"created", "metadata"}) {
		t.Errorf("events %v", f)
	}
	// Whoever still has the old one gets the new one without a reading; who has the new one gets nothing.
	now, changed, err := o.Reread(t.Context(), o.ada, rec)
	if err != nil || !changed {
		t.Errorf("%v, %v", changed, err)
	}
	if _, changed, err = o.Reread(t.Context(), o.ada, now); changed || err != nil || o.press.loads.Load() != 2 {
		t.Errorf("%v, %v, %d loads", changed, err, o.press.loads.Load())
	}

	// A provider that does not answer is no error, and asked again a minute later at the soonest.
	o.press.set(func(p *press) { p.hold, p.err = nil, core.Unavailable })
	o.pass(2 * time.Minute)
	for range 3 {
		if now, changed, err = o.Reread(t.Context(), o.ada, now); changed || err != nil {
			t.Errorf("%v, %v", changed, err)
		}
	}
	if n := o.press.loads.Load(); n != 3 || now.Value.Refresh.Error == "" {
		t.Errorf("%d loads, %+v", n, now.Value.Refresh)
	}
}

// An administrator who points the connection elsewhere while the old address is read wins.
func TestReadingLosesToAnUpdate(t *testing.T) {
	o := newOffice(t)
	o.create(oidc("okta", "example.com"))
	hold := make(chan struct{})
	o.press.set(func(p *press) { p.hold, p.jwks = hold, "https://old.example/jwks" })
	done := make(chan error)
	o.pass(time.Minute)
	go func() {
		_, err := o.ReadAgain(t.Context(), o.ada, acme, "okta")
		done <- err
	}()
	for o.press.loads.Load() != 2 {
		time.Sleep(time.Millisecond)
	}
	o.press.set(func(p *press) { p.hold = nil })
	n := oidc("")
	n.OIDC.DiscoveryURL = "https://new.example"
	o.press.set(func(p *press) { p.jwks = "https://new.example/jwks" })
	if _, err := o.Update(t.Context(), o.ada, acme, "okta", n); err != nil {
		t.Fatal(err)
	}
	o.press.set(func(p *press) { p.jwks = "https://old.example/jwks" })
	close(hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if rec, _ := o.Connection(t.Context(), acme, "okta"); rec.Value.OIDC.Provider.JWKS != "https://new.example/jwks" {
		t.Errorf("%+v", rec.Value.OIDC.Provider)
	}
}
