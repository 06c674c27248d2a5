package sso_test

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/due"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
)

func TestCreate(t *testing.T) {
	o := newOffice(t)
	n := saml("", "Example.com", "example.com", "corp.example")
	n.Name = "Acme Okta (EU)"
	c := o.create(n)
	if c.Alias != "acme-okta-eu" || c.GroupPrefix != "" || !c.Enabled || !slices.Equal(c.Domains, []string{"corp.example", "example.com"}) ||
		c.SAML.IdP.EntityID != "https://idp.example" || !c.ProvenAt.IsZero() || c.CreatedBy != o.ada.Subject {
		t.Errorf("%+v", c)
	}
	stored, err := o.Connection(t.Context(), acme, c.Alias)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, stored.Value, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("stored (-returned +stored):\n%s", diff)
	}

	// Our key: RSA of 2048 bits, with a certificate of ten years, sealed for this connection alone.
	k := c.SAML.Keys[0]
	cert, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if years := cert.NotAfter.Sub(o.now()) / (365 * 24 * time.Hour); years != 10 || cert.Subject.CommonName != "acme-okta-eu" {
		t.Errorf("certificate of %q for %d years", cert.Subject.CommonName, years)
	}
	der, err := o.ring.Open(t.Context(), acme, "connection/"+c.ID+"/key/"+k.ID, k.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	if p := private.(*rsa.PrivateKey); !p.PublicKey.Equal(cert.PublicKey) || p.N.BitLen() != 2048 {
		t.Error("the sealed key is not the certificate's")
	}
	if _, err := o.ring.Open(t.Context(), acme, "connection/other/key/"+k.ID, k.Sealed); err == nil {
		t.Error("the key opens for another connection")
	}

	// The second one has a prefix, a secret that is nowhere in the open, and a job.
	o.pass(time.Second)
	second := o.create(oidc("google", "gmail.example"))
	if second.GroupPrefix != "google:" || second.OIDC.Auth != sso.AuthBasic || second.OIDC.Key != nil {
		t.Errorf("%+v", second)
	}
	if plain, err := o.ring.Open(t.Context(), acme, "connection/"+second.ID+"/secret", second.OIDC.Secret); err != nil || string(plain) != "hush" {
		t.Errorf("secret %q, %v", plain, err)
	}
	for _, r := range store.PartitionsOf(acme) {
		for it, err := range o.db.List(t.Context(), r) {
			if err != nil || strings.Contains(string(it.Body), "hush") {
				t.Errorf("%s holds the secret (%v)", it.Key, err)
			}
		}
	}
	jobs := 0
	for rec, err := range due.List(t.Context(), o.db, o.now().Add(sso.RefreshEvery+time.Second)) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Value.Kind == due.Metadata {
			jobs++
		}
	}
	if jobs != 2 {
		t.Errorf("%d jobs for 2 connections", jobs)
	}
	all, err := o.Catalog(t.Context(), acme)
	if err != nil || aliases(all) != "acme-okta-eu google" {
		t.Errorf("catalog %+v, %v", all, err)
	}
	if got := o.facts(); !slices.Equal(got, []string{"created", "created"}) {
		t.Errorf("events %v", got)
	}
	if got := o.records(); len(got) != 2 || got[0] != "ada@example.com create acme-okta-eu Succeeded: created" {
		t.Errorf("records %q", got)
	}
	if _, err := o.Connection(t.Context(), "other", "google"); !errors.Is(err, core.NotFound) {
		t.Errorf("another tenant reads it: %v", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	o := newOffice(t)
	o.create(oidc("first", "first.example"))
	loads := o.press.loads.Load()
	change := func(n sso.New, f func(*sso.New)) sso.New { f(&n); return n }
	for field, n := range map[string]sso.New{
		"alias": oidc("No"), "type": {Alias: "a", Kind: "ldap"}, "samlData": {Alias: "a", Kind: sso.SAML},
		"name":    change(oidc("a"), func(n *sso.New) { n.Name = "a\x07" }),
		"domains": change(oidc("a"), func(n *sso.New) { n.Domains = []string{"no domain"} }),
		"groupPrefix": change(oidc("a"), func(n *sso.New) {
			p := "system:"
			n.GroupPrefix = &p
		}),
		"mappers.uid":                    change(oidc("a"), func(n *sso.New) { n.Mappers.UID = strings.Repeat("x", 251) }),
		"ca":                             change(oidc("a"), func(n *sso.New) { n.CA = "no certificate" }),
		"takesOver":                      change(oidc("a"), func(n *sso.New) { n.TakesOver = "nobody" }),
		"ocpData":                        change(oidc("a"), func(n *sso.New) { n.OpenShift = &sso.NewOpenShift{} }),
		"ocpData.idpBaseUrl":             {Alias: "a", Kind: sso.OpenShift, OpenShift: &sso.NewOpenShift{BaseURL: "http://api", ClientID: "c", ClientSecret: "s"}},
		"ocpData.clientSecret":           {Alias: "a", Kind: sso.OpenShift, OpenShift: &sso.NewOpenShift{BaseURL: "https://api", ClientID: "c"}},
		"samlData.metadataXmlFile":       {Alias: "a", Kind: sso.SAML, SAML: &sso.NewSAML{}},
		"samlData.metadataXmlUrl":        {Alias: "a", Kind: sso.SAML, SAML: &sso.NewSAML{MetadataURL: "https://user@idp.example"}},
		"samlData.entityId":              {Alias: "a", Kind: sso.SAML, SAML: &sso.NewSAML{MetadataXML: "x", EntityID: "a b"}},
		"samlData.metadataPin":           {Alias: "a", Kind: sso.SAML, SAML: &sso.NewSAML{MetadataXML: "x", MetadataPin: "x"}},
		"oidcData.discoverDocumentUrl":   change(oidc("a"), func(n *sso.New) { n.OIDC.DiscoveryURL = "ftp://x" }),
		"oidcData.clientId":              change(oidc("a"), func(n *sso.New) { n.OIDC.ClientID = "" }),
		"oidcData.clientSecret":          change(oidc("a"), func(n *sso.New) { n.OIDC.ClientSecret = "" }),
		"oidcData.clientAuth":            change(oidc("a"), func(n *sso.New) { n.OIDC.Auth = "none" }),
		"oidcData.scopes":                change(oidc("a"), func(n *sso.New) { n.OIDC.Scopes = []string{"a b"} }),
		"oidcData.mandatoryClaim.values": change(oidc("a"), func(n *sso.New) { n.OIDC.MandatoryClaim = &sso.MandatoryClaim{Claim: "c"} }),
		"oidcData.mandatoryClaim.claim":  change(oidc("a"), func(n *sso.New) { n.OIDC.MandatoryClaim = &sso.MandatoryClaim{Values: []string{"v"}} }),
	} {
		_, err := o.Create(t.Context(), o.ada, acme, n)
		isField(t, err, field)
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the error quotes the secret", field)
		}
	}
	_, err := o.Create(t.Context(), o.ada, acme, oidc("first"))
	is(t, err, core.Exists)
	_, err = o.Create(t.Context(), o.ada, acme, oidc("second", "FIRST.example"))
	is(t, err, core.Exists)
	if err == nil || !strings.Contains(err.Error(), "first.example belongs to the identity provider first") {
		t.Errorf("%v does not name the owner", err)
	}
	if n := o.press.loads.Load(); n != loads {
		t.Errorf("the provider was asked %d times about what is refused anyway", n-loads)
	}

	o.press.set(func(p *press) { p.err = fmt.Errorf("idp.example does not answer: %w", core.Unavailable) })
	_, err = o.Create(t.Context(), o.ada, acme, oidc("second", "second.example"))
	is(t, err, core.Unavailable)
	o.press.set(func(p *press) { p.err = nil })
	o.create(oidc("rest"))
	_, err = o.Create(t.Context(), o.ada, acme, oidc("second"))
	isField(t, err, "domains")
	if err == nil || !strings.Contains(err.Error(), "rest owns every domain") {
		t.Errorf("%v does not name the owner", err)
	}
	for i := range sso.MaxConnections - 2 {
		o.create(oidc(sso.Alias(fmt.Sprint("n", i)), fmt.Sprintf("n%d.example", i)))
	}
	_, err = o.Create(t.Context(), o.ada, acme, oidc("eleventh", "eleventh.example"))
	is(t, err, core.Limit)
}

