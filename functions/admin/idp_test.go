package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sso"
)

// provider is an identity provider of any kind that publishes what a test says, and at which nobody signs in: this package
// configures providers and speaks to none. What the real ones do with a document, their adapters' tests show.
type provider struct {
	mu           gosync.Mutex
	fails        error
	certificates [][]byte
	document     []byte // the last that was uploaded
}

func (p *provider) Load(_ context.Context, c *sso.Connection, document []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fails != nil {
		return p.fails
	}
	p.document = document
	switch {
	case c.SAML != nil:
		c.SAML.IdP = sso.SAMLProvider{
			EntityID: "https://idp.test/saml", Certificates: p.certificates, Digest: "d",
			SignOn: []sso.SAMLEndpoint{{Binding: "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect", URL: "https://idp.test/sso"}},
		}
	case c.OIDC != nil:
		c.OIDC.Provider = sso.OIDCProvider{
			Issuer: "https://idp.test", Authorization: "https://idp.test/authorize", Token: "https://idp.test/token", JWKS: "https://idp.test/jwks",
			Algorithms: []string{"RS256"}, Digest: "d",
		}
	case c.OpenShift != nil:
		c.OpenShift.Provider = sso.OpenShiftProvider{Issuer: "https://oauth.test", Authorization: "https://oauth.test/oauth/authorize", Token: "https://oauth.test/oauth/token", PKCE: true, Digest: "d"}
	}
	return nil
}

func (p *provider) Start(context.Context, sso.Connection, sso.Secrets, sso.Journey) (sso.Departure, error) {
	return sso.Departure{URL: "https://idp.test/authorize"}, nil
}

func (p *provider) Finish(context.Context, sso.Connection, sso.Secrets, sso.Arrival, *sso.Report) (sso.Assertion, error) {
	return sso.Assertion{}, sso.ErrRefused
}

// certificate is one that ends then.
func certificate(t testing.TB, notAfter time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp.test"}, NotBefore: notAfter.AddDate(-2, 0, 0), NotAfter: notAfter,
	}, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "idp.test"}}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// idp is a connection of that alias; it is made if there is none.
func (w *world) idp(t core.TenantID, alias sso.Alias) sso.Connection {
	w.Helper()
	rec, err := w.SSO.Connection(w.Context(), t, alias)
	if errors.Is(err, core.NotFound) {
		c, err := w.SSO.Create(w.Context(), core.SystemActor(t), t, sso.New{
			Alias: alias, Kind: sso.SAML, Domains: []string{string(alias) + ".test"},
			SAML: &sso.NewSAML{MetadataURL: "https://idp.test/metadata"},
		})
		w.must(err)
		return c
	}
	w.must(err)
	return rec.Value
}

// trace is the ID of a trace: of a test that nobody went through with.
func (w *world) trace(t core.TenantID) string {
	w.Helper()
	link, err := w.SSO.StartTest(w.Context(), core.SystemActor(t), t, w.idp(t, "tested").Alias)
	w.must(err)
	return link.Trace
}

