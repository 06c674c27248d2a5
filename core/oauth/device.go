package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/store"
)

// GrantDevice is the grant type of a device that has no browser (RFC 8628 §3.4).
const GrantDevice = "urn:ietf:params:oauth:grant-type:device_code"

// The error codes of RFC 8628 §3.5.
const (
	AuthorizationPending Code = "authorization_pending"
	SlowDown             Code = "slow_down"
	ExpiredToken         Code = "expired_token"
)

const (
	// DeviceLife is how long a person has to approve a device.
	DeviceLife = 10 * time.Minute

	pollEvery   = 5 // seconds between two requests of a device, at least
	slowDownBy  = 5 // seconds more for one that asks too often (RFC 8628 §3.5)
	maxPollWait = 60
)

// DeviceGrant is the answer of the device authorization endpoint (RFC 8628 §3.2).
type DeviceGrant struct {
	DeviceCode      string `json:"device_code"`
	UserCode        string `json:"user_code"`
	Verification    string `json:"verification_uri"`
	VerificationAll string `json:"verification_uri_complete"`
	ExpiresIn       int64  `json:"expires_in"` // seconds
	Interval        int64  `json:"interval"`   // seconds
}

// decision is what a person said about a device.
type decision string

const (
	undecided decision = ""
	approved  decision = "approved"
	refused   decision = "refused"
)

// device is a sign-in that waits for somebody with a browser. It is stored under the hash of its device code, and found by
// its user code as long as nobody decided.
type device struct {
	Client    core.ApplicationID `json:"client"`
	Scope     string             `json:"scope"`
	UserCode  string             `json:"userCode"`
	Address   string             `json:"address"` // of the device
	StartedAt time.Time          `json:"startedAt"`
	PolledAt  time.Time          `json:"polledAt,omitzero"`
	Interval  int64              `json:"interval"` // seconds
	Decision  decision           `json:"decision,omitempty"`
	Session   session.Session    `json:"session,omitzero"` // of whoever approved
	Browser   string             `json:"browser,omitzero"` // the hash of that session's cookie
}

// waiting names a device by its user code.
type waiting struct {
	Device string `json:"device"` // the hash of its device code
}

var (
	devices  store.Table[device]
	waitings store.Table[waiting]
)

// BeginDevice begins a sign-in on a device without a browser (RFC 8628 §3.1). It is for our own command line alone: no
// other program has a use for it, and a stranger's name on the page that asks would only help whoever phishes. One place
// begins as many as sign-ins in a browser: see session.MaxLogins.
func (s *Server) BeginDevice(ctx context.Context, c Call) (DeviceGrant, error) {
	t := c.Actor.Tenant
	if c.Client.ID != CLI {
		return DeviceGrant{}, refuse(UnauthorizedClient, "only "+string(CLI)+" signs in on devices")
	}
	if _, err := s.authenticate(ctx, c, nil); err != nil {
		return DeviceGrant{}, err
	}
	if err := s.Sessions.TenantActive(ctx, t); err != nil {
		return DeviceGrant{}, err
	}
	scope, err := parseScope(c.Params["scope"])
	if err != nil {
		return DeviceGrant{}, err
	}
	now, secret := s.Now(), core.NewSecret()
	var code string
	err = store.Retry(ctx, func() error {
		if code, err = newUserCode(); err != nil { // another one each time: the last may be taken
			return err
		}
		hash := session.Hash(secret)
		put, err := devices.Put(store.Device(t, hash), 0, device{
			Client: c.Client.ID, Scope: scope.String(), UserCode: code, Address: c.Actor.Address, StartedAt: now, Interval: pollEvery,
		})
		if err != nil {
			return err
		}
		name, err := waitings.Put(store.DeviceUserCode(t, code), 0, waiting{hash})
		if err != nil {
			return err
		}
		count, err := s.Sessions.CountLogin(ctx, c.Actor)
		if err != nil {
			return err
		}
		// It stays a while longer than it is good for, so that a device hears that it is over.
		return s.DB.Commit(ctx, put.Until(now.Add(2*DeviceLife)), name.Until(now.Add(DeviceLife)), count)
	})
	if errors.Is(err, core.Conflict) {
		err = directory.Throttle(now.Add(time.Second), now)
	}
	if err != nil {
		return DeviceGrant{}, err
	}
	pages := s.BrowserBase
	if pages == "" {
		pages = s.Base
	}
	page := pages + "/t/" + string(t) + "/device"
	return DeviceGrant{
		DeviceCode: secret, UserCode: code, Verification: page, VerificationAll: page + "?" + url.Values{"user_code": {code}}.Encode(),
		ExpiresIn: int64(DeviceLife / time.Second), Interval: pollEvery,
	}, nil
}

