// Package pki is a certificate authority of this machine's own, for the local system and its demo clusters. Its key stays
// in a folder that only this user can read, and no browser or system is asked to trust it.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// CA issues certificates. Make or read one with Open.
type CA struct {
	PEM  []byte // the certificate, for those who are to trust it
	cert *x509.Certificate
	key  crypto.Signer
}

// Open reads the authority in dir, or makes one there. An empty dir makes one that is kept nowhere.
func Open(dir, name string) (*CA, error) {
	certFile, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	if dir != "" {
		if pair, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil {
			return &CA{PEM: encode("CERTIFICATE", pair.Leaf.Raw), cert: pair.Leaf, key: pair.PrivateKey.(crypto.Signer)}, nil
		} else if _, missing := os.Stat(keyFile); missing == nil {
			return nil, fmt.Errorf("the certificate authority in %s does not read: %w", dir, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(name)
	t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	ca := &CA{PEM: encode("CERTIFICATE", der), cert: cert, key: key}
	if dir == "" {
		return ca, nil
	}
	private, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(certFile, ca.PEM, 0o644); err != nil {
		return nil, err
	}
	return ca, os.WriteFile(keyFile, private, 0o600) // last: its presence says that both are there
}

// Leaf is a certificate with its key, in PEM.
type Leaf struct{ Cert, Key []byte }

// Pair is the leaf as crypto/tls takes it.
func (l Leaf) Pair() (tls.Certificate, error) { return tls.X509KeyPair(l.Cert, l.Key) }

// Server issues a certificate for a server at those host names and addresses.
func (c *CA) Server(name string, hosts ...string) (Leaf, error) {
	t := template(name)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return c.issue(t)
}

// Client issues a certificate that names a client, and the organizations (in Kubernetes: groups) it belongs to.
func (c *CA) Client(name string, organizations ...string) (Leaf, error) {
	t := template(name)
	t.Subject.Organization = organizations
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return c.issue(t)
}

func (c *CA) issue(t *x509.Certificate) (Leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Leaf{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, key.Public(), c.key)
	if err != nil {
		return Leaf{}, err
	}
	private, err := encodeKey(key)
	return Leaf{Cert: encode("CERTIFICATE", der), Key: private}, err
}

// template is valid from an hour ago, so that a clock that is a little behind does not matter, for ten years.
func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)) // never fails: see crypto/rand.Read
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encode("PRIVATE KEY", der), nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
