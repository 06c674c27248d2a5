package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// AuditEntry is one write that reached the API server, whoever made it and however it was answered.
type AuditEntry struct {
	ID          string // that the answer's header Audit-ID told
	User        string
	Groups      []string
	Verb        string // create, update, patch, delete or deletecollection
	APIGroup    string // "" for the core group
	Resource    string // plural, as in URLs
	Subresource string
	Namespace   string
	Name        string // "" where the server chose it, and for deletecollection
	Code        int    // HTTP status of the answer
	At          time.Time
}

// auditEvent is the part of audit.k8s.io/v1 Event that is read here.
type auditEvent struct {
	AuditID string `json:"auditID"`
	Stage   string `json:"stage"`
	Verb    string `json:"verb"`
	User    struct {
		Username string   `json:"username"`
		Groups   []string `json:"groups"`
	} `json:"user"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		APIGroup    string `json:"apiGroup"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
}

// Writes returns the writes that match, in the order in which they arrived; nil matches all. The API server notes a write
// before it acts on it but its answer a moment after the client has it, so Writes waits for answers still to come.
// The cluster must have been started with AuditPolicy.
func (c *Cluster) Writes(match func(AuditEntry) bool) ([]AuditEntry, error) {
	if !c.audit {
		return nil, errors.New("the cluster was started without AuditPolicy")
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		entries, pending, err := readAudit(filepath.Join(c.dir, "audit.log"))
		if err != nil {
			return nil, err
		}
		if pending == 0 || time.Now().After(deadline) {
			var matching []AuditEntry
			for _, e := range entries {
				if match == nil || match(e) {
					matching = append(matching, e)
				}
			}
			return matching, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// readAudit pairs the two entries of each request; pending counts those not answered yet.
func readAudit(path string) (entries []AuditEntry, pending int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil // nothing was written yet
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	at := map[string]int{} // audit id -> index in entries
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e auditEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			pending++ // half a line: the server is writing it
			continue
		}
		switch e.Stage {
		case "RequestReceived":
			at[e.AuditID] = len(entries)
			entries = append(entries, AuditEntry{
				ID: e.AuditID, User: e.User.Username, Groups: e.User.Groups, Verb: e.Verb,
				APIGroup: e.ObjectRef.APIGroup, Resource: e.ObjectRef.Resource, Subresource: e.ObjectRef.Subresource,
				Namespace: e.ObjectRef.Namespace, Name: e.ObjectRef.Name, At: e.RequestReceivedTimestamp,
			})
		case "ResponseComplete", "Panic":
			if i, ok := at[e.AuditID]; ok {
				entries[i].Code = e.ResponseStatus.Code
				if e.ObjectRef.Name != "" {
					entries[i].Name = e.ObjectRef.Name
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	for _, e := range entries {
		if e.Code == 0 {
			pending++
		}
	}
	return entries, pending, nil
}