// userLetters are those of user codes: no vowels, so that no word comes out, and none that look alike (RFC 8628 §6.1).
const userLetters = "BCDFGHJKLMNPQRSTVWXZ"

// newUserCode makes a code of eight letters, of 34 bits. Whoever guesses at them must be signed in and has twenty tries.
func newUserCode() (string, error) {
	var b strings.Builder
	for i := range 8 {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(userLetters))))
		if err != nil {
			return "", err
		}
		if i == 4 {
			b.WriteByte('-')
		}
		b.WriteByte(userLetters[n.Int64()])
	}
	return b.String(), nil
}

// ParseUserCode reads a user code as a person types it: in any case, with or without the hyphen. False: it is none.
func ParseUserCode(s string) (string, bool) {
	if len(s) > 40 {
		return "", false
	}
	var letters []byte
	for _, c := range []byte(strings.ToUpper(s)) {
		switch {
		case strings.IndexByte(userLetters, c) >= 0:
			letters = append(letters, c)
		case c == '-' || c == ' ':
		default:
			return "", false
		}
	}
	if len(letters) != 8 {
		return "", false
	}
	return string(letters[:4]) + "-" + string(letters[4:]), true
}

// WaitingDevice is what a person must see before they approve a device.
type WaitingDevice struct {
	UserCode  string
	Client    string // the program's name
	Address   string // where the request came from
	StartedAt time.Time
	key       store.Key
}

// Device finds a device that waits, for somebody who is signed in. A code that is none, or over, is core.NotFound; too many
// of those from one person are a directory.ThrottledError.
func (s *Server) Device(ctx context.Context, c session.Current, typed string) (WaitingDevice, error) {
	t := c.Tenant.ID
	if err := s.Sessions.MayGuess(ctx, t, c.User); err != nil {
		return WaitingDevice{}, err
	}
	gone := fmt.Errorf("the code is wrong, or over: %w", core.NotFound)
	code, ok := ParseUserCode(typed)
	if !ok {
		return WaitingDevice{}, gone
	}
	name, err := waitings.Get(ctx, s.DB, store.DeviceUserCode(t, code))
	if errors.Is(err, core.NotFound) {
		if err := s.Sessions.Guessed(ctx, t, c.User); err != nil {
			return WaitingDevice{}, err
		}
		return WaitingDevice{}, gone
	}
	if err != nil {
		return WaitingDevice{}, err
	}
	rec, err := devices.Get(ctx, s.DB, store.Device(t, name.Value.Device))
	if errors.Is(err, core.NotFound) || err == nil && (rec.Value.Decision != undecided || rec.Value.over(s.Now())) {
		return WaitingDevice{}, gone
	}
	return WaitingDevice{code, cli.Name, rec.Value.Address, rec.Value.StartedAt, rec.Key}, err
}

func (d device) over(now time.Time) bool { return !now.Before(d.StartedAt.Add(DeviceLife)) }

// DecideDevice approves a device in the name of who is signed in with that cookie, or refuses it. Each is decided once; after
// that, and when it is over, it is core.NotFound.
func (s *Server) DecideDevice(ctx context.Context, actor core.Actor, c session.Current, cookie string, d WaitingDevice, approve bool) error {
	actor.Subject, actor.UserID = core.UserSubject(c.Email), c.User
	note := audit.Record{Action: audit.SignIn, EntityType: audit.EntitySession, EntityID: c.ID, Name: "a device at " + d.Address}
	if !approve {
		note.Result, note.Reason = audit.Failed, "the person refused the device"
	}
	return store.Retry(ctx, func() error { // the device writes too, whenever it asks
		rec, err := devices.Get(ctx, s.DB, d.key)
		if err != nil {
			return err
		}
		v := rec.Value
		if v.Decision != undecided || v.over(s.Now()) {
			return fmt.Errorf("this device was decided about already, or waited too long: %w", core.NotFound)
		}
		if v.Decision = refused; approve {
			v.Decision, v.Session, v.Browser = approved, c.Session, session.Hash(cookie)
		}
		put, err := devices.Put(rec.Key, rec.Version, v)
		if err != nil {
			return err
		}
		told, err := audit.Op(actor, s.Now(), note)
		if err != nil {
			return err
		}
		return s.DB.Commit(ctx, put.Until(rec.Expires), told)
	})
}

const badDevice = "the device_code is unknown, used, or of another client"

// pollDevice gives a device its tokens once somebody approved it (RFC 8628 §3.4, §3.5). Asking sooner than the interval
// makes the interval longer, for good.
func (s *Server) pollDevice(ctx context.Context, c Call) (Tokens, error) {
	t, secret := c.Actor.Tenant, c.Params["device_code"]
	if secret == "" {
		return Tokens{}, refuse(InvalidRequest, "device_code is missing")
	}
	if len(secret) != 52 || !onlyBytes(secret, "") {
		return Tokens{}, refuse(InvalidGrant, badDevice)
	}
	var tokens Tokens
	err := store.Retry(ctx, func() (err error) { // the browser's session is written to whenever it is used
		tokens, err = s.pollOnce(ctx, c, store.Device(t, session.Hash(secret)))
		return err
	})
	if err != nil {
		return Tokens{}, err
	}
	return tokens, nil
}

