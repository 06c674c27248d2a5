package functions

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/access"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/oauth"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/outbound"
	"github.com/fleetpass/fleetpass/core/session"
	"github.com/fleetpass/fleetpass/core/sso"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/core/sync"
	"github.com/fleetpass/fleetpass/core/trace"
	"github.com/fleetpass/fleetpass/core/trust"
)

// Config is what a composition root chooses: the adapters, and where the system is found.
type Config struct {
	DB      store.DB     // required
	Wrapper keys.Wrapper // required: keeps signing keys at rest
	Queue   sync.Queue   // required: carries messages to the sync function
	// Dial reaches a cluster's API server; it makes no request. Required.
	Dial func(sync.Target) (sync.Cluster, error)

	// Providers sign people in at identity providers, by kind. A tenant can connect the kinds that are here. Required.
	Providers map[sso.Kind]sso.Provider

	// Issuers reads the keys of issuers that tenants trust. Optional: without it only those whose keys are given by hand can be
	// trusted.
	Issuers trust.Verifier

	// Outbound is which addresses identity providers may be at. The composition root makes Providers and Issuers with it.
	Outbound outbound.Policy

	// Base is what every issuer begins with: https://HOST[:PORT], without a slash at the end. Required.
	Base string
	// BrowserBase is where browsers reach the pages, if not at Base: plain http://localhost on a developer's machine.
	BrowserBase string
	// IssuerCA is the PEM certificate authority of Base where it is a private one: clusters and kubeconfigs carry it.
	IssuerCA string

	// WelcomeHash is the SHA-256 of the token with which the first operator comes in, in hexadecimal; see
	// org.Service.EnsureOperators. Optional: a composition root may make the operators' tenant itself.
	WelcomeHash string

	Now func() time.Time // default: time.Now, UTC
	Log *slog.Logger     // default: slog.Default()

	// Telemetry records spans and metrics. Optional: without it nothing is recorded, and nothing is put around the adapters.
	Telemetry *trace.Telemetry
}

// System is the core, wired: everything that a function may need. It is made by hand, once per process.
type System struct {
	Config
	Ring      *keys.Ring
	Org       *org.Service
	Directory *directory.Service
	Access    *access.Service
	Sessions  *session.Service
	OAuth     *oauth.Server
	SSO       *sso.Service
	Sync      *sync.Service
}

// New wires a system. A missing or malformed setting is core.Invalid, and the error names it.
func New(c Config) (*System, error) {
	for name, missing := range map[string]bool{"DB": c.DB == nil, "Wrapper": c.Wrapper == nil, "Queue": c.Queue == nil, "Dial": c.Dial == nil, "Providers": c.Providers == nil} {
		if missing {
			return nil, core.BadField(name, "is required")
		}
	}
	if err := checkBase("Base", c.Base, false); err != nil {
		return nil, err
	}
	if c.BrowserBase == "" {
		c.BrowserBase = c.Base
	}
	if err := checkBase("BrowserBase", c.BrowserBase, true); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = func() time.Time { return time.Now().UTC() }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.Log = slog.New(trace.Handler(c.Log.Handler()))
	c.Queue = sync.Traced(c.Queue) // always: the log follows requests through it
	if c.Telemetry != nil {
		c.DB, c.Wrapper = store.Traced(c.DB), keys.Traced(c.Wrapper)
	}
	c.DB = store.Conditional(c.DB)
	s := &System{Config: c}
	s.Ring = keys.NewRing(c.DB, c.Wrapper, c.Now)
	s.Org = &org.Service{DB: c.DB, Ring: s.Ring, Now: c.Now}
	s.Directory = &directory.Service{DB: c.DB, Ring: s.Ring, Now: c.Now}
	s.Access = &access.Service{DB: c.DB, Now: c.Now}
	s.Directory.Keeps = s.Access.KeepsAdministrator
	s.Sessions = &session.Service{DB: c.DB, Ring: s.Ring, Now: c.Now}
	s.OAuth = &oauth.Server{DB: c.DB, Ring: s.Ring, Sessions: s.Sessions, Directory: s.Directory, Access: s.Access, Now: c.Now, Base: c.Base, BrowserBase: c.BrowserBase, Issuers: c.Issuers}
	s.SSO = &sso.Service{DB: c.DB, Ring: s.Ring, Directory: s.Directory, Sessions: s.Sessions, Providers: c.Providers, Administrators: s.Access.Administrators,
		Now: c.Now, Log: c.Log, Base: c.Base, BrowserBase: c.BrowserBase}
	s.OAuth.Upstream = s.SSO
	s.Access.Usable = s.SSO.Usable
	s.Sync = &sync.Service{DB: c.DB, Org: s.Org, Ring: s.Ring, Dial: c.Dial, Now: c.Now, Base: c.Base, Log: c.Log}
	s.Org.Holds = s.Sync.Holds
	return s, nil
}

// checkBase takes https URLs of a host alone; plain HTTP only where a browser on this machine is meant.
func checkBase(name, base string, browser bool) error {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil || strings.HasSuffix(base, "#") {
		return core.BadField(name, fmt.Sprintf("%q must be https://HOST[:PORT] and nothing more", base))
	}
	if u.Scheme != "https" && !(browser && u.Scheme == "http" && u.Hostname() == "localhost") {
		return core.BadField(name, "must begin with https://, since clusters take no other issuer")
	}
	return nil
}
