package token

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
)

// Access is the claims of an access token (RFC 9068 §2.2).
type Access struct {
	Issuer   string
	Subject  string           // a UserID or an ApplicationID
	Audience string           // the issuer: our own APIs; or, of a person's, the client, which may only ask who it is
	Client   string           // `client_id`
	Scope    string           // optional
	Email    string           // of a person
	Kind     core.SubjectKind // `kind`: user or application
	Family   string           // `sid`: the refresh family, or the access key, that it belongs to; optional
	IssuedAt time.Time        // also `nbf`
	Expires  time.Time
	AuthTime time.Time // when the person last proved who they are; optional
	ID       string    // `jti`; Mint makes one if it is empty
}

// ID is the claims of an ID token (OpenID Connect Core §2, §5.1).
type ID struct {
	Issuer            string
	Subject           string
	Audience          string // the client's id
	IssuedAt          time.Time
	Expires           time.Time
	AuthTime          time.Time // when the person last proved who they are; zero, and no claim: nobody knows
	Nonce             string
	AccessHash        string   // `at_hash`: see Hash. No other kind of token has one
	AMR               []string // RFC 8176
	Email             string
	EmailVerified     bool
	Name              string
	GivenName         string
	FamilyName        string
	PreferredUsername string
	Groups            []string
	Family            string // `sid`
}

// Cluster is the claims of a token for one cluster's API server.
type Cluster struct {
	Issuer              string
	Subject             string
	Audience            string // the cluster's UUID, and nothing else
	IssuedAt            time.Time
	Expires             time.Time
	ID                  string
	PreferredUsername   string // an e-mail, "app:CLIENT-ID", or "sync"
	Email               string // of a person, and then the same as PreferredUsername
	EmailVerified       bool
	Groups              []string
	UID                 *int64
	GID                 *int64
	SupplementaryGroups []int64
}

// The longest claims, in bytes.
const (
	maxName = 256  // of whoever or whatever a cluster or client knows
	maxText = 1024 // of the rest
)

func (Access) typ() string  { return TypeAccess }
func (ID) typ() string      { return TypeID }
func (Cluster) typ() string { return TypeCluster }

func (a Access) check() error {
	c := checker{}
	c.common(a.Issuer, a.Subject, a.Audience, a.IssuedAt, a.Expires)
	c.name("client_id", a.Client)
	c.text("scope", a.Scope)
	c.optional("email", a.Email)
	c.text("sid", a.Family)
	c.text("jti", a.ID)
	if a.Kind != core.User && a.Kind != core.Application {
		c.fail("kind", "must be user or application")
	}
	return c.err
}

func (i ID) check() error {
	c := checker{}
	c.common(i.Issuer, i.Subject, i.Audience, i.IssuedAt, i.Expires)
	if i.AccessHash == "" {
		c.fail("at_hash", "must be set: it tells an ID token from a cluster's")
	}
	c.text("nonce", i.Nonce)
	c.text("at_hash", i.AccessHash)
	for _, m := range i.AMR {
		c.text("amr", m)
	}
	c.optional("email", i.Email)
	c.text("name", i.Name)
	c.text("given_name", i.GivenName)
	c.text("family_name", i.FamilyName)
	c.optional("preferred_username", i.PreferredUsername)
	c.names("groups", i.Groups)
	c.text("sid", i.Family)
	return c.err
}

func (k Cluster) check() error {
	c := checker{}
	c.common(k.Issuer, k.Subject, k.Audience, k.IssuedAt, k.Expires)
	c.text("jti", k.ID)
	c.name("preferred_username", k.PreferredUsername)
	c.names("groups", k.Groups)
	// A person's name has an "@" and nobody else's has, so that nobody can be called like an application or like our own
	// synchronization.
	switch person := strings.Contains(k.PreferredUsername, "@"); {
	case person && k.Email != k.PreferredUsername:
		c.fail("preferred_username", "must be the e-mail of a person")
	case !person && (k.Email != "" || k.PreferredUsername != "sync" && !strings.HasPrefix(k.PreferredUsername, "app:")):
		c.fail("preferred_username", "must be an e-mail, app:CLIENT-ID or sync")
	}
	c.number("uid", 1, k.UID) // 0 would be root
	c.number("gid", 0, k.GID)
	for i := range k.SupplementaryGroups {
		c.number("supplementary_groups", 0, &k.SupplementaryGroups[i])
	}
	return c.err
}