func (s *Server) pollOnce(ctx context.Context, c Call, key store.Key) (Tokens, error) {
	t := c.Actor.Tenant
	items, err := s.DB.Get(ctx, append([]store.Key{store.Meta(t), key}, clientKeys(t, c.Client.ID)...)...)
	if err != nil {
		return Tokens{}, err
	}
	meta, err := org.Decode(items[0])
	if err != nil {
		return Tokens{}, err
	}
	client, err := s.authenticate(ctx, c, items[2:])
	if err != nil {
		return Tokens{}, err
	}
	rec, err := devices.Decode(items[1])
	if err != nil {
		return Tokens{}, err
	}
	now, d := s.Now(), rec.Value
	switch {
	case !rec.Exists() || d.Client != client.ID:
		return Tokens{}, refuse(InvalidGrant, badDevice)
	case d.Decision == refused:
		return Tokens{}, refuse(AccessDenied, "the person refused")
	case d.over(now):
		return Tokens{}, refuse(ExpiredToken, "nobody approved the device in time; begin again")
	case d.Decision == undecided:
		return Tokens{}, s.notYet(ctx, rec, now)
	}
	return s.redeemDevice(ctx, c, meta.Value, rec)
}

// notYet remembers that a device asked, and says how to go on.
func (s *Server) notYet(ctx context.Context, rec store.Record[device], now time.Time) error {
	d := rec.Value
	early := now.Before(d.PolledAt.Add(time.Duration(d.Interval) * time.Second))
	if d.PolledAt = now; early {
		d.Interval = min(d.Interval+slowDownBy, maxPollWait)
	}
	put, err := devices.Put(rec.Key, rec.Version, d)
	if err != nil {
		return err
	}
	err = s.DB.Commit(ctx, put.Until(rec.Expires))
	switch {
	case errors.Is(err, core.Conflict): // it asks twice at once, or was decided about just now
		return refuse(AuthorizationPending, "nobody has approved the device yet")
	case err != nil:
		return err
	case early:
		return refuse(SlowDown, fmt.Sprintf("wait %d seconds between two requests", d.Interval))
	}
	return refuse(AuthorizationPending, "nobody has approved the device yet")
}

// redeemDevice begins what the device is signed in by. It descends from the browser's session: it lives no longer, and where
// somebody signed out meanwhile, there is nothing to descend from.
func (s *Server) redeemDevice(ctx context.Context, c Call, t org.Tenant, rec store.Record[device]) (Tokens, error) {
	sess := rec.Value.Session
	items, err := s.DB.Get(ctx, store.Session(t.ID, rec.Value.Browser))
	if err != nil {
		return Tokens{}, err
	}
	if items[0].Version == 0 {
		return Tokens{}, refuse(InvalidGrant, badDevice)
	}
	person, err := s.holder(ctx, t, sess)
	if err == nil && sess.Kept != "" {
		person, err = s.vouched(ctx, c.Actor, sess.Upstream, person)
	}
	if err != nil {
		return Tokens{}, refuseFor(err, InvalidGrant, badDevice)
	}
	scope, err := parseScope(rec.Value.Scope)
	if err != nil {
		return Tokens{}, err
	}
	f, begin, err := s.Sessions.Begin(t, session.Family{
		Client: rec.Value.Client, Email: sess.Email, User: sess.User, Epoch: sess.Epoch, Scope: rec.Value.Scope,
		Session: sess.ID, AuthTime: sess.AuthTime, Methods: sess.Methods, Offline: scope.Has(ScopeOffline),
		Upstream: sess.Upstream, StartedAt: sess.StartedAt,
	}, t.Settings.AccessTokenLife)
	if err != nil {
		return Tokens{}, err
	}
	actor := c.Actor // of the device: the approval's record has the browser's address
	actor.Subject, actor.UserID = core.UserSubject(sess.Email), sess.User
	note, err := audit.Op(actor, s.Now(), audit.Record{Action: audit.SignIn, EntityType: audit.EntitySession, EntityID: f.ID, Name: "on a device"})
	if err != nil {
		return Tokens{}, err
	}
	// Signed first and committed second: where a key cannot be read, the device code is as good as before.
	tokens, err := s.firstTokens(ctx, t, f, person, scope, "")
	if err != nil {
		return Tokens{}, err
	}
	return tokens, s.DB.Commit(ctx, begin, note, store.Delete(rec.Key, rec.Version), store.Check(items[0].Key, items[0].Version))
}
