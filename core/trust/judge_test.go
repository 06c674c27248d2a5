package trust_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/trust"
)

const (
	clusterIssuer = "https://kubernetes.default.svc.cluster.local"
	ours          = "https://fleetpass.test/t/acme"
)

// workload is the claims of a Kubernetes service-account token, as TokenRequest makes them.
func workload() object {
	return object{
		"iss": clusterIssuer, "sub": "system:serviceaccount:ci:builder", "aud": []string{ours}, "jti": "0c3b5a0e-1d2f-4c55-9c6a-0e8a9f3f9d11",
		"iat": now.Add(-time.Minute).Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
		"kubernetes.io": object{"namespace": "ci", "serviceaccount": object{"name": "builder", "uid": "u1"}},
		"groups":        []string{"deployers", "everybody"}, "run": 17, "protected": true,
	}
}

// mutation is a token that differs from a good one in one thing.
type mutation struct {
	name string
	raw  func(k key) string
}

// forgeries bend a token that claims makes good in every way that does not depend on what it is for. The key is the signer's, an
// EC key of P-256, whose id is known to the verifier.
func forgeries(t *testing.T, claims object) []mutation {
	m := keys()
	header := func(h object) func(key) string { return func(k key) string { return k.sign(t, claims, h) } }
	payload := func(c object) func(key) string { return func(k key) string { return k.sign(t, with(claims, c)) } }
	bare := func(alg string) func(key) string {
		return func(k key) string {
			return b64([]byte(`{"alg":"`+alg+`","kid":"`+k.id+`","typ":"JWT"}`)) + "." + b64([]byte(text(claims))) + "."
		}
	}
	spliced := func(member string) func(key) string { // before the other members
		return func(k key) string {
			return k.raw(t, k.alg, `{"alg":"ES256","kid":"p256","typ":"JWT"}`, `{`+member+`,`+text(claims)[1:])
		}
	}
	return []mutation{
		// JWT-001
		{"alg none", bare("none")}, {"alg None", bare("nOnE")}, {"no alg", header(object{"alg": nil})}, {"empty alg", header(object{"alg": ""})},
		{"alg none with the signature", header(object{"alg": "none"})},
		// JWT-003
		{"alg of another type", header(object{"alg": "RS256"})}, {"alg of another curve", header(object{"alg": "ES384"})},
		{"HS256 with the public key", func(k key) string {
			signed := b64([]byte(`{"alg":"HS256","kid":"`+k.id+`"}`)) + "." + b64([]byte(text(claims)))
			mac, err := jwt.SigningMethodHS256.Sign(signed, []byte(text(k.public)))
			if err != nil {
				t.Fatal(err)
			}
			return signed + "." + b64(mac)
		}},
		// JWT-005
		{"psychic signature", func(k key) string {
			good := k.sign(t, claims)
			return good[:strings.LastIndexByte(good, '.')+1] + b64(make([]byte, 64))
		}},
		{"no signature", func(k key) string { good := k.sign(t, claims); return good[:strings.LastIndexByte(good, '.')+1] }},
		{"another key under the same id", func(key) string { return m.other.sign(t, claims) }},
		{"another payload under the signature", func(k key) string {
			good := strings.Split(k.sign(t, claims), ".")
			return good[0] + "." + b64([]byte(text(with(claims, object{"sub": "somebody-else"})))) + "." + good[2]
		}},
		// JWT-007
		{"unknown kid", header(object{"kid": "unknown"})}, {"kid is a path", header(object{"kid": "../../dev/null"})},
		{"kid is SQL", header(object{"kid": "x' OR '1'='1"})}, {"kid with NUL", header(object{"kid": "p256\x00"})},
		{"kid is no string", header(object{"kid": object{"$ne": ""}})}, {"kid of 1 KiB", header(object{"kid": strings.Repeat("k", 1<<10)})},
		{"kid in another case", header(object{"kid": "P256"})}, {"kid of another key", header(object{"kid": "p384"})},
		{"own key in jwk", func(key) string { return m.other.sign(t, claims, object{"kid": nil, "jwk": m.other.public}) }},
		{"own key at jku", func(key) string { return m.other.sign(t, claims, object{"kid": nil, "jku": "https://evil.test/jwks"}) }},
		// JWT-009
		{"duplicate sub", spliced(`"sub":"somebody-else"`)}, {"duplicate aud", spliced(`"aud":"https://other.test"`)}, {"duplicate exp", spliced(`"exp":1`)},
		{"duplicate nested member", spliced(`"extra":{"a":1,"a":2}`)},
		{"duplicate alg", func(k key) string {
			return k.raw(t, k.alg, `{"alg":"none","alg":"ES256","kid":"p256"}`, text(claims))
		}},
		// JWT-011
		{"EXP", payload(object{"EXP": now.Add(time.Hour).Unix()})}, {"only EXP", payload(object{"exp": nil, "EXP": now.Add(time.Hour).Unix()})},
		{"Iss", payload(object{"Iss": "https://other.test"})}, {"ſub", payload(object{"ſub": "x"})},
		{"crit", header(object{"crit": []string{"exp"}})}, {"b64", header(object{"b64": false})}, {"zip", header(object{"zip": "DEF"})},
		// JWT-013
		{"no exp", payload(object{"exp": nil})}, {"exp is text", payload(object{"exp": "4102444800"})}, {"exp is null", payload(object{"exp": nil, "Exp": nil})},
		{"exp is negative", payload(object{"exp": -1})}, {"exp is huge", payload(object{"exp": 1e300})},
		{"expired", payload(object{"exp": now.Unix()})}, {"from the future", payload(object{"iat": now.Add(61 * time.Second).Unix()})},
		{"not yet", payload(object{"nbf": now.Add(61 * time.Second).Unix()})}, {"iat is a list", payload(object{"iat": []int{1}})},
		// JWT-015
		{"two audiences", payload(object{"aud": []string{ours, "https://other.test"}})}, {"no audience", payload(object{"aud": nil})},
		{"an empty list of audiences", payload(object{"aud": []string{}})}, {"an audience that is no text", payload(object{"aud": []int{1}})},
		// JWT-019
		{"encrypted", func(key) string {
			return b64([]byte(`{"alg":"RSA-OAEP","enc":"A256GCM","zip":"DEF"}`)) + ".AA.AA.AA.AA"
		}},
		{"no iss", payload(object{"iss": nil})}, {"no sub", payload(object{"sub": nil})}, {"empty sub", payload(object{"sub": ""})},
		{"sub is a list", payload(object{"sub": []string{"a"}})}, {"sub of 2 KiB", payload(object{"sub": strings.Repeat("s", 2<<10)})},
		{"our access token's type", header(object{"typ": "at+jwt"})}, {"a logout token's type", header(object{"typ": "logout+jwt"})},
		{"not a token", func(key) string { return "hello" }}, {"nothing", func(key) string { return "" }},
		{"padding", func(k key) string { return k.sign(t, claims) + "=" }}, {"a line end", func(k key) string { return k.sign(t, claims) + "\n" }},
		{"too long", payload(object{"filler": strings.Repeat("x", 16<<10)})},
	}
}