// Saving a connection of each type answers with what its provider has to be told; what is read is what was saved, without a
// secret; and the default mapping is spelt out.
func TestIdPs(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	w.provider.certificates = [][]byte{certificate(t, w.Now().AddDate(1, 0, 0)), certificate(t, w.Now().AddDate(0, 0, 3))}
	const canary = "canary-secret"
	mine := base + "/t/acme"

	saml := post[api.IdP](w, admin, "POST", "/idps", api.IdPRequest{
		Name: "Acme Okta", Type: api.IdPSAML, Domains: []string{"ACME.test"},
		Mappers: &api.Mappers{Groups: "memberOf"},
		SAML:    &api.SAMLData{MetadataType: "url", MetadataURL: "https://idp.test/metadata.xml", SignRequests: true},
	}, 201)
	if saml.Alias != "acme-okta" || saml.RedirectURI != mine+"/saml/acme-okta/acs" || saml.EntityID == "" || saml.MetadataURL != mine+"/saml/acme-okta/metadata" || saml.PostLogoutRedirectURI != "" ||
		!saml.Enabled || !slices.Equal(saml.Domains, []string{"acme.test"}) || saml.GroupPrefix != "" {
		t.Errorf("saml: %+v", saml)
	}
	if m := saml.Mappers; m != (api.Mappers{UID: "UID", GID: "GID", Groups: "memberOf", SupplementaryGroups: "SUPPLEMENTARYGROUPS", Email: "email", FirstName: "firstName", LastName: "lastName"}) {
		t.Errorf("mappers: %+v", m)
	}
	d := saml.SAML
	if d.MetadataType != "url" || d.MetadataURL != "https://idp.test/metadata.xml" || d.IdPEntityID != "https://idp.test/saml" || d.SignOnURL != "https://idp.test/sso" ||
		d.EntityID != saml.EntityID || d.MetadataURLOfOurs != saml.MetadataURL || !d.SignRequests || len(d.Certificates) != 2 || len(d.Keys) != 1 || saml.OIDC != nil {
		t.Errorf("saml: %+v", d)
	}
	if der, err := base64.StdEncoding.DecodeString(d.Certificate); err != nil || !slices.Equal(der, w.provider.certificates[0]) || !d.Certificates[0].NotAfter.Equal(w.Now().AddDate(1, 0, 0)) || d.Certificates[0].Subject != "CN=idp.test" {
		t.Errorf("certificate: %+v", d.Certificates[0])
	}

	oidc := post[api.IdP](w, admin, "POST", "/idps", api.IdPRequest{
		Name: "Keycloak", Type: api.IdPOIDC, Domains: []string{"sub.acme.test"},
		OIDC: &api.OIDCData{ClientID: "fleetpass", ClientSecret: canary, DiscoveryURL: "https://idp.test/.well-known/openid-configuration",
			Scopes: []string{"groups"}, AuthMethod: "client_secret_post", MandatoryClaim: &api.MandatoryClaim{Claim: "hd", Values: []string{"acme.test"}}},
	}, 201)
	if oidc.RedirectURI != mine+"/oidc/keycloak/callback" || oidc.PostLogoutRedirectURI != mine+"/signed-out" || oidc.EntityID != "" || oidc.GroupPrefix != "keycloak:" || oidc.OIDC.Issuer != "https://idp.test" ||
		oidc.OIDC.AuthMethod != "client_secret_post" || oidc.OIDC.ClientSecret != "" || oidc.OIDC.MandatoryClaim.Claim != "hd" {
		t.Errorf("oidc: %+v %+v", oidc, oidc.OIDC)
	}
	ocp := post[api.IdP](w, admin, "POST", "/idps", api.IdPRequest{
		Name: "Cluster", Type: api.IdPOpenShift, Domains: []string{"ocp.test"},
		OpenShift: &api.OCPData{ClientID: "fleetpass", ClientSecret: canary, BaseURL: "https://api.cluster.test:6443"},
	}, 201)
	if ocp.RedirectURI != mine+"/oidc/cluster/callback" || ocp.OpenShift.Issuer != "https://oauth.test" || ocp.OpenShift.ClientSecret != "" {
		t.Errorf("openshift: %+v %+v", ocp, ocp.OpenShift)
	}

	rec := w.as(admin, "GET", "/idps", "").want(t, 200)
	if strings.Contains(rec.Body.String(), canary) || strings.Contains(fmt.Sprint(w.dump()), canary) {
		t.Error("a secret is told, or stored as it is")
	}
	all := into[[]api.IdP](t, rec)
	if len(all) != 3 {
		t.Fatalf("%d connections", len(all))
	}
	for _, want := range []api.IdP{saml, oidc, ocp} {
		if diff := cmp.Diff(want, post[api.IdP](w, admin, "GET", "/idps/"+want.Alias, nil, 200)); diff != "" {
			t.Errorf("%s (-made +read):\n%s", want.Alias, diff)
		}
	}

	// What is left out of a PUT that cannot be read back, or was not spoken of, stays.
	changed := post[api.IdP](w, admin, "PUT", "/idps/keycloak", api.IdPRequest{
		Name: "Keycloak", Type: api.IdPOIDC, Domains: []string{"sub.acme.test"}, Enabled: new(bool),
		OIDC: &api.OIDCData{ClientID: "other", DiscoveryURL: "https://idp.test/.well-known/openid-configuration"},
	}, 200)
	if changed.Enabled || changed.OIDC.ClientID != "other" || changed.OIDC.MandatoryClaim != nil || changed.GroupPrefix != "keycloak:" {
		t.Errorf("changed: %+v %+v", changed, changed.OIDC)
	}
	post[struct{}](w, admin, "PUT", "/idps/acme-okta/mappers", api.Mappers{Email: "mail", UID: "uidNumber"}, 202)
	if m := post[api.Mappers](w, admin, "GET", "/idps/acme-okta/mappers", nil, 200); m.Email != "mail" || m.UID != "uidNumber" || m.Groups != "GROUPS" {
		t.Errorf("mappers, replaced: %+v", m)
	}
	put := api.IdPRequest{Name: "Okta", Type: api.IdPSAML, Domains: []string{"acme.test"}, SAML: &api.SAMLData{MetadataURL: "https://idp.test/metadata.xml"}}
	if got := post[api.IdP](w, admin, "PUT", "/idps/acme-okta", put, 200); got.Mappers.Email != "mail" || got.Alias != "acme-okta" || got.Name != "Okta" {
		t.Errorf("mappers, not spoken of: %+v", got)
	}
	if got := post[api.IdP](w, admin, "POST", "/idps/acme-okta/keys", nil, 200); len(got.SAML.Keys) != 2 {
		t.Errorf("%d keys during a rollover", len(got.SAML.Keys))
	}
	w.as(admin, "POST", "/idps", encode(t, api.IdPRequest{Name: "Acme Okta", Type: api.IdPSAML, Domains: []string{"x.test"}, SAML: &api.SAMLData{MetadataURL: "https://idp.test/m"}})).want(t, 409)
	w.as(admin, "DELETE", "/idps/cluster", "").want(t, 204)
	w.as(admin, "GET", "/idps/cluster", "").want(t, 404)

	var told []string
	for _, r := range post[api.AuditLog](w, admin, "GET", "/audit/log?limit=500", nil, 200).Records {
		if r.EntityType == audit.EntityIdentityProvider {
			told = append(told, r.Action+" "+r.EntityName+" by "+r.Subject)
		}
	}
	if len(told) < 8 || !slices.Contains(told, "create acme-okta by admin@acme.test") || !slices.Contains(told, "delete cluster by admin@acme.test") {
		t.Errorf("the log says %v", told)
	}
}

