package outbound

import "net/netip"

// never are refused whatever the policy allows, and wherever they are embedded: they answer with the credentials of the
// machine, or with what leads to them. A range that an operator allows for the sake of an identity provider must not open
// these by the way.
var never = addresses(
	"169.254.169.254", "fd00:ec2::254", "fd20:ce::254", // instance metadata: AWS, Google, Azure and most others
	"169.254.170.2", "169.254.170.23", "fd00:ec2::23", // credentials of ECS and Lambda, of EKS pods
	"168.63.129.16",   // Azure's wire server
	"100.100.100.200", // Alibaba's metadata
	"192.0.0.192",     // Oracle's
)

// special are the ranges that no public service has (IANA's registries of special-purpose addresses, RFC 6890), each with
// what an administrator calls it.
var special = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a carrier's private address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},
	{netip.MustParsePrefix("0.0.0.0/8"), "an unspecified address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "a reserved address"},
	{netip.MustParsePrefix("192.0.2.0/24"), "an address for documentation"},
	{netip.MustParsePrefix("198.51.100.0/24"), "an address for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "an address for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a reserved address"},
	{netip.MustParsePrefix("198.18.0.0/15"), "an address for benchmarks"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("fc00::/7"), "a private address"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("2001::/23"), "a reserved address"}, // Teredo, benchmarking and other protocols' own
	{netip.MustParsePrefix("2001:db8::/32"), "an address for documentation"},
	{netip.MustParsePrefix("3fff::/20"), "an address for documentation"},
}

// Of IPv6 only global unicast is public at all (RFC 4291 §2.4), and what a NAT64 gateway makes public IPv4 out of.
var (
	global = netip.MustParsePrefix("2000::/3")
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 §2.1
	sixTo4 = netip.MustParsePrefix("2002::/16")    // RFC 3056 §2
)

// judge says why an address must not be dialled; "" if it may be.
func (p Policy) judge(a netip.Addr) string {
	if a.Zone() != "" {
		return "an address with a zone"
	}
	a = a.Unmap()
	inner := embedded(a)
	switch {
	case !a.IsValid():
		return "no address"
	case never[a] || never[inner]:
		return "an address at which a cloud hands out credentials, which is never allowed"
	case a.IsUnspecified() || a.IsMulticast():
		return "an unspecified or multicast address, which is never allowed"
	case p.allows(a):
		return ""
	}
	if why := reserved(a); why != "" {
		return why
	}
	if inner.IsValid() {
		return p.judge(inner)
	}
	return ""
}

func reserved(a netip.Addr) string {
	for _, s := range special {
		if s.prefix.Contains(a) {
			return s.name
		}
	}
	if a.Is6() && !global.Contains(a) && !nat64.Contains(a) {
		return "a reserved address"
	}
	return ""
}

// embedded is the IPv4 address that an IPv6 one leads to by way of a gateway; the zero Addr if it is no such address.
func embedded(a netip.Addr) netip.Addr {
	b := a.As16()
	switch {
	case !a.Is6():
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixTo4.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return netip.Addr{}
}

func addresses(all ...string) map[netip.Addr]bool {
	set := make(map[netip.Addr]bool, len(all))
	for _, a := range all {
		set[netip.MustParseAddr(a)] = true
	}
	return set
}
