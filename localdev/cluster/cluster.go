// Package cluster runs real Kubernetes API servers for tests and demos: a kube-apiserver and its etcd, built from source
// by Build, on free loopback ports. There is no node and no controller: objects are stored, authenticated, authorized,
// admitted and audited as in any cluster, but no pod ever runs, and aggregated ClusterRoles such as `edit` stay empty.
//
// The package knows nothing of Fleetpass. A ready cluster takes about 3 s and 300 MB.
package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say what to start. The zero value is a cluster in a temporary folder that trusts nobody but its administrator.
type Options struct {
	Name string // of the context in the administrator's kubeconfig; default "local"

	// Dir keeps the cluster's data, keys and logs; it is made if absent (0700). A folder that a cluster was started in
	// before gives the same cluster again, on the same port if that is free. Default: a temporary one, removed by Close.
	Dir string

	// AuthenticationConfig is an AuthenticationConfiguration of apiserver.config.k8s.io/v1. Default: no issuer.
	AuthenticationConfig []byte

	AuditPolicy bool      // record every write, so that Writes can count them
	Binaries    *Binaries // default: Build's
	Progress    io.Writer // of Build; may be nil
}

// Cluster is a running, or stopped, API server with its etcd. Its methods may be called from several goroutines.
type Cluster struct {
	name, dir string
	temporary bool
	audit     bool
	bin       Binaries
	port      int
	id        identity
	client    *http.Client

	mu        sync.Mutex // guards the two processes
	etcd, api *process
}

const (
	readyWithin   = 60 * time.Second // on a machine busy with other builds
	kubectlWithin = 30 * time.Second // if the caller's context has no deadline; a dead etcd makes kubectl hang for minutes
	apiGrace      = 8 * time.Second
	etcdGrace     = 3 * time.Second
)

const noAuthentication = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: []\n"

// Nothing reads this policy but Writes: one entry when a write arrives, one when it is answered, and nothing of reads.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
  omitStages: [ResponseStarted]
