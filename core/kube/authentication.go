package kube

import (
	"fmt"
	"net/url"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/fleetpass/fleetpass/core"
)

// Keys of the extra fields that a cluster's users carry: who their containers run as.
const (
	ExtraUID                 = "fleetpass.dev/uid"
	ExtraGID                 = "fleetpass.dev/gid"
	ExtraSupplementaryGroups = "fleetpass.dev/supplementary-gids"
)

// Issuer is a tenant as a cluster's API server is told to trust it.
type Issuer struct {
	URL      string         // https://HOST/t/TENANT, exactly as in the tokens
	CA       string         // PEM certificates that its chain ends at; empty: the system's
	Audience core.ClusterID // this cluster: tokens for any other are refused
	Prefixes Prefixes
}

// Authentication returns the AuthenticationConfiguration (apiserver.config.k8s.io/v1) by which an API server trusts the
// issuers: the file for --authentication-config. It is read again when it changes; no restart is needed.
//
// Names arrive without prefix in the claims preferred_username and groups, and get theirs here. Names that a cluster
// gives a meaning of its own are refused three times: when they are issued, before the prefix is put in front, and after.
// An issuer that is not https, and the same issuer twice, are core.Invalid, as they are to the API server. So are two
// issuers whose prefixes overlap: the administrator of one tenant could make a person of the other's.
func Authentication(issuers ...Issuer) ([]byte, error) {
	conf := authenticationConfiguration{APIVersion: "apiserver.config.k8s.io/v1", Kind: "AuthenticationConfiguration"}
	seen := map[string]bool{}
	for n, i := range issuers {
		u, err := url.Parse(i.URL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, core.BadField("issuer", "must be an https URL without query: API servers accept no other")
		}
		if seen[i.URL] {
			return nil, core.BadField("issuer", "is named twice: "+i.URL)
		}
		seen[i.URL] = true
		for _, other := range issuers[:n] {
			if overlap(i.Prefixes.User, other.Prefixes.User) || overlap(i.Prefixes.Group, other.Prefixes.Group) {
				return nil, core.BadField("prefixes", "of "+i.URL+" and "+other.URL+" overlap: names of one could be names of the other")
			}
		}
		if i.Audience == "" {
			return nil, core.BadField("audience", "must be the cluster's id")
		}
		conf.JWT = append(conf.JWT, authenticator(i))
	}
	if len(conf.JWT) == 0 {
		return nil, core.BadField("issuer", "is missing")
	}
	out, err := yaml.Marshal(conf)
	if err != nil {
		return nil, fmt.Errorf("kube: authentication configuration: %w", err)
	}
	return out, nil
}

// overlap says whether a name behind one prefix could stand behind the other, too.
func overlap(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }

type authenticationConfiguration struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	JWT        []jwtAuthenticator `json:"jwt"`
}

type jwtAuthenticator struct {
	Issuer struct {
		URL                  string   `json:"url"`
		CertificateAuthority string   `json:"certificateAuthority,omitempty"`
		Audiences            []string `json:"audiences"`
	} `json:"issuer"`
	ClaimValidationRules []celRule `json:"claimValidationRules"`
	ClaimMappings        struct {
		Username claimMapping `json:"username"`
		Groups   claimMapping `json:"groups"`
		UID      struct {
			Claim string `json:"claim"`
		} `json:"uid"`
		Extra []extraMapping `json:"extra"`
	} `json:"claimMappings"`
	UserValidationRules []celRule `json:"userValidationRules"`
}

type claimMapping struct {
	Claim  string `json:"claim"`
	Prefix string `json:"prefix"`
}

type celRule struct {
	Expression string `json:"expression"`
	Message    string `json:"message"`
}

type extraMapping struct {
	Key             string `json:"key"`
	ValueExpression string `json:"valueExpression"`
}

func authenticator(i Issuer) jwtAuthenticator {
	var a jwtAuthenticator
	a.Issuer.URL = i.URL
	a.Issuer.CertificateAuthority = i.CA
	a.Issuer.Audiences = []string{string(i.Audience)}

	a.ClaimMappings.Username = claimMapping{"preferred_username", i.Prefixes.User}
	a.ClaimMappings.Groups = claimMapping{"groups", i.Prefixes.Group}
	a.ClaimMappings.UID.Claim = "sub"
	// Claims are untyped in CEL and JSON numbers are floating point there: int() comes first, or 4294967294 would be
	// written with an exponent. An empty value leaves the field out.
	number := func(claim string) string {
		return fmt.Sprintf("has(claims.%s) ? string(int(claims.%s)) : ''", claim, claim)
	}
	a.ClaimMappings.Extra = []extraMapping{
		{ExtraUID, number("uid")},
		{ExtraGID, number("gid")},
		{ExtraSupplementaryGroups, "has(claims.supplementary_groups) ? dyn(claims.supplementary_groups).map(g, string(int(g))) : []"},
	}

	plain := celUnreserved
	a.ClaimValidationRules = []celRule{
		{"claims.preferred_username != '' && " + plain("string(claims.preferred_username)"), "the name is empty or reserved"},
		{"!has(claims.groups) || dyn(claims.groups).all(g, " + plain("string(g)") + ")", "the name of a group is reserved"},
		{"!has(claims.uid) || int(claims.uid) > 0", "nobody is root"},
	}
	a.UserValidationRules = []celRule{
		{plain("user.username") + " && user.username.startsWith(" + celString(i.Prefixes.User) + ")", "the user's name is reserved"},
		{"user.groups.all(g, " + plain("g") + " && g.startsWith(" + celString(i.Prefixes.Group) + "))", "the name of a group is reserved"},
	}
	return a
}
