package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/fleetpass/fleetpass/localdev/idp"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// SignInAt signs in as a person of an identity provider does, from the address that a client opened: at the login page they
// choose their organization, type e-mail and password into its page, and are brought back. fault has the provider misbehave.
func (b *Browser) SignInAt(ctx context.Context, address string, who stack.Federated, fault idp.Fault) (string, error) {
	if _, err := b.Visit(ctx, address); err != nil {
		return "", err
	}
	if _, err := b.Follow(ctx, "idp="+string(who.Alias)); err != nil {
		return "", err
	}
	return b.AtProvider(ctx, who.Person, fault)
}

// AtProvider fills in the identity provider's page, and goes back with what it answers.
func (b *Browser) AtProvider(ctx context.Context, who stack.Person, fault idp.Fault) (string, error) {
	body, err := b.SubmitForm(ctx, "email", map[string]string{"email": who.Email, "password": who.Password, "misbehave": string(fault)})
	if err != nil || !strings.Contains(body, "SAMLResponse") {
		return body, err
	}
	return b.SubmitForm(ctx, "SAMLResponse", nil) // the page that passes the answer on
}

// federated is a Person's browser that signs in at an identity provider.
func federated(who stack.Federated) func(ctx context.Context, address string) error {
	return func(ctx context.Context, address string) error {
		b := NewBrowser(nil)
		body, err := b.SignInAt(ctx, address, who, idp.Behave)
		if err != nil {
			return err
		}
		if at, status := b.Page(); at.Hostname() != "127.0.0.1" || status != http.StatusOK {
			return fmt.Errorf("the browser ended at %s with status %d: %.300s", at.Host+at.Path, status, body)
		}
		return nil
	}
}
