package sso

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

const (
	keyBits = 2048
	keyLife = 10 // years: providers pin the certificate and nobody verifies a chain, so only its end could do harm
)

// makeKeys gives a connection the key of ours that its kind needs, and takes the one that it needs no more.
func (s *Service) makeKeys(ctx context.Context, t core.TenantID, c *Connection) error {
	switch {
	case c.SAML != nil && len(c.SAML.Keys) == 0:
		k, err := s.newKey(ctx, t, *c)
		if err != nil {
			return err
		}
		c.SAML.Keys = []SPKey{k}
	case c.OIDC != nil && c.OIDC.Auth != AuthPrivateKey:
		c.OIDC.Key, c.OIDC.Next = nil, nil
	case c.OIDC != nil && c.OIDC.Key == nil:
		k, err := s.newKey(ctx, t, *c)
		if err != nil {
			return err
		}
		c.OIDC.Key, c.OIDC.Secret = &k, nil
	}
	return nil
}

// newKey makes a key of ours with a certificate that is its own authority.
func (s *Service) newKey(ctx context.Context, t core.TenantID, c Connection) (SPKey, error) {
	now := s.Now()
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return SPKey{}, fmt.Errorf("sso: a key of ours: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return SPKey{}, fmt.Errorf("sso: a key of ours: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), // RFC 5280 §4.1.2.2: positive
		Subject:      pkix.Name{CommonName: string(c.Alias)},
		NotBefore:    now.Add(-time.Hour), // for the provider whose clock is behind
		NotAfter:     now.AddDate(keyLife, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return SPKey{}, fmt.Errorf("sso: a certificate of ours: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return SPKey{}, fmt.Errorf("sso: a key of ours: %w", err)
	}
	k := SPKey{ID: core.NewID(), Certificate: certificate, CreatedAt: now}
	k.Sealed, err = s.Ring.Seal(ctx, t, "connection/"+c.ID+"/key/"+k.ID, der)
	return k, err
}

// sealSecret puts a client secret into a connection, sealed; "" leaves the one that is there.
func (s *Service) sealSecret(ctx context.Context, t core.TenantID, c *Connection, secret string) error {
	if secret == "" {
		return nil
	}
	sealed, err := s.Ring.Seal(ctx, t, "connection/"+c.ID+"/secret", []byte(secret))
	if err != nil {
		return err
	}
	switch {
	case c.OIDC != nil:
		c.OIDC.Secret = sealed
	case c.OpenShift != nil:
		c.OpenShift.Secret = sealed
	}
	return nil
}
