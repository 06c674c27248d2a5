package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	awsevents "github.com/aws/aws-lambda-go/events"

	"github.com/fleetpass/fleetpass/functions"
	"github.com/fleetpass/fleetpass/localdev/runtimeapi"
)

// BenchmarkColdStart is the time from starting the process to its first answer, through the local Lambda Runtime API: of an
// empty Lambda (aws-lambda-go and nothing else), of one that only makes the SDK's clients, and of every function of the
// deployed binary, built for this machine. Each answers an event that asks nothing of the store, so that what is compared
// is the start. It reports medians, the ratio of each function to the clients, and the sizes of the binaries. What Lambda
// itself adds, to fetch the code and to make a sandbox, is in none of them.
func BenchmarkColdStart(b *testing.B) {
	type start struct {
		name, binary, handler string
		event                 []byte
		took                  []time.Duration
	}
	starts := []*start{
		{name: "empty", binary: sample(b, "empty"), event: []byte(`{}`)},
		{name: "clients", binary: sample(b, "clients"), event: []byte(`{}`)},
	}
	binary := build(b)
	for _, f := range functions.Table {
		var ev any
		switch f.Trigger {
		case functions.HTTP:
			for _, pattern := range f.Paths {
				if method, path, _ := strings.Cut(pattern, " "); strings.Contains(path, "{tenant}") {
					ev = get(method, strings.NewReplacer("{tenant}", "-", "{$}", "").Replace(path)) // which is no tenant's name
					break
				}
			}
		case functions.Stream:
			ev = awsevents.DynamoDBEvent{}
		case functions.Queue:
			ev = awsevents.SQSEvent{}
		case functions.Schedule:
			ev = struct{}{} // refused: it has no time
		}
		body, err := json.Marshal(ev)
		must(b, err)
		starts = append(starts, &start{name: f.Name, binary: binary, handler: f.Name, event: body})
	}
	round := func() { // one start of each, in turns, so that whatever else the machine does hits all alike
		for _, s := range starts {
			begin := time.Now()
			f, err := runtimeapi.Start(s.binary, s.handler, environment("http://127.0.0.1:9")...)
			must(b, err)
			_, err = f.Invoke(b.Context(), s.event)
			took := time.Since(begin)
			f.Close()
			if _, reported := err.(*runtimeapi.Error); err != nil && !reported {
				b.Fatalf("%s: %v", s.name, err)
			}
			s.took = append(s.took, took)
		}
	}
	round() // reads the files into memory
	for _, s := range starts {
		s.took = nil
	}
	for b.Loop() {
		round()
	}
	for len(starts[0].took) < 15 {
		round()
	}
	median := func(s *start) float64 {
		slices.Sort(s.took)
		return float64(s.took[len(s.took)/2].Microseconds()) / 1000
	}
	size := func(name, binary string) {
		info, err := os.Stat(binary)
		must(b, err)
		b.ReportMetric(float64(info.Size())/1e6, "MB/"+name)
	}
	for _, s := range starts {
		b.ReportMetric(median(s), "ms/"+s.name)
		if s.handler != "" {
			b.ReportMetric(median(s)/median(starts[1]), s.name+"-x/clients")
		}
	}
	size("empty", starts[0].binary)
	size("clients", starts[1].binary)
	size("fleetpass", binary)
	b.ReportMetric(0, "ns/op") // a round of all, which says nothing
}

// sample builds a program of localdev/runtimeapi/testdata as the binary is built.
func sample(b *testing.B, name string) string {
	b.Helper()
	out := filepath.Join(b.TempDir(), name)
	cmd := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", out, "../../localdev/runtimeapi/testdata/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, strings.TrimSpace(string(msg)))
	}
	return out
}
