package foreign

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"testing"
)

// startAll is every provider of the package.
var startAll = map[string]func(context.Context) (*front, string, error){
	"SimpleSAMLphp": func(ctx context.Context) (*front, string, error) { return samlFront(SimpleSAMLphp(ctx, SAMLConfig{})) },
	"LemonLDAP":     func(ctx context.Context) (*front, string, error) { return samlFront(LemonLDAP(ctx, SAMLConfig{})) },
	"OIDCProvider": func(ctx context.Context) (*front, string, error) {
		s, err := OIDCProvider(ctx, OIDCConfig{})
		if err != nil {
			return nil, "", err
		}
		return s.front, s.DiscoveryURL, nil
	},
}

func samlFront(s *SAML, err error) (*front, string, error) {
	if err != nil {
		return nil, "", err
	}
	return s.front, s.MetadataURL, nil
}

// Each says what it is over HTTPS, and leaves neither a process nor a file.
func TestStartAndClose(t *testing.T) {
	t.Parallel()
	for name, start := range startAll {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, address, err := start(t.Context())
			need(t, name, err)
			t.Cleanup(f.Close)
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(f.CA)
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
			res, err := client.Get(address)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("%s: %v, %v", address, res, err)
			}
			res.Body.Close()
			f.Close()
			f.Close() // does nothing
			for _, host := range []string{f.behind, f.Base[len("https://"):]} {
				if c, err := net.Dial("tcp", host); err == nil {
					c.Close()
					t.Errorf("somebody still listens at %s", host)
				}
			}
			if _, err := os.Stat(f.dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("its folder is still there: %v", err)
			}
		})
	}
}

// Where a provider cannot be had, the error says so, and is not the one of a provider that does not start.
func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for name, start := range startAll {
		if _, _, err := start(t.Context()); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: %v, want %v", name, err, ErrMissing)
		}
	}
}