// What is wrong with a connection is named as the request spells it, and nothing of it is kept.
func TestBadIdPs(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	w.idp(acme, "first")
	good := func() api.IdPRequest {
		return api.IdPRequest{Name: "New", Type: api.IdPSAML, Domains: []string{"new.test"}, SAML: &api.SAMLData{MetadataURL: "https://idp.test/m"}}
	}
	oidc := func(d api.OIDCData) func(*api.IdPRequest) {
		return func(r *api.IdPRequest) {
			r.Type, r.SAML = api.IdPOIDC, nil
			r.OIDC = &d
		}
	}
	before := w.dump()
	for _, row := range []struct {
		what   string
		spoil  func(*api.IdPRequest)
		status int
		field  string
	}{
		{"no type", func(r *api.IdPRequest) { r.Type = "" }, 400, "type"},
		{"another type", func(r *api.IdPRequest) { r.Type = "ldap" }, 400, "type"},
		{"no data", func(r *api.IdPRequest) { r.SAML = nil }, 400, "samlData"},
		{"data of another type", func(r *api.IdPRequest) { r.OIDC = &api.OIDCData{} }, 400, "oidcData"},
		{"metadata of neither sort", func(r *api.IdPRequest) { r.SAML.MetadataType = "mail" }, 400, "samlData.metadataXmlType"},
		{"metadata of both sorts", func(r *api.IdPRequest) { r.SAML.MetadataXML = "<x/>" }, 400, "samlData.metadataXmlUrl"},
		{"a file that is an address", func(r *api.IdPRequest) { r.SAML.MetadataType = "file" }, 400, "samlData.metadataXmlUrl"},
		{"an address that is a file", func(r *api.IdPRequest) { *r.SAML = api.SAMLData{MetadataType: "url", MetadataXML: "<x/>"} }, 400, "samlData.metadataXmlFile"},
		{"no metadata", func(r *api.IdPRequest) { *r.SAML = api.SAMLData{} }, 400, ""},
		{"too much metadata", func(r *api.IdPRequest) {
			*r.SAML = api.SAMLData{MetadataXML: strings.Repeat("<", api.MaxMetadataXML+1)}
		}, 400, "samlData.metadataXmlFile"},
		{"metadata in the clear", func(r *api.IdPRequest) { r.SAML.MetadataURL = "http://idp.test/m" }, 400, "samlData.metadataXmlUrl"},
		{"a domain that is none", func(r *api.IdPRequest) { r.Domains = []string{"a b"} }, 400, "domains"},
		{"a domain of another", func(r *api.IdPRequest) { r.Domains = []string{"first.test"} }, 409, ""},
		{"a reserved prefix", func(r *api.IdPRequest) { p := "system:"; r.GroupPrefix = &p }, 400, "groupPrefix"},
		{"an authority that is none", func(r *api.IdPRequest) { r.CA = "PEM" }, 400, "ca"},
		{"a connection that nobody deleted", func(r *api.IdPRequest) { r.TakesOver = "first" }, 400, "takesOver"},
		{"an alias in capitals", func(r *api.IdPRequest) { r.Alias = "New" }, 400, "alias"},
		{"a mapper that does not print", func(r *api.IdPRequest) { r.Mappers = &api.Mappers{UID: "\x00"} }, 400, "mappers.uid"},
		{"no secret", oidc(api.OIDCData{ClientID: "c", DiscoveryURL: "https://idp.test/d"}), 400, "oidcData.clientSecret"},
		{"a way to prove who we are that is none", oidc(api.OIDCData{ClientID: "c", ClientSecret: "s", DiscoveryURL: "https://idp.test/d", AuthMethod: "none"}), 400, "oidcData.tokenEndpointAuthMethod"},
		{"scopes that are none", oidc(api.OIDCData{ClientID: "c", ClientSecret: "s", DiscoveryURL: "https://idp.test/d", Scopes: []string{"a b"}}), 400, "oidcData.scopes"},
		{"a claim without values", oidc(api.OIDCData{ClientID: "c", ClientSecret: "s", DiscoveryURL: "https://idp.test/d", MandatoryClaim: &api.MandatoryClaim{Claim: "hd"}}), 400, "oidcData.mandatoryClaim.values"},
	} {
		r := good()
		row.spoil(&r)
		if f := w.as(admin, "POST", "/idps", encode(t, r)).want(t, row.status).failure(t); row.field != "" && f.Details.Field != row.field {
			t.Errorf("%s: refused as %+v", row.what, f)
		}
	}
	w.provider.fails = fmt.Errorf("idp.test does not answer: %w", core.Unavailable)
	w.as(admin, "POST", "/idps", encode(t, good())).want(t, 503)
	w.provider.fails = core.BadField("samlData.metadataXmlUrl", "is an address that is not allowed")
	if f := w.as(admin, "POST", "/idps", encode(t, good())).want(t, 400).failure(t); f.Details.Field != "samlData.metadataXmlUrl" {
		t.Errorf("an address that is not allowed: %+v", f)
	}
	w.provider.fails = nil
	if diff := changed(before, w.dump()); len(diff) > 0 {
		t.Errorf("refused, and changed %v", diff)
	}
	w.as(admin, "POST", "/idps", encode(t, good())).want(t, 201) // the twin

	for what, spoil := range map[string]func(*api.IdPRequest){
		"type":      oidc(api.OIDCData{ClientID: "c", ClientSecret: "s", DiscoveryURL: "https://idp.test/d"}),
		"alias":     func(r *api.IdPRequest) { r.Alias = "newer" },
		"takesOver": func(r *api.IdPRequest) { r.TakesOver = "first" },
	} {
		r := good()
		spoil(&r)
		if f := w.as(admin, "PUT", "/idps/new", encode(t, r)).want(t, 400).failure(t); f.Details.Field != what {
			t.Errorf("changing %s: %+v", what, f)
		}
	}
}

