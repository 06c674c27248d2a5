package admin

import (
	"crypto/ed25519"
	"encoding/base64"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/trust"
)

// sampleKeys is a set of one public key.
var sampleKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"` +
	base64.RawURLEncoding.EncodeToString(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)) + `"}]}`

const sampleIssuer = "https://kubernetes.default.svc.cluster.local"

// issuer makes a trusted issuer.
func (w *world) issuer(t core.TenantID) trust.Issuer {
	w.Helper()
	s := &trust.Service{DB: w.DB, Now: w.Now, Base: w.Base}
	iss, err := s.Create(w.Context(), core.SystemActor(t), t, trust.Settings{Name: w.name("issuer"), Issuer: sampleIssuer, JWKS: []byte(sampleKeys), Enabled: true})
	w.must(err)
	return iss
}

func issuerSamples() map[string]func(*world, core.RoleID) sample {
	of := func(status int) func(*world, core.RoleID) sample {
		return func(w *world, _ core.RoleID) sample { return sample{name: w.issuer(acme).Name, status: status} }
	}
	return map[string]func(*world, core.RoleID) sample{
		"POST " + issuerPath: func(w *world, _ core.RoleID) sample {
			return sample{status: 201, strings: []string{"name"}, body: `{"name":"` + w.name("new") + `","issuer":"` + sampleIssuer + `","jwks":` + sampleKeys + `,"enabled":true}`}
		},
		"GET " + issuerPath:             func(*world, core.RoleID) sample { return sample{status: 200} },
		"GET " + issuerPath + "/{name}": of(200),
		"PUT " + issuerPath + "/{name}": func(w *world, _ core.RoleID) sample {
			i := w.issuer(acme)
			return sample{name: i.Name, status: 200, body: `{"name":"` + i.Name + `","issuer":"` + sampleIssuer + `","jwks":` + sampleKeys + `,"enabled":false}`}
		},
		"DELETE " + issuerPath + "/{name}": of(204),
	}
}

// A trusted issuer from its making to its end, and an application that trusts it; what is wrong is named.
func TestTrustedIssuers(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	asked := `{"name":"gpu","issuer":"` + sampleIssuer + `","jwks":` + sampleKeys + `}`
	made := into[api.TrustedIssuer](t, w.as(admin, "POST", issuerPath, asked).want(t, 201))
	if !made.Enabled || made.Discovered || len(made.JWKS.Keys) != 1 || made.JWKS.Keys[0]["kid"] != "k1" || made.CreatedBy == "" {
		t.Errorf("%+v", made)
	}
	w.as(admin, "POST", issuerPath, asked).want(t, 409)
	for field, body := range map[string]string{
		"name":           `{"name":"GPU","issuer":"` + sampleIssuer + `","jwks":` + sampleKeys + `}`,
		"issuer":         `{"name":"own","issuer":"` + base + `/t/globex","jwks":` + sampleKeys + `}`,
		"jwks":           `{"name":"other","issuer":"` + sampleIssuer + `","jwks":{"keys":[]}}`,
		"jwks.keys[0].d": `{"name":"other","issuer":"` + sampleIssuer + `","jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}]}}`,
		"ca":             `{"name":"other","issuer":"` + sampleIssuer + `","jwks":` + sampleKeys + `,"ca":"none"}`,
	} {
		if got := w.as(admin, "POST", issuerPath, body).want(t, 400).failure(t); got.Details.Field != field {
			t.Errorf("%s: %+v", field, got)
		}
	}

	// ETag and If-Match.
	read := w.as(admin, "GET", issuerPath+"/gpu", "").want(t, 200)
	tag := read.Header().Get("ETag")
	put := func(match string) response {
		return w.call(conditional("PUT", issuerPath+"/gpu", admin, `{"issuer":"`+sampleIssuer+`","jwks":`+sampleKeys+`,"enabled":false}`, match))
	}
	if got := into[api.TrustedIssuer](t, put(tag).want(t, 200)); got.Enabled || got.Name != "gpu" {
		t.Errorf("%+v", got)
	}
	put(tag).want(t, 412)
	w.as(admin, "PUT", issuerPath+"/gpu", `{"issuer":"https://other.test","jwks":`+sampleKeys+`}`).want(t, 400)
	w.as(admin, "PUT", issuerPath+"/gpu", `{"name":"other","issuer":"`+sampleIssuer+`","jwks":`+sampleKeys+`}`).want(t, 400)

	// An application says which of its tokens stand for it.
	trusts := `[{"issuer":"gpu","conditions":[{"claim":"/kubernetes.io/serviceaccount/name","values":["builder"]}]}]`
	app := into[api.Application](t, w.as(admin, "POST", "/service-accounts", `{"name":"ci","trusts":`+trusts+`,"jwks":`+sampleKeys+`}`).want(t, 201))
	if len(app.Trusts) != 1 || app.Trusts[0].Issuer != "gpu" || app.JWKS == nil {
		t.Errorf("%+v", app)
	}
	at := "/service-accounts/" + string(app.ID)
	app = into[api.Application](t, w.as(admin, "PATCH", at, `{"jwks":{"keys":[]},"trusts":[]}`).want(t, 200))
	if app.JWKS != nil || app.Trusts != nil {
		t.Errorf("%+v", app)
	}
	app = into[api.Application](t, w.as(admin, "PATCH", at, `{"trusts":`+trusts+`}`).want(t, 200))
	app = into[api.Application](t, w.as(admin, "PATCH", at, `{"redirectUris":["https://app.test/cb"]}`).want(t, 200))
	if len(app.Trusts) != 1 || len(app.RedirectURIs) != 1 {
		t.Errorf("what was not named did not stay: %+v", app)
	}
	for field, body := range map[string]string{
		"trusts[0].issuer":                  `{"trusts":[{"issuer":"absent","conditions":[{"claim":"sub","values":["x"]}]}]}`,
		"trusts[0].conditions":              `{"trusts":[{"issuer":"gpu","conditions":[]}]}`,
		"trusts[0].conditions[0].values[0]": `{"trusts":[{"issuer":"gpu","conditions":[{"claim":"sub","values":["*"]}]}]}`,
		"jwks.keys[0].k":                    `{"jwks":{"keys":[{"kty":"oct","k":"AA"}]}}`,
		"enabled":                           `{"enabled":true,"trusts":[]}`,
	} {
		if got := w.as(admin, "PATCH", at, body).want(t, 400).failure(t); got.Details.Field != field {
			t.Errorf("%s: %+v", field, got)
		}
	}
	w.as(admin, "POST", "/service-accounts", `{"name":"open","public":true,"jwks":`+sampleKeys+`}`).want(t, 400)

	if list := into[[]api.TrustedIssuer](t, w.as(admin, "GET", issuerPath+"?filterBy=enabled==false&search=GPU", "").want(t, 200)); len(list) != 1 {
		t.Errorf("%+v", list)
	}
	w.call(request{method: "GET", path: "/api/v1" + issuerPath + "/gpu", tenant: globex, bearer: w.adminToken(globex)}).want(t, 404)
	w.as(admin, "DELETE", issuerPath+"/gpu", "").want(t, 204)
	w.as(admin, "GET", issuerPath+"/gpu", "").want(t, 404)
	w.as(admin, "GET", issuerPath+"/No%20Name", "").want(t, 404)
}

