package kube

import "sync"

// maxVersions bounds the memory of BootstrapVersion; it is simply begun again when it is full.
const maxVersions = 1000

var versions struct {
	mu sync.Mutex
	of map[Prefixes]string
}

// BootstrapVersion is the version of the manifest that Bootstrap makes. It is remembered for each pair of prefixes: whoever
// compares it with what a cluster has does so all the time, and to write the manifest takes longer than all the rest.
func BootstrapVersion(p Prefixes) (string, error) {
	versions.mu.Lock()
	v, known := versions.of[p]
	versions.mu.Unlock()
	if known {
		return v, nil
	}
	_, v, err := Bootstrap(p)
	if err != nil {
		return "", err
	}
	versions.mu.Lock()
	defer versions.mu.Unlock()
	if versions.of == nil || len(versions.of) >= maxVersions {
		versions.of = make(map[Prefixes]string)
	}
	versions.of[p] = v
	return v, nil
}
