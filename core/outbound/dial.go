package outbound

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/fleetpass/fleetpass/core"
)

// lookup resolves a name to all its addresses.
type lookup func(ctx context.Context, host string) ([]netip.Addr, error)

func system(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// dial connects to a host, which was checked as it is written. The name is resolved once; every address must be one that may
// be visited, and one of these very addresses is dialled, so that a name that stands for something else a moment later (DNS
// rebinding) gains nothing. One refused address among several refuses the name: which of them is tried is not for a
// resolver's order to decide.
func (c *Client) dial(ctx context.Context, network, hostport string) (net.Conn, error) {
	host, digits, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, core.BadField("url", "has no host and port")
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || !c.policy.port(uint16(port)) {
		return nil, core.BadField("url", "has a port that is not allowed")
	}
	addresses, err := c.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: c.limits.connect, Control: c.control}
	for _, a := range addresses {
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, network, netip.AddrPortFrom(a, uint16(port)).String()); err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// resolve returns the addresses of a host, all of which may be visited.
func (c *Client) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	addresses := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addresses = append(addresses, a)
	} else if addresses, err = c.lookup(ctx, host); err != nil {
		return nil, err
	}
	for i, a := range addresses {
		addresses[i] = a.Unmap()
		if why := c.policy.judge(a); why != "" {
			return nil, refusal("url", host, why)
		}
	}
	if len(addresses) == 0 {
		return nil, say(core.Unavailable, "%s has no address", host)
	}
	return addresses, nil
}

// control judges once more what the kernel is about to be asked for: whatever came before, this is the address.
func (c *Client) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || c.policy.judge(to.Addr()) != "" || !c.policy.port(to.Port()) {
		return core.BadField("url", "leads to an address that is not allowed")
	}
	return nil
}