// A metadata document of the longest length that is allowed arrives whole, however JSON spells it; one character more is
// refused by its name, and no other call takes as much.
func TestUploadedMetadata(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	document := strings.Repeat("<é", api.MaxMetadataXML/2)
	spelt := strings.NewReplacer("<", `\u003c`, "é", `\u00e9`).Replace(document)
	body := func(more string) string {
		return `{"name":"Upload","type":"saml","domains":["up.test"],"samlData":{"metadataXmlType":"file","fileName":"idp.xml","metadataXmlFile":"` + spelt + more + `"}}`
	}
	if f := w.as(admin, "POST", "/idps", body("x")).want(t, 400).failure(t); f.Details.Field != "samlData.metadataXmlFile" {
		t.Errorf("one too many: %+v", f)
	}
	got := into[api.IdP](t, w.as(admin, "POST", "/idps", body("")).want(t, 201))
	if got.SAML.MetadataType != "file" || got.SAML.FileName != "idp.xml" || string(w.provider.document) != document {
		t.Errorf("uploaded: %+v, %d bytes arrived", got.SAML, len(w.provider.document))
	}
	w.as(admin, "PUT", "/idps/upload", body("")).want(t, 200)
	w.as(admin, "PUT", "/idps/upload/mappers", body("")).want(t, 413)
	w.as(admin, "POST", "/idps", body(strings.Repeat(" ", maxIdPBody))).want(t, 413)
}

