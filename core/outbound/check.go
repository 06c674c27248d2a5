package outbound

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/fleetpass/fleetpass/core"
)

// maxURL bounds an address, in bytes.
const maxURL = 2048

// Check says whether an address that the service itself would visit can be saved. It is https, on an allowed port, written in
// the one way that no two parsers read differently: ASCII, no user, no fragment, no backslash, an international name in its
// ASCII form, an IP address in its usual spelling. A literal address is judged here; what a name stands for is judged when it
// is dialled, each time. The error is core.Invalid and names the field.
func (c *Client) Check(field, address string) error {
	_, err := c.target(field, address)
	return err
}

// target is Check, and the host and port that a request to the address is for.
func (c *Client) target(field, address string) (string, error) {
	t, err := split(field, address)
	if err != nil {
		return "", err
	}
	if t.scheme != "https" {
		return "", core.BadField(field, "must begin with https://")
	}
	if !c.policy.port(t.port) {
		return "", core.BadField(field, fmt.Sprintf("has port %d; allowed are 443, 6443, 8443 and the ports that the operator adds (FLEETPASS_OUTBOUND_ALLOW)", t.port))
	}
	if t.address.IsValid() {
		if why := c.policy.judge(t.address); why != "" {
			return "", refusal(field, t.host, why)
		}
	} else if local(t.host) && !c.policy.loopback() {
		return "", refusal(field, t.host, "this machine's own name")
	}
	return net.JoinHostPort(t.host, strconv.Itoa(int(t.port))), nil
}

// CheckPage says whether an address that only browsers visit can be saved: an authorization endpoint, a page to sign out at.
// The service never goes there, so it may be anywhere; it is https, or http on this machine itself where the policy allows
// that, as in development. The error is core.Invalid and names the field.
func (c *Client) CheckPage(field, address string) error {
	t, err := split(field, address)
	if err != nil {
		return err
	}
	loopback := local(t.host) || t.address.Unmap().IsLoopback()
	if t.scheme != "https" && !(loopback && c.policy.loopback()) {
		return core.BadField(field, "must begin with https://")
	}
	return nil
}

// parts are what an address says about where it leads.
type parts struct {
	scheme  string     // https or http
	host    string     // a name, or an IP address without brackets
	address netip.Addr // valid: the host is this one
	port    uint16
}

// split reads an address in the strict way that Check describes.
func split(field, address string) (parts, error) {
	bad := func(fix string) (parts, error) { return parts{}, core.BadField(field, fix) }
	if address == "" {
		return bad("is missing; give an address that begins with https://")
	}
	if len(address) > maxURL {
		return bad(fmt.Sprintf("is longer than %d bytes", maxURL))
	}
	for i := range len(address) {
		if c := address[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\\\"<>^`{|}#", c) >= 0 {
			return bad(fmt.Sprintf("has a character that an address cannot have, or a fragment, at byte %d; write international names in their ASCII form (xn--…)", i+1))
		}
	}
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok || scheme != "https" && scheme != "http" {
		return bad("must begin with https://")
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority = rest[:i]
	}
	if strings.Contains(authority, "@") {
		return bad("must not have a user name or password")
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != scheme || u.Host != authority || u.User != nil || u.Opaque != "" {
		return bad("is not an address")
	}
	t := parts{scheme: scheme, port: 443}
	if scheme == "http" {
		t.port = 80
	}
	host, digits := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, digits = authority[:i], authority[i+1:]
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != digits {
			return bad("has a port that is no number from 1 to 65535")
		}
		t.port = uint16(n)
	}
	if t.host, t.address, ok = readHost(host); !ok {
		return bad("has a host that is neither a name (letters, digits and hyphens, no dot at the end) nor an IP address in its usual spelling")
	}
	if u.Hostname() != t.host || u.Port() != digits {
		return bad("is not an address")
	}
	return t, nil
}

// readHost reads a host. What ends in a number but is no IPv4 address in four decimal parts is refused, for resolvers take
// it for one: 2130706433, 0x7f.1 and 127.1 are all this machine (WHATWG URL §3.5, "ends in a number").
func readHost(s string) (host string, address netip.Addr, ok bool) {
	if inner, bracketed := strings.CutPrefix(s, "["); bracketed {
		inner, closed := strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return inner, a, closed && err == nil && a.Is6() && a.Zone() == ""
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return s, a, a.Is4()
	}
	if len(s) > 253 {
		return "", netip.Addr{}, false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", netip.Addr{}, false
		}
		for i := range len(label) {
			if c := label[i] | 0x20; (c < 'a' || c > 'z') && (label[i] < '0' || label[i] > '9') && label[i] != '-' && label[i] != '_' {
				return "", netip.Addr{}, false
			}
		}
		last = label
	}
	return s, netip.Addr{}, !numeric(last)
}

// numeric says whether a label is a number to somebody: decimal, octal or hexadecimal.
func numeric(label string) bool {
	if h := strings.ToLower(label); strings.HasPrefix(h, "0x") {
		return strings.Trim(h[2:], "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// local says whether a name is this machine's by definition (RFC 6761 §6.3).
func local(host string) bool {
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// refusal explains why an address is not visited. The address itself is not quoted where it was found by resolving a name:
// the answer of an internal resolver is nothing to tell to whoever can type a name.
func refusal(field, host, why string) error {
	return core.BadField(field, fmt.Sprintf("%s is %s; the operator of this service can allow private ranges (FLEETPASS_OUTBOUND_ALLOW)", host, why))
}
