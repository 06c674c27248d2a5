package sync

import (
	"context"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/token"
)

// How long our own tokens for a cluster hold, and how long before their end the next is minted.
const (
	tokenLife   = 5 * time.Minute
	tokenMargin = time.Minute
)

// target is where a cluster is and how we prove to it who we are: with a token that the tenant's own key signs, for that
// cluster, in the name that its bootstrap lets write bindings. Nothing of it is stored.
func (s *Service) target(t core.TenantID, cluster org.Scope) Target {
	reach := cluster.Reach
	alg := keys.Algorithm(reach.Algorithm)
	if alg == "" {
		alg = keys.ES256
	}
	var mu sync.Mutex
	var minted string
	var until time.Time
	return Target{
		Tenant: t, Cluster: cluster.Cluster, Server: reach.Server, CA: reach.CA,
		Token: func(ctx context.Context) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			now := s.Now()
			if minted != "" && now.Before(until.Add(-tokenMargin)) {
				return minted, nil
			}
			raw, err := token.Mint(ctx, s.Ring, t, alg, token.Cluster{
				Issuer: s.Base + "/t/" + string(t), Subject: kube.SyncUser, Audience: string(cluster.Cluster),
				IssuedAt: now, Expires: now.Add(tokenLife), ID: core.NewID(), PreferredUsername: kube.SyncUser,
			})
			if err != nil {
				return "", ours{err}
			}
			minted, until = raw, now.Add(tokenLife)
			return raw, nil
		},
	}
}
