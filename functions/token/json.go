package token

import (
	"errors"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/strict"
	"github.com/fleetpass/fleetpass/core/web"
)

// tokensJSON is the answer of the token endpoint in JSON.
type tokensJSON struct {
	AccessToken  string `json:"accessToken"`
	IDToken      string `json:"idToken,omitempty"`
	RefreshToken string `json:"refreshToken,omitempty"`
	ExpiresIn    int64  `json:"expiresIn"` // seconds
}

// fieldsJSON maps the members of a request, in lower case, to parameters of OAuth. Clients in the field write clientId,
// clientID and AppId alike, so here, and only here, the case of names does not count.
var fieldsJSON = map[string]string{
	"granttype": "grant_type", "clientid": "client_id", "clientsecret": "client_secret",
	"appid": "app_id", "appsecret": "app_secret", "username": "username", "password": "password",
	"refreshtoken": "refresh_token", "code": "code", "redirecturi": "redirect_uri", "codeverifier": "code_verifier",
	"scope": "scope", "externaltoken": "external_token",
}

// personScope is what a person's tokens are asked for with where a request does not say.
const personScope = "openid offline_access email profile groups"

// tokenJSON is the token endpoint in the form that existing clients of the original use. It does nothing that the
// standard endpoint does not.
func (f function) tokenJSON(w http.ResponseWriter, r *http.Request) {
	c, err := callJSON(w, r)
	if err != nil {
		failJSON(w, r, err)
		return
	}
	tokens, err := f.oauth.Token(r.Context(), c)
	if err != nil {
		failJSON(w, r, err)
		return
	}
	issued(r, c)
	answer(w, http.StatusOK, tokensJSON{tokens.AccessToken, tokens.IDToken, tokens.RefreshToken, tokens.ExpiresIn})
}

func callJSON(w http.ResponseWriter, r *http.Request) (oauth.Call, error) {
	t, err := web.Tenant(r)
	if err != nil {
		return oauth.Call{}, err
	}
	c := oauth.Call{Actor: actor(r, t)}
	data, err := web.Body(w, r, "application/json", maxBody)
	if err != nil {
		return c, err
	}
	given, err := readJSON(data)
	if err != nil {
		return c, err
	}
	c.Params = oauth.Params{"scope": given["scope"]}
	id, secret := given["client_id"], given["client_secret"]
	switch given["grant_type"] {
	case "":
		return c, core.BadField("grantType", "is missing")
	case "app_token":
		id, secret = given["app_id"], given["app_secret"]
		fallthrough
	case "client_credentials":
		c.Params["grant_type"] = "client_credentials"
	case "password":
		c.Params["grant_type"], c.Params["username"], c.Params["password"] = "password", given["username"], given["password"]
		if c.Params["scope"] == "" {
			c.Params["scope"] = personScope
		}
	case "refresh_token":
		c.Params["grant_type"], c.Params["refresh_token"] = "refresh_token", given["refresh_token"]
	case "exchange_token":
		c.Params["grant_type"], c.Params["code"] = "authorization_code", given["code"]
		c.Params["redirect_uri"], c.Params["code_verifier"] = given["redirect_uri"], given["code_verifier"]
	case "external_token_exchange":
		c.Params["grant_type"], c.Params["subject_token"] = oauth.GrantExchange, given["external_token"]
		c.Params["subject_token_type"] = oauth.TypeJWT // of a program: clientID names the application that it stands for
		if id == "" || core.ApplicationID(id) == oauth.CLI {
			c.Params["subject_token_type"] = oauth.TypeIDToken // of a person
			if c.Params["scope"] == "" {
				c.Params["scope"] = personScope
			}
		}
	default:
		return c, core.BadField("grantType", "must be client_credentials, app_token, password, refresh_token, exchange_token or external_token_exchange")
	}
	if id == "" && c.Params["grant_type"] != "client_credentials" {
		id = string(oauth.CLI) // clients of the original send none
	}
	c.Client, err = oauth.ParseCredentials(nil, oauth.Params{"client_id": id, "client_secret": secret})
	return c, err
}

// readJSON reads the members of a request as parameters. An unknown one, one that comes twice in whatever case, and one
// that is no string are core.Invalid and named.
func readJSON(data []byte) (map[string]string, error) {
	members, err := strict.Object(data, maxBody)
	if err != nil {
		return nil, err
	}
	given := make(map[string]string, len(members))
	for name, raw := range members {
		p, ok := fieldsJSON[strings.ToLower(name)]
		if !ok {
			return nil, core.BadField(known(name), "is not a member of a token request")
		}
		if _, twice := given[p]; twice {
			return nil, core.BadField(name, "is given twice, in different case")
		}
		var v string
		if err := json.Unmarshal(raw, &v); err != nil || raw.Kind() != '"' {
			return nil, core.BadField(name, "must be a string")
		}
		given[p] = v
	}
	return given, nil
}

// known is the name of a member as it can stand in an error: a secret in the wrong place is not repeated.
func known(name string) string {
	if len(name) > 40 {
		return strings.ToValidUTF8(name[:40], "")
	}
	return name
}

// failJSON answers in the form of the API that this endpoint belongs to.
func failJSON(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *oauth.Error
	if !errors.As(err, &refusal) {
		web.Fail(w, r, err)
		return
	}
	web.NoteError(r.Context(), err)
	status := http.StatusBadRequest
	switch refusal.Code {
	case oauth.InvalidClient, oauth.InvalidGrant:
		status = http.StatusUnauthorized
		web.Challenge(w, r)
	case oauth.UnauthorizedClient:
		status = http.StatusForbidden
	}
	w.Header().Set("Cache-Control", "no-store")
	web.JSON(w, status, web.Error{Code: status, Message: refusal.Description, Details: &web.Details{
		Kind: string(refusal.Code), Request: web.RequestID(r.Context()),
	}})
}
