package gcpkms

import (
	"bytes"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	one = "projects/p/locations/l/keyRings/r/cryptoKeys/one"
	two = "projects/p/locations/l/keyRings/r/cryptoKeys/two"
)

func encrypt(t *testing.T, s *Server, name, plain, bound string) *kmspb.EncryptResponse {
	t.Helper()
	out, err := s.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: name, Plaintext: []byte(plain), AdditionalAuthenticatedData: []byte(bound)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEncryptDecrypt(t *testing.T) {
	s := New(one, two)
	first := encrypt(t, s, one, "Hello world", "bound")
	if first.Name != one+"/cryptoKeyVersions/1" || first.VerifiedPlaintextCrc32C || first.VerifiedAdditionalAuthenticatedDataCrc32C {
		t.Errorf("%v: verified what did not come", first)
	}
	s.Rotate(one)
	if second := encrypt(t, s, one, "Hello world", "bound"); second.Name != one+"/cryptoKeyVersions/2" {
		t.Errorf("after the rotation: %s", second.Name)
	}
	if old := encrypt(t, s, one+"/cryptoKeyVersions/1", "Hello world", "bound"); old.Name != one+"/cryptoKeyVersions/1" {
		t.Errorf("with a version: %s", old.Name)
	}
	damaged := bytes.Clone(first.Ciphertext)
	damaged[len(damaged)-1] ^= 1
	for name, tt := range map[string]struct {
		in   *kmspb.DecryptRequest
		want codes.Code
		says string
	}{
		"as it was":          {&kmspb.DecryptRequest{Name: one, Ciphertext: first.Ciphertext, AdditionalAuthenticatedData: []byte("bound")}, codes.OK, ""},
		"with its checksum":  {&kmspb.DecryptRequest{Name: one, Ciphertext: first.Ciphertext, CiphertextCrc32C: first.CiphertextCrc32C, AdditionalAuthenticatedData: []byte("bound")}, codes.OK, ""},
		"other data":         {&kmspb.DecryptRequest{Name: one, Ciphertext: first.Ciphertext, AdditionalAuthenticatedData: []byte("other")}, codes.InvalidArgument, "Decryption failed"},
		"damaged":            {&kmspb.DecryptRequest{Name: one, Ciphertext: damaged, AdditionalAuthenticatedData: []byte("bound")}, codes.InvalidArgument, "Decryption failed"},
		"damaged on the way": {&kmspb.DecryptRequest{Name: one, Ciphertext: damaged, CiphertextCrc32C: first.CiphertextCrc32C, AdditionalAuthenticatedData: []byte("bound")}, codes.InvalidArgument, "ciphertext_crc32c"},
		"another key":        {&kmspb.DecryptRequest{Name: two, Ciphertext: first.Ciphertext, AdditionalAuthenticatedData: []byte("bound")}, codes.InvalidArgument, "Decryption failed"},
		"no such key":        {&kmspb.DecryptRequest{Name: one + "x", Ciphertext: first.Ciphertext}, codes.NotFound, "not found"},
	} {
		out, err := s.Decrypt(t.Context(), tt.in)
		if status.Code(err) != tt.want || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
		if err == nil && (string(out.Plaintext) != "Hello world" || out.UsedPrimary) {
			t.Errorf("%s: %v", name, out)
		}
	}
	for field, in := range map[string]*kmspb.EncryptRequest{
		"plaintext_crc32c":                     {Name: one, Plaintext: []byte("a"), PlaintextCrc32C: wrapperspb.Int64(1)},
		"additional_authenticated_data_crc32c": {Name: one, Plaintext: []byte("a"), AdditionalAuthenticatedDataCrc32C: wrapperspb.Int64(1)},
	} {
		if _, err := s.Encrypt(t.Context(), in); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	s.Disable(one, true)
	if _, err := s.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: one, Ciphertext: first.Ciphertext, AdditionalAuthenticatedData: []byte("bound")}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("disabled: %v", err)
	}
}

// Nothing that the service did not make opens, whatever it is.
func FuzzDecrypt(f *testing.F) {
	s := New(one)
	for _, seed := range []string{"", "\x01", "\x01\x00\x00\x00\x01", "\x01\x00\x00\x00\x02aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "\x01\xff\xff\xff\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := s.Decrypt(t.Context(), &kmspb.DecryptRequest{Name: one, Ciphertext: b}); err == nil {
			t.Errorf("%x opened: %v", b, out)
		}
	})
}
