package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// SetAuthentication replaces the cluster's AuthenticationConfiguration and returns once the running API server obeys it:
// about 10 s, since it asks only every so often whether a new issuer has answered, and a minute until it gives up on one
// that does not answer. A configuration that the API server refuses is an error, and the one before stays in force. A
// stopped cluster takes it when it is started.
func (c *Cluster) SetAuthentication(ctx context.Context, config []byte) error {
	old, err := os.ReadFile(filepath.Join(c.dir, "authentication.yaml"))
	if err == nil && bytes.Equal(old, config) {
		return nil // the API server would not reload it, so there is nothing to wait for
	}
	c.mu.Lock()
	running := c.api != nil && !c.api.ended()
	c.mu.Unlock()
	if !running {
		return c.write("authentication.yaml", config)
	}
	before, err := c.reloads(ctx)
	if err != nil {
		return err
	}
	if err := c.write("authentication.yaml", config); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		after, err := c.reloads(ctx)
		switch {
		case err != nil:
			return err
		case after.succeeded > before.succeeded:
			return nil
		case after.failed > before.failed:
			// The server tries again by itself each minute; put back what it obeys, so that file and server agree.
			return errors.Join(fmt.Errorf("the API server refused the authentication configuration: %s", c.refusal()), c.write("authentication.yaml", old))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the API server to reload its authentication configuration: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

type reloads struct{ succeeded, failed int }

var reloadMetric = regexp.MustCompile(`(?m)^apiserver_authentication_config_controller_automatic_reloads_total\{.*status="(success|failure)"\} (\d+)$`)

// reloads reads from the API server how often it has reloaded its authentication configuration.
func (c *Cluster) reloads(ctx context.Context) (r reloads, err error) {
	metrics, err := c.get(ctx, "/metrics")
	if err != nil {
		return r, err
	}
	for _, m := range reloadMetric.FindAllStringSubmatch(metrics, -1) {
		n, _ := strconv.Atoi(m[2])
		if m[1] == "success" {
			r.succeeded = n
		} else {
			r.failed = n
		}
	}
	return r, nil
}

// refusal finds the API server's reason in its log.
func (c *Cluster) refusal() string {
	c.mu.Lock()
	api := c.api
	c.mu.Unlock()
	if api == nil {
		return "it was stopped"
	}
	lines := strings.Split(api.lastWords(), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "authentication config") {
			return lines[i]
		}
	}
	return "see " + api.log
}
