package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/localdev/cluster"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// Tools are the programs that people of a story use.
type Tools struct {
	Fleetpass string // the command line, built from cmd/fleetpass
	Kubectl   string
}

// BuildCLI builds the command line into dir.
func BuildCLI(ctx context.Context, dir string) (string, error) {
	out := filepath.Join(dir, "fleetpass")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, "github.com/fleetpass/fleetpass/cmd/fleetpass")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the command line: %w: %s", err, msg)
	}
	return out, nil
}

// Person is somebody at a terminal of their own: a home, a kubeconfig and a browser that no other person shares.
type Person struct {
	stack.Person
	tools  Tools
	system *stack.Stack
	home   string
	browse func(ctx context.Context, address string) error // opens the address that login prints, and signs in there
}

// NewPerson gives somebody a terminal, with its files in dir.
func NewPerson(who stack.Person, dir string, tools Tools, system *stack.Stack) (*Person, error) {
	home := filepath.Join(dir, strings.Split(who.Email, "@")[0])
	p := &Person{Person: who, tools: tools, system: system, home: home}
	p.browse = p.signIn
	return p, os.MkdirAll(home, 0o700)
}

// commandWithin bounds one command: a hanging cluster must not hang a story.
const commandWithin = 40 * time.Second

func (p *Person) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{
		"HOME=" + p.home, "FLEETPASS_CONFIG_DIR=" + filepath.Join(p.home, "fleetpass"), "KUBECONFIG=" + filepath.Join(p.home, "kubeconfig"),
		"PATH=" + filepath.Dir(p.tools.Fleetpass) + string(os.PathListSeparator) + os.Getenv("PATH"), "NO_COLOR=1",
	}
	cmd.WaitDelay = time.Second
	return cmd
}

// Failed is a command that ended with an error, with what it said.
type Failed struct {
	Command string
	Stderr  string
	Err     error
}

func (e *Failed) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.Command, e.Err, strings.TrimSpace(e.Stderr))
}
func (e *Failed) Unwrap() error { return e.Err }

func (p *Person) run(ctx context.Context, program string, args ...string) (string, error) {
	ctx, done := context.WithTimeout(ctx, commandWithin)
	defer done()
	cmd := p.command(ctx, program, args...)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		return out.String(), &Failed{filepath.Base(program) + " " + strings.Join(args, " "), msg.String(), err}
	}
	return out.String(), nil
}

// Fleetpass runs the command line and returns its standard output.
func (p *Person) Fleetpass(ctx context.Context, args ...string) (string, error) {
	return p.run(ctx, p.tools.Fleetpass, args...)
}

// Kubectl runs kubectl in a context of the person's kubeconfig.
func (p *Person) Kubectl(ctx context.Context, kubeContext string, args ...string) (string, error) {
	return p.run(ctx, p.tools.Kubectl, append([]string{"--context", kubeContext}, args...)...)
}

// Login signs in as a person does: the command line prints an address, a browser opens it, the person types e-mail and
// password into the page that comes, and the browser is sent back to the command line.
func (p *Person) Login(ctx context.Context) error {
	return p.login(ctx, "login", "--server", p.system.OAuth.Issuer("acme"), "--ca", p.system.CAFile)
}

func (p *Person) login(ctx context.Context, args ...string) error {
	ctx, done := context.WithTimeout(ctx, commandWithin)
	defer done()
	cmd := p.command(ctx, p.tools.Fleetpass, append(args, "--no-browser")...)
	said, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(said)
	var heard strings.Builder
	var page error = errors.New("the command line printed no address")
	for lines.Scan() {
		heard.WriteString(lines.Text() + "\n")
		if i := strings.Index(lines.Text(), p.system.BrowserBase); i >= 0 {
			page = p.browse(ctx, strings.Fields(lines.Text()[i:])[0])
			break
		}
	}
	if page != nil {
		_ = cmd.Process.Kill() // it waits for a browser that will not come
		_ = cmd.Wait()
		return fmt.Errorf("signing in: %w: %s", page, heard.String())
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("fleetpass login: %w: %s%s", err, heard.String(), out.String())
	}
	return nil
}

func (p *Person) signIn(ctx context.Context, address string) error {
	b := NewBrowser(nil)
	if _, err := b.Visit(ctx, address); err != nil {
		return err
	}
	body, err := b.Submit(ctx, map[string]string{"username": p.Email, "password": p.Password})
	if err != nil {
		return err
	}
	if at, status := b.Page(); at.Hostname() != "127.0.0.1" || status != http.StatusOK {
		return fmt.Errorf("the browser ended at %s with status %d: %.300s", at.Host+at.Path, status, body)
	}
	return nil
}

// At presents a bearer token to a cluster's API server, as any HTTP client could.
type At struct {
	client *http.Client
	url    string
	token  string
}

// Present makes a client of a cluster that holds a token and nothing else.
func Present(c *cluster.Cluster, token string) *At {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CA())
	return &At{&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}, c.URL(), strings.TrimSpace(token)}
}

// Do sends a request and returns the answer's status and body.
func (a *At) Do(ctx context.Context, method, path, body string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+a.token)
	r.Header.Set("Content-Type", "application/json")
	res, err := a.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, string(data), err
}

// MayCreateJobs asks the API server itself (a SelfSubjectAccessReview).
func (a *At) MayCreateJobs(ctx context.Context, namespace string) (bool, error) {
	status, body, err := a.Do(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
		`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"namespace":"`+namespace+`","verb":"create","group":"batch","resource":"jobs"}}}`)
	if err != nil {
		return false, err
	}
	if status != http.StatusCreated {
		return false, fmt.Errorf("the API server answers %d: %.200s", status, body)
	}
	return strings.Contains(body, `"allowed":true`), nil
}
