package main

import (
	"testing"
	"time"
)

func TestParseExpiry(t *testing.T) {
	now := time.Date(2026, 5, 4, 9, 0, 0, 500, time.UTC)
	for in, want := range map[string]string{
		"":                          "",
		"8h":                        "2026-05-04T17:00:00Z",
		"90m":                       "2026-05-04T10:30:00Z",
		"30d":                       "2026-06-03T09:00:00Z",
		"2026-12-31T18:00:00+02:00": "2026-12-31T16:00:00Z",
		"-1h":                       "error", "0s": "error", "0d": "error", "d": "error", "99999999d": "error", "tomorrow": "error", "2020-01-01T00:00:00Z": "error", "8": "error",
	} {
		got, err := parseExpiry(in, now)
		switch {
		case (err != nil) != (want == "error"):
			t.Errorf("parseExpiry(%q): %v", in, err)
		case err == nil && want == "" && !got.IsZero(), err == nil && want != "" && got.Format(time.RFC3339) != want:
			t.Errorf("parseExpiry(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestParseEntity(t *testing.T) {
	for _, s := range []string{"access_rules", "access-rules", "Access rules", "access-rule", "ACCESSRULES"} {
		if e, err := parseEntity(s); err != nil || e.String() != "access_rules" {
			t.Errorf("parseEntity(%q) = %s, %v", s, e, err)
		}
	}
	if _, err := parseEntity("pods"); err == nil {
		t.Error("pods are no entity")
	}
	for _, s := range []string{"project", "projects", "cluster", "workloads", "nodes", "node-pools", "cluster-config"} {
		if _, err := parseEntity(s); err != nil {
			t.Error(err)
		}
	}
}

func FuzzReadClaims(f *testing.F) {
	f.Add(jwtOf(map[string]any{"iss": "https://a", "aud": "x", "exp": 1}))
	f.Add(jwtOf(map[string]any{"aud": []string{"x", "y"}}))
	f.Add(jwtOf(map[string]any{"aud": 1}))
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := readClaims(raw)
		if err == nil && checkIDToken(raw, "https://issuer.test", "nonce", time.Unix(0, 0)) == nil && (c.Issuer != "https://issuer.test" || c.Nonce != "nonce") {
			t.Errorf("%q passes", raw)
		}
	})
}