// checker keeps the first error of many checks.
type checker struct{ err error }

func (c *checker) fail(claim, fix string) {
	if c.err == nil {
		c.err = core.BadField(claim, fix)
	}
}

func (c *checker) common(issuer, subject, audience string, issued, expires time.Time) {
	c.text("iss", issuer)
	c.name("sub", subject)
	c.text("aud", audience)
	if issuer == "" || audience == "" {
		c.fail("iss, aud", "must not be empty")
	}
	switch life := expires.Sub(issued); {
	case issued.Unix() <= 0:
		c.fail("iat", "must be set")
	case expires.Unix() <= issued.Unix():
		c.fail("exp", "must be later than iat")
	case life > keys.MaxTokenLife:
		c.fail("exp", "must be at most "+keys.MaxTokenLife.String()+" after iat: the key is published no longer")
	}
}

// text is a claim that may be empty and is no name in a cluster.
func (c *checker) text(claim, s string) {
	if len(s) > maxText {
		c.fail(claim, "is too long")
	} else if !printable(s) {
		c.fail(claim, "has characters that do not print")
	}
}

// name is a claim that somebody is known by.
func (c *checker) name(claim, s string) {
	switch {
	case s == "":
		c.fail(claim, "must not be empty")
	case len(s) > maxName:
		c.fail(claim, "is too long")
	case !printable(s), s[0] == ' ', s[len(s)-1] == ' ', !norm.NFC.IsNormalString(s):
		c.fail(claim, "has characters that do not print, space around it, or is not in composed form (NFC)")
	case s == "*", core.Reserved(s):
		c.fail(claim, "is a reserved name")
	}
}

func (c *checker) optional(claim, s string) {
	if s != "" {
		c.name(claim, s)
	}
}

func (c *checker) names(claim string, list []string) {
	for _, s := range list {
		c.name(claim, s)
	}
}

func (c *checker) number(claim string, least int64, n *int64) {
	if n != nil && (*n < least || *n > 1<<32-2) { // the kernel keeps 2^32-1 for "none"
		c.fail(claim, "is not a number that a Linux user or group can have")
	}
}

// printable says whether s is UTF-8 and every character of it prints; the only white space that does is a space.
func printable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func (a Access) write(e *encoder) {
	e.str("iss", a.Issuer)
	e.str("sub", a.Subject)
	e.str("aud", a.Audience)
	e.str("client_id", a.Client)
	e.str("scope", a.Scope)
	e.str("email", a.Email)
	e.str("kind", string(a.Kind))
	e.str("sid", a.Family)
	e.time("iat", a.IssuedAt)
	e.time("nbf", a.IssuedAt)
	e.time("exp", a.Expires)
	e.time("auth_time", a.AuthTime)
	e.id(a.ID)
}

func (i ID) write(e *encoder) {
	e.str("iss", i.Issuer)
	e.str("sub", i.Subject)
	e.str("aud", i.Audience)
	e.time("iat", i.IssuedAt)
	e.time("exp", i.Expires)
	e.time("auth_time", i.AuthTime)
	e.str("nonce", i.Nonce)
	e.str("at_hash", i.AccessHash)
	e.strs("amr", i.AMR)
	if i.Email != "" {
		e.str("email", i.Email)
		e.bool("email_verified", i.EmailVerified)
	}
	e.str("name", i.Name)
	e.str("given_name", i.GivenName)
	e.str("family_name", i.FamilyName)
	e.str("preferred_username", i.PreferredUsername)
	e.strs("groups", i.Groups)
	e.str("sid", i.Family)
}

func (k Cluster) write(e *encoder) {
	e.str("iss", k.Issuer)
	e.str("sub", k.Subject)
	e.str("aud", k.Audience)
	e.time("iat", k.IssuedAt)
	e.time("nbf", k.IssuedAt)
	e.time("exp", k.Expires)
	e.id(k.ID)
	e.str("preferred_username", k.PreferredUsername)
	if k.Email != "" {
		e.str("email", k.Email)
		e.bool("email_verified", k.EmailVerified)
	}
	e.strs("groups", k.Groups)
	if k.UID != nil {
		e.int("uid", *k.UID)
	}
	if k.GID != nil {
		e.int("gid", *k.GID)
	}
	e.ints("supplementary_groups", k.SupplementaryGroups)
}
