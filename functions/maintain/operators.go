package maintain

import (
	"context"
	"fmt"

	"github.com/fleetpass/fleetpass/core/org"
)

// operators makes the operators' tenant where a deployment is new, and says in the log what the deployer is to do. The token
// is with the deployer alone: neither it nor its hash is written there.
func (r *run) operators(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, jobTimeout)
	defer done()
	var did org.Operators
	err := r.safely(ctx, func(ctx context.Context) (err error) {
		did, err = r.Org.EnsureOperators(ctx, r.WelcomeHash, r.Access.Administered)
		return err
	})
	if err != nil {
		return fmt.Errorf("maintain: %w", err)
	}
	switch did {
	case org.OperatorsWanted:
		r.Log.WarnContext(ctx, "maintain: there is no operators' tenant: set FLEETPASS_WELCOME_SHA256 to what printf %s \"$TOKEN\" | sha256sum says of a random token that you keep, and open /t/system/welcome?token=$TOKEN")
	case org.OperatorsMade, org.OperatorsRenewed:
		r.Log.InfoContext(ctx, "maintain: the first operator is awaited for 24 hours, at /t/system/welcome with the token whose hash is FLEETPASS_WELCOME_SHA256", "operators", did)
	case org.OperatorsRefused:
		r.Log.WarnContext(ctx, "maintain: FLEETPASS_WELCOME_SHA256 is new and counts for nothing: the operators' tenant has an administrator, who can let others in")
	}
	return nil
}
