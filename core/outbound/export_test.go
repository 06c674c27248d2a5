package outbound

import (
	"context"
	"net/http"
	"net/netip"
	"time"
)

// Resolve makes c resolve names with f.
func (c *Client) Resolve(f func(ctx context.Context, host string) ([]netip.Addr, error)) {
	c.lookup = f
}

// Hurry shortens every limit in time to d, and the bodies to n bytes.
func (c *Client) Hurry(d time.Duration, n int64) {
	c.limits.total, c.limits.connect, c.limits.handshake, c.limits.header, c.limits.body = d, d, d, d, n
}

// Target is what Check judges: the host and the port that a request to the address is for.
func (c *Client) Target(address string) (string, error) { return c.target("url", address) }

// Judge says why a policy refuses an address; "" if it does not.
func (p Policy) Judge(a netip.Addr) string { return p.judge(a) }

// Pools is how many bundles of certificates c holds clients for.
func (c *Client) Pools() int { return len(c.pools) }

// MaxPools is how many Pools there are at most.
const MaxPools = maxPools

// Transport is what sends the requests of a client that HTTP returned.
func Transport(c *http.Client) *http.Transport { return c.Transport.(guard).next.(*http.Transport) }
