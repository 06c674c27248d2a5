package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/web"
)

// idempotencyKey is the header by which a client says that several requests are one
// (draft-ietf-httpapi-idempotency-key-header).
const idempotencyKey = "Idempotency-Key"

const (
	keepAnswers = time.Hour        // how long a request can be repeated
	underWay    = 30 * time.Second // how long a call may take to answer, at most
)

// carriedOut is a request with an idempotency key that was carried out. Its answer may show a secret, this once: so it is
// sealed, and only who sent the request can ask for it again.
type carriedOut struct {
	Request []byte    `json:"request"` // the hash of the request, to tell another one with the same key
	Try     string    `json:"try"`     // which of several at once it was
	At      time.Time `json:"at"`
	Status  int       `json:"status,omitzero"` // of the answer; 0: it is not known yet, or was lost
	Answer  []byte    `json:"answer,omitzero"` // sealed
}

var onces store.Table[carriedOut]

// repeatable is a request that may come again.
type repeatable struct {
	key     store.Key
	request []byte
}

// readIdempotencyKey reads the header of a call that makes something; nil without one.
func (c *call) readIdempotencyKey(e endpoint, body []byte) (*repeatable, error) {
	values := c.r.Header.Values(idempotencyKey)
	switch {
	case len(values) == 0:
		return nil, nil
	case !e.creates():
		return nil, core.BadField(idempotencyKey, "is for calls that create something")
	case len(values) > 1 || values[0] == "" || len(values[0]) > 255 || strings.ContainsFunc(values[0], func(r rune) bool { return r < ' ' || r > '~' }):
		return nil, core.BadField(idempotencyKey, "must be 1 to 255 printable ASCII characters, different for each thing to create: a UUID is best")
	}
	who := sha256.New()
	for _, s := range []string{c.actor.Subject.String(), string(c.actor.UserID), e.pattern(), c.r.URL.EscapedPath(), values[0]} {
		fmt.Fprintf(who, "%d:%s", len(s), s)
	}
	what := sha256.New()
	fmt.Fprintf(what, "%d:%s%s", len(c.r.URL.RawQuery), c.r.URL.RawQuery, body)
	return &repeatable{store.Once(c.tenant, hex.EncodeToString(who.Sum(nil))), what.Sum(nil)}, nil
}

// once carries a request out unless that was done before, and remembers the answer.
func (c *call) once(rep *repeatable, do func() (reply, error)) (reply, error) {
	was, err := c.earlier(rep)
	if was != nil || err != nil {
		return *orEmpty(was), err
	}
	base := c.ctx
	try := core.NewID()
	mark, err := onces.Put(rep.key, 0, carriedOut{Request: rep.request, Try: try, At: c.now})
	if err != nil {
		return reply{}, err
	}
	c.ctx = store.OnlyOnce(base, mark.Until(c.now.Add(keepAnswers)))
	out, err := do()
	c.ctx = base
	if err != nil {
		// A request at the same time may have been quicker, and what it made be in the way of this one. A mark of one's own,
		// though, is the trace of something that was done and could not be shown.
		rec, lookUp := onces.Get(c.ctx, c.DB, rep.key)
		if lookUp != nil || rec.Value.Try == try {
			return out, err
		}
		if was, again := c.earlier(rep); was != nil || again != nil {
			return *orEmpty(was), again
		}
		return out, err
	}
	if err := c.remember(rep, out); err != nil {
		web.NoteError(c.ctx, err) // it was carried out, and that is what counts
	}
	return out, nil
}

func orEmpty(r *reply) *reply {
	if r == nil {
		return &reply{}
	}
	return r
}

var (
	errUnderWay = fmt.Errorf("a request with this %s is under way: wait for its answer, or send it again in a moment: %w", idempotencyKey, core.Conflict)
	errLost     = fmt.Errorf("the request with this %s was carried out, but its answer was lost: look up what it made: %w", idempotencyKey, core.Exists)
)

// earlier is the answer that the request got before; nil: it was not carried out yet.
func (c *call) earlier(rep *repeatable) (*reply, error) {
	rec, err := onces.Get(c.ctx, c.DB, rep.key)
	switch {
	case errors.Is(err, core.NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case !bytes.Equal(rec.Value.Request, rep.request):
		return nil, core.BadField(idempotencyKey, "was sent with another request before; use a new one")
	case rec.Value.Status == 0 && c.now.Before(rec.Value.At.Add(underWay)):
		return nil, errUnderWay
	case rec.Value.Status == 0:
		return nil, errLost
	}
	answer, err := c.Ring.Open(c.ctx, c.tenant, sealingOf(rep), rec.Value.Answer)
	if err != nil {
		return nil, err
	}
	c.w.Header().Set("Idempotency-Replayed", "true")
	return &reply{status: rec.Value.Status, raw: answer}, nil
}

func sealingOf(rep *repeatable) string { return "answer/" + rep.key.Sort() }

// remember keeps an answer with the mark that the act's commit made.
func (c *call) remember(rep *repeatable, out reply) error {
	rec, err := onces.Get(c.ctx, c.DB, rep.key)
	if err != nil {
		return err
	}
	body, err := json.Marshal(out.json, json.Deterministic(true))
	if err != nil {
		return err
	}
	if err := c.Ring.EnsureSealing(c.ctx, c.tenant); err != nil {
		return err
	}
	if rec.Value.Answer, err = c.Ring.Seal(c.ctx, c.tenant, sealingOf(rep), body); err != nil {
		return err
	}
	rec.Value.Status = out.status
	op, err := onces.Put(rep.key, rec.Version, rec.Value)
	if err != nil {
		return err
	}
	return c.DB.Commit(c.ctx, op.Until(c.now.Add(keepAnswers)))
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// readReason reads why the caller does this, for the audit record.
func readReason(r *http.Request) (string, error) {
	values := r.Header.Values(reasonHeader)
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 || values[0] == "" || len(values[0]) > 500 || !printable(values[0]) {
		return "", core.BadField(reasonHeader, "must be 1 to 500 bytes of text, once")
	}
	return values[0], nil
}
