// Package kubeconfig is the function that gives people one kubeconfig for all the clusters that they may use. It owns
// which clusters those are; how the file is written is core/kube's. The file holds no secret and no identity, so it needs
// no more care than the names of clusters do.
package kubeconfig

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/token"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/core/web"
)

// Deps is what the function needs. All fields but IssuerCA are.
type Deps struct {
	Access *access.Service
	Org    *org.Service
	Ring   *keys.Ring
	Now    func() time.Time // UTC

	Base     string // the URL that every issuer begins with: https://HOST, without a slash at the end
	IssuerCA string // PEM, where Base has a private certificate: the file carries it to the credential plugin
}

// Paths is every pattern that Handler serves.
var Paths = []string{"GET /t/{tenant}/api/v1/kubeconfig"}

// Handler serves Paths.
func Handler(d Deps) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(Paths[0], func(w http.ResponseWriter, r *http.Request) {
		file, err := d.kubeconfig(r)
		if err != nil {
			web.Fail(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(file) // the client went away; there is nobody to tell
	})
	return web.Exact(mux)
}

func (d Deps) kubeconfig(r *http.Request) ([]byte, error) {
	actor, err := d.authenticate(r)
	if err != nil {
		return nil, err
	}
	if r.URL.RawQuery != "" {
		return nil, core.BadField("query", "is not understood: this call has no parameters")
	}
	rules, err := d.Access.Mine(r.Context(), actor)
	if err != nil {
		return nil, err
	}
	scopes, err := d.Org.Scopes(r.Context(), actor.Tenant)
	if err != nil {
		return nil, err
	}
	return kube.Kubeconfig(clusters(actor.Tenant, rules, scopes), kube.KubeconfigOptions{TenantURL: d.issuer(actor.Tenant), IssuerCA: d.IssuerCA})
}

func (d Deps) issuer(t core.TenantID) string { return d.Base + "/t/" + string(t) }

// authenticate finds out who asks: a person or application of this tenant. Who has gone, was disabled or signed out since
// the token was issued is refused, not told that they may use nothing.
func (d Deps) authenticate(r *http.Request) (core.Actor, error) {
	t, err := web.Tenant(r)
	if err != nil {
		return core.Actor{}, err
	}
	raw, err := web.BearerToken(r)
	if err != nil {
		return core.Actor{}, err
	}
	a, err := token.ParseAccess(r.Context(), d.Ring, t, d.issuer(t), raw, d.Now())
	if errors.Is(err, core.NotFound) {
		err = errors.Join(err, core.Unauthenticated) // a tenant that there is not has issued no token
	}
	if err != nil {
		return core.Actor{}, err
	}
	who, err := access.CallerOf(t, a)
	if err != nil {
		return core.Actor{}, err
	}
	in, err := d.Access.Admit(r.Context(), who)
	in.Actor.Address = web.Address(r)
	return trace.Actor(r.Context(), in.Actor), err
}

// clusters picks the clusters that one of the rules gives something in, in order of their names. A rule counts while its
// scope and everything above it lives, which is what scopes lists. A cluster that does not trust our issuer (mode agent)
// would refuse the credential plugin's tokens and is left out.
func clusters(t core.TenantID, rules []core.Rule, scopes []org.Scope) []kube.Access {
	byID := make(map[core.ScopeID]org.Scope, len(scopes))
	for _, s := range scopes {
		byID[s.ID] = s
	}
	account := false
	where := map[core.ClusterID]map[core.ScopeID]bool{} // the scopes with a rule, by cluster
	for _, r := range rules {
		if r.Scope == core.AccountScope(t) {
			account = true
		} else if s, live := byID[r.Scope]; live {
			if where[s.Cluster] == nil {
				where[s.Cluster] = map[core.ScopeID]bool{}
			}
			where[s.Cluster][s.ID] = true
		}
	}
	var found []kube.Access
	for _, s := range scopes {
		held := where[s.Cluster]
		if s.Kind != core.Cluster || s.Reach == nil || s.Reach.Mode != org.Issuer || !account && held == nil {
			continue
		}
		a := kube.Access{ID: s.Cluster, Name: s.Name, Server: s.Reach.Server, CA: s.Reach.CA}
		if !account && len(held) == 1 { // whoever has one project there means that one
			for id := range held {
				a.Namespace = byID[id].Namespace
			}
		}
		found = append(found, a)
	}
	slices.SortFunc(found, func(a, b kube.Access) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return found
}
