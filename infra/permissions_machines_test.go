package infra_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

var _ sso.Taker = asking{}

// Take takes every ID token for whom it names.
func (a asking) Take(_ context.Context, _ sso.Connection, raw string, now time.Time, r *sso.Report) (sso.Assertion, error) {
	r.Received = "an ID token"
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(raw, claims); err != nil || claims["email"] == nil {
		r.Fail(sso.CheckAudience, "", "", "")
		return sso.Assertion{}, sso.ErrRefused
	}
	r.Pass(sso.CheckAudience, "")
	said := a.says(claims["email"].(string))
	said.AuthTime, said.Until = now, now.Add(10*time.Minute)
	return said, nil
}

// machines is everything that programs do with what others signed, and people with what their provider did.
func (c *cloud) machines(h holdings) {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	jwks := `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"` + base64.RawURLEncoding.EncodeToString(private.Public().(ed25519.PublicKey)) + `"}]}`
	sign := func(claims jwt.MapClaims) string {
		claims["iat"], claims["exp"] = c.clock().Unix(), c.clock().Add(5*time.Minute).Unix()
		raw, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims).SignedString(private)
		c.must(err)
		return raw
	}
	const (
		ours      = "https://fleet.test/t/acme"
		issuer    = "https://kubernetes.default.svc"
		issuers   = "/trusted-issuers"
		bearer    = "urn:ietf:params:oauth:grant-type:jwt-bearer"
		exchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
		tokenType = "urn:ietf:params:oauth:token-type:"
	)
	body := `{"name":"gpu","issuer":"` + issuer + `","jwks":` + jwks + `}`
	c.cold()
	c.do(201, "POST", issuers, body)
	c.do(refused, "POST", issuers, body)
	c.do(200, "GET", issuers, "")
	c.do(400, "GET", issuers+"?x=y", "")
	c.do(200, "GET", issuers+"/gpu", "")
	c.do(200, "PUT", issuers+"/gpu", `{"issuer":"`+issuer+`","jwks":`+jwks+`,"enabled":true}`)
	c.do(200, "PUT", issuers+"/gpu", `{"issuer":"`+issuer+`","jwks":`+jwks+`,"enabled":false}`)
	c.do(200, "PUT", issuers+"/gpu", `{"issuer":"`+issuer+`","jwks":`+jwks+`,"enabled":true}`)
	for _, q := range [][2]string{{"GET", ""}, {"PUT", body}, {"DELETE", ""}} {
		c.do(404, q[0], issuers+"/absent", q[1])
	}
	trusts := `[{"issuer":"gpu","conditions":[{"claim":"sub","values":["builder"]}]}]`
	app := c.do(201, "POST", "/service-accounts", `{"name":"workload","jwks":`+jwks+`,"trusts":`+trusts+`}`).member("clientId")
	c.do(200, "PATCH", "/service-accounts/"+app, `{"trusts":`+trusts+`}`)
	c.do(refused, "PATCH", "/service-accounts/"+app, `{"trusts":[{"issuer":"absent","conditions":[{"claim":"sub","values":["builder"]}]}]}`)
	c.do(200, "POST", "/service-accounts/"+app+"/secret", `{"gracePeriod":60}`)

	good := func() string { return sign(jwt.MapClaims{"iss": issuer, "sub": "builder", "aud": ours}) }
	own := func() string {
		return sign(jwt.MapClaims{"iss": app, "sub": app, "aud": ours, "jti": core.NewID()})
	}
	for range 2 { // the second time the instance knows the application
		c.form(200, "/token", "grant_type", bearer, "client_id", app, "assertion", good())
		c.form(200, "/token", "grant_type", exchange, "client_id", app, "subject_token", good(), "subject_token_type", tokenType+"jwt", "audience", h.cluster)
		c.pass(2 * time.Hour)
	}
	c.cold()
	c.form(400, "/token", "grant_type", bearer, "client_id", app, "assertion", sign(jwt.MapClaims{"iss": issuer, "sub": "other", "aud": ours}))
	const assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	for _, raw := range []string{own(), good()} {
		c.cold()
		c.form(200, "/token", "grant_type", "client_credentials", "client_id", app, "client_assertion_type", assertion, "client_assertion", raw)
	}
	raw := own()
	c.form(200, "/introspect", "client_id", app, "client_assertion_type", assertion, "client_assertion", raw, "token", "x")
	c.form(401, "/introspect", "client_id", app, "client_assertion_type", assertion, "client_assertion", raw, "token", "x")
	c.do(204, "DELETE", issuers+"/gpu", "")

	// People, with what their provider signed.
	c.cold()
	c.do(201, "POST", "/idps", `{"name":"Badge","alias":"badge","type":"oidc","domains":["badge.test"],"oidcData":{"clientId":"badge","clientSecret":"0123456789abcdef",`+
		`"discoverDocumentUrl":"https://idp.test/.well-known/openid-configuration","tokenExchange":true}}`)
	person := func(email any) jwt.MapClaims {
		return jwt.MapClaims{"iss": "https://idp.test", "aud": "badge", "email": email, "jti": core.NewID()}
	}
	for range 2 {
		c.cold()
		raw := sign(person("bea@badge.test"))
		for _, status := range []int{200, 400} { // once
			c.form(status, "/token", "grant_type", exchange, "client_id", "fleetpass-cli", "scope", "openid offline_access groups", "subject_token", raw, "subject_token_type", tokenType+"id_token")
		}
	}
	c.form(400, "/token", "grant_type", exchange, "client_id", "fleetpass-cli", "subject_token", sign(person(nil)), "subject_token_type", tokenType+"id_token")
	c.send(nil, 200, "POST", "/t/acme/api/v1/token", "application/json", fmt.Sprintf(`{"grantType":"external_token_exchange","externalToken":%q}`, sign(person("bea@badge.test"))), "")
	c.do(204, "DELETE", "/idps/badge", "")
}
