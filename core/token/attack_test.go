package token_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/token"
)

// forge is what an attacker has, and more: a fresh valid token in its parts, and the keys to sign changed ones with. Signing
// with the tenant's own key shows that a check holds by itself, not because the signature is broken too.
type forge struct {
	t               testing.TB
	ring            *keys.Ring
	raw             string
	header, payload string
	own             keys.SigningKey
	rsa             keys.SigningKey
}

func newForge(t testing.TB, c token.Claims) *forge {
	t.Helper()
	f := &forge{t: t, ring: newRing(t)}
	f.raw = mint(t, f.ring, acme, keys.ES256, c)
	parts := strings.Split(f.raw, ".")
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	f.header, f.payload = string(header), string(payload)
	var err error
	if f.own, err = f.ring.Signer(t.Context(), acme, keys.ES256); err != nil {
		t.Fatal(err)
	}
	if f.rsa, err = f.ring.Signer(t.Context(), acme, keys.RS256); err != nil {
		t.Fatal(err)
	}
	return f
}

// resigned signs a header and a payload with the tenant's own key.
func (f *forge) resigned(header, payload string) string {
	f.t.Helper()
	return sign(f.t, "ES256", f.own.Signer, header, payload)
}

// replace changes one thing, which must be there.
func (f *forge) replace(s, old, new string) string {
	f.t.Helper()
	if !strings.Contains(s, old) {
		f.t.Fatalf("%s has no %s", s, old)
	}
	return strings.Replace(s, old, new, 1)
}

// claims signs with one thing changed in the payload; head, with one changed in the header.
func (f *forge) claims(old, new string) string {
	return f.resigned(f.header, f.replace(f.payload, old, new))
}
func (f *forge) head(old, new string) string {
	return f.resigned(f.replace(f.header, old, new), f.payload)
}

// segments changes the segments as they stand, signature and all.
func (f *forge) segments(change func(p []string)) string {
	p := strings.Split(f.raw, ".")
	change(p)
	return strings.Join(p, ".")
}

func (f *forge) parse(raw string) (token.Access, error) {
	return token.ParseAccess(f.t.Context(), f.ring, acme, issuer, raw, now)
}

