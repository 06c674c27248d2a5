package trust_test

import (
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core/trust"
)

// FuzzJudge: whatever is presented, nothing that was not signed is taken, and nothing panics.
func FuzzJudge(f *testing.F) {
	k := keys().ed
	parsed := published(f, k)
	iss := trust.Issuer{Name: "gpu", Issuer: clusterIssuer, Enabled: true, Keys: parsed}
	good, own := k.sign(f, workload()), k.sign(f, proof())
	for _, seed := range []string{good, own, "", "..", "a.b.c", good[:len(good)-1], `eyJhbGciOiJub25lIn0.e30.`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := trust.Judge(t.Context(), nil, iss, raw, now); err == nil && raw != good {
			t.Errorf("taken: %q", raw)
		}
		if _, err := trust.JudgeProof(parsed, "robot", []string{ours}, raw, now); err == nil && raw != own {
			t.Errorf("taken as a proof: %q", raw)
		}
		if issuer, subject, err := trust.Peek(raw); err != nil && issuer+subject != "" {
			t.Errorf("%q, %q with %v", issuer, subject, err)
		}
	})
}

// FuzzParseKeys: what is taken is taken again as it is stored, and holds nothing that is secret.
func FuzzParseKeys(f *testing.F) {
	m := keys()
	f.Add(set(m.p256.public, m.p384.public, m.rsa.public, m.ed.public))
	f.Add(set(with(m.p256.public, object{"d": "AA"})))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := trust.ParseKeys("jwks", body, 5)
		if err != nil {
			return
		}
		again, err := json.Marshal(map[string]any{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		if same, err := trust.ParseKeys("jwks", again, 5); err != nil || len(same) != len(keys) {
			t.Errorf("%s became %s: %v", body, again, err)
		}
	})
}

// FuzzCondition: a condition that is taken never holds for a token that lacks its claim, whatever its claim is called.
func FuzzCondition(f *testing.F) {
	k := keys().ed
	iss := trust.Issuer{Issuer: clusterIssuer, Enabled: true, Keys: published(f, k)}
	said, err := trust.Judge(f.Context(), nil, iss, k.sign(f, object{"iss": clusterIssuer, "sub": "s", "aud": ours, "exp": now.Unix() + 60, "o": object{"m": []any{"v", 1, nil, object{}}}}), now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("sub", "s")
	f.Add("/o/m", "v")
	f.Add("/o/m", "v*")
	f.Add("/~", "*")
	f.Add("/o/m/0", "v")
	f.Fuzz(func(t *testing.T, claim, value string) {
		list, err := trust.ParseTrusts("trusts", []trust.Trust{{Issuer: "gpu", Conditions: []trust.Condition{when(claim, value)}}})
		if err != nil {
			return
		}
		if list[0].Admits(said, ours) == nil && claim != "sub" && claim != "/sub" && claim != "/o/m" {
			t.Errorf("%q = %q holds", claim, value)
		}
	})
}
