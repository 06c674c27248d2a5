package outbound_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/outbound"
)

func policy(t testing.TB, s string) outbound.Policy {
	t.Helper()
	p, err := outbound.ParsePolicy("FLEETPASS_OUTBOUND_ALLOW", s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParsePolicy(t *testing.T) {
	p := policy(t, " 10.0.0.0/8,::1, 127.0.0.1 ,:8500")
	if len(p.Allow) != 3 || p.Allow[2] != netip.MustParsePrefix("127.0.0.1/32") || len(p.Ports) != 1 || p.Ports[0] != 8500 {
		t.Errorf("got %+v", p)
	}
	if p := policy(t, ""); len(p.Allow)+len(p.Ports) != 0 {
		t.Errorf("empty: %+v", p)
	}
	for _, s := range []string{"10.0.0.1/8", "10.0.0.0/33", ":0", ":65536", ":080", "8500", "intranet", ":+1"} {
		if _, err := outbound.ParsePolicy("FLEETPASS_OUTBOUND_ALLOW", s); !errors.Is(err, core.Invalid) || !strings.Contains(err.Error(), "FLEETPASS_OUTBOUND_ALLOW") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// NET-001, NET-005: what an address may look like.
func TestCheck(t *testing.T) {
	c := outbound.New(outbound.Policy{})
	for _, good := range []string{
		"https://idp.example.com", "https://idp.example.com/", "https://IdP.example.com/a/b%2Fc?d=e&f=%00", "https://idp.example.com:443/x",
		"https://api.cluster.example.com:6443", "https://keycloak.example.com:8443/realms/a", "https://xn--bcher-kva.example/", "https://8.8.8.8/",
		"https://[2606:4700:4700::1111]:443/", "https://a_b.example.com/", "https://1.example.com", "https://idp.example.com?x=https://a@b/",
	} {
		if err := c.Check("discoveryUrl", good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		// Nothing, or no address.
		"", "idp.example.com", "//idp.example.com", "https:idp.example.com", "https:///x", "https://", "https://:443/", "https:/idp.example.com",
		// Another scheme, or one spelt so that only some parsers know it.
		"http://idp.example.com", "HTTPS://idp.example.com", "ftp://idp.example.com", "file:///etc/passwd", "gopher://idp.example.com",
		// Parsers disagree about these (NET-005).
		"https://good.example#@evil.example/", "https://good.example\\@evil.example/", "https://good.example/\\evil", "https://good.example\t/",
		"https://good.example%00.evil.example/", "https://good.example%2eevil/", "https://good.example /", " https://good.example/", "https://good.example/\x00",
		"https://bücher.example/", "https://good.example./", "https://user@good.example/", "https://user:pass@good.example/", "https://@good.example/",
		"https://good.example/#fragment", "https://good..example/", "https://.good.example/", "https://-good.example/", "https://good.example;evil/",
		"https://good,evil/", "https://good.example/%zz", "https://[good.example]/", "https://go*d.example/",
		// Ports.
		"https://good.example:22/", "https://good.example:25/", "https://good.example:6379/", "https://good.example:0443/", "https://good.example:/",
		"https://good.example:+443/", "https://good.example:65979/", "https://good.example:443:443/", "https://good.example:0/",
		// Literal addresses in every spelling (NET-001).
		"https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://0x7f.0.0.1/", "https://127.0.0.01/",
		"https://0/", "https://0.0.0.0/", "https://10.0.0.1/", "https://172.16.0.1/", "https://192.168.1.1/", "https://100.64.0.1/", "https://169.254.169.254/",
		"https://169.254.170.2/", "https://2852039166/", "https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/",
		"https://[::127.0.0.1]/", "https://[fe80::1]/", "https://[fe80::1%25eth0]/", "https://[fd00:ec2::254]/", "https://[64:ff9b::a9fe:a9fe]/",
		"https://[2002:a9fe:a9fe::]/", "https://[2002:0a00:0001::1]/", "https://[ff02::1]/", "https://224.0.0.1/", "https://255.255.255.255/", "https://[fc00::1]/",
		"https://localhost/", "https://LOCALHOST/", "https://a.localhost:8443/", "https://127.0.0.1./", "https://1.2.3.4.5/", "https://a.0x1/",
		"https://" + strings.Repeat("a", 64) + ".example/", "https://good.example/" + strings.Repeat("a", 2048),
	} {
		err := c.Check("discoveryUrl", bad)
		var field *core.FieldError
		if !errors.As(err, &field) || field.Field != "discoveryUrl" {
			t.Errorf("%q: %v, want it refused by name", bad, err)
		}
	}
}

// NET-001: which addresses are dialled, and that no policy opens those that hand out credentials.
func TestJudge(t *testing.T) {
	wide := policy(t, "0.0.0.0/0,::/0")
	lan := policy(t, "10.0.0.0/8,fd00::/8")
	for _, tt := range []struct {
		address             string
		public, onLAN, wide bool
	}{
		{"8.8.8.8", true, true, true},
		{"2606:4700:4700::1111", true, true, true},
		{"::ffff:8.8.8.8", true, true, true},
		{"64:ff9b::808:808", true, true, true}, // NAT64 of a public one
		{"10.1.2.3", false, true, true},
		{"::ffff:10.1.2.3", false, true, true},
		{"64:ff9b::a01:203", false, true, true},
		{"2002:a01:203::1", false, true, true},
		{"fd12::1", false, true, true},
		{"192.168.0.1", false, false, true},
		{"127.0.0.1", false, false, true},
		{"::1", false, false, true},
		{"100.64.0.1", false, false, true},
		{"198.18.0.1", false, false, true},
		{"192.0.2.1", false, false, true},
		{"240.0.0.1", false, false, true},
		{"169.254.1.1", false, false, true},
		{"fe80::1", false, false, true},
		{"fec0::1", false, false, true},
		{"2001::1", false, false, true}, // Teredo
		{"2001:db8::1", false, false, true},
		{"64:ff9b:1::a00:1", false, false, true},
		{"::7f00:1", false, false, true},
		{"0.0.0.0", false, false, false},
		{"::", false, false, false},
		{"224.0.0.1", false, false, false},
		{"ff02::1", false, false, false},
		{"169.254.169.254", false, false, false},
		{"::ffff:169.254.169.254", false, false, false},
		{"64:ff9b::a9fe:a9fe", false, false, false},
		{"2002:a9fe:a9fe::1", false, false, false},
		{"169.254.170.2", false, false, false},
		{"fd00:ec2::254", false, false, false},
		{"168.63.129.16", false, false, false},
		{"fe80::1%eth0", false, false, false},
	} {
		a := netip.MustParseAddr(tt.address)
		for name, p := range map[string]struct {
			policy outbound.Policy
			want   bool
		}{"nothing allowed": {outbound.Policy{}, tt.public}, "10/8 and fd00::/8": {lan, tt.onLAN}, "everything": {wide, tt.wide}} {
			if why := p.policy.Judge(a); (why == "") != p.want {
				t.Errorf("%s with %s: %q, want allowed=%v", a, name, why, p.want)
			}
		}
	}
	// Naming the very address does not help either.
	if policy(t, "169.254.169.254").Judge(netip.MustParseAddr("169.254.169.254")) == "" {
		t.Error("the metadata address was allowed by name")
	}
}

func TestCheckPage(t *testing.T) {
	strict, dev := outbound.New(outbound.Policy{}), outbound.New(policy(t, "127.0.0.0/8"))
	for _, tt := range []struct {
		address   string
		ok, inDev bool
	}{
		{"https://login.example.com/authorize?p=1", true, true},
		{"https://intranet:9443/", true, true}, // only browsers go there
		{"https://10.0.0.1/", true, true},
		{"http://localhost:8500/authorize", false, true},
		{"http://127.0.0.1:8500/authorize", false, true},
		{"http://login.example.com/", false, false},
		{"http://localhost.example.com/", false, false},
		{"javascript:alert(1)", false, false},
		{"https://user@login.example.com/", false, false},
		{"https://login.example.com/#x", false, false},
		{"https://login.example.com\\@evil/", false, false},
		{"", false, false},
	} {
		if err := strict.CheckPage("u", tt.address); (err == nil) != tt.ok {
			t.Errorf("%q: %v", tt.address, err)
		}
		if err := dev.CheckPage("u", tt.address); (err == nil) != tt.inDev {
			t.Errorf("%q in development: %v", tt.address, err)
		}
	}
}

// NET-005: whatever Check accepts, the host that net/http would dial is the one that was judged.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		"https://idp.example.com/x", "https://a@b", "https://a#@b", "https://a\\@b", "https://[::1]:443/", "https://2130706433", "https://a%00b/", "https://xn--a.b:8443?x",
		"https://a.b./", "https://0x7f.1/", "https://A.b:443", "https://[::ffff:1.2.3.4]", "https://1.2.3.4:6443/..//x",
	} {
		f.Add(seed)
	}
	c := outbound.New(policy(f, "0.0.0.0/0,::/0"))
	errDialled := errors.New("enough")
	f.Fuzz(func(t *testing.T, address string) {
		want, err := c.Target(address)
		if err != nil {
			if !errors.Is(err, core.Invalid) {
				t.Fatalf("%q: %v", address, err)
			}
			return
		}
		var dialled string
		transport := &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			dialled = addr
			return nil, errDialled
		}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatalf("%q is accepted, and net/http does not take it: %v", address, err)
		}
		if _, err := transport.RoundTrip(request); !errors.Is(err, errDialled) {
			t.Fatalf("%q: %v", address, err)
		}
		if dialled != want {
			t.Fatalf("%q: judged %q, dialled %q", address, want, dialled)
		}
	})
}

// What a policy says of itself is the policy: a process can hand it on to another.
func TestPolicyString(t *testing.T) {
	for _, s := range []string{"", "10.0.0.0/8", "127.0.0.0/8,::1/128,:8500,:9443", ":1"} {
		p, err := outbound.ParsePolicy("x", s)
		if err != nil || p.String() != s {
			t.Errorf("%q became %q, %v", s, p, err)
		}
	}
}
