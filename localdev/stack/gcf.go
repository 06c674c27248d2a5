package stack

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	gosync "sync"
	"time"

	apiv1 "cloud.google.com/go/firestore/apiv1"

	"github.com/fleetpass/fleetpass/adapters/cloudtasks"
	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/adapters/gcpkms"
	"github.com/fleetpass/fleetpass/functions"
	"github.com/fleetpass/fleetpass/localdev/parts"
	cloudtasksstandin "github.com/fleetpass/fleetpass/localdev/standin/cloudtasks"
	gcpkmsstandin "github.com/fleetpass/fleetpass/localdev/standin/gcpkms"
)

// gcfRuntime runs Google's archive under the functions framework, a process for each function, over the Firestore emulator,
// and over what stands in for Cloud Tasks and Cloud KMS.
type gcfRuntime struct {
	dir string

	project   string // its own, wherever the emulator is
	db        *firestore.DB
	env       []string
	addresses map[string]string // of the functions, HOST:PORT
	local     locals
}

func (p *gcfRuntime) open(ctx context.Context, c *functions.Config) error {
	emulator, stop, err := parts.Firestore(ctx)
	if err != nil {
		return err
	}
	p.local.atClose(stop)
	p.project = "fleetpass-" + strings.ToLower(rand.Text()[:8])
	place := "projects/" + p.project + "/locations/local"
	ring, queueName := place+"/keyRings/fleetpass/cryptoKeys/", place+"/queues/fleetpass-sync"
	signingKey, macKey, ssoKey := ring+"signing", ring+"mac", ring+"sso"
	account := "tasks@" + p.project + ".example"
	client, err := apiv1.NewClient(ctx, firestore.Emulator(emulator)...)
	if err != nil {
		return err
	}
	p.local.atClose(func() { _ = client.Close() })
	p.db = firestore.New(client, p.project, firestore.DefaultDatabase, firestore.Options{})
	p.addresses = map[string]string{}
	for _, f := range functions.Table {
		if p.addresses[f.Name], err = freeAddress(); err != nil {
			return err
		}
	}
	keys, err := p.local.grpc(gcpkmsstandin.New(signingKey, macKey, ssoKey))
	if err != nil {
		return err
	}
	// As Terraform has it.
	tasks, err := p.local.grpc(cloudtasksstandin.New(cloudtasksstandin.Options{MinBackoff: time.Second, MaxBackoff: time.Minute}))
	if err != nil {
		return err
	}
	wrapping, err := gcpkms.Dial(ctx, keys)
	if err != nil {
		return err
	}
	p.local.atClose(func() { _ = wrapping.Close() })
	if c.Wrapper, err = gcpkms.New(wrapping, gcpkms.Config{Signing: signingKey, MAC: macKey, SSO: ssoKey}); err != nil {
		return err
	}
	queue, err := cloudtasks.Dial(ctx, tasks)
	if err != nil {
		return err
	}
	p.local.atClose(func() { _ = queue.Close() })
	url := "http://" + p.addresses["sync"]
	if c.Queue, err = cloudtasks.New(queue, cloudtasks.Config{Queue: queueName, URL: url, ServiceAccount: account}); err != nil {
		return err
	}
	c.DB = p.db
	p.env = append(common(*c, p.dir), "PATH="+os.Getenv("PATH"), "HOME="+p.dir,
		firestore.EmulatorVariable+"="+emulator, "FLEETPASS_KMS_EMULATOR_HOST="+keys, "CLOUD_TASKS_EMULATOR_HOST="+tasks,
		"FLEETPASS_PROJECT="+p.project, "FLEETPASS_KMS_SIGNING_KEY="+signingKey, "FLEETPASS_KMS_MAC_KEY="+macKey, "FLEETPASS_KMS_SSO_KEY="+ssoKey,
		"FLEETPASS_QUEUE="+queueName, "FLEETPASS_SYNC_URL="+url, "FLEETPASS_TASKS_ACCOUNT="+account)
	return nil
}

