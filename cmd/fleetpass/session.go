package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/kube"
)

var (
	errNoServer    = errors.New("no server yet: run `fleetpass login --server https://HOST/t/TENANT`")
	errNotSignedIn = fmt.Errorf("not signed in: run `fleetpass login`%w", quiet{core.Unauthenticated})
)

// quiet lets an error be found in another without adding its words.
type quiet struct{ error }

func (q quiet) Error() string { return "" }
func (q quiet) Unwrap() error { return q.error }

// renewBefore is how long before its end a token is no longer used. It must outlast a slow call.
const renewBefore = 30 * time.Second

// account is one server with our session at it.
type account struct {
	profile
	dir  folder
	root folder
	http *http.Client
	now  func() time.Time
	say  func(format string, args ...any) // to the person, on standard error

	// signIn signs a person in, if this run may ask one; it is called with the lock held, so that of many runs at once only
	// one opens a tab.
	signIn func(context.Context, *api.Issuer) (api.Tokens, error)
	once   bool // one tab is all that the person gets until they sign in by themselves: see session.Unfinished
}

// profile is how a server is reached: server.json.
type profile struct {
	Server string `json:"server"`
	CA     string `json:"ca,omitempty"` // PEM, where the server's certificate is not a public one
}

// session is session.json.
type session struct {
	Email    string                         `json:"email,omitempty"` // from the ID token
	Access   string                         `json:"access,omitempty"`
	Expires  time.Time                      `json:"expires,omitzero"` // of Access
	Refresh  string                         `json:"refresh,omitempty"`
	Clusters map[core.ClusterID]clusterPass `json:"clusters,omitempty"`

	// Unfinished is when kubectl's plugin opened a tab in which nobody signed in. It opens no other until the person runs
	// `fleetpass login`: else whatever polls through kubectl fills the browser with tabs over a weekend.
	Unfinished time.Time `json:"unfinished,omitzero"`
}

// clusterPass is a token for one cluster.
type clusterPass struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// open finds the account of a server; "" is the one last signed in to. A CA in the environment, which a kubeconfig sets,
// stands in for the one remembered, if there is one: the kubeconfig may be newer, and the server not known yet.
func (a *app) open(server string) (*account, error) {
	root, err := openFolder()
	if err != nil {
		return nil, err
	}
	if server == "" {
		current, err := root.read("current")
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errNoServer
		}
		if err != nil {
			return nil, err
		}
		server = string(current)
	}
	if server, err = api.ParseServer("--server", server); err != nil {
		return nil, err
	}
	c := &account{profile: profile{Server: server}, root: root, now: time.Now}
	c.say = func(format string, args ...any) { fmt.Fprintln(a.err, clean(fmt.Sprintf(format, args...))) }
	if c.dir, err = root.make(slug(server)); err != nil {
		return nil, err
	}
	data, err := c.dir.read("server.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil && (json.Unmarshal(data, &c.profile) != nil || c.Server != server) {
		return nil, fmt.Errorf("%s is damaged: remove it and sign in again", c.dir)
	}
	if ca := os.Getenv(kube.EnvIssuerCA); ca != "" {
		pem, err := base64.StdEncoding.DecodeString(ca)
		if err != nil {
			return nil, core.BadField(kube.EnvIssuerCA, "must be base64 of PEM")
		}
		c.CA = string(pem)
	}
	return c, c.connect()
}

// connect makes the HTTP client anew, after the CA has changed.
func (c *account) connect() (err error) {
	c.http, err = api.NewHTTPClient([]byte(c.CA))
	return err
}

