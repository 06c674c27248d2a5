package awskms

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const (
	id    = "1234abcd-12ab-34cd-56ef-1234567890ab"
	arn   = "arn:aws:kms:us-west-2:111122223333:key/" + id
	other = "arn:aws:kms:us-west-2:111122223333:key/0987dcba-09fe-87dc-65ba-ab0987654321"
)

// call makes one request, spelt as in the service's documentation (AWS KMS API Reference), and returns the answer.
func call(t *testing.T, s *Server, operation, body string) (status int, out map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "https://kms.us-west-2.amazonaws.com/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Header().Get("Content-Type") != "application/x-amz-json-1.1" {
		t.Fatalf("%s: %v: %q %v", operation, err, w.Body, w.Header())
	}
	return w.Code, out
}

func TestEncryptDecrypt(t *testing.T) {
	s := New(arn, other)
	const context = `"EncryptionContext":{"tenant":"acme","purpose":"signing"}`
	encrypt := func(key, more string) string {
		t.Helper()
		status, out := call(t, s, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"SGVsbG8gd29ybGQ="`+more+`}`)
		if status != 200 || out["EncryptionAlgorithm"] != "SYMMETRIC_DEFAULT" || out["KeyId"] != arn {
			t.Fatalf("%d %v", status, out)
		}
		return out["CiphertextBlob"].(string)
	}
	bound, free := encrypt(arn, ","+context), encrypt(id, "")
	damaged, err := base64.StdEncoding.DecodeString(bound)
	if err != nil {
		t.Fatal(err)
	}
	damaged[len(damaged)-1] ^= 1
	for _, tt := range []struct{ name, body, want string }{
		{"as it was", `{"KeyId":"` + arn + `","CiphertextBlob":"` + bound + `",` + context + `}`, ""},
		{"the context in another order", `{"KeyId":"` + id + `","CiphertextBlob":"` + bound + `","EncryptionContext":{"purpose":"signing","tenant":"acme"}}`, ""},
		{"no key named", `{"CiphertextBlob":"` + bound + `",` + context + `}`, ""},
		{"without a context", `{"KeyId":"` + arn + `","CiphertextBlob":"` + free + `"}`, ""},
		{"an empty context is none", `{"KeyId":"` + arn + `","CiphertextBlob":"` + free + `","EncryptionContext":{}}`, ""},
		{"another context", `{"KeyId":"` + arn + `","CiphertextBlob":"` + bound + `","EncryptionContext":{"purpose":"mac","tenant":"acme"}}`, "InvalidCiphertextException"},
		{"the context left out", `{"KeyId":"` + arn + `","CiphertextBlob":"` + bound + `"}`, "InvalidCiphertextException"},
		{"another key", `{"KeyId":"` + other + `","CiphertextBlob":"` + bound + `",` + context + `}`, "IncorrectKeyException"},
		{"a key that is not there", `{"KeyId":"` + arn + `x","CiphertextBlob":"` + bound + `",` + context + `}`, "NotFoundException"},
		{"damaged", `{"KeyId":"` + arn + `","CiphertextBlob":"` + base64.StdEncoding.EncodeToString(damaged) + `",` + context + `}`, "InvalidCiphertextException"},
		{"nothing", `{"KeyId":"` + arn + `","CiphertextBlob":""}`, "ValidationException"},
		{"too long", `{"KeyId":"` + arn + `","CiphertextBlob":"` + strings.Repeat("A", 8196) + `"}`, "ValidationException"},
		{"a member that is not modelled", `{"KeyId":"` + arn + `","CiphertextBlob":"` + free + `","DryRun":true}`, "SerializationException"},
	} {
		switch status, out := call(t, s, "Decrypt", tt.body); {
		case tt.want == "" && (status != 200 || out["Plaintext"] != "SGVsbG8gd29ybGQ=" || out["KeyId"] != arn):
			t.Errorf("%s: %d %v", tt.name, status, out)
		case tt.want != "" && (status != 400 || out["__type"] != tt.want):
			t.Errorf("%s: %d %v, want %s", tt.name, status, out, tt.want)
		}
	}
	if status, out := call(t, s, "Encrypt", `{"KeyId":"`+arn+`","Plaintext":"`+strings.Repeat("A", 5464)+`"}`); status != 400 || out["__type"] != "ValidationException" {
		t.Errorf("a plaintext of 4,098 bytes: %d %v", status, out)
	}
	if status, out := call(t, s, "GenerateDataKey", `{}`); status != 400 || out["__type"] != "UnsupportedOperationException" {
		t.Errorf("%d %v", status, out)
	}
	for state, want := range map[State]string{Disabled: "DisabledException", PendingDeletion: "KMSInvalidStateException"} {
		s.Set(arn, state)
		if status, out := call(t, s, "Decrypt", `{"CiphertextBlob":"`+free+`"}`); status != 400 || out["__type"] != want {
			t.Errorf("%s: %d %v", state, status, out)
		}
	}
	s.Set(arn, Enabled)
	if status, _ := call(t, s, "Decrypt", `{"CiphertextBlob":"`+free+`"}`); status != 200 {
		t.Error("enabled again, it does not decrypt")
	}
}

// Nothing that the service did not make opens, whatever it is.
func FuzzDecrypt(f *testing.F) {
	s := New(arn)
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Add(make([]byte, 64))
	k := s.keys[arn]
	f.Add(append([]byte{1}, k.mark[:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := s.decrypt(decryptInput{CiphertextBlob: b}); err == nil {
			t.Errorf("%x opened: %v", b, out)
		}
	})
}
