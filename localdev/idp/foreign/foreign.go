// Package foreign starts identity providers that other people wrote, so that what this repository says about them is tried on
// the real ones: SimpleSAMLphp and LemonLDAP::NG as Debian ships them, and npm's oidc-provider. Each runs from a folder of its
// own that Close removes, leaves the machine's own set-up alone, and is reached over HTTPS through a proxy in this process,
// since our service asks nobody over plain HTTP. Whatever starts one names its people; it knows nobody else.
package foreign

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fleetpass/fleetpass/localdev/parts"
	"github.com/fleetpass/fleetpass/localdev/pki"
)

// ErrMissing says that this machine lacks what a provider is made of: nothing was tried that could have worked.
var ErrMissing = errors.New("not on this machine")

// Person is somebody whom a provider knows, with what it says about them under Fleetpass's default attribute names.
type Person struct {
	Login               string   `json:"login"` // what is typed
	Password            string   `json:"password"`
	Email               string   `json:"email"`
	FirstName           string   `json:"firstName"`
	LastName            string   `json:"lastName"`
	Groups              []string `json:"groups"`
	UID                 int64    `json:"uid"`
	GID                 int64    `json:"gid"`
	SupplementaryGroups []int64  `json:"supplementaryGroups"`
}

// Browser is what a person signs in with; an e2e.Browser is one.
type Browser interface {
	// SubmitForm fills in the form of the page that has the named field and sends it, as e2e.Browser's says.
	SubmitForm(ctx context.Context, field string, values map[string]string) (page string, err error)
}

// front is what our side of every provider has: a folder, and an address over TLS.
type front struct {
	Base string // https://127.0.0.1:PORT: another site than localhost, where our service is
	CA   []byte // PEM: the authority of Base

	dir    string
	behind string // host:port of the provider itself
	server *http.Server
	served sync.WaitGroup
	mu     sync.Mutex
	stop   func() // the provider
}

// newFront opens the proxy, so that the provider can be told its address before it starts.
func newFront(name string) (_ *front, err error) {
	f := &front{}
	if f.dir, err = os.MkdirTemp("", "fleetpass-"+name+"-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(f.dir)
		}
	}()
	authority, err := pki.Open("", "the identity providers of a test")
	if err != nil {
		return nil, err
	}
	f.CA = authority.PEM
	leaf, err := authority.Server(name, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	pair, err := leaf.Pair()
	if err != nil {
		return nil, err
	}
	port, err := parts.FreePort()
	if err != nil {
		return nil, err
	}
	f.behind = net.JoinHostPort("127.0.0.1", port)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.Base = "https://" + l.Addr().String()
	f.server = &http.Server{Handler: proxyTo(f.behind), ReadHeaderTimeout: 5 * time.Second, ErrorLog: silent}
	f.served.Go(func() {
		_ = f.server.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}))
	})
	return f, nil
}

// silent swallows what the proxy says of connections that a test drops.
var silent = log.New(new(bytes.Buffer), "", 0)

// proxyTo passes requests on as a TLS front in production does: with the host that the browser asked for, and X-Forwarded-*.
// Connections behind it are used once, since PHP's server works on one at a time.
func proxyTo(host string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: host})
			r.SetXForwarded()
			r.Out.Header.Set("X-Forwarded-Port", r.In.Host[strings.LastIndex(r.In.Host, ":")+1:])
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{DisableKeepAlives: true},
		ErrorLog:  silent,
	}
}

// Port is Base's: who is careful about whom it visits has to be told.
func (f *front) Port() uint16 {
	at, err := netip.ParseAddrPort(strings.TrimPrefix(f.Base, "https://"))
	if err != nil {
		panic(err) // newFront made it
	}
	return at.Port()
}

// port is where the provider itself is to listen, on 127.0.0.1.
func (f *front) port() string {
	_, port, _ := net.SplitHostPort(f.behind)
	return port
}

// Close ends the provider and removes its folder. A second call does nothing.
func (f *front) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.server.Close()
	f.served.Wait()
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
	_ = os.RemoveAll(f.dir)
}

// path is a path in the provider's folder.
func (f *front) path(elements ...string) string {
	return filepath.Join(append([]string{f.dir}, elements...)...)
}

// write writes files into the provider's folder, which nobody else may read: there are passwords and keys in it.
func (f *front) write(files map[string][]byte) error {
	for name, data := range files {
		if err := os.MkdirAll(filepath.Dir(f.path(name)), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(f.path(name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// unpack writes the files that are embedded below root.
func (f *front) unpack(files embed.FS, root string) error {
	sub, err := fs.Sub(files, root)
	if err != nil {
		return err
	}
	return os.CopyFS(f.dir, sub)
}

// signingPair makes the RSA key of a SAML provider, with its certificate, in PEM. (SAML providers sign with RSA.)
func signingPair(name string) (key, cert []byte, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// isOK is what a provider answers when it has started.
func isOK(status int) bool { return status == http.StatusOK }

// installed looks for files that a Debian package brings.
func installed(what string, files ...string) error {
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%s (%s): %w; on Debian run .ci/deps as root", what, file, ErrMissing)
		}
	}
	return nil
}

// TB is the part of testing.TB that is used here; naming it keeps package testing out of the programs that import this.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(f func())
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// need ends a test without a provider: it is skipped, loudly, where the machine has none; but where the environment variable
// CI is set it fails, since Debian and npm are all that it takes.
func need(t TB, name string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") != "" || !errors.Is(err, ErrMissing):
		t.Fatalf("%s does not start: %v", name, err)
	default:
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
}
