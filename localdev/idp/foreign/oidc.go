package foreign

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/fleetpass/fleetpass/localdev/parts"
)

//go:embed oidc-provider/package.json oidc-provider/package-lock.json oidc-provider/provider.mjs
var oidcProviderFiles embed.FS

// OIDC is a running OpenID provider. Its claims are email, given_name, family_name, groups, uid, gid and supplementary_groups,
// of the scopes email, profile and groups, in the ID token and at the userinfo endpoint, with numbers as numbers.
type OIDC struct {
	*front
	Issuer       string
	DiscoveryURL string

	settings oidcSettings
}

// OIDCConfig says what an OpenID provider is to do.
type OIDCConfig struct {
	People []Person // passwords are not looked at
}

// oidcSettings is what provider.mjs reads.
type oidcSettings struct {
	Base         string   `json:"base"`
	Registration string   `json:"registration"`
	Cookies      string   `json:"cookies"`
	People       []Person `json:"people"`
}

// Client is a relying party that the provider knows.
type Client struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"` // empty with private_key_jwt
}

// Registration is a relying party that the provider is to know (RFC 7591 §2).
type Registration struct {
	RedirectURIs           []string        `json:"redirect_uris"`
	PostLogoutRedirectURIs []string        `json:"post_logout_redirect_uris,omitempty"`
	Auth                   string          `json:"token_endpoint_auth_method"` // client_secret_basic, client_secret_post, private_key_jwt
	JWKS                   json.RawMessage `json:"jwks,omitempty"`             // of private_key_jwt
	IDTokenAlgorithm       string          `json:"id_token_signed_response_alg,omitempty"`
	GrantTypes             []string        `json:"grant_types"`
}

// OIDCProvider starts npm's oidc-provider, of the version that package-lock.json pins, which is fetched into the user's cache
// folder first if it is not there. The error is ErrMissing where Node.js or npm is.
func OIDCProvider(ctx context.Context, c OIDCConfig) (_ *OIDC, err error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, fmt.Errorf("node (package nodejs): %w; on Debian run .ci/deps as root", ErrMissing)
	}
	program, err := oidcProviderFolder(ctx)
	if err != nil {
		return nil, err
	}
	f, err := newFront("oidc-provider")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	s := &OIDC{front: f, Issuer: f.Base, DiscoveryURL: f.Base + "/.well-known/openid-configuration",
		settings: oidcSettings{f.Base, rand.Text(), rand.Text(), c.People}}
	if err := s.Know(c.People...); err != nil {
		return nil, err
	}
	cmd := exec.Command(node, filepath.Join(program, "provider.mjs"), f.path("settings.json"), f.port())
	cmd.Dir, cmd.Env = f.dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.dir, "NODE_ENV=production"}
	f.stop, err = parts.Serve(ctx, "oidc-provider", cmd, "http://"+f.behind+"/.well-known/openid-configuration", isOK)
	return s, err
}

// installWithin bounds the installation: 40 packages of 3 MB together, a few seconds where the registry answers.
const installWithin = 3 * time.Minute

// oidcProviderFolder is where the program lies with what it needs. It is installed there if need be, by one process while
// others wait.
func oidcProviderFolder(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder for oidc-provider: %w", err)
	}
	sum := sha256.New()
	files := map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json", "provider.mjs"} {
		if files[name], err = oidcProviderFiles.ReadFile("oidc-provider/" + name); err != nil {
			return "", err
		}
		sum.Write(files[name])
	}
	cache = filepath.Join(cache, "fleetpass")
	dir := filepath.Join(cache, fmt.Sprintf("oidc-provider-%x", sum.Sum(nil)[:8]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	unlock, err := lockedfile.MutexAt(filepath.Join(cache, "oidc-provider.lock")).Lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	mark := filepath.Join(dir, "installed") // last, so that an install that was killed is made again
	if _, err := os.Stat(mark); err == nil {
		return dir, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("npm: %w; on Debian run .ci/deps as root", ErrMissing)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return "", err
		}
	}
	ctx, done := context.WithTimeout(ctx, installWithin)
	defer done()
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci in %s: %w: %s", dir, err, out)
	}
	return dir, os.WriteFile(mark, nil, 0o600)
}

// Know changes what the provider knows of people, from now on: it knows these alone. Nobody is signed out by that, but
// somebody who is not among them gets no more tokens.
func (s *OIDC) Know(people ...Person) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings.People = people
	data, err := json.Marshal(s.settings)
	if err != nil {
		return err
	}
	if err := s.write(map[string][]byte{"settings.next": data}); err != nil {
		return err
	}
	return os.Rename(s.path("settings.next"), s.path("settings.json")) // which is read at any moment
}

// Register makes a relying party known to the provider (OpenID Connect Dynamic Client Registration 1.0 §3). The grants are
// the authorization code and the refresh token, if r names none; the authentication is client_secret_basic.
func (s *OIDC) Register(ctx context.Context, r Registration) (Client, error) {
	if r.Auth == "" {
		r.Auth = "client_secret_basic"
	}
	if r.GrantTypes == nil {
		r.GrantTypes = []string{"authorization_code", "refresh_token"}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return Client{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Base+"/reg", bytes.NewReader(body))
	if err != nil {
		return Client{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.settings.Registration)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CA)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return Client{}, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return Client{}, err
	}
	var c Client
	if err := json.Unmarshal(answer, &c); res.StatusCode != http.StatusCreated || err != nil || c.ID == "" {
		return Client{}, errors.Join(fmt.Errorf("registration: %s: %.500s", res.Status, answer), err)
	}
	return c, nil
}

// SignIn types the person's login into the page that b is at and agrees to whatever the client asks for, until the provider
// sends the browser back.
func (s *OIDC) SignIn(ctx context.Context, b Browser, p Person) (page string, err error) {
	if _, err := b.SubmitForm(ctx, "login", map[string]string{"login": p.Login, "password": p.Password}); err != nil {
		return "", fmt.Errorf("the login page: %w", err)
	}
	return b.SubmitForm(ctx, "prompt", nil)
}

// SignOut confirms on the page that b is at that the person wants to sign out at the provider too.
func (s *OIDC) SignOut(ctx context.Context, b Browser) (page string, err error) {
	return b.SubmitForm(ctx, "xsrf", map[string]string{"logout": ""})
}

// NeedOIDCProvider starts oidc-provider for a test, which is skipped or fails where it cannot be had (see need).
func NeedOIDCProvider(t TB, c OIDCConfig) *OIDC {
	t.Helper()
	s, err := OIDCProvider(t.Context(), c)
	need(t, "oidc-provider", err)
	t.Cleanup(s.Close)
	return s
}
