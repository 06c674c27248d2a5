// Package outbound is the one HTTP client for addresses that tenants choose: discovery documents, metadata, token endpoints.
// Whoever may type an address into a form could otherwise make the service fetch what only it can reach (server-side request
// forgery), so an address is judged twice: as it is written, when it is saved (Check), and as what it resolves to, at the
// moment of dialling (address.go, dial.go). The second judgement is the one that protects; the first explains.
//
// What comes back is bounded in time, in bytes and in redirects. Nothing is taken from the process's environment: no proxy,
// no cookies. What an answer means is the caller's affair.
package outbound

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/core"
)

// Policy is what an operator allows beyond the public internet on the usual ports.
type Policy struct {
	// Allow are address ranges that would be refused otherwise: private ones, where the identity providers of an
	// installation of one's own stand. The addresses at which clouds hand out credentials are refused whatever is here.
	Allow []netip.Prefix

	// Ports are allowed beside 443, 6443 and 8443.
	Ports []uint16
}

// usual are the ports of HTTPS, of Kubernetes API servers and of most identity providers out of the box.
var usual = []uint16{443, 6443, 8443}

// ParsePolicy reads a policy from the value of a setting, which errors name: address ranges and ports, separated by commas,
// such as "10.0.0.0/8,127.0.0.0/8,:8500". Empty is the policy that allows nothing more. An error is core.Invalid.
func ParsePolicy(field, s string) (Policy, error) {
	var p Policy
	for part := range strings.SplitSeq(s, ",") {
		switch part = strings.TrimSpace(part); {
		case part == "":
		case part[0] == ':' && !strings.HasPrefix(part, "::"):
			n, err := strconv.ParseUint(part[1:], 10, 16)
			if err != nil || n == 0 || strconv.FormatUint(n, 10) != part[1:] {
				return Policy{}, core.BadField(field, strconv.Quote(part)+" is no port; write one as :8500")
			}
			p.Ports = append(p.Ports, uint16(n))
		default:
			prefix, err := parsePrefix(part)
			if err != nil {
				return Policy{}, core.BadField(field, strconv.Quote(part)+" is neither an address range such as 10.0.0.0/8 nor a port such as :8500")
			}
			if prefix != prefix.Masked() {
				return Policy{}, core.BadField(field, strconv.Quote(part)+" names an address within a range; write "+prefix.Masked().String())
			}
			p.Allow = append(p.Allow, prefix)
		}
	}
	return p, nil
}

// String is the policy as ParsePolicy reads it.
func (p Policy) String() string {
	var parts []string
	for _, r := range p.Allow {
		parts = append(parts, r.String())
	}
	for _, n := range p.Ports {
		parts = append(parts, ":"+strconv.Itoa(int(n)))
	}
	return strings.Join(parts, ",")
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap().WithZone("")
	return a.Prefix(a.BitLen())
}

func (p Policy) port(n uint16) bool { return slices.Contains(usual, n) || slices.Contains(p.Ports, n) }

func (p Policy) allows(a netip.Addr) bool {
	return slices.ContainsFunc(p.Allow, func(r netip.Prefix) bool { return r.Contains(a) })
}

// loopback says whether the policy allows an address of the machine itself: it does in development.
func (p Policy) loopback() bool {
	return p.allows(netip.AddrFrom4([4]byte{127, 0, 0, 1})) || p.allows(netip.IPv6Loopback())
}

// limits bound one exchange, its redirects included. Tests shorten them.
type limits struct {
	total     time.Duration // from the first byte sent to the last received
	connect   time.Duration // of each address that is tried
	handshake time.Duration
	header    time.Duration // from the request to the end of the answer's header
	body      int64         // bytes
	head      int64         // bytes
	redirects int
}

var defaults = limits{
	total: 5 * time.Second, connect: 2 * time.Second, handshake: 3 * time.Second, header: 4 * time.Second,
	body: 1 << 20, head: 32 << 10, redirects: 3,
}

// Client sends requests within a Policy. It is for use by many goroutines; a process needs one.
type Client struct {
	policy Policy
	limits limits
	lookup lookup

	mu    sync.Mutex
	pools []pool // by CA, the one used last at the end
}

// New returns a client that keeps to a policy.
func New(p Policy) *Client {
	return &Client{policy: p, limits: defaults, lookup: system}
}
