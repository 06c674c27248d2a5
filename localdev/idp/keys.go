package idp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// key is what signs: SAML with the RSA key and its certificate, ID tokens with either.
type key struct {
	rsa         *rsa.PrivateKey
	certificate []byte // DER, self-signed
	ec          *ecdsa.PrivateKey
}

// keys are those of a provider. current signs; all but other are published.
type keys struct {
	current        *key
	next, previous *key // during a rollover; else nil
	expired        *key // never signs but as a fault; its certificate is out of date
	other          *key // signs as a fault, and is not published
}

// published are the keys that may have signed what is good, the one that signs now first.
func (k keys) published() []*key {
	all := []*key{k.current}
	for _, key := range []*key{k.next, k.previous} {
		if key != nil {
			all = append(all, key)
		}
	}
	return all
}

// certificates are those that the metadata lists, in DER. The one that has expired is among them, as it often is where nobody
// tidies up.
func (k keys) certificates() (all [][]byte) {
	for _, key := range k.published() {
		all = append(all, key.certificate)
	}
	return append(all, k.expired.certificate)
}

// The RSA keys that sign only faults are made once a process, for making one costs more than everything else here.
var expiredRSA, otherRSA = sync.OnceValues(newRSA), sync.OnceValues(newRSA)

func newRSA() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }

// certificateLife is how long a certificate is good, and day how long the expired one has not been.
const (
	certificateLife = 2 * 365 * day
	day             = 24 * time.Hour
)

func newKeys(name string, now time.Time) (k keys, err error) {
	if k.current, err = newKey(newRSA, name, now.Add(-time.Hour)); err != nil {
		return keys{}, err
	}
	if k.expired, err = newKey(expiredRSA, name, now.Add(-certificateLife-day)); err != nil {
		return keys{}, err
	}
	k.other, err = newKey(otherRSA, name, now.Add(-time.Hour))
	return k, err
}

func newKey(private func() (*rsa.PrivateKey, error), name string, from time.Time) (*key, error) {
	r, err := private()
	if err != nil {
		return nil, err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Fleetpass local identity provider"}},
		NotBefore: from, NotAfter: from.Add(certificateLife), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, r.Public(), r)
	return &key{rsa: r, certificate: der, ec: ec}, err
}

// kid names a public key: by a digest of it, so that a new key has a new name.
func kid(public any) string {
	der, _ := x509.MarshalPKIXPublicKey(public) // an RSA or P-256 key of ours always does
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// RotateKeys replaces what signs, at once and without notice: as after a key was lost. What was signed before does not verify any
// more for who reads the metadata or the JWKS again.
func (p *Provider) RotateKeys() error {
	k, err := newKey(newRSA, p.options.Base, p.now().Add(-time.Hour))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys.current, p.keys.next, p.keys.previous = k, nil, nil
	return nil
}

// PublishNext begins a rollover: a second key is published, and does not sign yet. The one before the current is dropped.
func (p *Provider) PublishNext() error {
	k, err := newKey(newRSA, p.options.Base, p.now().Add(-time.Hour))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys.next, p.keys.previous = k, nil
	return nil
}

// UseNext goes on with it: the key that PublishNext published signs, and the one before stays published. An error is
// core.Conflict: nothing is published to go on with.
func (p *Provider) UseNext() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys.next == nil {
		return fmt.Errorf("no next key is published: %w", core.Conflict)
	}
	p.keys.current, p.keys.next, p.keys.previous = p.keys.next, nil, p.keys.current
	return nil
}

// Certificates are the signing certificates that the SAML metadata lists, in DER. The one that signs is the first.
func (p *Provider) Certificates() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys.certificates()
}
