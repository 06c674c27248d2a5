package outbound

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// The bounds of what is kept per bundle of certificates.
const (
	maxPools = 32       // bundles that connections are kept open for
	maxCA    = 64 << 10 // bytes of one bundle
)

// pool is the client for the providers of one bundle of certificates.
type pool struct {
	ca     [sha256.Size]byte
	client *http.Client
	idle   func()
}

// HTTP returns a client that verifies servers with the certificates in ca, PEM, beside the system's own. All that it sends
// and receives is bounded as the package says: 5 seconds in all, a body of 1 MiB (reading on is core.TooLarge), at most 3
// redirects of a GET, each judged like a first address. It carries no Authorization to another host and follows no redirect
// of a request with a body, which may hold a secret. An address that is refused is core.Invalid, wrapped in the client's own
// error. Certificates that cannot be read are core.Invalid naming `ca`.
func (c *Client) HTTP(ca string) (*http.Client, error) {
	key := sha256.Sum256([]byte(ca))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.pools {
		if p.ca == key {
			c.pools = append(append(c.pools[:i:i], c.pools[i+1:]...), p)
			return p.client, nil
		}
	}
	roots, err := Roots("ca", ca)
	if err != nil {
		return nil, err
	}
	if len(c.pools) == maxPools {
		c.pools[0].idle()
		c.pools = c.pools[1:]
	}
	p := c.pool(key, roots)
	c.pools = append(c.pools, p)
	return p.client, nil
}

// Roots returns the system's certificates and those in ca, PEM; nil, which means the system's, if ca is empty. Anything in
// ca but certificates is core.Invalid naming the field.
func Roots(field, ca string) (*x509.CertPool, error) {
	if strings.TrimSpace(ca) == "" {
		return nil, nil
	}
	if len(ca) > maxCA {
		return nil, core.BadField(field, fmt.Sprintf("is over %d bytes; give only the certificates of the provider's own authority", maxCA))
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // an image without certificates
	}
	for rest := []byte(ca); strings.TrimSpace(string(rest)) != ""; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, core.BadField(field, "must hold PEM certificates (-----BEGIN CERTIFICATE-----) and nothing else")
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, core.BadField(field, "has a certificate that cannot be read")
		}
		roots.AddCert(certificate)
	}
	return roots, nil
}

func (c *Client) pool(key [sha256.Size]byte, roots *x509.CertPool) pool {
	transport := &http.Transport{
		DialContext:            c.dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    c.limits.handshake,
		ResponseHeaderTimeout:  c.limits.header,
		MaxResponseHeaderBytes: c.limits.head,
		DisableCompression:     true, // a few bytes would become many
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           16,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        20 * time.Second, // a function that is frozen in between comes back to dead connections
	}
	client := &http.Client{Transport: guard{c, transport}, CheckRedirect: c.redirect, Timeout: c.limits.total}
	return pool{key, client, transport.CloseIdleConnections}
}

// guard judges every request, of whoever uses the client, and bounds the answer's body.
type guard struct {
	client *Client
	next   http.RoundTripper
}

func (g guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.check(r); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	answer, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &bounded{answer.Body, r.Context(), g.client.limits.body}
	return answer, nil
}

func (g guard) check(r *http.Request) error {
	t, err := split("url", r.URL.String())
	if err != nil {
		return err
	}
	if t.host != r.URL.Hostname() || r.Host != "" && r.Host != r.URL.Host {
		return core.BadField("url", "is not an address")
	}
	return g.client.Check("url", r.URL.String())
}

// redirect says whether a redirect is followed.
func (c *Client) redirect(next *http.Request, via []*http.Request) error {
	if len(via) > c.limits.redirects {
		return say(core.Unavailable, "%s redirects more than %d times", via[0].URL.Host, c.limits.redirects)
	}
	if first := via[0].Method; first != http.MethodGet && first != http.MethodHead {
		return say(core.Unavailable, "%s redirects a %s request; configure the address that it redirects to", via[0].URL.Host, first)
	}
	// net/http carries these to a host below the first one, and to another port of it.
	for _, v := range via {
		if v.URL.Host != next.URL.Host {
			next.Header.Del("Authorization")
			next.Header.Del("Cookie")
		}
	}
	return c.Check("url", next.URL.String())
}

