package main

import (
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/directory"
	"github.com/fleetpass/fleetpass/localdev/runtimeapi"
)

// BenchmarkColdStart is the time from starting the process to its first answer, through the local Lambda Runtime API: of an
// empty Lambda (aws-lambda-go and nothing else), and of the deployed binary, built for this machine, answering a request for
// the keys and one for a token. It reports medians and their ratios to the empty one's. What Lambda itself adds, to fetch
// the code and to make a sandbox, is in none of them.
func BenchmarkColdStart(b *testing.B) {
	dir := b.TempDir()
	tenant(b, dir)
	binary, empty := build(b), filepath.Join(dir, "empty")
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", empty, "../../localdev/runtimeapi/testdata/empty")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	tokenRequest := get("POST", "/t/acme/token")
	tokenRequest.Headers["content-type"] = "application/x-www-form-urlencoded"
	tokenRequest.Body = application(b, dir).Encode()
	starts := []struct {
		name, binary, handler string
		event                 any
		env                   []string
		took                  []time.Duration
	}{
		{name: "empty", binary: empty, handler: "empty", event: struct{}{}},
		{name: "jwks", binary: binary, handler: "jwks", event: get("GET", "/t/acme/jwks"), env: environment(dir)},
		{name: "token", binary: binary, handler: "token", event: tokenRequest, env: environment(dir)},
	}
	round := func() { // one start of each, in turns, so that whatever else the machine does hits all alike
		for i := range starts {
			s := &starts[i]
			event, err := json.Marshal(s.event)
			must(b, err)
			begin := time.Now()
			f, err := runtimeapi.Start(s.binary, s.handler, s.env...)
			must(b, err)
			out, err := f.Invoke(b.Context(), event)
			took := time.Since(begin)
			f.Close()
			must(b, err)
			if !strings.Contains(string(out), `"statusCode":200`) {
				b.Fatalf("%s: %s", s.name, out)
			}
			s.took = append(s.took, took)
		}
	}
	round() // reads the files into memory; the first token of an hour also writes
	for i := range starts {
		starts[i].took = nil
	}
	for b.Loop() {
		round()
	}
	for len(starts[0].took) < 15 {
		round()
	}
	median := func(i int) float64 {
		slices.Sort(starts[i].took)
		return float64(starts[i].took[len(starts[i].took)/2].Microseconds()) / 1000
	}
	for i, s := range starts {
		b.ReportMetric(median(i), "ms/"+s.name)
		if i > 0 {
			b.ReportMetric(median(i)/median(0), s.name+"-x/empty")
		}
	}
	b.ReportMetric(0, "ns/op") // a round of all, which says nothing
}

// application registers one in the store of dir, and returns its token request.
func application(b *testing.B, dir string) url.Values {
	b.Helper()
	env := map[string]string{}
	for _, e := range environment(dir) {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	s, closeStore, err := wire(func(k string) string { return env[k] })
	must(b, err)
	defer func() { must(b, closeStore()) }()
	app, secret, err := s.Directory.CreateApplication(b.Context(), core.SystemActor("acme"), "acme", directory.NewApplication{Name: "robot"})
	must(b, err)
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {string(app.ID)}, "client_secret": {secret}}
}