// remember keeps how the server is reached, and makes this account the current one unless another is.
func (c *account) remember() error {
	data, err := json.Marshal(c.profile)
	if err != nil {
		return err
	}
	if err := c.dir.write("server.json", data); err != nil {
		return err
	}
	if _, err := c.root.read("current"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.choose()
}

// choose makes this account the one that commands use if none is named.
func (c *account) choose() error { return c.root.write("current", []byte(c.Server)) }

// load reads the session; there may be none, which is an empty one.
func (c *account) load() (*session, error) {
	s := &session{}
	data, err := c.dir.read("session.json")
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(data, s) != nil { // the cause might quote a token
		return nil, fmt.Errorf("%s/session.json is damaged: sign in again", c.dir)
	}
	return s, nil
}

func (c *account) save(s *session) error {
	for id, p := range s.Clusters {
		if c.now().After(p.Expires) {
			delete(s.Clusters, id)
		}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return c.dir.write("session.json", data)
}

// usable says whether a token can be sent now.
func (c *account) usable(token string, expires time.Time) bool {
	return token != "" && c.now().Add(renewBefore).Before(expires)
}

// pass returns a token for a cluster, and access an access token; both renew what has ended, or sign in if they may.
func (c *account) pass(ctx context.Context, cluster core.ClusterID) (p clusterPass, err error) {
	valid := func(s *session) bool {
		p = s.Clusters[cluster]
		return c.usable(p.Token, p.Expires)
	}
	err = c.renew(ctx, valid, func(ctx context.Context, i *api.Issuer, s *session) error {
		t, err := i.ClusterToken(ctx, s.Access, cluster)
		if err != nil {
			return err
		}
		if s.Clusters == nil {
			s.Clusters = map[core.ClusterID]clusterPass{}
		}
		// What is given to kubectl ends early: it asks for the next one in time.
		p = clusterPass{t.Access, t.Expires.Add(-renewBefore / 3)}
		s.Clusters[cluster] = p
		return nil
	})
	return p, err
}

func (c *account) access(ctx context.Context) (token string, err error) {
	valid := func(s *session) bool { return c.usable(s.Access, s.Expires) }
	err = c.renew(ctx, func(s *session) bool { token = s.Access; return valid(s) }, func(_ context.Context, _ *api.Issuer, s *session) error {
		token = s.Access
		return nil
	})
	return token, err
}

// renew does nothing if the session, as it is on disk, will do. Otherwise it takes the lock, looks again, since another
// process may have renewed it meanwhile, makes the access token usable and calls then.
func (c *account) renew(ctx context.Context, valid func(*session) bool, then func(context.Context, *api.Issuer, *session) error) error {
	s, err := c.load()
	if err != nil {
		return err
	}
	if valid(s) {
		return nil
	}
	if s.Refresh == "" && c.signIn == nil {
		return errNotSignedIn // no need to wait for whoever has the lock
	}
	unlock, err := c.dir.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if s, err = c.load(); err != nil {
		return err
	}
	if valid(s) {
		return nil
	}
	i, err := api.Discover(ctx, c.http, c.Server)
	if err != nil {
		return err
	}
	fresh := !c.usable(s.Access, s.Expires)
	if fresh {
		if err := c.refresh(ctx, i, s); err != nil {
			return err
		}
	}
	err = then(ctx, i, s)
	if errors.Is(err, core.Unauthenticated) && !fresh {
		// The access token looked good and is not any more: somebody ended the session. The refresh token tells for sure.
		if err := c.refresh(ctx, i, s); err != nil {
			return err
		}
		err = then(ctx, i, s)
	}
	if err != nil {
		return err
	}
	return c.save(s)
}

// refresh makes the access token usable, with the lock held.
func (c *account) refresh(ctx context.Context, i *api.Issuer, s *session) error {
	if s.Refresh != "" {
		t, err := i.Refreshed(ctx, s.Refresh)
		switch {
		case err == nil:
			s.Access, s.Expires = t.Access, t.Expires
			if t.Refresh != "" {
				s.Refresh = t.Refresh
			}
			return c.save(s) // before anything else can fail: the old refresh token is spent
		case !errors.Is(err, core.Unauthenticated):
			return err // the server was not reached, or was ill: the session may well live
		}
		*s = session{} // it has ended: too long idle, signed out elsewhere, disabled
		if err := c.save(s); err != nil {
			return err
		}
		if c.signIn == nil {
			return fmt.Errorf("your session at %s has ended: run `fleetpass login`%w", c.Server, quiet{errNotSignedIn})
		}
	}
	return c.enter(ctx, i, s)
}

// enter signs in and fills the session, with the lock held.
func (c *account) enter(ctx context.Context, i *api.Issuer, s *session) error {
	if c.signIn == nil {
		return errNotSignedIn
	}
	if c.once {
		if !s.Unfinished.IsZero() {
			return fmt.Errorf("the sign-in opened at %s was not finished: run `fleetpass login`%w", s.Unfinished.Local().Format("Mon 15:04"), quiet{errNotSignedIn})
		}
		s.Unfinished = c.now() // before the tab opens, in case we are killed while we wait
		if err := c.save(s); err != nil {
			return err
		}
	}
	t, err := c.signIn(ctx, i)
	if err != nil {
		return err
	}
	*s = session{Access: t.Access, Expires: t.Expires, Refresh: t.Refresh}
	if t.ID != "" {
		claims, err := readClaims(t.ID)
		if err != nil {
			return err
		}
		s.Email = claims.Email
	}
	return errors.Join(c.save(s), c.remember())
}

// client calls the admin API with this account.
func (c *account) client() *api.Client {
	return &api.Client{Server: c.Server, HTTP: c.http, Token: c.access}
}