// bounded is a body of which only so many bytes can be read. One that ends after the time for it has ended is no whole one:
// a server that sees us hang up may close it properly, in the moment in which we are still listening.
type bounded struct {
	io.ReadCloser
	ctx  context.Context // the request's
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, errTooLarge
	}
	if err == io.EOF && b.ctx.Err() != nil {
		err = b.ctx.Err()
	}
	return n, err
}

var errTooLarge = say(core.TooLarge, "the answer is over its bound")

// sentence is an error for people, found again inside the errors that net/http wraps around it.
type sentence struct {
	text string
	kind core.Kind
}

func say(kind core.Kind, format string, args ...any) error {
	return &sentence{fmt.Sprintf(format, args...), kind}
}

func (s *sentence) Error() string { return s.text + ": " + string(s.kind) }
func (s *sentence) Unwrap() error { return s.kind }

// Get fetches a document. An error is a sentence for whoever gave the address, and quotes nothing of the answer: core.Invalid
// for an address or certificates that are refused, core.Unavailable where there is no answer or one that is not 200 OK,
// core.TooLarge.
func (c *Client) Get(ctx context.Context, url, ca string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, c.unreadable(url)
	}
	status, body, err := c.Send(request, ca)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, say(core.Unavailable, "%s answered %s where 200 OK was expected", request.URL.Host, plain(status))
	}
	return body, nil
}

// unreadable is the error of an address that net/http does not even take.
func (c *Client) unreadable(url string) error {
	if err := c.Check("url", url); err != nil {
		return err
	}
	return core.BadField("url", "is not an address")
}

// Send sends a request and reads the whole answer, of whatever status. Errors are those of Get, and quote nothing of the
// request but its host.
func (c *Client) Send(r *http.Request, ca string) (status int, body []byte, err error) {
	client, err := c.HTTP(ca)
	if err != nil {
		return 0, nil, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, nil, c.explain(r.URL.Host, err)
	}
	defer answer.Body.Close()
	if body, err = io.ReadAll(answer.Body); err != nil {
		return 0, nil, c.explain(r.URL.Host, err)
	}
	return answer.StatusCode, body, nil
}

// explain says in plain words why an exchange failed. The cause is not wrapped: errors of net/http quote whole addresses.
func (c *Client) explain(host string, err error) error {
	var (
		field       *core.FieldError
		own         *sentence
		authority   x509.UnknownAuthorityError
		name        x509.HostnameError
		certificate *tls.CertificateVerificationError
		resolution  *net.DNSError
		timeout     net.Error
	)
	why := "does not answer"
	switch {
	case errors.As(err, &field):
		return field
	case errors.Is(err, core.TooLarge):
		return say(core.TooLarge, "%s answered with more than %d bytes", host, c.limits.body)
	case errors.As(err, &own):
		return own
	case errors.Is(err, context.Canceled):
		why = "was not waited for"
	case errors.As(err, &authority):
		why = "has a certificate of an authority that is not trusted; give the authority's certificate with the connection"
	case errors.As(err, &name):
		why = "has a certificate for another name"
	case errors.As(err, &certificate):
		why = "has a certificate that does not verify: it may have expired"
	case errors.As(err, &resolution):
		why = "is a name that cannot be resolved"
	case errors.As(err, &timeout) && timeout.Timeout():
		why = fmt.Sprintf("did not answer within %s", c.limits.total)
	}
	return say(core.Unavailable, "%s %s", host, why)
}

func plain(status int) string {
	if text := http.StatusText(status); text != "" {
		return fmt.Sprintf("%d %s", status, text)
	}
	return fmt.Sprint(status)
}
