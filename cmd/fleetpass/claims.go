package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/fleetpass/fleetpass/core/api"
)

// claims are what this program looks at in a token. Nothing is decided by them here but what to show: our tokens come
// from the token endpoint over TLS, which stands for their signature (OpenID Connect Core §3.1.3.7, 6).
type claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  audience `json:"aud"`
	Expires   int64    `json:"exp"`
	Issued    int64    `json:"iat"`
	NotBefore int64    `json:"nbf"`
	Nonce     string   `json:"nonce"`
	Email     string   `json:"email"`
	Username  string   `json:"preferred_username"`
	Groups    []string `json:"groups"`

	KeyID     string `json:"-"` // of the header
	Algorithm string `json:"-"`
}

// audience is one string or a list (RFC 7519 §4.1.3).
type audience []string

// UnmarshalJSONFrom reads either form.
func (a *audience) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '[' {
		return json.UnmarshalDecode(d, (*[]string)(a))
	}
	var one string
	err := json.UnmarshalDecode(d, &one)
	*a = audience{one}
	return err
}

// errToken never says more: the input is a secret.
var errToken = errors.New("that is no JSON Web Token")

func readClaims(token string) (c claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errToken
	}
	var header struct {
		KeyID     string `json:"kid"`
		Algorithm string `json:"alg"`
	}
	for i, into := range []any{&header, &c} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(data, into) != nil {
			return claims{}, errToken
		}
	}
	c.KeyID, c.Algorithm = header.KeyID, header.Algorithm
	return c, nil
}

// checkIDToken makes sure that an ID token answers our own request (OpenID Connect Core §3.1.3.7). The time is the
// server's.
func checkIDToken(raw, issuer, nonce string, now time.Time) error {
	c, err := readClaims(raw)
	switch {
	case err != nil:
		return fmt.Errorf("the server sent no ID token: %w", err)
	case c.Issuer != issuer:
		return fmt.Errorf("the ID token is of another issuer, %q", c.Issuer)
	case len(c.Audience) != 1 || c.Audience[0] != api.ClientID:
		return fmt.Errorf("the ID token is for another client, %q", c.Audience)
	case c.Nonce != nonce:
		return errors.New("the ID token answers another sign-in")
	case now.Unix() > c.Expires+60:
		return errors.New("the ID token has expired already")
	}
	return nil
}
