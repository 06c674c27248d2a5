package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// cookiePrefix makes the browser itself promise that a cookie was set by this very host, over a secure channel, for every
// path of it: neither a neighbouring subdomain nor a man in the middle of plain HTTP can plant one. Browsers treat
// http://localhost as secure.
const cookiePrefix = "__Host-fleetpass-"

// SetCookie gives the browser a cookie that no script can read. Tenants share a host, so the name should carry the
// tenant. SameSite=Lax lets a link from elsewhere find the session, and no cross-site POST. A life of 0 ends with the
// browser.
func SetCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: cookiePrefix + name, Value: value, Path: "/", MaxAge: int(life / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// DropCookie takes the cookie back.
func DropCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{
		Name: cookiePrefix + name, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// The bounds of the values of our cookies, in bytes: of one that holds a secret, and of one that holds an address.
const (
	maxCookie        = 256
	MaxAddressCookie = 1 << 10
)

// Cookie is the value of a cookie that SetCookie set, or "". A cookie that comes twice is none: one of the two was planted.
// One of more than 256 bytes is none either.
func Cookie(r *http.Request, name string) string { return cookie(r, name, maxCookie) }

// AddressCookie is Cookie for one that holds an address, of at most MaxAddressCookie bytes.
func AddressCookie(r *http.Request, name string) string { return cookie(r, name, MaxAddressCookie) }

func cookie(r *http.Request, name string, most int) string {
	cookies := r.CookiesNamed(cookiePrefix + name)
	if len(cookies) != 1 || len(cookies[0].Value) > most {
		return ""
	}
	return cookies[0].Value
}

// SameOrigin refuses unsafe requests that a browser sends on behalf of another origin, by Sec-Fetch-Site and Origin. It
// is for endpoints that a cookie authenticates; those still ask for a form token, for browsers too old to send either. The
// origins are our own, for where a proxy in front changes the Host.
func SameOrigin(next http.Handler, origins ...string) http.Handler {
	p := http.NewCrossOriginProtection()
	for _, o := range origins {
		if err := p.AddTrustedOrigin(o); err != nil {
			panic("web: a base address is no origin: " + err.Error()) // at start: configuration checked it before
		}
	}
	p.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Fail(w, r, fmt.Errorf("this request came from another site: %w", core.Denied))
	}))
	return p.Handler(next)
}

// FormToken is the token that a form carries so that only a page of ours can have made it: derived from the secret of the
// browser's cookie, which no other site can read, and from what the form is for. Nothing is stored.
func FormToken(cookie, purpose string) string {
	mac := hmac.New(sha256.New, []byte(cookie))
	mac.Write([]byte("fleetpass form " + purpose))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// CheckFormToken says whether a form carries the token that was made for that cookie and purpose.
func CheckFormToken(cookie, purpose, token string) bool {
	return cookie != "" && hmac.Equal([]byte(FormToken(cookie, purpose)), []byte(token))
}
