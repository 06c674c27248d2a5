package token

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/web"
)

// state is what a check came to. It is told to anybody, so it says no more than this; the log has the cause.
type state string

const (
	well           state = "ok"
	failing        state = "failing"
	notInitialised state = "not initialised" // there is no operators' tenant yet, so there is no key to try
	unknown        state = "unknown"         // what it needs fails already
)

// health is the body of GET /health, and of GET /healthz.
type health struct {
	Status state `json:"status"`
	Checks struct {
		Store state `json:"store"` // a consistent read
		Key   state `json:"key"`   // the operators' signing key, unwrapped, signed with and verified
	} `json:"checks"`
}

const (
	healthFor     = 5 * time.Second // what was found is told for so long: whoever asks as often as they like costs one look
	healthTimeout = 3 * time.Second // of one look
)

// prober answers GET /health. Anybody may ask, and each unwrapping is paid for, so what it found is kept for a while, and
// those who ask meanwhile wait for the one look.
type prober struct {
	oauth *oauth.Server

	mu   sync.Mutex
	at   time.Time
	kept health
}

func (p *prober) serve(w http.ResponseWriter, r *http.Request) {
	found := p.look(r.Context())
	status := http.StatusOK
	if found.Status != well {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
	}
	answer(w, status, found)
}

// look returns what was found a moment ago, or looks. One that is begun is brought to its end for all who wait for it,
// though whoever began it may have gone.
func (p *prober) look(ctx context.Context) health {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.oauth.Now()
	if !p.at.IsZero() && now.Sub(p.at).Abs() < healthFor {
		return p.kept
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
	defer done()
	p.kept = p.check(ctx)
	p.at = now
	return p.kept
}

func (p *prober) check(ctx context.Context) (h health) {
	h.Status, h.Checks.Store, h.Checks.Key = failing, failing, unknown
	items, err := p.oauth.DB.Get(ctx, store.Meta(core.SystemTenant))
	if err != nil {
		web.NoteError(ctx, err)
		return h
	}
	h.Checks.Store, h.Checks.Key = well, failing
	if items[0].Version == 0 {
		h.Status, h.Checks.Key = notInitialised, notInitialised
		return h
	}
	if err := p.oauth.Ring.Probe(ctx, core.SystemTenant); err != nil {
		web.NoteError(ctx, err)
		return h
	}
	h.Status, h.Checks.Key = well, well
	return h
}
