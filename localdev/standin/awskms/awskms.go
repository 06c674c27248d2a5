// Package awskms is a stand-in for AWS KMS, for the laptop and for tests. It is not KMS: its keys are in the memory of one
// process and are gone with it, and whoever reaches the port may use them.
//
// Modelled: Encrypt and Decrypt of symmetric keys in the service's AWS JSON 1.1 protocol, the encryption context (it is
// authenticated, and another one does not open), key ids and ARNs, disabled keys and keys that are to be deleted, the limits
// in bytes, and the names of the errors for all that.
//
// Not modelled: signatures, permissions, grants and aliases; rotation; asymmetric and HMAC keys; quotas; the log. A request
// with a member that is not modelled is refused, so that nobody relies on it unawares.
package awskms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/fleetpass/fleetpass/core"
)

// State is whether a key can be used.
type State string

// The states of a key.
const (
	Enabled         State = "Enabled"
	Disabled        State = "Disabled"
	PendingDeletion State = "PendingDeletion"
)

// Server is the service. It is an http.Handler.
type Server struct {
	mu   sync.Mutex
	keys map[string]*key // by ARN
}

type key struct {
	arn   string
	mark  [16]byte // says in a ciphertext which key made it
	aead  cipher.AEAD
	state State
}

// New makes a service with a key for each ARN.
func New(arns ...string) *Server {
	s := &Server{keys: map[string]*key{}}
	for _, arn := range arns {
		k := &key{arn: arn, state: Enabled}
		h := sha256.Sum256([]byte(arn))
		copy(k.mark[:], h[:])
		secret := make([]byte, 32)
		rand.Read(secret)
		block, err := aes.NewCipher(secret)
		if err == nil {
			k.aead, err = cipher.NewGCM(block)
		}
		if err != nil {
			panic(err) // the key has the right length
		}
		s.keys[arn] = k
	}
	return s
}

// Set puts a key into a state.
func (s *Server) Set(arn string, state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[arn].state = state
}

// failure is an error of the service.
type failure struct{ code, message string }

func (f *failure) Error() string { return f.code + ": " + f.message }

// The service says no more of a ciphertext that does not open.
var invalidCiphertext = &failure{code: "InvalidCiphertextException"}

// The service's limits (AWS KMS API Reference, Encrypt and Decrypt).
const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
	maxContext    = 8192 // bytes of the encryption context
)

const contentType = "application/x-amz-json-1.1"

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("x-amzn-RequestId", core.NewID())
	out, err := s.serve(r)
	if err != nil {
		var f *failure
		if !errors.As(err, &f) {
			f = &failure{"SerializationException", ""} // what cannot be read may hold a key
		}
		w.WriteHeader(http.StatusBadRequest)
		answer := map[string]string{"__type": f.code}
		if f.message != "" {
			answer["message"] = f.message
		}
		out = answer
	}
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // strings and bytes only
	}
	_, _ = w.Write(body)
}

type encryptInput struct {
	KeyID             string `json:"KeyId"`
	Plaintext         []byte
	EncryptionContext map[string]string
}

type decryptInput struct {
	KeyID             string `json:"KeyId"`
	CiphertextBlob    []byte
	EncryptionContext map[string]string
}

type output struct {
	KeyID               string `json:"KeyId"`
	CiphertextBlob      []byte `json:",omitempty"`
	Plaintext           []byte `json:",omitempty"`
	EncryptionAlgorithm string
}

const symmetric = "SYMMETRIC_DEFAULT"

func (s *Server) serve(r *http.Request) (any, error) {
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !ok || r.Method != http.MethodPost || r.Header.Get("Content-Type") != contentType {
		return nil, &failure{code: "UnknownOperationException"}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	switch operation {
	case "Encrypt":
		var in encryptInput
		if err := d.Decode(&in); err != nil {
			return nil, err
		}
		return s.encrypt(in)
	case "Decrypt":
		var in decryptInput
		if err := d.Decode(&in); err != nil {
			return nil, err
		}
		return s.decrypt(in)
	}
	return nil, &failure{"UnsupportedOperationException", operation + " is not modelled."}
}

// find returns a usable key by ARN or id.
func (s *Server) find(id string) (*key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[id]
	for arn, other := range s.keys {
		if k == nil && strings.HasSuffix(arn, ":key/"+id) {
			k = other
		}
	}
	switch {
	case k == nil:
		return nil, &failure{"NotFoundException", fmt.Sprintf("Key '%s' does not exist", id)}
	case k.state == Disabled:
		return nil, &failure{"DisabledException", k.arn + " is disabled."}
	case k.state != Enabled:
		return nil, &failure{"KMSInvalidStateException", k.arn + " is pending deletion."}
	}
	return k, nil
}

func tooLong(what string, n, limit int) error {
	return &failure{"ValidationException", fmt.Sprintf("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length between 1 and %d, has %d", what, limit, n)}
}

// bound is the context as it is authenticated: a map is marshalled in the order of its keys.
func (k *key) bound(context map[string]string) ([]byte, error) {
	b, err := json.Marshal(context)
	if err == nil && len(b) > maxContext {
		err = tooLong("encryptionContext", len(b), maxContext)
	}
	if len(context) == 0 {
		b = nil // none and an empty one are the same
	}
	return append(b, k.mark[:]...), err
}

func (s *Server) encrypt(in encryptInput) (any, error) {
	if n := len(in.Plaintext); n < 1 || n > maxPlaintext {
		return nil, tooLong("plaintext", n, maxPlaintext)
	}
	k, err := s.find(in.KeyID)
	if err != nil {
		return nil, err
	}
	bound, err := k.bound(in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	out := append([]byte{1}, k.mark[:]...)
	nonce := make([]byte, k.aead.NonceSize())
	rand.Read(nonce)
	out = append(out, nonce...)
	return output{KeyID: k.arn, CiphertextBlob: k.aead.Seal(out, nonce, in.Plaintext, bound), EncryptionAlgorithm: symmetric}, nil
}

func (s *Server) decrypt(in decryptInput) (any, error) {
	if n := len(in.CiphertextBlob); n < 1 || n > maxCiphertext {
		return nil, tooLong("ciphertextBlob", n, maxCiphertext)
	}
	k, err := s.made(in.CiphertextBlob)
	if err != nil {
		return nil, err
	}
	if in.KeyID != "" { // else the ciphertext chooses the key
		named, err := s.find(in.KeyID)
		if err != nil {
			return nil, err
		}
		if named != k {
			return nil, &failure{"IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."}
		}
	}
	if k, err = s.find(k.arn); err != nil {
		return nil, err
	}
	bound, err := k.bound(in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	rest := in.CiphertextBlob[1+len(k.mark):]
	plain, err := k.aead.Open(nil, rest[:k.aead.NonceSize()], rest[k.aead.NonceSize():], bound)
	if err != nil {
		return nil, invalidCiphertext
	}
	return output{KeyID: k.arn, Plaintext: plain, EncryptionAlgorithm: symmetric}, nil
}

// made returns the key that a ciphertext says made it.
func (s *Server) made(ciphertext []byte) (*key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if n := 1 + len(k.mark); ciphertext[0] == 1 && len(ciphertext) >= n+k.aead.NonceSize() && bytes.Equal(ciphertext[1:n], k.mark[:]) {
			return k, nil
		}
	}
	return nil, invalidCiphertext
}
