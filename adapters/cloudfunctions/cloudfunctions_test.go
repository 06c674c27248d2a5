package cloudfunctions

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/fleetpass/fleetpass/core"
)

// The client's address is what the outermost trusted hop saw, and never what the client says.
func TestTrustedAddress(t *testing.T) {
	const peer = "10.0.0.1:5"
	for name, tt := range map[string]struct {
		forwarded []string
		hops      int
		want      string
	}{
		"none":                          {nil, 1, peer},
		"one":                           {[]string{"192.0.2.7"}, 1, "192.0.2.7:0"},
		"spoofed first":                 {[]string{"6.6.6.6, 192.0.2.7"}, 1, "192.0.2.7:0"},
		"spoofed header":                {[]string{"6.6.6.6", "192.0.2.7"}, 1, "192.0.2.7:0"},
		"six":                           {[]string{"2001:db8::7"}, 1, "[2001:db8::7]:0"},
		"not an address":                {[]string{"evil"}, 1, peer},
		"smuggled newlines":             {[]string{"192.0.2.7\r\nX: y"}, 1, peer},
		"a load balancer":               {[]string{"192.0.2.7, 35.191.0.1"}, 2, "192.0.2.7:0"},
		"a load balancer, not told":     {[]string{"192.0.2.7, 35.191.0.1"}, 1, "35.191.0.1:0"},
		"a load balancer, spoofed":      {[]string{"6.6.6.6, 192.0.2.7, 35.191.0.1"}, 2, "192.0.2.7:0"},
		"a load balancer, two headers":  {[]string{"6.6.6.6,192.0.2.7", "35.191.0.1"}, 2, "192.0.2.7:0"},
		"round the load balancer":       {[]string{"192.0.2.7"}, 2, peer},
		"round it, with nothing at all": {nil, 2, peer},
		"round it, with commas":         {[]string{","}, 2, peer},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		for _, f := range tt.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		if got := trusted(r, tt.hops).RemoteAddr; got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestTrustedHops(t *testing.T) {
	for s, want := range map[string]int{"": 1, "1": 1, "2": 2, "8": 8} {
		if n, err := TrustedHops(s); n != want || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"0", "-1", "9", "two", "1.5", " 1"} {
		var field *core.FieldError
		if n, err := TrustedHops(s); !errors.As(err, &field) || field.Field != "FLEETPASS_TRUSTED_HOPS" {
			t.Errorf("%q: %d, %v, want the variable named", s, n, err)
		}
	}
}
