package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// Binaries are the paths of the programs that a cluster is made of.
type Binaries struct {
	KubeAPIServer, Kubectl, Etcd string
}

// KubernetesVersion is the version of the API server and kubectl, as they report it.
const KubernetesVersion = "v1.36.3"

const mainModule = "github.com/fleetpass/fleetpass"

// stamp is what Kubernetes' own release build passes to the linker: without it the server calls itself v0.0.0-master, and
// kubectl warns about the difference.
const stamp = "-s -w" +
	" -X k8s.io/component-base/version.gitVersion=" + KubernetesVersion +
	" -X k8s.io/component-base/version.gitMajor=1" +
	" -X k8s.io/component-base/version.gitMinor=36" +
	" -X k8s.io/component-base/version.gitTreeState=clean"

// A recipe is one module of this folder and what to build of it.
type recipe struct {
	module   string // folder beside this file, with a go.mod of its own so that the product does not depend on Kubernetes
	what     string // for people
	ldflags  string
	programs map[string]string // file name -> package
}

var recipes = []recipe{
	{"etcd", "etcd", "-s -w", map[string]string{"etcd": "go.etcd.io/etcd/server/v3"}},
	{"kube", "kube-apiserver and kubectl " + KubernetesVersion, stamp, map[string]string{
		"kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
		"kubectl":        "k8s.io/kubernetes/cmd/kubectl",
	}},
}

// Build returns the programs, and builds them first if this version of them is not in the user's cache folder. That
// takes about five minutes and 1 GB of modules the first time on two cores, seconds while Go's own build cache is warm,
// and nothing after that. Only Go is needed: no C compiler, no git, no network beyond the module proxy.
//
// Progress, if not nil, gets a line when something begins, every ten seconds while it lasts, and when it is done. Of
// several processes one builds and the others wait for it.
func Build(ctx context.Context, progress io.Writer) (Binaries, error) {
	if progress == nil {
		progress = io.Discard
	}
	src, err := sourceDir(ctx)
	if err != nil {
		return Binaries{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Binaries{}, fmt.Errorf("no cache folder to build Kubernetes into: %w", err)
	}
	cache = filepath.Join(cache, "fleetpass")
	key, err := buildKey(src)
	if err != nil {
		return Binaries{}, err
	}
	dir := filepath.Join(cache, "kube-"+key)
	b := Binaries{
		KubeAPIServer: filepath.Join(dir, executable("kube-apiserver")),
		Kubectl:       filepath.Join(dir, executable("kubectl")),
		Etcd:          filepath.Join(dir, executable("etcd")),
	}
	if _, err := os.Stat(dir); err == nil { // renamed into place whole, or not there
		return b, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return Binaries{}, err
	}
	unlock, err := lockFile(ctx, filepath.Join(cache, "kube.lock"), progress)
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil { // another process built it meanwhile
		return b, nil
	}
	const unfinished = ".building-"
	left, _ := filepath.Glob(filepath.Join(cache, unfinished+"*")) // by builds that were killed: none runs now
	for _, dir := range left {
		_ = os.RemoveAll(dir)
	}
	tmp, err := os.MkdirTemp(cache, unfinished)
	if err != nil {
		return Binaries{}, err
	}
	defer os.RemoveAll(tmp)
	for _, r := range recipes {
		if err := r.build(ctx, filepath.Join(src, r.module), tmp, progress); err != nil {
			return Binaries{}, err
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return Binaries{}, err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return Binaries{}, err
	}
	return b, nil
}

func executable(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

// buildKey names the build by everything that decides it, so that a changed go.sum or flag never finds an old binary.
func buildKey(src string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.GOOS, runtime.GOARCH)
	for _, r := range recipes {
		fmt.Fprintln(h, r.module, r.ldflags, r.programs) // fmt prints maps in the order of their keys
		for _, name := range []string{"go.mod", "go.sum"} {
			data, err := os.ReadFile(filepath.Join(src, r.module, name))
			if err != nil {
				return "", fmt.Errorf("the recipe of %s: %w", r.what, err)
			}
			fmt.Fprintln(h, len(data))
			h.Write(data)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// sourceDir finds this folder. Its modules cannot be embedded, since go:embed does not cross a module boundary; so it is
// where the compiler saw it, or, in a binary built with -trimpath, where the go command finds our module from here.
func sourceDir(ctx context.Context) (string, error) {
	_, file, _, _ := runtime.Caller(0)
	if dir := filepath.Dir(file); isSource(dir) {
		return dir, nil
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", mainModule).Output()
	if dir := filepath.Join(strings.TrimSpace(string(out)), "localdev", "cluster"); err == nil && isSource(dir) {
		return dir, nil
	}
	return "", errors.New("cannot find the source folder localdev/cluster, which says how to build Kubernetes: run this inside a clone of the repository")
}

func isSource(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "kube", "go.sum"))
	return filepath.IsAbs(dir) && err == nil
}

// build runs `go build` in the recipe's module.
func (r recipe) build(ctx context.Context, module, out string, progress io.Writer) error {
	begun := time.Now()
	fmt.Fprintf(progress, "building %s from source (once; minutes if Go has not built it before)\n", r.what)
	for name, pkg := range r.programs {
		cmd := exec.CommandContext(ctx, "go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-v",
			"-ldflags", r.ldflags, "-o", filepath.Join(out, executable(name)), pkg)
		cmd.Dir = module
		// A GOFLAGS that is empty falls back to the one of `go env -w`, so it is set to what is said anyhow.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off", "PWD="+module)
		cmd.WaitDelay = 5 * time.Second
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // lets go remove its work folder
		var log tail
		cmd.Stdout, cmd.Stderr = &log, &log
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("building %s needs the go command: %w", r.what, err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
	wait:
		for {
			select {
			case err := <-done:
				if err != nil {
					return fmt.Errorf("building %s: %w\n%s", name, errors.Join(err, ctx.Err()), log.String())
				}
				break wait
			case <-tick.C:
				if lines, last := log.state(); lines == 0 {
					fmt.Fprintf(progress, "  %s: %s, nothing to compile yet: fetching modules, or linking\n", name, since(begun))
				} else {
					fmt.Fprintf(progress, "  %s: %s, %d packages compiled, the last was %s\n", name, since(begun), lines, last)
				}
			}
		}
	}
	fmt.Fprintf(progress, "built %s in %s\n", r.what, since(begun))
	return nil
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Second) }

// tail counts the lines written to it and keeps the last 4 KiB.
type tail struct {
	mu    sync.Mutex
	lines int
	text  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines += bytes.Count(p, []byte("\n"))
	t.text = append(t.text, p...)
	if n := len(t.text); n > 4096 {
		t.text = t.text[n-4096:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

func (t *tail) state() (lines int, last string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.TrimSpace(string(t.text))
	return t.lines, s[strings.LastIndexByte(s, '\n')+1:]
}

// lockFile takes the lock of a file, which ends with the process at the latest, and says so if it has to wait.
func lockFile(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	type result struct {
		unlock func()
		err    error
	}
	got := make(chan result, 1)
	go func() {
		unlock, err := lockedfile.MutexAt(path).Lock()
		got <- result{unlock, err}
	}()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	begun := time.Now()
	for {
		select {
		case r := <-got:
			return r.unlock, r.err
		case <-tick.C:
			fmt.Fprintf(progress, "  another process is building Kubernetes; waiting for it (%s)\n", since(begun))
		case <-ctx.Done():
			go func() { // the lock may still be granted: give it back
				if r := <-got; r.err == nil {
					r.unlock()
				}
			}()
			return nil, ctx.Err()
		}
	}
}