func (p *gcfRuntime) serve(ctx context.Context, s *Stack, running *gosync.WaitGroup) (http.Handler, error) {
	binary, err := p.build(ctx)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	for _, f := range functions.Table {
		if err := p.start(ctx, binary, f.Name); err != nil {
			return nil, fmt.Errorf("function %s: %w", f.Name, err)
		}
		target := &url.URL{Scheme: "http", Host: p.addresses[f.Name]}
		proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { // as the load balancer does
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			r.SetXForwarded()
		}}
		for _, pattern := range f.Paths {
			mux.Handle(pattern, proxy)
		}
		switch f.Trigger {
		case functions.Stream:
			running.Go(func() { p.carry(ctx, s, f.Name) })
		case functions.Schedule:
			running.Go(func() {
				s.every(ctx, func() {
					at := http.Header{"X-Cloudscheduler-Scheduletime": {time.Now().UTC().Format(time.RFC3339)}}
					if err := p.post(ctx, f.Name, at, nil); err != nil && ctx.Err() == nil {
						s.Log.Error("maintenance failed; it runs again in a minute", "error", err)
					}
				})
			})
		}
	}
	return mux, nil
}

// generated is the main that Google's buildpack writes beside the archive's own package.
const generated = `package main

import (
	"log"
	"os"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	_ "github.com/fleetpass/fleetpass"
)

func main() {
	if err := funcframework.StartHostPort("127.0.0.1", os.Getenv("PORT")); err != nil {
		log.Fatal(err)
	}
}
`

// build does with the archive what the buildpack does.
func (p *gcfRuntime) build(ctx context.Context) (binary string, err error) {
	artefact, err := unpacked(ctx, p.dir, "gcp.zip")
	if err != nil {
		return "", err
	}
	main := filepath.Join(artefact, "generated", "main.go")
	if err := os.MkdirAll(filepath.Dir(main), 0o700); err != nil {
		return "", err
	}
	if err := os.WriteFile(main, []byte(generated), 0o600); err != nil {
		return "", err
	}
	binary = filepath.Join(artefact, "serve")
	cmd := command(ctx, "go", "build", "-mod=vendor", "-trimpath", "-buildvcs=false", "-o", binary, "./generated")
	cmd.Dir, cmd.Env = artefact, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building gcp.zip: %w: %s", err, msg)
	}
	return binary, nil
}

// start starts one function and waits until it serves.
func (p *gcfRuntime) start(ctx context.Context, binary, function string) error {
	log, err := p.local.log(p.dir, function)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(p.addresses[function])
	if err != nil {
		return err
	}
	cmd := exec.Command(binary)
	cmd.Env = append([]string{"FUNCTION_TARGET=" + function, "K_SERVICE=" + function, "PORT=" + port}, p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	ended, err := parts.Start(cmd)
	if err != nil {
		return err
	}
	p.local.atClose(func() { _ = cmd.Process.Kill(); <-ended })
	ctx, done := context.WithTimeout(ctx, 30*time.Second)
	defer done()
	return awaitPort(ctx, p.addresses[function], ended)
}

// post calls a function as an event or a schedule does. An answer other than 2xx is an error.
func (p *gcfRuntime) post(ctx context.Context, function string, header http.Header, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.addresses[function]+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = header
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	says, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s: %s", function, res.Status, says)
	}
	return err
}

// carry hands new documents of the outbox to the function, as an Eventarc trigger does.
func (p *gcfRuntime) carry(ctx context.Context, s *Stack, function string) {
	failed := func(name string, attempt int, err error) {
		s.Log.Warn("an event failed and comes again", "event", name, "attempt", attempt, "error", err)
	}
	err := p.db.Feed(ctx, firestore.FeedOptions{Failed: failed}, func(ctx context.Context, name string, data []byte) error {
		subject := name[strings.Index(name, "documents/"):]
		return p.post(ctx, function, http.Header{ // a CloudEvent in binary mode
			"Content-Type": {firestore.ContentType}, "Ce-Specversion": {"1.0"}, "Ce-Id": {path.Base(name)}, "Ce-Type": {firestore.EventType},
			"Ce-Source": {"//firestore.googleapis.com/" + strings.TrimSuffix(name, "/"+subject)}, "Ce-Subject": {subject},
		}, data)
	})
	if ctx.Err() == nil {
		s.Log.Error("the change feed ended", "error", err)
	}
}

func (p *gcfRuntime) close() { p.local.close() }

// freeAddress is one that nobody listens at.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
