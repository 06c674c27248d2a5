package token_test

import (
	"context"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// A client made of other people's libraries (go-oidc, x/oauth2) discovers, signs in with PKCE, verifies, refreshes and asks
// for userinfo.
func TestForeignClient(t *testing.T) {
	r := newRig(t, 2)
	r.clock.ns.Store(time.Now().UnixNano()) // the libraries look at the real clock
	app, secret := r.application("acme", "web", "https://app.example/cb")
	ctx := oidc.ClientContext(t.Context(), r.srv.Client())
	ctx = context.WithValue(ctx, oauth2.HTTPClient, r.srv.Client())
	provider, err := oidc.NewProvider(ctx, r.issuer("acme"))
	if err != nil {
		t.Fatal(err)
	}
	conf := oauth2.Config{
		ClientID: string(app), ClientSecret: secret, Endpoint: provider.Endpoint(), RedirectURL: "https://app.example/cb",
		Scopes: []string{oidc.ScopeOpenID, oidc.ScopeOfflineAccess, "email", "profile"},
	}
	pkce := oauth2.GenerateVerifier()
	c := r.client()
	start := r.get(c, conf.AuthCodeURL("state-1", oidc.Nonce("nonce-1"), oauth2.S256ChallengeOption(pkce))).want(303)
	form := r.get(c, start.header.Get("Location")).want(200).fields()
	form.Set("username", admin)
	form.Set("password", password)
	_, back := r.post(c, "/t/acme/login", form).want(303).location()
	if back.Get("state") != "state-1" {
		t.Fatalf("back with %v", back)
	}
	got, err := conf.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(pkce))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := got.Extra("id_token").(string)
	id, err := provider.Verifier(&oidc.Config{ClientID: string(app)}).Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.VerifyAccessToken(got.AccessToken); err != nil || id.Nonce != "nonce-1" {
		t.Errorf("at_hash: %v, nonce %q", err, id.Nonce)
	}
	if _, err := provider.Verifier(&oidc.Config{ClientID: "fleetpass-cli"}).Verify(ctx, raw); err == nil {
		t.Error("verified for another client")
	}
	info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(got))
	if err != nil || info.Email != admin || info.Subject != id.Subject || !info.EmailVerified {
		t.Errorf("userinfo %+v, %v", info, err)
	}
	got.Expiry = time.Now().Add(-time.Hour)
	next, err := conf.TokenSource(ctx, got).Token()
	if err != nil || next.RefreshToken == got.RefreshToken || next.AccessToken == got.AccessToken {
		t.Errorf("refresh: %v", err)
	}
}