// Warnings say what somebody should see to, while there is time.
func TestWarnings(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	in := func(days int) []byte { return certificate(t, now.AddDate(0, 0, days)) }
	for _, row := range []struct {
		what         string
		change       func(*sso.Connection)
		want, absent string
	}{
		{"all is well", func(*sso.Connection) {}, "", ""},
		{"near its end", func(c *sso.Connection) { c.SAML.IdP.Certificates = [][]byte{in(29)} }, "expires in 29 days, on 2026-06-02", ""},
		{"on its last day", func(c *sso.Connection) { c.SAML.IdP.Certificates = [][]byte{in(1)} }, "expires in 1 day", ""},
		{"far from it", func(c *sso.Connection) { c.SAML.IdP.Certificates = [][]byte{in(31)} }, "", "certificate"},
		{"over", func(c *sso.Connection) { c.SAML.IdP.Certificates = [][]byte{in(-1)} }, "expired on 2026-05-03", ""},
		{"over, with a successor", func(c *sso.Connection) { c.SAML.IdP.Certificates = [][]byte{in(-1), in(400)} }, "", "certificate"},
		{"metadata that ends", func(c *sso.Connection) { c.SAML.IdP.ValidUntil = now.AddDate(0, 0, 2) }, "valid until 2026-05-06", ""},
		{"failing", func(c *sso.Connection) {
			c.Refresh.FailingSince, c.Refresh.Error = now.Add(-time.Hour), "idp.test answered 404"
		}, "could not be read since 2026-05-04 08:00 UTC; the last good reading is in force: idp.test answered 404", ""},
		{"not tested", func(c *sso.Connection) { c.ProvenAt = time.Time{} }, "fleetpass sso test okta", ""},
		{"disabled", func(c *sso.Connection) { c.Enabled = false }, "is disabled", ""},
	} {
		c := sso.Connection{Alias: "okta", Enabled: true, ProvenAt: now, SAML: &sso.SAMLSettings{IdP: sso.SAMLProvider{Certificates: [][]byte{in(400)}}}}
		row.change(&c)
		got := warnings(c, now)
		if got == nil || (row.want == "") != (len(got) == 0) || row.want != "" && (len(got) != 1 || !strings.Contains(got[0], row.want)) {
			t.Errorf("%s: %q, want %q", row.what, got, row.want)
		}
	}
}

// Who is administrator for an hour may take an identity provider away, and look at it, but connects none and changes none: what
// it lets in would stay.
func TestTemporaryAdministratorConnectsNothing(t *testing.T) {
	w := newWorld(t)
	temp := w.app(acme)
	w.until(acme, core.ApplicationSubject(temp.ID), policy.SystemAdministrator, core.AccountScope(acme), time.Hour)
	bearer, admin := w.appToken(acme, temp), w.adminToken(acme)
	w.idp(acme, "okta")
	for _, q := range []struct{ method, path, body string }{
		{"POST", "/idps", `{"name":"mine","type":"saml","domains":["mine.test"],"samlData":{"metadataXmlUrl":"https://mine.test/m"}}`},
		{"PUT", "/idps/okta", `{"name":"okta","type":"saml","domains":["okta.test"],"samlData":{"metadataXmlUrl":"https://mine.test/m"}}`},
		{"PUT", "/idps/okta/mappers", `{"email":"manager"}`},
		{"PUT", "/security/settings/logoutRedirectUri", `{"uri":"https://mine.test/"}`},
	} {
		before := w.dump()
		w.as(bearer, q.method, q.path, q.body).want(t, 403)
		if diff := changed(before, w.dump()); len(diff) > 0 {
			t.Errorf("%s %s: changed %v", q.method, q.path, diff)
		}
		if rec := w.as(admin, q.method, q.path, q.body); rec.Code > 299 { // the twin
			t.Errorf("%s %s: %d %s", q.method, q.path, rec.Code, rec.Body)
		}
	}
	w.as(bearer, "GET", "/idps/okta", "").want(t, 200)
	w.as(bearer, "DELETE", "/idps/okta", "").want(t, 204)
}