// Of administrators who give one domain to several connections at once, one has it.
func TestDomainHasOneOwner(t *testing.T) {
	o := newOffice(t)
	o.create(oidc("a", "a.example"))
	o.create(oidc("b", "b.example"))
	var working sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		working.Go(func() {
			switch {
			case i < 2:
				a := []sso.Alias{"a", "b"}[i]
				_, errs[i] = o.Update(t.Context(), o.ada, acme, a, sso.New{Domains: []string{string(a) + ".example", "shared.example"}})
			default:
				_, errs[i] = o.Create(t.Context(), o.ada, acme, oidc(sso.Alias(fmt.Sprint("n", i)), "shared.example"))
			}
		})
	}
	working.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, core.Exists) && !errors.Is(err, core.Conflict) {
			t.Error(err)
		}
	}
	all, err := o.Catalog(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	owners := 0
	for _, e := range all.Entries {
		rec, err := o.Connection(t.Context(), acme, e.Alias)
		if err != nil || !slices.Equal(rec.Value.Domains, e.Domains) {
			t.Errorf("%s: the catalog says %v, the connection %v (%v)", e.Alias, e.Domains, rec.Value.Domains, err)
		}
		if slices.Contains(e.Domains, "shared.example") {
			owners++
		}
	}
	if won != 1 || owners != 1 {
		t.Errorf("%d changes went through, %d owners", won, owners)
	}
}

