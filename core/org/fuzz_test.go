package org

import (
	"net/netip"
	"net/url"
	"testing"

	"github.com/fleetpass/fleetpass/core"
)

// FuzzReach: a cluster that is accepted is reached by plain https at an address that can be an API server's, and no name
// of ours, behind its prefix, is one of the cluster's own.
func FuzzReach(f *testing.F) {
	f.Add("https://k8s.example.com:6443/base", "", "corp:", "corp/", false, "masters")
	f.Add("https://[fe80::1%25eth0]", "", "", "", true, "admin")
	f.Add("https://169.254.169.254", "", "sys", "tem:", false, "tem:masters")
	f.Add("https://a:b@x?y#z", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "kube:", "fleetpass-id:", false, "uid:0")
	f.Fuzz(func(t *testing.T, server, ca, user, group string, unprefixed bool, name string) {
		r := Reach{Server: server, CA: ca, UserPrefix: user, GroupPrefix: group, Unprefixed: unprefixed}
		if r.check() != nil {
			return
		}
		u, err := url.Parse(r.Server)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
			t.Fatalf("server %q", r.Server)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && (a.IsLinkLocalUnicast() || a.IsUnspecified() || a.IsMulticast()) {
			t.Fatalf("server %q", r.Server)
		}
		if !unprefixed && (r.UserPrefix == "" || r.GroupPrefix == "") {
			t.Fatal("no prefix, and nobody asked for that")
		}
		for _, p := range []string{r.UserPrefix, r.GroupPrefix} {
			if p != "" && p != DefaultPrefix && core.Reserved(p+name) {
				t.Fatalf("the prefix %q makes %q reserved", p, name)
			}
		}
	})
}