// A person is handed to a connection, and back, by who outranks them; the temporary password is shown to nobody else.
func TestLink(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	w.idp(acme, "okta")
	ada, boss := w.user(acme, "ada@okta.test"), w.user(acme, "boss@okta.test")
	w.grant(acme, core.UserSubject(boss.Email), policy.SystemAdministrator, core.AccountScope(acme))
	link := func(bearer string, u directory.User, alias string, status int) api.LinkedUser {
		t.Helper()
		rec := w.as(bearer, "PUT", "/users/"+string(u.ID)+"/idp", `{"alias":"`+alias+`"}`).want(t, status)
		if status != 200 {
			return api.LinkedUser{}
		}
		return into[api.LinkedUser](t, rec)
	}
	if got := link(admin, ada, "okta", 200); got.IsLocal || got.TempPassword != "" || got.ID != ada.ID || got.Username != ada.Email {
		t.Errorf("handed over: %+v", got)
	}
	if got := link(admin, ada, "", 200); !got.IsLocal || got.TempPassword == "" || got.ID != ada.ID {
		t.Errorf("and back: %+v", got)
	}
	link(admin, ada, "nobody", 400)
	// Whoever answers for the connection could act as the person: who holds what they hold for an hour only may not say so.
	temp := w.app(acme)
	w.until(acme, core.ApplicationSubject(temp.ID), policy.SystemAdministrator, core.AccountScope(acme), time.Hour)
	link(w.appToken(acme, temp), boss, "okta", 403)
	link(w.appToken(acme, temp), ada, "okta", 200) // the twin: she holds nothing
	link(admin, boss, "okta", 200)
}

// A test's link works through the API, and what it wrote so far is among the traces, page by page.
func TestTraces(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	w.idp(acme, "okta")
	var ids []string
	for range 5 {
		link := post[api.IdPTest](w, admin, "POST", "/idps/okta/test", nil, 201)
		if !strings.HasPrefix(link.URL, base+"/t/acme/sso/test?test=") || !link.ExpiresAt.After(w.Now()) {
			t.Fatalf("link %+v", link)
		}
		ids = append([]string{link.Trace}, ids...)
		w.pass(time.Second)
	}
	var paged []string
	for cursor, n := "", 0; n < 10; n++ {
		page := post[api.TraceList](w, admin, "GET", "/sso/traces?limit=2"+cursor, nil, 200)
		for _, tr := range page.Traces {
			paged = append(paged, tr.ID)
			if tr.Alias != "okta" || tr.Type != api.IdPSAML || tr.Outcome != "started" || !tr.Test {
				t.Errorf("trace %+v", tr)
			}
		}
		if page.Next == "" {
			break
		}
		cursor = "&cursor=" + page.Next
	}
	if !slices.Equal(paged, ids) {
		t.Errorf("pages hold %v, want %v", paged, ids)
	}
	got := post[api.Trace](w, admin, "GET", "/sso/traces/"+ids[0], nil, 200)
	if got.ID != ids[0] || got.Checks == nil || got.Identity != nil {
		t.Errorf("trace %+v", got)
	}
	rec := w.call(request{method: "GET", path: "/api/v1/sso/traces/" + ids[0], tenant: globex, bearer: w.adminToken(globex)})
	rec.want(t, 404)
}

