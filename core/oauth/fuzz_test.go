package oauth

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/store"
)

// still is a store of two records that nobody writes to: an active tenant and one client of it.
type still struct{ tenant, client []byte }

func (s still) Get(_ context.Context, keys ...store.Key) ([]store.Item, error) {
	items := make([]store.Item, len(keys))
	for i, k := range keys {
		items[i].Key = k
		switch {
		case k == store.Meta("acme"):
			items[i].Version, items[i].Body = 1, s.tenant
		case k == store.Application("acme", "web"):
			items[i].Version, items[i].Body = 1, s.client
		}
	}
	return items, nil
}

func (still) List(context.Context, store.Range) iter.Seq2[store.Item, error] {
	return func(func(store.Item, error) bool) {}
}

func (still) Commit(context.Context, ...store.Op) error { return errors.New("nothing is written here") }

// Whatever the query: a request that is accepted has a registered redirect URI, PKCE and one value each; an error either
// stays with us or goes to a registered address, with our issuer and the client's state.
func FuzzAuthorize(f *testing.F) {
	const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	base := url.Values{
		"client_id": {"web"}, "redirect_uri": {good}, "response_type": {"code"}, "scope": {"openid"}, "state": {"s"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	f.Add(base.Encode())
	f.Add(base.Encode() + "&prompt=none&max_age=0&nonce=n")
	f.Add(base.Encode() + "&scope=email")
	f.Add("client_id=fleetpass-cli&redirect_uri=http://127.0.0.1:1/callback&state=%0d%0aLocation:%20x")
	f.Add("client_id=web&redirect_uri=" + good + "&redirect_uri=https://evil")
	f.Add("%")
	tenant, err := json.Marshal(org.Tenant{ID: "acme", State: org.Active})
	if err != nil {
		f.Fatal(err)
	}
	client, err := json.Marshal(directory.Application{ID: "web", Enabled: true, RedirectURIs: []string{good}})
	if err != nil {
		f.Fatal(err)
	}
	s := &Server{DB: still{tenant, client}, Base: "https://id.example", Now: func() time.Time { return time.Unix(1e9, 0) }}
	allowed := func(uri string) bool {
		return strings.HasPrefix(uri, good+"?") || matchRedirect(cli.RedirectURIs, strings.SplitN(uri, "?", 2)[0])
	}
	f.Fuzz(func(t *testing.T, query string) {
		if strings.Contains(query, "id_token_hint") {
			return // needs keys: core/token fuzzes its tokens
		}
		r, err := s.Authorize(t.Context(), core.TenantID("acme"), query)
		var refusal *Error
		switch {
		case err == nil:
			if !matchRedirect(r.Client.RedirectURIs, r.RedirectURI) || !challengeForm(r.Challenge) {
				t.Fatalf("%q is accepted: %+v", query, r)
			}
			if q, _ := url.ParseQuery(query); len(q["scope"]) > 1 || len(q["code_challenge"]) != 1 {
				t.Fatalf("%q is accepted", query)
			}
			refusal, _ = s.Refusal(r, refuse(AccessDenied, "no")).(*Error)
		case !errors.As(err, &refusal):
			t.Fatalf("%q: %v", query, err)
		}
		if refusal.Redirect == "" {
			return
		}
		u, err := url.Parse(refusal.Redirect)
		if err != nil || !allowed(refusal.Redirect) || strings.ContainsAny(refusal.Redirect, "\r\n \\") {
			t.Fatalf("%q leads to %q (%v)", query, refusal.Redirect, err)
		}
		back := u.Query()
		asked, _ := url.ParseQuery(query)
		if back.Get("iss") != "https://id.example/t/acme" || len(asked["state"]) == 1 && back.Get("state") != asked.Get("state") {
			t.Fatalf("%q leads to %q", query, refusal.Redirect)
		}
	})
}
