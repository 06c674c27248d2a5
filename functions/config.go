package functions

import (
	"fmt"
	"os"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/outbound"
)

// FromEnvironment reads what every composition root takes from the environment:
//
//	FLEETPASS_BASE            required: https://HOST[:PORT], what every issuer begins with
//	FLEETPASS_BROWSER_BASE    where browsers reach the pages, if not there
//	FLEETPASS_ISSUER_CA_FILE  PEM file of the certificate authority of FLEETPASS_BASE, if it is a private one
//	FLEETPASS_OUTBOUND_ALLOW  which private addresses and ports identity providers may be at; see outbound.ParsePolicy. Default: none
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
	var err error
	if c.Outbound, err = outbound.ParsePolicy("FLEETPASS_OUTBOUND_ALLOW", getenv("FLEETPASS_OUTBOUND_ALLOW")); err != nil {
		return c, err
	}
	if hash := getenv("FLEETPASS_WELCOME_SHA256"); hash != "" {
		if c.WelcomeHash, err = org.ParseWelcomeHash("FLEETPASS_WELCOME_SHA256", hash); err != nil {
			return c, err
		}
	}
	return c, nil
}
