package openshift

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/redact"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/strict"
)

// metadata is what a cluster publishes about its OAuth server (RFC 8414 §2).
type metadata struct {
	Issuer           string   `json:"issuer"`
	Authorization    string   `json:"authorization_endpoint"`
	Token            string   `json:"token_endpoint"`
	ResponseTypes    []string `json:"response_types_supported"`
	ChallengeMethods []string `json:"code_challenge_methods_supported"`
}

func parseMetadata(document []byte) (metadata, error) {
	var m metadata
	if err := read(document, maxMetadata, &m); err != nil || m.Issuer == "" || m.Authorization == "" || m.Token == "" {
		return metadata{}, core.BadField(fieldBase, "does not publish the metadata of an OAuth server at "+wellKnown+": is it the address of an OpenShift 4 API server?")
	}
	return m, nil
}

// tokenAnswer is the answer of the token endpoint (RFC 6749 §5.1).
type tokenAnswer struct {
	Access  string `json:"access_token"`
	Type    string `json:"token_type"`
	Expires int64  `json:"expires_in"`
	Scope   string `json:"scope"`
}

// shown is the answer without the token.
func (t tokenAnswer) shown() string {
	return "type " + t.Type + ", scope " + strconv.Quote(t.Scope) + ", good for " + strconv.FormatInt(t.Expires, 10) + " s"
}

// oauthError is the error of an answer that refuses (RFC 6749 §5.2): a code of the form that all registered ones have, or
// "an error". Nothing else of such an answer is shown: a server may repeat in it what it was sent.
type oauthError string

var errorCode = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z_]{1,40}$`)
})

const anError oauthError = "an error"

func (e oauthError) Error() string { return string(e) }

// maxAccess bounds a token of the cluster, in bytes: it is sent in a header and stored.
const maxAccess = 4 << 10

func parseToken(status int, body []byte) (tokenAnswer, error) {
	var t tokenAnswer
	if status != http.StatusOK {
		var e struct {
			Error string `json:"error"`
		}
		if read(body, maxToken, &e) == nil && e.Error != "" {
			if !errorCode().MatchString(e.Error) {
				return t, anError
			}
			return t, oauthError(e.Error)
		}
		return t, malformed("the token endpoint answers " + strconv.Itoa(status))
	}
	switch err := read(body, maxToken, &t); {
	case err != nil:
		return tokenAnswer{}, malformed("the token endpoint's answer is no token")
	case t.Access == "" || len(t.Access) > maxAccess || strings.ContainsFunc(t.Access, func(r rune) bool { return r <= ' ' || r > '~' }):
		return tokenAnswer{}, malformed("the token endpoint's answer has no usable access_token")
	case !strings.EqualFold(t.Type, "Bearer"):
		return tokenAnswer{}, malformed("the token is of another type than Bearer")
	}
	return t, nil
}

// user is a user of the cluster: user.openshift.io/v1. Groups are those that the cluster's authentication found for this
// request, the virtual ones among them.
type user struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	Metadata   struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	} `json:"metadata"`
	FullName string   `json:"fullName"`
	Groups   []string `json:"groups"`
}

func parseUser(body []byte) (user, error) {
	var u user
	if err := read(body, maxUser, &u); err != nil {
		return user{}, malformed("the user API's answer is no user, or says something twice")
	}
	if u.Kind != "User" || !strings.HasPrefix(u.APIVersion, "user.openshift.io/") {
		return user{}, malformed("the user API's answer is of another kind than User")
	}
	return u, nil
}

// read decodes a document of the cluster. Every member may be there once, at every depth, and only in its exact spelling;
// those that are not known are passed over, since a server may always say more.
func read(data []byte, max int, into any) error {
	if _, err := strict.Object(data, max); err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// shown is the user as a trace quotes it.
func (u user) shown() string {
	data, err := json.Marshal(u, jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Sprintf("a user that cannot be shown: %T", err)
	}
	return string(data)
}

// virtual are groups that say nothing about a person but how they are known: every user has them.
var virtual = []string{"system:authenticated", "system:authenticated:oauth"}

// attributes is what the cluster says, under the names that the connection maps. A cluster's names for things are fixed, so
// an administrator has nothing to map.
func attributes(c sso.Connection, u user, r *sso.Report) map[string]any {
	names := c.Mappers
	for _, n := range []struct {
		is  *string
		not string
	}{
		{&names.Email, sso.DefaultMappers.Email}, {&names.Groups, sso.DefaultMappers.Groups},
		{&names.FirstName, sso.DefaultMappers.FirstName}, {&names.LastName, sso.DefaultMappers.LastName},
	} {
		if *n.is == "" {
			*n.is = n.not
		}
	}
	as := map[string]any{}
	groups := []any{} // present even if there are none: that is what the cluster says
	for _, g := range u.Groups {
		if !slices.Contains(virtual, g) {
			groups = append(groups, g)
		}
	}
	as[names.Groups] = groups
	full := strings.TrimSpace(u.FullName)
	if cut := strings.LastIndexByte(full, ' '); cut >= 0 {
		as[names.FirstName], as[names.LastName] = strings.TrimSpace(full[:cut]), full[cut+1:]
	} else if full != "" {
		as[names.FirstName] = full
	}
	switch {
	case strings.Contains(u.Metadata.Name, "@"):
		as[names.Email] = u.Metadata.Name
	case len(c.Domains) > 0:
		as[names.Email] = u.Metadata.Name + "@" + c.Domains[0]
	default:
		name := redact.Visible(u.Metadata.Name)
		r.Fail(sso.CheckEmail, name, "an e-mail", "Give the connection a domain: the cluster's user names are no e-mails, so "+name+" becomes "+name+"@DOMAIN.")
	}
	return as
}
