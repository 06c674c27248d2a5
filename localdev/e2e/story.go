package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/localdev/cluster"
	"github.com/fleetpass/fleetpass/localdev/stack"
)

// Fleet is a seeded system whose clusters have joined.
type Fleet struct {
	System     *stack.Stack
	Seed       stack.Seed
	East, West *cluster.Cluster // gpu-east has team-a and team-b, gpu-west has vision
	Tools      Tools
	Dir        string // for the people's files
}

// Figures are what a story measured.
type Figures struct {
	Grant, Revoke time.Duration // from typing the command to the API server's first other answer
	CatchUp       time.Duration // from a cluster's return to its obeying what was decided meanwhile
}

// effectWithin is how long a change may take to show. It is generous: what is measured is printed.
const effectWithin = 30 * time.Second

// story is one telling.
type story struct {
	Fleet
	out     io.Writer
	figures Figures
	admin   *Person
	ada     *Person
	rule    string // the grant that is made and taken back
}

// Story tells the main story on real parts and checks every step. It stops at the first that does not hold.
func Story(ctx context.Context, f Fleet, out io.Writer) (Figures, error) {
	s := &story{Fleet: f, out: out}
	for i, step := range []struct {
		says string
		do   func(context.Context) error
	}{
		{"a researcher and an administrator sign in through the browser", s.signIn},
		{"kubectl auth whoami, on both clusters: the prefixed e-mail and group", s.whoAmI},
		{"the researcher may not create a Job in team-a", s.refusedBefore},
		{"the administrator grants L1 researcher in team-a: allowed there, within moments", s.grant},
		{"still refused in the next project, and on the other cluster", s.refusedElsewhere},
		{"the grant is deleted: refused again, within moments", s.revoke},
		{"a binding edited by hand is put back, a foreign binding is left alone", s.drift},
		{"a token for gpu-east means nothing to gpu-west (401)", s.audience},
		{"gpu-west is stopped; meanwhile one grant is made and one is taken back; it returns and catches up", s.outage},
	} {
		fmt.Fprintf(out, "%2d. %s\n", i+1, step.says)
		if err := step.do(ctx); err != nil {
			return s.figures, fmt.Errorf("step %d (%s): %w", i+1, step.says, err)
		}
	}
	return s.figures, nil
}

func (s *story) note(format string, args ...any) { fmt.Fprintf(s.out, "      "+format+"\n", args...) }

func (s *story) signIn(ctx context.Context) (err error) {
	if s.ada, err = NewPerson(s.Seed.Researcher, s.Dir, s.Tools, s.System); err != nil {
		return err
	}
	if s.admin, err = NewPerson(s.Seed.Admin, s.Dir, s.Tools, s.System); err != nil {
		return err
	}
	for _, p := range []*Person{s.ada, s.admin} {
		if err := p.Login(ctx); err != nil {
			return err
		}
	}
	_, err = s.ada.Fleetpass(ctx, "kubeconfig", "--merge")
	return err
}

func (s *story) whoAmI(ctx context.Context) error {
	for _, c := range s.Seed.Clusters {
		out, err := s.ada.Kubectl(ctx, c.Name, "auth", "whoami", "-o", "json")
		if err != nil {
			return err
		}
		var review struct {
			Status struct {
				UserInfo struct {
					Username string
					Groups   []string
					Extra    map[string][]string
				}
			}
		}
		if err := json.Unmarshal([]byte(out), &review); err != nil {
			return err
		}
		u := review.Status.UserInfo
		if u.Username != "fleetpass:"+s.ada.Email || !slices.Contains(u.Groups, "fleetpass:"+s.Seed.Group) {
			return fmt.Errorf("%s sees %s", c.Name, out)
		}
		if got := u.Extra["fleetpass.dev/uid"]; !slices.Equal(got, []string{"15001"}) {
			return fmt.Errorf("%s: the UID is %v", c.Name, got)
		}
		s.note("%s: %s, groups %s, UID %s", c.Name, u.Username, strings.Join(u.Groups, " "), strings.Join(u.Extra["fleetpass.dev/uid"], ""))
	}
	return nil
}

// createJob has the researcher create a Job with kubectl, for real.
func (s *story) createJob(ctx context.Context, kubeContext, project string) error {
	_, err := s.ada.Kubectl(ctx, kubeContext, "create", "job", "train-"+fmt.Sprint(time.Now().UnixNano()), "-n", stack.Namespace(project), "--image=registry.example/train")
	return err
}