func TestUpdate(t *testing.T) {
	o := newOffice(t)
	c := o.create(oidc("okta", "example.com"))
	o.prove("okta")
	loads := o.press.loads.Load()
	update := func(n sso.New) sso.Connection {
		t.Helper()
		c, err := o.Update(t.Context(), o.ada, acme, "okta", n)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	off, on := false, true
	got := update(sso.New{Name: "Okta", Enabled: &off})
	got = update(sso.New{Name: "Okta", Enabled: &on})
	if got.ProvenAt.IsZero() || got.Name != "Okta" || !slices.Equal(got.Domains, c.Domains) || o.press.loads.Load() != loads {
		t.Errorf("a new name: %+v, %d loads", got, o.press.loads.Load()-loads)
	}
	same := oidc("okta")
	same.OIDC.ClientSecret = "" // the one that is there
	if got = update(same); got.ProvenAt.IsZero() || string(got.OIDC.Secret) != string(c.OIDC.Secret) || o.press.loads.Load() != loads {
		t.Errorf("the same again: %+v", got)
	}
	if all, err := o.Catalog(t.Context(), acme); err != nil || all.Entries[0].Name != "Okta" || !all.Entries[0].Enabled {
		t.Errorf("catalog %+v, %v", all, err)
	}

	// What changes how people sign in has to be proven again.
	for name, n := range map[string]func() sso.New{
		"secret": func() sso.New { return oidc("") },
		"address": func() sso.New {
			n := oidc("")
			n.OIDC.ClientSecret, n.OIDC.DiscoveryURL = "", "https://other.example"
			return n
		},
		"domains": func() sso.New { return sso.New{Domains: []string{}} },
		"mappers": func() sso.New { return sso.New{Mappers: sso.Mappers{Email: "mail"}} },
		"claim": func() sso.New {
			n := oidc("")
			n.OIDC.ClientSecret, n.OIDC.MandatoryClaim = "", &sso.MandatoryClaim{Claim: "c", Values: []string{"v"}}
			return n
		},
	} {
		o.prove("okta")
		if got := update(n()); !got.ProvenAt.IsZero() {
			t.Errorf("after a new %s it still counts as proven", name)
		}
	}
	if n := o.press.loads.Load() - loads; n < 1 || n > 3 { // another address and, but for the order, back
		t.Errorf("%d loads", n)
	}
	o.prove("okta")
	if got, err := o.SetMappers(t.Context(), o.ada, acme, "okta", sso.Mappers{UID: "uidNumber"}); err != nil || got.Mappers.UID != "uidNumber" || !got.ProvenAt.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}

	prefix := "x:"
	for field, n := range map[string]sso.New{
		"alias": {Alias: "other"}, "type": {Kind: sso.SAML}, "groupPrefix": {GroupPrefix: &prefix}, "takesOver": {TakesOver: "x"},
		"samlData": {SAML: &sso.NewSAML{}}, "mappers.email": {Mappers: sso.Mappers{Email: "\x00"}},
	} {
		_, err := o.Update(t.Context(), o.ada, acme, "okta", n)
		isField(t, err, field)
	}
	_, err := o.Update(t.Context(), o.ada, acme, "nobody", sso.New{})
	is(t, err, core.NotFound)
	_, err = o.Update(t.Context(), o.ada, acme, "../x", sso.New{})
	is(t, err, core.NotFound)

	// What cannot be read is not saved.
	before, _ := o.Connection(t.Context(), acme, "okta")
	o.press.set(func(p *press) { p.err = core.BadField("oidcData.discoverDocumentUrl", "is no discovery document") })
	bad := oidc("")
	bad.OIDC.DiscoveryURL = "https://bad.example"
	_, err = o.Update(t.Context(), o.ada, acme, "okta", bad)
	isField(t, err, "oidcData.discoverDocumentUrl")
	if after, _ := o.Connection(t.Context(), acme, "okta"); !cmp.Equal(before.Value, after.Value) {
		t.Error("it was saved")
	}
	// But a provider that does not answer can be disabled.
	if got := update(sso.New{Enabled: &off}); got.Enabled {
		t.Error("it is enabled")
	}
}

