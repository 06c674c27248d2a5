// Package gcpkms is a stand-in for Google Cloud KMS, for the laptop and for tests. It is not Cloud KMS: its keys are in the
// memory of one process and are gone with it, and whoever reaches the port may use them.
//
// Modelled: Encrypt and Decrypt of symmetric keys over gRPC, additional authenticated data, the CRC32C fields in both
// directions, key versions and their rotation, disabled keys, the limits in bytes, and the codes of the errors for all that.
//
// Not modelled: permissions, import, asymmetric and MAC keys, destruction, protection levels, quotas, and every other method.
package gcpkms

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"net"
	"strconv"
	"strings"
	"sync"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Server is the service.
type Server struct {
	kmspb.UnimplementedKeyManagementServiceServer
	grpc *grpc.Server

	mu   sync.Mutex
	keys map[string]*key
}

type key struct {
	disabled bool
	versions []cipher.AEAD // the last is the primary one
}

// New makes a service with a crypto key of each name (projects/P/locations/L/keyRings/R/cryptoKeys/K), one version each.
func New(names ...string) *Server {
	s := &Server{grpc: grpc.NewServer(), keys: map[string]*key{}}
	kmspb.RegisterKeyManagementServiceServer(s.grpc, s)
	for _, name := range names {
		s.keys[name] = &key{versions: []cipher.AEAD{version()}}
	}
	return s
}

func version() cipher.AEAD {
	secret := make([]byte, 32)
	rand.Read(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err) // the key has the right length
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// Serve answers what comes in by a listener, until Close.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Close ends Serve and every connection.
func (s *Server) Close() { s.grpc.Stop() }

// Rotate gives a key a new primary version. What older ones encrypted still opens.
func (s *Server) Rotate(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].versions = append(s.keys[name].versions, version())
}

// Disable disables all versions of a key, or enables them again.
func (s *Server) Disable(name string, disabled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].disabled = disabled
}

const maxBytes = 64 << 10 // of a plaintext and of additional data, for keys in software

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, castagnoli)))
}

// verify checks a field of a request against the checksum that came with it, if one did.
func verify(field string, b []byte, want *wrapperspb.Int64Value) (verified bool, err error) {
	if want == nil {
		return false, nil
	}
	if want.Value != sum(b).Value {
		return false, status.Errorf(codes.InvalidArgument, "The checksum in field %s_crc32c did not match the data in field %s.", field, field)
	}
	return true, nil
}

func (s *Server) find(name string) (*key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	switch {
	case k == nil:
		return nil, status.Errorf(codes.NotFound, "CryptoKey %s not found.", name)
	case k.disabled:
		return nil, status.Errorf(codes.FailedPrecondition, "%s/cryptoKeyVersions/%d is not enabled, current state is: DISABLED.", name, len(k.versions))
	}
	return &key{versions: k.versions[:len(k.versions):len(k.versions)]}, nil
}

// Encrypt implements the service's method. A name may have a version behind it.
func (s *Server) Encrypt(_ context.Context, in *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	name, wanted, versioned := strings.Cut(in.Name, "/cryptoKeyVersions/")
	k, err := s.find(name)
	if err != nil {
		return nil, err
	}
	n := len(k.versions)
	if versioned {
		if n, err = strconv.Atoi(wanted); err != nil || n < 1 || n > len(k.versions) {
			return nil, status.Errorf(codes.NotFound, "CryptoKeyVersion %s not found.", in.Name)
		}
	}
	if len(in.Plaintext) > maxBytes || len(in.AdditionalAuthenticatedData) > maxBytes {
		return nil, status.Errorf(codes.InvalidArgument, "Plaintext and additional authenticated data have at most %d bytes.", maxBytes)
	}
	verifiedPlaintext, err := verify("plaintext", in.Plaintext, in.PlaintextCrc32C)
	if err != nil {
		return nil, err
	}
	verifiedBound, err := verify("additional_authenticated_data", in.AdditionalAuthenticatedData, in.AdditionalAuthenticatedDataCrc32C)
	if err != nil {
		return nil, err
	}
	aead := k.versions[n-1]
	head := binary.BigEndian.AppendUint32([]byte{1}, uint32(n))
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	out := aead.Seal(append(head, nonce...), nonce, in.Plaintext, append(head[:len(head):len(head)], in.AdditionalAuthenticatedData...))
	return &kmspb.EncryptResponse{
		Name: name + "/cryptoKeyVersions/" + strconv.Itoa(n), Ciphertext: out, CiphertextCrc32C: sum(out),
		VerifiedPlaintextCrc32C: verifiedPlaintext, VerifiedAdditionalAuthenticatedDataCrc32C: verifiedBound,
		ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE,
	}, nil
}

// Decrypt implements the service's method.
func (s *Server) Decrypt(_ context.Context, in *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	k, err := s.find(in.Name)
	if err != nil {
		return nil, err
	}
	if _, err := verify("ciphertext", in.Ciphertext, in.CiphertextCrc32C); err != nil {
		return nil, err
	}
	if _, err := verify("additional_authenticated_data", in.AdditionalAuthenticatedData, in.AdditionalAuthenticatedDataCrc32C); err != nil {
		return nil, err
	}
	plain, n, ok := k.open(in.Ciphertext, in.AdditionalAuthenticatedData)
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	}
	return &kmspb.DecryptResponse{
		Plaintext: plain, PlaintextCrc32C: sum(plain), UsedPrimary: n == len(k.versions), ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE,
	}, nil
}

// open decrypts with the version that the ciphertext names. What follows its version byte is the version's number, a nonce,
// and the sealed text.
func (k *key) open(ciphertext, bound []byte) (plain []byte, n int, ok bool) {
	const head = 5
	if len(ciphertext) < head || ciphertext[0] != 1 {
		return nil, 0, false
	}
	n = int(binary.BigEndian.Uint32(ciphertext[1:head]))
	if n < 1 || n > len(k.versions) {
		return nil, 0, false
	}
	aead := k.versions[n-1]
	rest := ciphertext[head:]
	if len(rest) < aead.NonceSize() {
		return nil, 0, false
	}
	plain, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], append(ciphertext[:head:head], bound...))
	return plain, n, err == nil
}
