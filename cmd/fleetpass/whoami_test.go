package main

import (
	"strings"
	"testing"
	"time"
)

// Each claim that an API server refuses is found, and only that one.
func TestJudge(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	good := claims{Issuer: "https://f.test/t/acme", Audience: audience{string(east)}, Issued: now.Add(-time.Minute).Unix(), NotBefore: now.Add(-time.Minute).Unix(), Expires: now.Add(4 * time.Minute).Unix()}
	for name, change := range map[string]func(*claims){
		"":               func(*claims) {},
		"token iss":      func(c *claims) { c.Issuer += "/" },
		"token aud":      func(c *claims) { c.Audience = audience{string(east), string(west)} },
		"token exp":      func(c *claims) { c.Expires = now.Unix() },
		"token iat, nbf": func(c *claims) { c.NotBefore = now.Add(time.Minute).Unix() },
	} {
		c := good
		change(&c)
		var found findings
		judge(&found, "token", c, good.Issuer, string(east), now)
		var wrong []string
		for _, f := range found {
			if !f.OK {
				wrong = append(wrong, f.What)
			}
			if f.OK == (f.Fix != "") {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if strings.Join(wrong, "; ") != name {
			t.Errorf("wrong is %q, want %q", wrong, name)
		}
	}
}