func segment(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func hs256(secret []byte, header, payload string) string {
	signed := segment(header) + "." + segment(payload)
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Every row is one way to make a token that some verifier somewhere took for good.
func TestAttacks(t *testing.T) {
	f := newForge(t, access())
	attacker, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(f.own.Public())
	if err != nil {
		t.Fatal(err)
	}
	set, err := f.ring.JWKS(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	point, err := attacker.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	jwk := `{"kty":"EC","crv":"P-256","x":"` + b64(point[1:33]) + `","y":"` + b64(point[33:]) + `"}`
	es256, rs256 := `"alg":"ES256"`, `"alg":"RS256"`
	kid := `"kid":"` + f.own.ID + `"`
	rsaKid := f.replace(f.header, f.own.ID, f.rsa.ID)
	umbrellas, err := f.ring.Signer(t.Context(), umbrella, keys.ES256)
	if err != nil {
		t.Fatal(err)
	}
	admin := f.replace(f.payload, "ada@", "root@")

	rows := []struct{ id, raw, reason string }{
		// JWT-001: no signature
		{"alg none", segment(f.replace(f.header, "ES256", "none")) + "." + segment(f.payload) + ".", "signature"},
		{"alg none, some signature", segment(f.replace(f.header, "ES256", "none")) + "." + segment(f.payload) + ".AA", "algorithm"},
		{"alg none, signed", f.head("ES256", "none"), "algorithm"},
		{"alg None", f.head("ES256", "None"), "algorithm"},
		{"alg nOnE", f.head("ES256", "nOnE"), "algorithm"},
		{"alg empty", f.head("ES256", ""), "no alg"},
		{"alg absent", f.head(es256+",", ""), "no alg"},
		{"alg null", f.head(`"ES256"`, "null"), "alg is no string"},
		{"alg a list", f.head(`"ES256"`, `["ES256"]`), "alg is no string"},
		{"alg in lower case", f.head("ES256", "es256"), "algorithm"},
		{"signature left out", f.segments(func(p []string) { p[2] = "" }), "signature"},

		// JWT-003: another algorithm than the key's
		{"RS256 with the EC key's kid", sign(t, "RS256", f.rsa.Signer, f.replace(f.header, es256, rs256), f.payload), "algorithm"},
		{"ES256 with the RSA key's kid", sign(t, "ES256", f.own.Signer, rsaKid, f.payload), "algorithm"},
		{"PS256 with the RSA key", sign(t, "PS256", f.rsa.Signer, f.replace(rsaKid, "ES256", "PS256"), f.payload), "algorithm"},
		{"RS512 with the RSA key", sign(t, "RS512", f.rsa.Signer, f.replace(rsaKid, "ES256", "RS512"), f.payload), "algorithm"},
		{"PSS signature called RS256", sign(t, "PS256", f.rsa.Signer, f.replace(rsaKid, "ES256", "RS256"), f.payload), "signature"},
		{"ES384 header", f.head("ES256", "ES384"), "algorithm"},
		{"HS256 with the public key, DER", hs256(pkix, f.replace(f.header, "ES256", "HS256"), admin), "algorithm"},
		{"HS256 with the public key, PEM", hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}), f.replace(f.header, "ES256", "HS256"), admin), "algorithm"},
		{"HS256 with the JWKS", hs256(set.Body, f.replace(f.header, "ES256", "HS256"), admin), "algorithm"},
		{"HS256 called ES256", hs256(pkix, f.header, admin), "signature"},

		// JWT-021: guessable secrets
		{"HS256 secret", hs256([]byte("secret"), f.replace(f.header, "ES256", "HS256"), admin), "algorithm"},
		{"HS256 empty", hs256(nil, f.replace(f.header, "ES256", "HS256"), admin), "algorithm"},

		// JWT-005 and other signatures
		{"all zero", f.segments(func(p []string) { p[2] = b64(make([]byte, 64)) }), "signature"},
		{"r and s the order", f.segments(func(p []string) {
			n := elliptic.P256().Params().N.Bytes()
			p[2] = b64(append(n, n...))
		}), "signature"},
		{"r = s = 1", f.segments(func(p []string) {
			one := make([]byte, 32)
			one[31] = 1
			p[2] = b64(append(one, one...))
		}), "signature"},
		{"DER", f.segments(func(p []string) {
			sum := sha256.Sum256([]byte(p[0] + "." + p[1]))
			der, err := f.own.Sign(rand.Reader, sum[:], crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			p[2] = b64(der)
		}), "signature"},
		{"one byte short", f.segments(func(p []string) { s, _ := base64.RawURLEncoding.DecodeString(p[2]); p[2] = b64(s[:63]) }), "signature"},
		{"one byte long", f.segments(func(p []string) { s, _ := base64.RawURLEncoding.DecodeString(p[2]); p[2] = b64(append(s, 0)) }), "signature"},
		{"of another token", f.segments(func(p []string) { p[2] = strings.Split(f.claims("u4w7kq2m", "u4w7kq2n"), ".")[2] }), "signature"},
		{"payload changed", f.segments(func(p []string) { p[1] = segment(admin) }), "signature"},
		{"the attacker's key", sign(t, "ES256", attacker, f.header, admin), "signature"},

		// JWT-007: kid
		{"kid of another tenant", sign(t, "ES256", umbrellas.Signer, f.replace(f.header, f.own.ID, umbrellas.ID), f.payload), "unknown key"},
		{"kid a path", f.head(f.own.ID, "../../dev/null"), "unknown key"},
		{"kid SQL", f.head(f.own.ID, "x' UNION SELECT 'secret"), "unknown key"},
		{"kid a URL", f.head(f.own.ID, "https://evil.example/jwks"), "unknown key"},
		{"kid NUL", f.head(f.own.ID, `\u0000`), "unknown key"},
		{"kid the MAC secret", f.head(f.own.ID, "mac"), "unknown key"},
		{"kid a JWK", f.head(`"`+f.own.ID+`"`, jwk), "kid is no string"},
		{"kid an operator", f.head(`"`+f.own.ID+`"`, `{"$ne":null}`), "kid is no string"},
		{"kid a list", f.head(`"`+f.own.ID+`"`, `["`+f.own.ID+`"]`), "kid is no string"},
		{"kid empty", f.head(f.own.ID, ""), "no kid"},
		{"kid absent", f.head(kid+",", ""), "no kid"},
		{"kid of 1 MiB", f.head(f.own.ID, strings.Repeat("k", 1<<20)), "too long"},

		// JWT-009: duplicates
		{"alg twice", f.head(es256, es256+`,"alg":"none"`), "malformed header"},
		{"alg twice, none first", f.head(es256, `"alg":"none",`+es256), "malformed header"},
		{"alg twice, the same", f.head(es256, es256+","+es256), "malformed header"},
		{"alg twice, one escaped", f.head(es256, es256+`,"\u0061lg":"none"`), "malformed header"},
		{"kid twice", f.head(kid, kid+`,"kid":"x"`), "malformed header"},
		{"sub twice", f.claims(`"sub":`, `"sub":"other","sub":`), "malformed payload"},
		{"exp twice", f.claims(`"exp":`, `"exp":9999999999,"exp":`), "malformed payload"},
		{"aud twice", f.claims(`"aud":`, `"aud":"x","\u0061ud":`), "malformed payload"},
		{"duplicate far below", f.claims(`"jti":`, `"x":[{"y":{"z":1,"z":2}}],"jti":`), "malformed payload"},

		// JWT-011: case
		{"EXP for exp", f.claims(`"exp":`, `"EXP":`), "another case"},
		{"Exp beside exp", f.claims(`"exp":`, `"Exp":9999999999,"exp":`), "another case"},
		{"ISS beside iss", f.claims(`"iss":`, `"ISS":"`+issuer+`","iss":`), "another case"},
		{"SUB beside sub", f.claims(`"sub":`, `"SUB":"root","sub":`), "another case"},
		{"a long s in iſs", f.claims(`"iss":`, `"iſs":"x","iss":`), "another case"},
		{"Client_ID", f.claims(`"client_id":`, `"Client_ID":"x","client_id":`), "another case"},
		{"Alg beside alg", f.head(es256, es256+`,"Alg":"none"`), "another case"},
		{"Kid with a Kelvin sign", f.head(kid, kid+`,"Kid":"x"`), "another case"},
		{"CRIT", f.head(es256, es256+`,"CRIT":["x"]`), "another case"},

		// JWT-013: claims that are missing, or of another type
		{"no iss", f.claims(`"iss":"`+issuer+`",`, ""), "no iss"},
		{"no sub", f.claims(`"sub":"u4w7kq2m",`, ""), "no sub"},
		{"empty sub", f.claims(`"sub":"u4w7kq2m"`, `"sub":""`), "no sub"},
		{"no aud", f.claims(`"aud":"`+issuer+`",`, ""), "no aud"},
		{"no client_id", f.claims(`"client_id":"fleetpass-cli",`, ""), "no client_id"},
		{"no exp", f.claims(`"exp":1893554045,`, ""), "no exp"},
		{"no iat", f.claims(`"iat":1893553445,`, ""), "no iat"},
		{"no nbf", f.claims(`"nbf":1893553445,`, ""), "no nbf"},
		{"no jti", f.claims(`,"jti":"j1"`, ""), "no jti"},
		{"no kind", f.claims(`"kind":"user",`, ""), "no kind"},
		{"kind group", f.claims(`"kind":"user"`, `"kind":"group"`), "kind"},
		{"exp a string", f.claims(`1893554045`, `"1893554045"`), "exp is no time"},
		{"exp a fraction", f.claims(`1893554045`, `1893554045.5`), "exp is no time"},
		{"exp with an exponent", f.claims(`1893554045`, `1893554045e0`), "exp is no time"},
		{"exp huge", f.claims(`1893554045`, `1e300`), "exp is no time"},
		{"exp beyond 64 bits", f.claims(`1893554045`, `18446744073709551616`), "exp is no time"},
		{"exp that would overflow", f.claims(`1893554045`, `9223372036854775807`), "exp is no time"},
		{"exp negative", f.claims(`1893554045`, `-1893554045`), "exp is no time"},
		{"exp null", f.claims(`1893554045`, `null`), "exp is no time"},
		{"exp true", f.claims(`1893554045`, `true`), "exp is no time"},
		{"exp zero", f.claims(`1893554045`, `0`), "exp is no time"},
		{"sub a number", f.claims(`"u4w7kq2m"`, `7`), "sub is no string"},
		{"sub a list", f.claims(`"u4w7kq2m"`, `["u4w7kq2m"]`), "sub is no string"},
		{"email an object", f.claims(`"ada@example.com"`, `{"a":1}`), "email is no string"},

		// times
		{"expired now", f.claims("1893554045", fmt.Sprint(now.Unix())), "a lifetime"},
		{"expired", f.resigned(f.header, f.replace(f.replace(f.replace(f.payload, "1893554045", fmt.Sprint(now.Unix()-1)),
			`"iat":1893553445`, `"iat":1893553000`), `"nbf":1893553445`, `"nbf":1893553000`)), "expired"},
		{"for ten years", f.claims("1893554045", fmt.Sprint(now.AddDate(10, 0, 0).Unix())), "a lifetime"},
		{"a second over the longest life", f.claims("1893554045", fmt.Sprint(now.Add(keys.MaxTokenLife+time.Second).Unix())), "a lifetime"},
		{"exp before iat", f.claims("1893554045", "1893553444"), "a lifetime"},
		{"issued in the future", f.claims(`"iat":1893553445`, `"iat":1893553506`), "not valid yet"},
		{"not before the future", f.claims(`"nbf":1893553445`, `"nbf":1893553506`), "not valid yet"},

		// JWT-015: audience; issuer
		{"aud a list of ours", f.claims(`"aud":"`+issuer+`"`, `"aud":["`+issuer+`"]`), "aud is no string"},
		{"aud a list with ours", f.claims(`"aud":"`+issuer+`"`, `"aud":["x","`+issuer+`"]`), "aud is no string"},
		{"aud another", f.claims(`"aud":"`+issuer, `"aud":"https://other.example`), "another audience"},
		{"aud a prefix", f.claims(`"aud":"`+issuer, `"aud":"`+issuer[:len(issuer)-1]), "another audience"},
		{"aud with a slash", f.claims(`"aud":"`+issuer, `"aud":"`+issuer+"/"), "another audience"},
		{"aud in another case", f.claims(`"aud":"`+issuer, `"aud":"`+strings.ToUpper(issuer)), "another audience"},
		{"aud a cluster", f.claims(`"aud":"`+issuer, `"aud":"`+cluster), "another audience"},
		{"iss another", f.claims(`"iss":"`+issuer, `"iss":"`+theirs), "another issuer"},
		{"iss with a slash", f.claims(`"iss":"`+issuer, `"iss":"`+issuer+"/"), "another issuer"},
		{"iss over plain http", f.claims(`"iss":"https`, `"iss":"http`), "another issuer"},
		{"iss staging", f.claims(`"iss":"https://fleet`, `"iss":"https://staging.fleet`), "another issuer"},

		// JWT-017: another tenant, another kind
		{"another tenant's token", mint(t, f.ring, umbrella, keys.ES256, edit(access(), func(a *token.Access) { a.Issuer, a.Audience = theirs, theirs })), "unknown key"},
		{"our claims, another tenant's key", mint(t, f.ring, umbrella, keys.ES256, access()), "unknown key"},
		{"an ID token", mint(t, f.ring, acme, keys.ES256, edit(idToken(), func(i *token.ID) { i.Audience = issuer })), "another type"},
		{"a cluster's token", mint(t, f.ring, acme, keys.ES256, clusterToken()), "another type"},
		{"typ JWT", f.head("at+jwt", "JWT"), "another type"},
		{"typ AT+JWT", f.head("at+jwt", "AT+JWT"), "another type"},
		{"typ application/at+jwt", f.head("at+jwt", "application/at+jwt"), "another type"},
		{"typ absent", f.head(`,"typ":"at+jwt"`, ""), "no typ"},
		{"typ a list", f.head(`"at+jwt"`, `["at+jwt"]`), "typ is no string"},

		// JWT-019: JWE, compression
		{"five segments", "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.AA.AA.AA.AA", "segments"},
		{"enc header", f.head(es256, es256+`,"enc":"A256GCM"`), "header enc"},
		{"zip header", f.head(es256, es256+`,"zip":"DEF"`), "header zip"},
		{"PBES2 with a huge count", f.head(es256, `"alg":"PBES2-HS256+A128KW","p2c":2147483647`), "a header member"},

		// headers that bring a key, or ask for something
		{"crit", f.head(es256, es256+`,"crit":["exp"]`), "header crit"},
		{"crit empty", f.head(es256, es256+`,"crit":[]`), "header crit"},
		{"b64 false", f.head(es256, es256+`,"b64":false,"crit":["b64"]`), "header"},
		{"jwk", sign(t, "ES256", attacker, f.replace(f.header, es256, es256+`,"jwk":`+jwk), admin), "a header member"},
		{"jwk without kid", sign(t, "ES256", attacker, f.replace(f.header, kid, `"jwk":`+jwk), admin), "no kid"},
		{"jku", f.head(es256, es256+`,"jku":"https://evil.example/jwks"`), "a header member"},
		{"x5u", f.head(es256, es256+`,"x5u":"https://evil.example/cert"`), "a header member"},
		{"x5c", f.head(es256, es256+`,"x5c":["MIIB"]`), "a header member"},
		{"cty", f.head(es256, es256+`,"cty":"JWT"`), "a header member"},
		{"an unknown header", f.head(es256, es256+`,"x":1`), "a header member"},

		// the spelling of segments
		{"padding", f.segments(func(p []string) { p[2] += "==" }), "malformed signature"},
		{"padded header", f.segments(func(p []string) { p[0] += "=" }), "malformed header"},
		{"line end in the signature", f.segments(func(p []string) { p[2] = p[2][:10] + "\n" + p[2][10:] }), "malformed signature"},
		{"line end at the end", f.raw + "\n", "malformed signature"},
		{"CR in the payload", f.segments(func(p []string) { p[1] = p[1][:10] + "\r" + p[1][10:] }), "malformed payload"},
		{"space before", " " + f.raw, "malformed header"},
		{"NUL at the end", f.raw + "\x00", "malformed signature"},
		{"spare bits", f.segments(func(p []string) { p[2] = p[2][:len(p[2])-1] + string(next(p[2][len(p[2])-1])) }), "malformed signature"},
		{"standard alphabet", f.segments(func(p []string) { p[2] = strings.Repeat("+/", len(p[2])/2) }), "malformed signature"},
		{"four segments", f.raw + ".AA", "segments"},
		{"an empty fourth", f.raw + ".", "segments"},
		{"two segments", f.raw[:strings.LastIndex(f.raw, ".")], "segments"},
		{"nothing", "", "segments"},
		{"dots", "..", "malformed header"},
		{"empty payload", f.segments(func(p []string) { p[1] = "" }), "malformed payload"},
		{"Bearer and all", "Bearer " + f.raw, "malformed header"},
		{"JSON serialization", `{"payload":"` + segment(f.payload) + `"}`, "segments"},

		// the spelling of JSON
		{"more after the payload", f.resigned(f.header, f.payload+"{}"), "malformed payload"},
		{"NUL after the payload", f.resigned(f.header, f.payload+"\x00"), "malformed payload"},
		{"a byte order mark", f.resigned(f.header, "\ufeff"+f.payload), "malformed payload"},
		{"a list", f.resigned(f.header, "["+f.payload+"]"), "malformed payload"},
		{"null", f.resigned(f.header, "null"), "malformed payload"},
		{"a null header", f.resigned("null", f.payload), "malformed header"},
		{"no UTF-8", f.claims("u4w7kq2m", "u\xff"), "malformed payload"},
		{"half a surrogate", f.claims("u4w7kq2m", `\ud800`), "malformed payload"},
		{"a comment", f.claims(`"sub"`, `/**/"sub"`), "malformed payload"},
		{"single quotes", f.claims(`"u4w7kq2m"`, `'u4w7kq2m'`), "malformed payload"},
		{"deeply nested", f.claims(`"jti":`, `"x":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`,"jti":`), "malformed payload"},
		{"over 8 KiB", f.claims(`"jti":`, `"x":"`+strings.Repeat("x", token.MaxLength)+`","jti":`), "too long"},
	}
	for _, tt := range rows {
		t.Run(tt.id, func(t *testing.T) {
			a, err := f.parse(tt.raw)
			if !errors.Is(err, core.Unauthenticated) || a != (token.Access{}) {
				t.Fatalf("accepted as %+v, %v", a, err)
			}
			if err.Error() != "the token is not valid" {
				t.Errorf("says %q: the wording must not tell one cause from another", err)
			}
			if !strings.Contains(token.Reason(err), tt.reason) {
				t.Errorf("refused because of %q, want %q: the row proves something else", token.Reason(err), tt.reason)
			}
		})
	}

	// The positive twins: the token itself, and one taken apart and signed again as the rows are.
	for name, raw := range map[string]string{
		"as minted":          f.raw,
		"signed again":       f.resigned(f.header, f.payload),
		"signed with RS256":  sign(t, "RS256", f.rsa.Signer, f.replace(rsaKid, "ES256", "RS256"), f.payload),
		"a claim more":       f.claims(`"jti":`, `"later":{"than":["this","version"]},"jti":`),
		"spaces in the JSON": f.resigned(f.replace(f.header, ",", " ,\n"), f.replace(f.payload, ":", " : ")),
		"a minute ahead":     f.resigned(f.header, f.replace(f.replace(f.payload, `"iat":1893553445`, `"iat":1893553505`), `"nbf":1893553445`, `"nbf":1893553505`)),
		"the other s": f.segments(func(p []string) { // ECDSA signatures come in pairs: no token may be known by its bytes
			s, _ := base64.RawURLEncoding.DecodeString(p[2])
			other := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(s[32:]))
			other.FillBytes(s[32:])
			p[2] = b64(s)
		}),
	} {
		a, err := f.parse(raw)
		want := access()
		if name == "a minute ahead" {
			want.IssuedAt = now.Add(time.Minute)
		}
		if err != nil || a != want {
			t.Errorf("%s: %v (%s)\n got %+v\nwant %+v", name, err, token.Reason(err), a, want)
		}
	}
	if _, err := token.ParseAccess(t.Context(), f.ring, acme, "", f.raw, now); err == nil {
		t.Error("accepted where no issuer is configured")
	}
	if a, err := token.ParseAccess(t.Context(), f.ring, acme, issuer, f.raw, access().Expires.Add(-time.Second)); err != nil || a != access() {
		t.Errorf("in its last second: %v", err)
	}
	if _, err := token.ParseAccess(t.Context(), f.ring, acme, issuer, f.raw, access().Expires); token.Reason(err) != "expired" {
		t.Errorf("at its end: %v", err)
	}
}

// next is the character after one of base64url, whose low bits are spare in the last place of a signature.
func next(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)+1]
}

// golang-jwt, left to itself, takes what Strict refuses. Should it cease to, this file may shrink.
func TestWhatGolangJWTTakes(t *testing.T) {
	f := newForge(t, access())
	lenient := func(raw string) error {
		_, err := jwt.Parse(raw, func(*jwt.Token) (any, error) { return f.own.Public(), nil }, jwt.WithTimeFunc(func() time.Time { return now }))
		return err
	}
	for name, raw := range map[string]string{
		"crit":       f.head(`"alg"`, `"crit":["x"],"alg"`),
		"duplicates": f.claims(`"sub":`, `"sub":"other","sub":`),
		"no exp":     f.claims(`"exp":1893554045,`, ""),
		"line ends":  f.segments(func(p []string) { p[2] = p[2][:10] + "\n" + p[2][10:] }),
	} {
		if err := lenient(raw); err != nil {
			t.Logf("golang-jwt refuses %s by now: %v", name, err)
		}
		if _, err := f.parse(raw); !errors.Is(err, core.Unauthenticated) {
			t.Errorf("%s: %v, want core.Unauthenticated", name, err)
		}
	}
	if _, err := f.parse(f.raw); err != nil || lenient(f.raw) != nil {
		t.Errorf("the token itself: %v, %v", err, lenient(f.raw))
	}
}

func TestIDTokenAttacks(t *testing.T) {
	f := newForge(t, idToken())
	parse := func(raw string, at time.Time) (token.ID, error) {
		return token.ParseHint(t.Context(), f.ring, acme, issuer, raw, at)
	}
	for _, tt := range []struct{ id, raw, reason string }{
		{"an access token", mint(t, f.ring, acme, keys.ES256, access()), "another type"},
		{"a cluster's token", mint(t, f.ring, acme, keys.ES256, clusterToken()), "no at_hash"},
		{"another tenant's", mint(t, f.ring, umbrella, keys.ES256, idToken()), "unknown key"},
		{"another issuer", f.claims(`"iss":"`+issuer, `"iss":"`+theirs), "another issuer"},
		{"no sub", f.claims(`"sub":"u4w7kq2m",`, ""), "no sub"},
		{"no iat", f.claims(`"iat":1893553445,`, ""), "no iat"},
		{"no exp", f.claims(`"exp":1893554045,`, ""), "no exp"},
		{"nonce a list", f.claims(`"n-0S6"`, `["n-0S6"]`), "nonce is no string"},
		{"groups a string", f.claims(`["ml-research","Équipe 7"]`, `"ml-research"`), "groups is no list"},
		{"groups of numbers", f.claims(`["ml-research","Équipe 7"]`, `[1]`), "groups is no string"},
		{"email_verified a string", f.claims(`"email_verified":true`, `"email_verified":"true"`), "email_verified"},
		{"unsigned", f.segments(func(p []string) { p[2] = "" }), "signature"},
		{"changed", f.segments(func(p []string) { p[1] = segment(f.replace(f.payload, "ada@", "root@")) }), "signature"},
	} {
		if i, err := parse(tt.raw, now); !errors.Is(err, core.Unauthenticated) || i.Subject != "" || !strings.Contains(token.Reason(err), tt.reason) {
			t.Errorf("%s: %+v, %v (%s), want %q", tt.id, i, err, token.Reason(err), tt.reason)
		}
	}
	if _, err := parse(f.raw, now); err != nil {
		t.Errorf("the token itself: %v", err)
	}
	// Where nobody knows when it was proved, it says nothing of it, and is an ID token all the same.
	unknown := idToken()
	unknown.AuthTime = time.Time{}
	if i, err := parse(mint(t, f.ring, acme, keys.ES256, unknown), now); err != nil || !i.AuthTime.IsZero() || i.Subject != unknown.Subject {
		t.Errorf("without auth_time: %+v, %v", i, err)
	}
	if i, err := parse(f.raw, now.Add(time.Hour)); err != nil || i.Subject != idToken().Subject {
		t.Errorf("an hour later, when it has expired: %v", err)
	}
	if _, err := parse(f.raw, now.Add(-time.Hour)); token.Reason(err) != "not valid yet" {
		t.Errorf("an hour before: %v", err)
	}
}

// A foreign token with key material of its own passes Strict, which ignores it; what nobody can agree on does not.
func TestStrict(t *testing.T) {
	f := newForge(t, access())
	for _, raw := range []string{f.raw, f.head(`"alg"`, `"x5c":["MIIB"],"jku":"https://x.example","alg"`), f.claims(`"jti"`, `"GROUPS":["a"],"UID":"7","jti"`)} {
		header, payload, err := token.Strict(raw)
		if err != nil || string(header["alg"]) != `"ES256"` || string(payload["sub"]) != `"u4w7kq2m"` {
			t.Errorf("%v: header %v, payload %v", err, header, payload)
		}
	}
	for _, raw := range []string{f.head(`"alg"`, `"crit":["exp"],"alg"`), f.claims(`"jti"`, `"Nonce":"x","jti"`), f.claims(`"jti"`, `"AZP":"x","jti"`), f.raw + "\n"} {
		if header, payload, err := token.Strict(raw); !errors.Is(err, core.Unauthenticated) || header != nil || payload != nil {
			t.Errorf("%v: header %v, payload %v", err, header, payload)
		}
	}
}