// Traces and their checks on the wire.
func TestWireTrace(t *testing.T) {
	uid := int64(1001)
	tr := sso.Trace{
		ID: "20260504T090000.000-x", Alias: "okta", Kind: sso.SAML, Outcome: sso.Refused, Test: true,
		Checks: []sso.Check{
			{Name: sso.CheckAnswer, Result: sso.Passed}, {Name: sso.CheckUID, Result: sso.Noted},
			{Name: sso.CheckAudience, Result: sso.Failed, Found: "x", Expected: "y", Fix: "set it"}, {Name: sso.CheckDomain, Result: sso.Failed},
		},
		Identity: &sso.Identity{Email: "ada@acme.test", UID: &uid},
	}
	got := wireTraceSummary(tr)
	want := api.TraceSummary{ID: tr.ID, Alias: "okta", Type: api.IdPSAML, Outcome: "refused", Test: true, Email: "ada@acme.test", Failure: "audience"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := wireCheck(tr.Checks[2]); got != (api.TraceCheck{Name: "audience", Result: "failed", Found: "x", Expected: "y", Fix: "set it"}) {
		t.Errorf("%+v", got)
	}
}

// The security settings are read and written by name, stay when the tenant's other settings are saved, and refuse what they
// cannot be.
func TestSecuritySettings(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	w.idp(acme, "okta")
	const at = "/security/settings"
	no, uri := false, ""
	first := post[api.SecuritySettings](w, admin, "GET", at, nil, 200)
	if diff := cmp.Diff(api.SecuritySettings{
		AutoRedirectSSO: api.AutoRedirectSSO{Enabled: &no}, BrowserSessionTimeout: api.BrowserSessionTimeout{IdleTimeout: 60},
		LogoutRedirectURI: api.LogoutRedirectURI{URI: &uri}, EnforceSSO: api.EnforceSSO{Enabled: &no},
	}, first); diff != "" {
		t.Errorf("at first (-want +got):\n%s", diff)
	}
	for _, row := range []struct{ key, body string }{
		{"autoRedirectSSO", `{"enabled":true,"idpAlias":"okta"}`},
		{"browserSessionTimeout", `{"idleTimeout":15}`},
		{"logoutRedirectUri", `{"uri":"https://acme.test/bye"}`},
		{"enforceSSO", `{"enabled":false,"breakGlass":["admin@acme.test"]}`},
	} {
		for range 2 { // what is read can be written as it is
			if got := w.as(admin, "PUT", at+"/"+row.key, row.body).want(t, 200).Body.String(); strings.TrimSpace(got) != row.body {
				t.Errorf("%s: answered %s, want %s", row.key, got, row.body)
			}
			row.body = strings.TrimSpace(w.as(admin, "GET", at+"/"+row.key, "").want(t, 200).Body.String())
		}
	}
	s := post[api.Settings](w, admin, "GET", "/tenant/settings", nil, 200)
	if s.IdleTimeout != 900 {
		t.Errorf("the idle timeout is %d s", s.IdleTimeout)
	}
	s.PasswordGrant = true
	post[api.Settings](w, admin, "PUT", "/tenant/settings", s, 200)
	all := post[api.SecuritySettings](w, admin, "GET", at, nil, 200)
	if !*all.AutoRedirectSSO.Enabled || all.AutoRedirectSSO.Alias != "okta" || *all.LogoutRedirectURI.URI != "https://acme.test/bye" || !slices.Equal(all.EnforceSSO.BreakGlass, []string{"admin@acme.test"}) {
		t.Errorf("after other settings were saved: %+v", all)
	}
	for _, row := range []struct{ key, body, field string }{
		{"autoRedirectSSO", `{"enabled":true}`, "idpAlias"},
		{"autoRedirectSSO", `{"idpAlias":"okta"}`, "enabled"},
		{"autoRedirectSSO", `{"enabled":true,"idpAlias":"nobody"}`, "idpAlias"},
		{"browserSessionTimeout", `{"idleTimeout":0}`, "idleTimeout"},
		{"browserSessionTimeout", `{"idleTimeout":10081}`, "idleTimeout"},
		{"browserSessionTimeout", `{"idleTimeout":721}`, "idleTimeout"}, // over the absolute lifetime
		{"logoutRedirectUri", `{}`, "uri"},
		{"logoutRedirectUri", `{"uri":"javascript:alert(1)"}`, "uri"},
		{"enforceSSO", `{"breakGlass":[]}`, "enabled"},
		{"enforceSSO", `{"enabled":false,"breakGlass":["system:masters"]}`, "breakGlass"},
	} {
		if f := w.as(admin, "PUT", at+"/"+row.key, row.body).want(t, 400).failure(t); f.Details.Field != row.field {
			t.Errorf("%s %s: %+v", row.key, row.body, f)
		}
	}
	// Nobody signed in by it yet: it cannot be the only way in.
	if rec := w.as(admin, "PUT", at+"/enforceSSO", `{"enabled":true}`); rec.Code != 400 && rec.Code != 403 {
		t.Errorf("enforced, without a way in: %d %s", rec.Code, rec.Body)
	}
	if got := w.as(admin, "PUT", at+"/autoRedirectSSO", `{"enabled":false,"idpAlias":"okta"}`).want(t, 200).Body.String(); strings.Contains(got, "okta") {
		t.Errorf("not enabled: %s", got)
	}
}