func TestRotateKeys(t *testing.T) {
	o := newOffice(t)
	o.create(saml("okta"))
	o.prove("okta")
	rotate := func(a sso.Alias) sso.Connection {
		t.Helper()
		c, err := o.RotateKeys(t.Context(), o.ada, acme, a)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	two := rotate("okta")
	if len(two.SAML.Keys) != 2 || two.SAML.Keys[0].ID == two.SAML.Keys[1].ID || two.ProvenAt.IsZero() {
		t.Fatalf("%d keys, proven at %v", len(two.SAML.Keys), two.ProvenAt)
	}
	if one := rotate("okta"); len(one.SAML.Keys) != 1 || one.SAML.Keys[0].ID != two.SAML.Keys[1].ID {
		t.Errorf("the older one signs")
	}

	n := oidc("jwt", "jwt.example")
	n.OIDC.Auth, n.OIDC.ClientSecret = sso.AuthPrivateKey, ""
	made := o.create(n)
	next := rotate("jwt")
	if next.OIDC.Key.ID != made.OIDC.Key.ID || next.OIDC.Next == nil {
		t.Fatalf("%+v", next.OIDC)
	}
	if got := rotate("jwt"); got.OIDC.Key.ID != next.OIDC.Next.ID || got.OIDC.Next != nil {
		t.Errorf("%+v", got.OIDC)
	}
	o.create(oidc("secret", "secret.example"))
	_, err := o.RotateKeys(t.Context(), o.ada, acme, "secret")
	is(t, err, core.Unsupported)
}

// An alias that is given anew hands nobody over; who asks for the people of a deleted connection gets them.
func TestDeleteAndTakeOver(t *testing.T) {
	o := newOffice(t)
	first := o.create(oidc("okta", "example.com"))
	if err := o.Delete(t.Context(), o.ada, acme, "okta"); err != nil {
		t.Fatal(err)
	}
	o.pass(time.Second)
	is(t, o.Delete(t.Context(), o.ada, acme, "okta"), core.NotFound)
	if _, err := o.Connection(t.Context(), acme, "okta"); !errors.Is(err, core.NotFound) {
		t.Errorf("%v", err)
	}
	other := o.create(oidc("okta", "example.com"))
	if other.ID == first.ID || other.GroupPrefix != "okta:" {
		t.Errorf("the new one has ID %s and prefix %q", other.ID, other.GroupPrefix)
	}
	if all, _ := o.Catalog(t.Context(), acme); aliases(all) != "(okta) okta" {
		t.Errorf("catalog: %s", aliases(all))
	}
	n := saml("entra", "entra.example")
	n.TakesOver = "okta"
	heir := o.create(n)
	if heir.ID != first.ID || heir.GroupPrefix != "" {
		t.Errorf("the heir has ID %s and prefix %q", heir.ID, heir.GroupPrefix)
	}
	if all, _ := o.Catalog(t.Context(), acme); aliases(all) != "entra okta" {
		t.Errorf("catalog: %s", aliases(all))
	}
	if got := strings.Join(o.records(), "\n"); !strings.Contains(got, "create entra Succeeded: created; takes over the people of the deleted okta") {
		t.Errorf("records:\n%s", got)
	}
	n = oidc("third", "third.example")
	n.TakesOver = "okta"
	_, err := o.Create(t.Context(), o.ada, acme, n)
	isField(t, err, "takesOver")
}

// The provider of the connection without a prefix cannot name the groups of another one. TEN-019
func TestGroupsOfOthers(t *testing.T) {
	o := newOffice(t)
	first := o.create(oidc("okta", "example.com"))
	o.create(oidc("entra", "entra.example"))
	if err := o.Delete(t.Context(), o.ada, acme, "entra"); err != nil { // its rules are still there
		t.Fatal(err)
	}
	third := o.create(oidc("google", "google.example"))
	rec, err := o.Connection(t.Context(), acme, "okta")
	if err != nil || !slices.Equal(rec.Value.Others, []string{"entra:", "google:"}) || !slices.Equal(third.Others, []string{"entra:"}) {
		t.Fatalf("okta shuns %q, google %q, %v", rec.Value.Others, third.Others, err)
	}
	said := map[string]any{"email": "ada@example.com", "GROUPS": []any{"staff", "google:admins", "entra:admins", "entra"}}
	for _, tc := range []struct {
		c    sso.Connection
		want []core.GroupName
	}{
		{first, []core.GroupName{"entra", "entra:admins", "google:admins", "staff"}}, // as it was alone
		{rec.Value, []core.GroupName{"entra", "staff"}},
		{third, []core.GroupName{"google:entra", "google:entra:admins", "google:google:admins", "google:staff"}},
	} {
		var r sso.Report
		if id, ok := tc.c.Mappers.Map(tc.c, said, &r); !ok || !slices.Equal(id.Groups, tc.want) {
			t.Errorf("%s: %q, want %q", tc.c.Alias, id.Groups, tc.want)
		}
	}
}

func TestTraceLog(t *testing.T) {
	o := newOffice(t)
	ids := []string{}
	for i := range 5 {
		at := o.now().Add(time.Duration(i) * time.Second)
		id := at.Format("20060102T150405.000") + "-" + core.NewID()
		_, random, _ := strings.Cut(id, "-")
		op, err := (store.Table[sso.Trace]{}).Put(store.Trace(acme, at, random), 0, sso.Trace{ID: id, At: at})
		if err == nil {
			err = o.db.Commit(t.Context(), op.Until(at.Add(sso.TraceLife)))
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append([]string{id}, ids...)
	}
	var got []string
	next := ""
	for pages := 1; ; pages++ {
		page, more, err := o.Traces(t.Context(), acme, 2, next)
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range page {
			got = append(got, tr.ID)
		}
		if next = more; next == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("%v, want %v", got, ids)
	}
	if tr, err := o.Trace(t.Context(), acme, ids[2]); err != nil || tr.ID != ids[2] {
		t.Errorf("%+v, %v", tr, err)
	}
	for _, id := range []string{"", "x", ids[0] + "x", "20260301T120000.000-" + core.NewID()} {
		_, err := o.Trace(t.Context(), acme, id)
		is(t, err, core.NotFound)
	}
	_, err := o.Trace(t.Context(), "other", ids[0])
	is(t, err, core.NotFound)
	_, _, err = o.Traces(t.Context(), acme, 2, "x")
	isField(t, err, "before")
	o.pass(sso.TraceLife + time.Hour)
	if page, _, err := o.Traces(t.Context(), acme, 0, ""); err != nil || len(page) != 0 {
		t.Errorf("%d traces after a week, %v", len(page), err)
	}
}
