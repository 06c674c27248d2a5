package token

import (
	"testing"
	"unicode/utf8"
)

// FuzzReadJSON: a request in JSON comes to parameters that are known, or to an error in words that can be sent.
func FuzzReadJSON(f *testing.F) {
	f.Add([]byte(`{"grantType":"password","username":"a","password":"b"}`))
	f.Add([]byte(`{"clientId":"x","clientID":"y"}`))
	f.Add([]byte(`{"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxé":1}`))
	f.Add([]byte(`{"grantType":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		given, err := readJSON(data)
		if err != nil && !utf8.ValidString(err.Error()) {
			t.Fatalf("%q", err)
		}
		for name := range given {
			known := false
			for _, p := range fieldsJSON {
				known = known || p == name
			}
			if !known {
				t.Fatalf("%q is taken", name)
			}
		}
	})
}
