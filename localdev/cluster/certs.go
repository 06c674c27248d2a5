package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fleetpass/fleetpass/localdev/pki"
)

// identity is a cluster's own key material: nothing of it leaves the cluster's folder.
type identity struct {
	ca    []byte // PEM
	admin tls.Certificate
}

// writeIdentity makes a cluster's certificates in dir, or reads those that are there.
func writeIdentity(dir string) (identity, error) {
	if _, err := os.Stat(filepath.Join(dir, "admin.key")); err == nil { // written last
		return readIdentity(dir)
	}
	ca, err := pki.Open(dir, "local cluster CA")
	if err != nil {
		return identity{}, err
	}
	serving, err := ca.Server("kube-apiserver", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1", "::1")
	if err != nil {
		return identity{}, err
	}
	admin, err := ca.Client("admin", "system:masters")
	if err != nil {
		return identity{}, err
	}
	accounts, err := serviceAccountKey()
	if err != nil {
		return identity{}, err
	}
	for _, f := range []struct {
		name string
		pem  []byte
	}{{"sa.key", accounts}, {"serving.crt", serving.Cert}, {"serving.key", serving.Key}, {"admin.crt", admin.Cert}, {"admin.key", admin.Key}} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.pem, 0o600); err != nil {
			return identity{}, err
		}
	}
	return readIdentity(dir)
}

func readIdentity(dir string) (identity, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return identity{}, err
	}
	admin, err := tls.LoadX509KeyPair(filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key"))
	if err != nil {
		return identity{}, fmt.Errorf("the cluster's administrator certificate: %w", err)
	}
	return identity{ca, admin}, nil
}

// serviceAccountKey signs the tokens of service accounts. It is in the older form, SEC 1: the API server reads no PKCS #8
// there.
func serviceAccountKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}