func conditional(method, path, bearer, body, match string) request {
	return request{method: method, path: "/api/v1" + path, tenant: acme, bearer: bearer, body: body, header: map[string][]string{"If-Match": {match}}}
}

// The grace is the caller's, and nothing but 0 to 30 days.
func TestRotateSecretWithGrace(t *testing.T) {
	w := newWorld(t)
	admin, app := w.adminToken(acme), w.app(acme)
	for _, noun := range applicationPaths {
		at := noun + "/" + string(app.ID) + "/secret"
		for _, body := range []string{"", "{}", `{"gracePeriod":0}`, `{"gracePeriod":2592000}`} {
			got := into[api.Application](t, w.as(admin, "POST", at, body).want(t, 200))
			if got.ClientSecret == "" {
				t.Errorf("%s: no secret", body)
			}
		}
		for _, body := range []string{`{"gracePeriod":-1}`, `{"gracePeriod":2592001}`, `{"gracePeriod":1.5}`, `{"gracePeriod":"60"}`, `{"grace":60}`, `[]`, `null`} {
			w.as(admin, "POST", at, body).want(t, 400)
		}
	}
}

// Applications are listed in pages, filtered and sorted.
func TestListApplications(t *testing.T) {
	w := newWorld(t)
	admin := w.adminToken(acme)
	ids := map[core.ApplicationID]bool{}
	for range 5 {
		ids[w.app(acme).ID] = true
	}
	w.app(globex)
	for path := "/service-accounts?limit=2"; path != ""; {
		rec := w.as(admin, "GET", path, "").want(t, 200)
		for _, a := range into[[]api.Application](t, rec) {
			if !ids[a.ID] {
				t.Errorf("%s is not one of ours, or was listed before", a.ID)
			}
			delete(ids, a.ID)
		}
		path = ""
		if next := rec.Header().Get(api.HeaderNext); next != "" {
			path = "/service-accounts?limit=2&cursor=" + next
		}
	}
	if len(ids) != 0 {
		t.Errorf("%d are not listed", len(ids))
	}
	sorted := into[[]api.Application](t, w.as(admin, "GET", "/apps?sortBy=name&sortOrder=desc&filterBy=name=^app,enabled==true", "").want(t, 200))
	for i := 1; i < len(sorted); i++ {
		if sorted[i-1].Name < sorted[i].Name {
			t.Errorf("%s before %s", sorted[i-1].Name, sorted[i].Name)
		}
	}
	if len(sorted) != 5 {
		t.Errorf("%d found", len(sorted))
	}
	for _, by := range []string{"name", "clientId", "enabled", "createdBy", "creationTime", "lastLogin", "lastUpdated"} {
		w.as(admin, "GET", "/service-accounts?sortBy="+by, "").want(t, 200)
	}
	w.as(admin, "GET", "/service-accounts?sortBy=secret", "").want(t, 400)
}
