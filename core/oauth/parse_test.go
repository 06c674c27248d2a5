package oauth

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
)

func codeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestParseScope(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "openid": "openid", "email openid": "openid email", "openid openid": "openid",
		"openid address phone admin": "openid", "OPENID": "", "openid offline_access email profile groups": "openid offline_access email profile groups",
	} {
		if got, err := parseScope(in); err != nil || got.String() != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	// OAU-027: what could reach into another line or field.
	for _, in := range []string{"openid\nadmin", "openid\tadmin", `openid "x"`, `a\b`, "openid\x00", "späce", strings.Repeat("a", 1025)} {
		if _, err := parseScope(in); codeOf(err) != InvalidScope {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestNarrow(t *testing.T) {
	granted := Scope{ScopeOpenID, ScopeEmail}
	for asked, want := range map[string]string{"": "openid email", "openid": "openid", "email": "email", "email openid": "openid email"} {
		if got, err := granted.narrow(asked); err != nil || got.String() != want {
			t.Errorf("%q: %q, %v", asked, got, err)
		}
	}
	for _, asked := range []string{"groups", "openid groups", "openid offline_access"} {
		if _, err := granted.narrow(asked); codeOf(err) != InvalidScope {
			t.Errorf("%q: %v", asked, err)
		}
	}
}

func TestParseCredentials(t *testing.T) {
	header := func(s string) []string {
		return []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(s))}
	}
	for name, tt := range map[string]struct {
		header []string
		form   Params
		want   Credentials
		code   Code
	}{
		"basic":            {header("app:secret"), nil, Credentials{ID: "app", Secret: "secret", Basic: true}, ""},
		"basic, encoded":   {header("app%2Dx:s%3Ax+y"), nil, Credentials{ID: "app-x", Secret: "s:x y", Basic: true}, ""},
		"basic and id":     {header("app:secret"), Params{"client_id": "app"}, Credentials{ID: "app", Secret: "secret", Basic: true}, ""},
		"post":             {nil, Params{"client_id": "app", "client_secret": "secret"}, Credentials{ID: "app", Secret: "secret"}, ""},
		"public":           {nil, Params{"client_id": "app"}, Credentials{ID: "app"}, ""},
		"none":             {nil, nil, Credentials{}, InvalidClient},
		"both":             {header("app:secret"), Params{"client_secret": "secret"}, Credentials{}, InvalidRequest},
		"two headers":      {append(header("a:b"), header("c:d")...), nil, Credentials{}, InvalidRequest},
		"another id":       {header("app:secret"), Params{"client_id": "other"}, Credentials{}, InvalidRequest},
		"bearer":           {[]string{"Bearer abc"}, Params{"client_id": "app"}, Credentials{}, InvalidClient},
		"no colon":         {header("app"), nil, Credentials{}, InvalidClient},
		"not base64":       {[]string{"Basic !!!"}, nil, Credentials{}, InvalidClient},
		"bad escape":       {header("app:%zz"), nil, Credentials{}, InvalidClient},
		"id with a slash":  {nil, Params{"client_id": "a/b"}, Credentials{}, InvalidClient},
		"id of 256 bytes":  {nil, Params{"client_id": strings.Repeat("a", 256)}, Credentials{}, InvalidClient},
		"secret too long":  {nil, Params{"client_id": "a", "client_secret": strings.Repeat("s", 513)}, Credentials{}, InvalidClient},
		"id with a NUL":    {header("a\x00b:c"), nil, Credentials{}, InvalidClient},
		"empty, but basic": {header(":"), nil, Credentials{}, InvalidClient},
	} {
		got, err := ParseCredentials(tt.header, tt.form)
		if codeOf(err) != tt.code || tt.code == "" && (got != tt.want || err != nil) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestTarget(t *testing.T) {
	const id = "0f0e0d0c-1111-4222-8333-444455556666"
	for _, p := range []Params{{"audience": id}, {"resource": "urn:uuid:" + id}, {"audience": id, "resource": "urn:uuid:" + id}} {
		if got, err := target(p); err != nil || got != core.ClusterID(id) {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	for _, p := range []Params{
		{}, {"audience": "x"}, {"audience": strings.ToUpper(id)}, {"audience": id + "x"}, {"audience": id[:35]}, {"audience": "{" + id[:34] + "}"},
		{"audience": strings.ReplaceAll(id, "-", "0")}, {"resource": id}, {"resource": "https://c.example"}, {"resource": "URN:UUID:" + id},
		{"audience": id, "resource": "urn:uuid:" + strings.Replace(id, "0", "1", 1)}, {"audience": id + " " + id}, {"audience": id + ".abc"},
	} {
		if got, err := target(p); codeOf(err) != InvalidTarget {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
}

// RFC 7636 §4.1, §4.2; OAU-015.
func TestPKCEForms(t *testing.T) {
	const v = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	for s, want := range map[string]bool{
		v: true, v[:42]: false, strings.Repeat("a", 128): true, strings.Repeat("a", 129): false, v[:42] + "~": true, v[:42] + ".": true,
		v[:42] + "+": false, v[:42] + "=": false, v[:42] + " ": false, v[:42] + "\x00": false, v[:41] + "é": false, "": false,
	} {
		if verifierForm(s) != want {
			t.Errorf("verifier %q: %v", s, !want)
		}
	}
	for s, want := range map[string]bool{v: true, v + "=": false, v[:42]: false, v + "a": false, v[:42] + "~": false, v[:42] + "+": false} {
		if challengeForm(s) != want {
			t.Errorf("challenge %q: %v", s, !want)
		}
	}
}