// refusedAlike fails unless the error is a verdict, with nothing of the token in it.
func refusedAlike(t *testing.T, name string, err error) {
	t.Helper()
	if !errors.Is(err, core.Unauthenticated) || errors.Is(err, core.Unavailable) {
		t.Errorf("%s: %v, want a refusal", name, err)
	} else if err.Error() != "the token is not valid" {
		t.Errorf("%s: the wording tells it apart: %v", name, err)
	}
}

// JWT-001, JWT-003, JWT-005, JWT-007, JWT-009, JWT-011, JWT-013, JWT-015, JWT-019: of tokens of trusted issuers.
func TestJudgeRefuses(t *testing.T) {
	k := keys().p256
	iss := trust.Issuer{Name: "gpu", Issuer: clusterIssuer, Enabled: true, Keys: published(t, k, keys().p384)}
	judge := func(raw string) error {
		_, err := trust.Judge(t.Context(), nil, iss, raw, now)
		return err
	}
	good := workload()
	if err := judge(k.sign(t, good)); err != nil { // the positive twin of all
		t.Fatal(err)
	}
	for _, m := range forgeries(t, good) {
		refusedAlike(t, m.name, judge(m.raw(k)))
	}
	for name, claims := range map[string]object{
		"another issuer":            {"iss": "https://other.test"},
		"the issuer with a slash":   {"iss": clusterIssuer + "/"},
		"the issuer in capitals":    {"iss": strings.ToUpper(clusterIssuer)},
		"a life of 25 hours":        {"exp": now.Add(25 * time.Hour).Unix()},
		"25 hours, and no iat":      {"exp": now.Add(25 * time.Hour).Unix(), "iat": nil, "nbf": nil},
		"a life begun two days ago": {"iat": now.Add(-48 * time.Hour).Unix(), "nbf": nil},
	} {
		refusedAlike(t, name, judge(k.sign(t, with(good, claims))))
	}
	disabled := iss
	disabled.Enabled = false
	_, err := trust.Judge(t.Context(), nil, disabled, k.sign(t, good), now)
	refusedAlike(t, "a disabled issuer", err)
}