- level: None
`

// Start starts a cluster and returns when it is ready. The context bounds the starting only; Stop or Close ends it.
func Start(ctx context.Context, o Options) (_ *Cluster, err error) {
	c := &Cluster{name: o.Name, dir: o.Dir, audit: o.AuditPolicy}
	if c.name == "" {
		c.name = "local"
	}
	if o.Binaries != nil {
		c.bin = *o.Binaries
	} else if c.bin, err = Build(ctx, o.Progress); err != nil {
		return nil, err
	}
	if c.dir == "" {
		c.temporary = true
		if c.dir, err = os.MkdirTemp("", "fleetpass-cluster-"); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return nil, err
	}
	if c.id, err = writeIdentity(c.dir); err != nil {
		return nil, err
	}
	if c.client, err = c.id.client(); err != nil {
		return nil, err
	}
	authn := o.AuthenticationConfig
	if len(authn) == 0 {
		authn = []byte(noAuthentication)
	}
	if err := errors.Join(c.write("authentication.yaml", authn), c.write("audit-policy.yaml", []byte(auditPolicy))); err != nil {
		return nil, err
	}
	if data, err := os.ReadFile(filepath.Join(c.dir, "port")); err == nil {
		c.port, _ = strconv.Atoi(string(data))
	}
	// A port is only surely ours once the server listens on it: another process may take it in between, so try again.
	for try := 0; ; try++ {
		if c.port == 0 || try > 0 {
			if c.port, err = freePort(); err != nil {
				return nil, err
			}
		}
		if err = c.start(ctx); err == nil || try == 3 || !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.write("port", []byte(strconv.Itoa(c.port))), c.writeKubeconfig()); err != nil {
		return nil, err
	}
	return c, nil
}

var errPortTaken = errors.New("the port was taken by another process")

// freePort asks the kernel for a loopback port that is free now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Restart starts a stopped cluster again, with its data, on its port. It does nothing to one that runs.
func (c *Cluster) Restart(ctx context.Context) error {
	c.mu.Lock()
	running := c.api != nil && !c.api.ended()
	c.mu.Unlock()
	if running {
		return nil
	}
	c.Stop()
	return c.start(ctx)
}

// start starts both processes and waits until the API server is ready.
func (c *Cluster) start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	// etcd listens on sockets in the cluster's own folder, which is 0700: no port to race for, and nobody else on the
	// machine can talk to it. The ":0" is for etcd's flag parser and is part of the file names; relative names keep
	// clear of the 108 bytes that a socket's path may have. It never calls fsync: the data need not survive the machine.
	const client, peer = "unix://etcd.sock:0", "unix://peer.sock:0"
	if c.etcd, err = startProcess(c.dir, c.bin.Etcd,
		"--name=local", "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=local="+peer,
	); err != nil {
		return err
	}
	flags := []string{
		"--etcd-servers=" + client,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.port),
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=Node,RBAC", "--authentication-config=authentication.yaml",
		"--client-ca-file=ca.crt", "--tls-cert-file=serving.crt", "--tls-private-key-file=serving.key", "--cert-dir=.",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=sa.key", "--service-account-signing-key-file=sa.key",
		"--profiling=false", "--shutdown-delay-duration=0s", "--shutdown-watch-termination-grace-period=0s",
	}
	if c.audit {
		flags = append(flags, "--audit-policy-file=audit-policy.yaml", "--audit-log-path=audit.log", "--audit-log-mode=blocking")
	}
	if c.api, err = startProcess(c.dir, c.bin.KubeAPIServer, flags...); err != nil {
		c.stop()
		return err
	}
	if err := c.awaitReady(ctx); err != nil {
		c.stop()
		return err
	}
	return nil
}

func (c *Cluster) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := "it never answered"
	for {
		poll, done := context.WithTimeout(ctx, time.Second) // whoever took the port may accept and say nothing
		body, err := c.get(poll, "/readyz")
		done()
		if err == nil {
			return nil
		} else if body != "" {
			last = body
		}
		for _, p := range []*process{c.etcd, c.api} {
			if p.ended() {
				words := p.lastWords()
				if strings.Contains(words, "address already in use") {
					return fmt.Errorf("%w: %d", errPortTaken, c.port)
				}
				return fmt.Errorf("%s ended while starting (%s):\n%s", p.name, p.cmd.ProcessState, words)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cluster %s is not ready: %w: %s\n%s", c.name, ctx.Err(), last, c.api.lastWords())
		case <-tick.C:
		}
	}
}

// Stop ends the API server, then etcd: without etcd the API server would wait for it for minutes. Data and port stay, for
// Restart. Stopping twice is fine.
func (c *Cluster) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop()
}

func (c *Cluster) stop() {
	c.api.stop(apiGrace)
	c.etcd.stop(etcdGrace)
	c.api, c.etcd = nil, nil
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
}

// Close stops the cluster, and removes its folder if that is a temporary one.
func (c *Cluster) Close() {
	c.Stop()
	if c.temporary {
		_ = os.RemoveAll(c.dir)
	}
}

// URL is the API server's, with no slash at its end.
func (c *Cluster) URL() string { return "https://127.0.0.1:" + strconv.Itoa(c.port) }

// CA is the certificate, in PEM, that the API server's own is signed by.
func (c *Cluster) CA() []byte { return bytes.Clone(c.id.ca) }

// AdminKubeconfig is the path of a kubeconfig with a client certificate of system:masters.
func (c *Cluster) AdminKubeconfig() string { return filepath.Join(c.dir, "admin.kubeconfig") }

// AdminClient returns a client that the API server takes for system:masters.
func (c *Cluster) AdminClient() *http.Client { return c.client }

func (id identity) client() (*http.Client, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(id.ca) {
		return nil, errors.New("ca.crt holds no certificate")
	}
	return &http.Client{
		Timeout: kubectlWithin,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{id.admin}, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true,
		},
	}, nil
}

// get returns the body of a GET as the administrator; any status but 200 is an error.
func (c *Cluster) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL()+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return string(body), err
}

// Kubectl runs kubectl as the administrator, or with the kubeconfig named by a --kubeconfig argument, and returns what it
// printed on standard output. It sees none of the caller's own configuration. An error holds what it printed on
// standard error. It ends after 30 s if the context has no deadline.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, nil, args...)
}

// Apply gives manifests to `kubectl apply` as the administrator.
func (c *Cluster) Apply(ctx context.Context, manifests []byte) error {
	_, err := c.kubectl(ctx, bytes.NewReader(manifests), "apply", "-f", "-")
	return err
}

func (c *Cluster) kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, kubectlWithin)
		defer cancel()
	}
	home := filepath.Join(c.dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, c.bin.Kubectl, args...)
	cmd.WaitDelay = 2 * time.Second
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "USERPROFILE=" + home, "KUBECONFIG=" + c.AdminKubeconfig(), "PATH=" + os.Getenv("PATH")}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), errors.Join(err, ctx.Err()), strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func (c *Cluster) writeKubeconfig() error {
	key, err := x509.MarshalPKCS8PrivateKey(c.id.admin.PrivateKey)
	if err != nil {
		return err
	}
	type object = map[string]any
	encode := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	data, err := json.MarshalIndent(object{ // JSON is YAML
		"apiVersion": "v1", "kind": "Config", "current-context": c.name,
		"clusters": []object{{"name": c.name, "cluster": object{
			"server": c.URL(), "certificate-authority-data": base64.StdEncoding.EncodeToString(c.id.ca)}}},
		"users": []object{{"name": "admin", "user": object{
			"client-certificate-data": encode("CERTIFICATE", c.id.admin.Certificate[0]),
			"client-key-data":         encode("PRIVATE KEY", key)}}},
		"contexts": []object{{"name": c.name, "context": object{"cluster": c.name, "user": "admin"}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return c.write("admin.kubeconfig", data)
}

// write replaces a file of the cluster's folder in one step: the API server reads some of them at any time.
func (c *Cluster) write(name string, data []byte) error {
	f, err := os.CreateTemp(c.dir, "."+name+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(c.dir, name))
}