// refused wants the API server's own refusal, not any failure.
func (s *story) refused(ctx context.Context, kubeContext, project string) error {
	err := s.createJob(ctx, kubeContext, project)
	var failed *Failed
	switch {
	case err == nil:
		return fmt.Errorf("a Job was created in %s of %s", project, kubeContext)
	case errors.As(err, &failed) && strings.Contains(failed.Stderr, "forbidden") && strings.Contains(failed.Stderr, `cannot create resource "jobs"`):
		s.note("kubectl --context %s create job … -n %s: Forbidden (403)", kubeContext, stack.Namespace(project))
		return nil
	}
	return err
}

func (s *story) refusedBefore(ctx context.Context) error { return s.refused(ctx, "gpu-east", "team-a") }

func (s *story) refusedElsewhere(ctx context.Context) error {
	if err := s.refused(ctx, "gpu-east", "team-b"); err != nil {
		return err
	}
	return s.refused(ctx, "gpu-west", "vision")
}

// at is the researcher at a cluster, with a fresh cluster token in hand.
func (s *story) at(ctx context.Context, p *Person, name string, c *cluster.Cluster) (*At, error) {
	token, err := p.Fleetpass(ctx, "token", "--cluster", name)
	return Present(c, token), err
}

// until watches a cluster, while do runs and after, until it answers want. It returns how long that took from the start.
func (s *story) until(ctx context.Context, at *At, project string, want bool, do func() error) (time.Duration, error) {
	start := time.Now()
	done := make(chan error, 1)
	go func() { done <- do() }()
	ctx, cancel := context.WithTimeout(ctx, effectWithin)
	defer cancel()
	for {
		allowed, err := at.MayCreateJobs(ctx, stack.Namespace(project))
		if err != nil {
			return 0, errors.Join(err, <-done)
		}
		if allowed == want {
			took := time.Since(start)
			return took, <-done
		}
		select {
		case err := <-done:
			if err != nil {
				return 0, err
			}
			done <- nil
		case <-ctx.Done():
			return 0, fmt.Errorf("no effect within %v", effectWithin)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (s *story) createRule(ctx context.Context, email, project string) (string, error) {
	out, err := s.admin.Fleetpass(ctx, "access-rule", "create", "--user", email, "--role", "L1 researcher", "--project", project, "-o", "json")
	if err != nil {
		return "", err
	}
	var rule struct {
		ID json.Number `json:"id"`
	}
	if err := json.Unmarshal([]byte(out), &rule); err != nil {
		return "", fmt.Errorf("%w in %s", err, out)
	}
	return rule.ID.String(), nil
}

func (s *story) grant(ctx context.Context) error {
	at, err := s.at(ctx, s.ada, "gpu-east", s.East)
	if err != nil {
		return err
	}
	s.figures.Grant, err = s.until(ctx, at, "team-a", true, func() (err error) {
		s.rule, err = s.createRule(ctx, s.ada.Email, "team-a")
		return err
	})
	if err != nil {
		return err
	}
	if err := s.createJob(ctx, "gpu-east", "team-a"); err != nil {
		return err
	}
	s.note("in effect %d ms after the command was typed; the Job is created", s.figures.Grant.Milliseconds())
	return nil
}

func (s *story) revoke(ctx context.Context) error {
	at, err := s.at(ctx, s.ada, "gpu-east", s.East)
	if err != nil {
		return err
	}
	s.figures.Revoke, err = s.until(ctx, at, "team-a", false, func() error {
		_, err := s.admin.Fleetpass(ctx, "access-rule", "delete", s.rule)
		return err
	})
	if err != nil {
		return err
	}
	s.note("in effect %d ms after the command was typed", s.figures.Revoke.Milliseconds())
	return s.refused(ctx, "gpu-east", "team-a")
}

// drift: somebody with the cluster's own administrator certificate meddles.
func (s *story) drift(ctx context.Context) error {
	ns := stack.Namespace("team-a")
	if _, err := s.East.Kubectl(ctx, "create", "rolebinding", "theirs", "-n", ns, "--clusterrole=view", "--user=eve"); err != nil {
		return err
	}
	if _, err := s.East.Kubectl(ctx, "label", "rolebinding", "theirs", "-n", ns, "app.kubernetes.io/managed-by=fleetpass"); err != nil {
		return err
	}
	foreign := func() (string, error) {
		return s.East.Kubectl(ctx, "get", "rolebinding", "theirs", "-n", ns, "-o", "json")
	}
	before, err := foreign()
	if err != nil {
		return err
	}
	ours, err := s.East.Kubectl(ctx, "get", "rolebinding", "-n", ns, "-l", "app.kubernetes.io/managed-by=fleetpass", "-o",
		`jsonpath={range .items[?(@.roleRef.name=="fleetpass-viewer-ns")]}{.metadata.name}{end}`)
	if err != nil || ours == "" {
		return fmt.Errorf("no binding of ours in %s: %w", ns, err)
	}
	subjects := func() (string, error) {
		return s.East.Kubectl(ctx, "get", "rolebinding", ours, "-n", ns, "-o", "jsonpath={.subjects[*].name}")
	}
	was, err := subjects()
	if err != nil {
		return err
	}
	if _, err := s.East.Kubectl(ctx, "patch", "rolebinding", ours, "-n", ns, "--type=json", "-p",
		`[{"op":"add","path":"/subjects/-","value":{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"mallory"}}]`); err != nil {
		return err
	}
	edited, err := subjects()
	if err != nil || !strings.Contains(edited, "mallory") {
		return fmt.Errorf("the edit did not take: %q %w", edited, err)
	}
	if err := s.reconcile(ctx, "gpu-east"); err != nil {
		return err
	}
	for deadline := time.Now().Add(effectWithin); ; time.Sleep(50 * time.Millisecond) {
		now, err := subjects()
		if err != nil {
			return err
		}
		if now == was {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s still has %q, not %q", ours, now, was)
		}
	}
	after, err := foreign()
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("the foreign binding changed from %s to %s", before, after)
	}
	s.note("rolebinding %s has its subjects back (%s); rolebinding theirs, though it bears our label, is as it was", ours, was)
	return nil
}

// reconcile asks for a full look at a cluster, which otherwise comes by a timer.
func (s *story) reconcile(ctx context.Context, name string) error {
	_, err := s.admin.Fleetpass(ctx, "cluster", "reconcile", name)
	return err
}

func (s *story) audience(ctx context.Context) error {
	token, err := s.ada.Fleetpass(ctx, "token", "--cluster", "gpu-east")
	if err != nil {
		return err
	}
	for c, want := range map[*cluster.Cluster]int{s.East: http.StatusOK, s.West: http.StatusUnauthorized} {
		status, body, err := Present(c, token).Do(ctx, http.MethodGet, "/version", "")
		if err != nil {
			return err
		}
		if status != want {
			return fmt.Errorf("%s answers %d, want %d: %s", c.URL(), status, want, body)
		}
	}
	return nil
}

func (s *story) outage(ctx context.Context) error {
	bob, err := NewPerson(s.Seed.Colleague, s.Dir, s.Tools, s.System)
	if err != nil {
		return err
	}
	if err := bob.Login(ctx); err != nil {
		return err
	}
	bobAt, err := s.at(ctx, bob, "gpu-west", s.West)
	if err != nil {
		return err
	}
	var bobs string
	if _, err := s.until(ctx, bobAt, "vision", true, func() (err error) { bobs, err = s.createRule(ctx, bob.Email, "vision"); return err }); err != nil {
		return err
	}
	s.West.Stop()
	if _, err := s.createRule(ctx, s.ada.Email, "vision"); err != nil {
		return err
	}
	if _, err := s.admin.Fleetpass(ctx, "access-rule", "delete", bobs); err != nil {
		return err
	}
	// Its exit code says that a cluster is behind, which is the point.
	out, err := s.admin.Fleetpass(ctx, "cluster", "status", "gpu-west")
	if failed := (*Failed)(nil); err != nil && !errors.As(err, &failed) {
		return err
	}
	for line := range strings.Lines(out) {
		s.note("%s", strings.TrimRight(line, "\n"))
	}
	if err := s.West.Restart(ctx); err != nil {
		return err
	}
	back := time.Now()
	adaAt, err := s.at(ctx, s.ada, "gpu-west", s.West)
	if err != nil {
		return err
	}
	if bobAt, err = s.at(ctx, bob, "gpu-west", s.West); err != nil {
		return err
	}
	nothing := func() error { return nil }
	if _, err := s.until(ctx, adaAt, "vision", true, nothing); err != nil {
		return fmt.Errorf("the grant made meanwhile: %w", err)
	}
	if _, err := s.until(ctx, bobAt, "vision", false, nothing); err != nil {
		return fmt.Errorf("the revocation made meanwhile: %w", err)
	}
	s.figures.CatchUp = time.Since(back)
	s.note("both are in effect %d ms after it was back", s.figures.CatchUp.Milliseconds())
	return s.createJob(ctx, "gpu-west", "vision")
}
