package foreign

import (
	"context"
	"fmt"
	"net/url"
)

// SAML is a running SAML identity provider.
type SAML struct {
	*front
	EntityID    string
	MetadataURL string

	login string // the field of the login page that takes the login
	trust func(ctx context.Context, metadata []byte) error
}

// SAMLConfig says what a SAML provider is to do.
type SAMLConfig struct {
	People []Person

	// Encrypt encrypts assertions to the service provider's key. Default: NotEncrypted. SimpleSAMLphp only.
	Encrypt Encryption

	// SignResponse signs the response, beside the assertion that is always signed. SimpleSAMLphp only.
	SignResponse bool
}

// Unasked is where a browser goes to have the provider begin a sign-in at the service provider of that entity ID, which did
// not ask for it. SimpleSAMLphp only.
func (s *SAML) Unasked(entityID string) string {
	return s.Base + "/saml2/idp/SSOService.php?" + url.Values{"spentityid": {entityID}}.Encode()
}

// Encryption is how assertions are encrypted.
type Encryption string

// The encryptions. All that are any wrap the content key with RSA-OAEP.
const (
	NotEncrypted Encryption = ""
	AES128CBC    Encryption = "AES128_CBC" // all that SimpleSAMLphp 1.19 can do with a public key
	AES128GCM    Encryption = "AES128_GCM" // what SimpleSAMLphp 2 does
)

// Trust registers a service provider, by the metadata that it publishes.
func (s *SAML) Trust(ctx context.Context, metadata []byte) error { return s.trust(ctx, metadata) }

// SignIn types the person's login and password into the page that b is at, and sends on the form with the provider's answer.
func (s *SAML) SignIn(ctx context.Context, b Browser, p Person) (page string, err error) {
	if _, err := b.SubmitForm(ctx, s.login, map[string]string{s.login: p.Login, "password": p.Password}); err != nil {
		return "", fmt.Errorf("the login page: %w", err)
	}
	return b.SubmitForm(ctx, "SAMLResponse", nil)
}
