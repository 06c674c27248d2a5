package org

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Mode is how a cluster comes to obey.
type Mode string

// The modes of reaching a cluster.
const (
	Issuer Mode = "issuer" // its API server trusts the tenant's issuer, and Fleetpass writes to it
	Agent  Mode = "agent"  // it cannot: an agent inside pulls the same desired state
)

// Reach is how a cluster is reached, and how names are written there.
type Reach struct {
	Mode        Mode   `json:"mode"`
	Server      string `json:"server,omitzero"` // https://HOST[:PORT][/PATH] of the API server; may be empty in agent mode
	CA          string `json:"ca,omitzero"`     // PEM certificates that the server's chain ends at; empty: the public ones
	UserPrefix  string `json:"userPrefix,omitzero"`
	GroupPrefix string `json:"groupPrefix,omitzero"`
	// Unprefixed allows empty prefixes. It is for clusters whose own login names people, as OpenShift's does: there, a
	// name without a prefix is the same person. Anywhere else it lets names of ours collide with the cluster's own.
	Unprefixed bool   `json:"unprefixed,omitzero"`
	Algorithm  string `json:"algorithm,omitzero"` // of the cluster's tokens: ES256 (default) or RS256
	// Epoch is written beside the revision on every object in the cluster. It changes when the revisions of before must
	// not be believed any more, after a restore of the store, and a later one orders after an earlier one.
	Epoch string `json:"epoch"`
	// Abandon gives the cluster another server or mode although objects of ours are in it: they may stay, or the new
	// address is the same cluster's. It is part of the request, and not kept.
	Abandon bool `json:"-"`
}

// repoint changes how a cluster is reached. Another server or mode is core.Invalid while objects of ours are in it.
func (s *Service) repoint(ctx context.Context, t core.TenantID, sc *Scope, to Reach) error {
	from := sc.Reach
	elsewhere := to.Server != from.Server || to.Mode != from.Mode
	if elsewhere && !to.Abandon && from.Mode == Issuer && s.Holds != nil {
		n, err := s.Holds(ctx, t, sc.Cluster)
		if err != nil {
			return err
		}
		if n > 0 {
			field := "server"
			if to.Mode != from.Mode {
				field = "mode"
			}
			return core.BadField(field, fmt.Sprintf("cannot change while %d objects of Fleetpass are in the cluster, for what they grant would stay: "+
				"delete the cluster, which cleans it, and register the other; or say \"abandon\", if it is the same cluster or they may stay", n))
		}
	}
	to.Epoch = from.Epoch
	sc.Reach = &to
	return nil
}

// newEpoch is a time that orders as a string, and something random, since two stores may be restored in one moment.
func newEpoch(now time.Time) string {
	return now.UTC().Format("20060102T150405.000Z") + "-" + core.NewID()
}

// DefaultPrefix is what names carry in a cluster unless another is chosen.
const DefaultPrefix = "fleetpass:"

const maxCA = 16 << 10 // bytes; several certificates

// Completed is r with the defaults filled in, as a cluster keeps it. What cannot be right is core.Invalid, and named.
func (r Reach) Completed() (Reach, error) {
	err := r.check()
	return r, err
}

// check fills in the defaults and refuses what cannot be right.
func (r *Reach) check() error {
	switch r.Mode {
	case "":
		r.Mode = Issuer
	case Issuer, Agent:
	default:
		return core.BadField("mode", `must be "issuer" or "agent"`)
	}
	switch r.Algorithm {
	case "":
		r.Algorithm = "ES256"
	case "ES256", "RS256":
	default:
		return core.BadField("algorithm", `must be "ES256" or "RS256"`)
	}
	if err := r.checkServer(); err != nil {
		return err
	}
	if err := r.checkCA(); err != nil {
		return err
	}
	if !r.Unprefixed {
		if r.UserPrefix == "" {
			r.UserPrefix = DefaultPrefix
		}
		if r.GroupPrefix == "" {
			r.GroupPrefix = DefaultPrefix
		}
	}
	if err := checkPrefix("userPrefix", r.UserPrefix); err != nil {
		return err
	}
	return checkPrefix("groupPrefix", r.GroupPrefix)
}

func (r *Reach) checkServer() error {
	const field = "server"
	if r.Server == "" && r.Mode == Agent {
		return nil
	}
	u, err := url.Parse(r.Server)
	switch {
	case err != nil || len(r.Server) > 1024:
		return core.BadField(field, "is not a URL such as https://api.example.com:6443")
	case u.Scheme != "https":
		return core.BadField(field, "must begin with https://")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(r.Server, "#") || u.Hostname() == "":
		return core.BadField(field, "must be https://HOST[:PORT][/PATH] and nothing more")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && (a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast()) {
		// A link-local address is the cloud's metadata service, which gives credentials to whoever asks.
		return core.BadField(field, "must not be an unspecified, multicast or link-local address")
	}
	return nil
}

func (r *Reach) checkCA() error {
	const field = "ca"
	if len(r.CA) > maxCA {
		return core.BadField(field, "is over 16 KiB; give only the certificates that the server's chain ends at")
	}
	rest := []byte(r.CA)
	for n := 0; len(bytes.TrimSpace(rest)) > 0; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return core.BadField(field, "must be PEM certificates and nothing else; never put a private key here")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return core.BadField(field, "has a certificate that does not parse")
		}
	}
	return nil
}

// checkPrefix refuses prefixes under which a name of ours could be taken for one of the cluster's own.
func checkPrefix(field, p string) error {
	if p == "" || p == DefaultPrefix {
		return nil
	}
	for _, c := range p {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune("-._:#/", c)) {
			return core.BadField(field, `must be of a-z, 0-9 and "-._:#/"`)
		}
	}
	// The separator keeps a prefix and the name behind it from forming a reserved name together: "sys" and "tem:masters".
	if !strings.ContainsAny(p[len(p)-1:], ":/#") {
		return core.BadField(field, `must end in ":", "/" or "#"`)
	}
	if core.Reserved(p) || len(p) > 64 {
		return core.BadField(field, "is reserved or over 64 bytes; the default is "+DefaultPrefix)
	}
	return nil
}
