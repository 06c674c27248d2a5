package api

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
)

// DeviceGrant is a sign-in that waits for somebody with a browser (RFC 8628 §3.2).
type DeviceGrant struct {
	DeviceCode      string `json:"device_code"`
	UserCode        string `json:"user_code"`
	Verification    string `json:"verification_uri"`
	VerificationAll string `json:"verification_uri_complete"`
	ExpiresIn       int64  `json:"expires_in"` // seconds
	Interval        int64  `json:"interval"`   // seconds
}

// BeginDevice begins a sign-in for a device without a browser. A server that has none of that is core.Unsupported.
func (i *Issuer) BeginDevice(ctx context.Context) (d DeviceGrant, err error) {
	if i.Device == "" {
		return d, fmt.Errorf("%s does not sign in devices: %w", i.URL, core.Unsupported)
	}
	data, err := i.post(ctx, i.Device, url.Values{"scope": {loginScope}})
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(data, &d); err != nil || d.DeviceCode == "" || d.UserCode == "" || d.Verification == "" || d.ExpiresIn <= 0 {
		return d, errors.New("the device authorization endpoint answers with something else than a code") // the cause might quote one
	}
	if d.Interval <= 0 {
		d.Interval = 5 // RFC 8628 §3.2
	}
	return d, nil
}

// AwaitDevice asks for the tokens until somebody approved the device, or refused it (core.Denied), or the code is over. It asks
// no more often than the server allows.
func (i *Issuer) AwaitDevice(ctx context.Context, d DeviceGrant) (Tokens, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.ExpiresIn)*time.Second)
	defer cancel()
	wait := time.Duration(d.Interval) * time.Second
	for {
		select {
		case <-ctx.Done():
			return Tokens{}, fmt.Errorf("nobody approved the device in time: %w", ctx.Err())
		case <-time.After(wait):
		}
		t, err := i.token(ctx, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {d.DeviceCode}})
		var refusal *OAuthError
		switch {
		case err == nil:
			return t, nil
		case errors.As(err, &refusal) && refusal.Code == "authorization_pending":
		case errors.As(err, &refusal) && refusal.Code == "slow_down":
			wait += 5 * time.Second // RFC 8628 §3.5
		case errors.Is(err, core.Unavailable) && ctx.Err() == nil:
			wait += wait / 2 // §3.5 asks for a longer pause when the connection fails
		default:
			return Tokens{}, err
		}
	}
}
