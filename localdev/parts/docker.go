package parts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// dockerAnswers says whether a Docker daemon is there, in the time of one local request.
func dockerAnswers(ctx context.Context) bool {
	host := os.Getenv("DOCKER_HOST")
	if host == "" {
		host = "unix:///var/run/docker.sock"
	}
	u, err := url.Parse(host)
	if err != nil || u.Scheme != "unix" && u.Scheme != "tcp" {
		return false
	}
	address := u.Host
	if u.Scheme == "unix" {
		address = u.Path
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, u.Scheme, address)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// containerStart bounds the start of a container: the image may have to be fetched, and the program that does it be built.
const containerStart = 5 * time.Minute

// startContainer runs an image with the program in localdev/parts/containers, which is a module of its own so that the product
// does not depend on testcontainers-go. That program ends, and its container with it, when its standard input does: at the latest
// with this process, however it ends.
func startContainer(ctx context.Context, image, port string, args ...string) (host string, stop func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, containerStart)
	defer cancel()
	source, err := sourceDir(ctx)
	if err != nil {
		return "", nil, err
	}
	var said lastBytes
	// Testcontainers' own reaper is one more container, to end what a killed test leaves behind; that is seen to here.
	cmd := exec.Command("go", append([]string{"run", "-mod=readonly", ".", image, port}, args...)...)
	cmd.Dir = filepath.Join(source, "containers")
	cmd.Env = append(os.Environ(), "TESTCONTAINERS_RYUK_DISABLED=true", "GOFLAGS=", "GOWORK=off")
	cmd.Stderr = &said
	alive, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	answer, child, err := os.Pipe()
	if err != nil {
		return "", nil, err
	}
	defer answer.Close()
	cmd.Stdout = child
	if err := cmd.Start(); err != nil {
		child.Close()
		return "", nil, err
	}
	child.Close()
	stop = sync.OnceFunc(func() {
		alive.Close()
		_ = cmd.Wait() // the container is gone when it has ended
	})
	lines := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(answer).ReadString('\n')
		lines <- strings.TrimSpace(line)
	}()
	select {
	case host = <-lines:
	case <-ctx.Done():
	}
	if host == "" {
		stop()
		return "", nil, errors.Join(fmt.Errorf("container of %s: %s", image, said.String()), context.Cause(ctx))
	}
	return host, stop, nil
}
