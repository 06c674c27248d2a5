package functions

import (
	"fmt"
	"os"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
)

// FromEnvironment reads what every composition root takes from the environment:
//
//	FLEETPASS_BASE            required: https://HOST[:PORT], what every issuer begins with
//	FLEETPASS_BROWSER_BASE    where browsers reach the pages, if not there
//	FLEETPASS_ISSUER_CA_FILE  PEM file of the certificate authority of FLEETPASS_BASE, if it is a private one
//	FLEETPASS_WELCOME_SHA256  the SHA-256, in hexadecimal, of the token with which the first operator comes in
//
// An error is core.Invalid and names the variable.
func FromEnvironment(getenv func(string) string) (Config, error) {
	c := Config{Base: getenv("FLEETPASS_BASE"), BrowserBase: getenv("FLEETPASS_BROWSER_BASE")}
	if c.Base == "" {
		return c, core.BadField("FLEETPASS_BASE", "is not set; give the https://HOST that clusters and people reach Fleetpass at")
	}
	if file := getenv("FLEETPASS_ISSUER_CA_FILE"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return c, fmt.Errorf("FLEETPASS_ISSUER_CA_FILE: %v: %w", err, core.Invalid)
		}
		c.IssuerCA = string(pem)
	}
	if hash := getenv("FLEETPASS_WELCOME_SHA256"); hash != "" {
		var err error
		if c.WelcomeHash, err = org.ParseWelcomeHash("FLEETPASS_WELCOME_SHA256", hash); err != nil {
			return c, err
		}
	}
	return c, nil
}
