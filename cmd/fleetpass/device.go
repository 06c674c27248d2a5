package main

import (
	"context"
	"time"

	"github.com/fleetpass/fleetpass/core/api"
)

// deviceSignIn signs a person in who has a browser on another machine (RFC 8628).
func deviceSignIn(say func(string, ...any)) func(context.Context, *api.Issuer) (api.Tokens, error) {
	return func(ctx context.Context, i *api.Issuer) (api.Tokens, error) {
		d, err := i.BeginDevice(ctx)
		if err != nil {
			return api.Tokens{}, err
		}
		say("Open this address in a browser, on any machine:\n\n  %s\n\nand approve the code %s within %s. Do not send either to anybody.\n",
			clean(d.VerificationAll), clean(d.UserCode), time.Duration(d.ExpiresIn)*time.Second)
		t, err := i.AwaitDevice(ctx, d)
		if err != nil {
			return t, err
		}
		return t, checkIDToken(t.ID, i.URL, "", time.Now().Add(i.Skew))
	}
}