// What is unusual and good is taken: the bounds are where they are said to be.
func TestJudgeTakes(t *testing.T) {
	m := keys()
	iss := trust.Issuer{Name: "gpu", Issuer: clusterIssuer, Enabled: true, Keys: published(t, m.p256, m.p384, m.rsa, m.ed)}
	good := workload()
	for name, raw := range map[string]string{
		"P-384":                   m.p384.sign(t, good),
		"RSA":                     m.rsa.sign(t, good),
		"Ed25519":                 m.ed.sign(t, good),
		"RSA-PSS":                 m.rsa.raw(t, "PS256", `{"alg":"PS256","kid":"rsa"}`, text(good)),
		"no typ, as Kubernetes":   m.p256.sign(t, good, object{"typ": nil}),
		"typ in small letters":    m.p256.sign(t, good, object{"typ": "jwt"}),
		"no kid":                  m.ed.sign(t, good, object{"kid": nil}),
		"a single audience":       m.p256.sign(t, with(good, object{"aud": ours})),
		"no jti":                  m.p256.sign(t, with(good, object{"jti": nil})),
		"no iat":                  m.p256.sign(t, with(good, object{"iat": nil, "nbf": nil})),
		"times with fractions":    m.p256.sign(t, with(good, object{"exp": float64(now.Unix()) + 1.5})),
		"a second of life left":   m.p256.sign(t, with(good, object{"exp": now.Unix() + 1})),
		"a clock 60 s ahead":      m.p256.sign(t, with(good, object{"iat": now.Unix() + 60, "nbf": now.Unix() + 60})),
		"a life of 24 hours":      m.p256.sign(t, with(good, object{"iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix()})),
		"a jwk that is passed by": m.p256.sign(t, good, object{"jwk": m.other.public}),
	} {
		claims, err := trust.Judge(t.Context(), nil, iss, raw, now)
		if err != nil {
			t.Errorf("%s: %v, %s", name, err, reason(err))
		} else if claims.Subject != "system:serviceaccount:ci:builder" || claims.Issuer != clusterIssuer || claims.Audience != ours {
			t.Errorf("%s: read as %+v", name, claims)
		}
	}
}

func reason(err error) string {
	if r, ok := errors.AsType[*trust.Refused](err); ok {
		return r.Reason
	}
	return ""
}

// answers is a Verifier that says always the same.
type answers struct{ err error }

func (a answers) Verify(context.Context, trust.Issuer, string, string, string, time.Time) error {
	return a.err
}
func (a answers) Locate(context.Context, string, string, string) (string, error) { return "", a.err }

// A failure to reach an issuer is no verdict about its token, and nobody's keys are asked for a token that is bad anyway.
func TestJudgeAsksTheIssuer(t *testing.T) {
	k := keys().p256
	iss := trust.Issuer{Name: "ci", Issuer: clusterIssuer, Enabled: true, JWKSURI: "https://ci.test/jwks"}
	raw := k.sign(t, workload())
	if _, err := trust.Judge(t.Context(), answers{nil}, iss, raw, now); err != nil {
		t.Fatal(err)
	}
	for _, failure := range []error{core.Unavailable, core.BadField("url", "is wrong"), core.TooLarge} {
		_, err := trust.Judge(t.Context(), answers{failure}, iss, raw, now)
		if !errors.Is(err, core.Unavailable) || errors.Is(err, core.Unauthenticated) {
			t.Errorf("%v: %v, want core.Unavailable", failure, err)
		}
	}
	if _, err := trust.Judge(t.Context(), nil, iss, raw, now); !errors.Is(err, core.Unavailable) {
		t.Errorf("nobody to ask: %v", err)
	}
	_, err := trust.Judge(t.Context(), answers{core.Unavailable}, iss, k.sign(t, with(workload(), object{"exp": now.Unix()})), now)
	refusedAlike(t, "expired", err)
}

// proof is the claims of a client's own assertion.
func proof() object {
	return object{"iss": "robot", "sub": "robot", "aud": ours, "jti": "once-1", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
}

// OAU-029: private_key_jwt. JWT-001 to JWT-019 again, for what a client signs.
func TestJudgeProof(t *testing.T) {
	k := keys().p256
	known := published(t, k, keys().p384)
	judge := func(raw string) error {
		_, err := trust.JudgeProof(known, "robot", []string{ours, ours + "/token"}, raw, now)
		return err
	}
	for name, claims := range map[string]object{
		"as it is": {}, "for the endpoint": {"aud": ours + "/token"}, "a list of one": {"aud": []string{ours}}, "ten minutes": {"exp": now.Add(10 * time.Minute).Unix()},
		"no iat": {"iat": nil},
	} {
		if err := judge(k.sign(t, with(proof(), claims))); err != nil {
			t.Errorf("%s: %v, %s", name, err, reason(err))
		}
	}
	if err := judge(k.sign(t, proof(), object{"typ": "client-authentication+jwt"})); err != nil {
		t.Error(err)
	}
	for _, m := range forgeries(t, proof()) {
		refusedAlike(t, m.name, judge(m.raw(k)))
	}
	for name, claims := range map[string]object{
		"another iss": {"iss": "other"}, "another sub": {"sub": "other"}, "another client": {"iss": "other", "sub": "other"},
		"another tenant": {"aud": "https://fleetpass.test/t/globex"}, "our host alone": {"aud": "https://fleetpass.test"}, "a slash more": {"aud": ours + "/"},
		"both of ours": {"aud": []string{ours, ours + "/token"}}, "no jti": {"jti": nil}, "empty jti": {"jti": ""},
		"over ten minutes": {"exp": now.Add(10*time.Minute + time.Second).Unix()},
	} {
		refusedAlike(t, name, judge(k.sign(t, with(proof(), claims))))
	}
	if _, err := trust.JudgeProof(nil, "robot", []string{ours}, k.sign(t, proof()), now); err == nil {
		t.Error("a client without keys has proved itself")
	}
	if _, err := trust.JudgeProof(known, "", []string{ours}, k.sign(t, with(proof(), object{"iss": "", "sub": ""})), now); err == nil {
		t.Error("a client without a name has proved itself")
	}
}
