package admin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/org"
	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/sync"
)

// deadTable is of what was given up, in order of kind and id.
var deadTable = table[sync.DeadLetter]{
	name: "dead-letters",
	fields: []field[sync.DeadLetter]{
		textField("kind", func(d sync.DeadLetter) string { return string(d.Kind) }),
		textField("clusterId", func(d sync.DeadLetter) string { id, _ := d.Cluster(); return string(id) }),
		textField("reason", func(d sync.DeadLetter) string { return d.Reason }).search(),
		numberField("tries", func(d sync.DeadLetter) int64 { return int64(d.Tries) }),
		timeField("firstAt", func(d sync.DeadLetter) time.Time { return d.First }),
		timeField("lastAt", func(d sync.DeadLetter) time.Time { return d.Last }),
		boolField("replayable", sync.DeadLetter.Replayable),
	},
}

// listDeadLetters is what was given up: of the clusters that the caller may view, and of the account to who may view all.
func listDeadLetters(c *call) (reply, error) {
	visible, err := c.visible(policy.Cluster)
	if err != nil {
		return failed(err)
	}
	l, err := readListing(c, deadTable)
	if err != nil {
		return failed(err)
	}
	all, err := c.deadLetters(visible)
	if err != nil {
		return failed(err)
	}
	slices.SortFunc(all, func(a, b sync.DeadLetter) int { return strings.Compare(deadPlace(a), deadPlace(b)) })
	f, err := l.page(inMemory(all, deadPlace))
	if err != nil {
		return failed(err)
	}
	return answer(f, wireDeadLetter)
}

func deadPlace(d sync.DeadLetter) string { return string(d.Kind) + "/" + d.ID }

// deadLetters reads those that are about scopes which the caller may see, or whatever else in asks.
func (c *call) deadLetters(in func(org.Scope) bool) ([]sync.DeadLetter, error) {
	var all []sync.DeadLetter
	for d, err := range c.Sync.DeadLetters(c.ctx, c.tenant) {
		if err != nil {
			return nil, err
		}
		if in(about(d)) {
			all = append(all, d)
		}
	}
	return all, nil
}

// about is the scope that a dead letter is about: a cluster, which lies directly in the account, so that its id says all,
// were it deleted meanwhile; or the account.
func about(d sync.DeadLetter) org.Scope {
	if id, ok := d.Cluster(); ok {
		return org.Scope{ID: core.ClusterScope(id), Kind: core.Cluster, Cluster: id}
	}
	return org.Scope{Kind: core.Account}
}

// deadLetter is the one {id}, which the caller may edit.
func (c *call) deadLetter() (d sync.DeadLetter, err error) {
	editable, err := c.within(policy.Cluster, policy.Edit)
	if err != nil {
		return d, err
	}
	d, err = c.Sync.DeadLetter(c.ctx, c.tenant, c.r.PathValue("id"))
	if err != nil || editable(about(d)) {
		return d, err
	}
	if visible, err := c.visible(policy.Cluster); err == nil && visible(about(d)) {
		return d, fmt.Errorf("needs %s on %s, which you do not hold there: %w", policy.Edit, policy.Cluster, core.Denied)
	}
	return d, fmt.Errorf("dead letter: %w", core.NotFound)
}

func replayDeadLetter(c *call) (reply, error) {
	d, err := c.deadLetter()
	if err != nil {
		return failed(err)
	}
	if err := c.Sync.Replay(c.ctx, c.Queue, c.actor, d); err != nil {
		return failed(err)
	}
	return accepted()
}

// replayDeadLetters has what the caller may edit tried again, at most api.MaxReplay of them. One that changes meanwhile has
// failed anew, or gone well, and is left.
func replayDeadLetters(c *call) (reply, error) {
	editable, err := c.within(policy.Cluster, policy.Edit)
	if err != nil {
		return failed(err)
	}
	all, err := c.deadLetters(editable)
	if err != nil {
		return failed(err)
	}
	out := api.DeadLetterReplay{Replayed: []string{}}
	for _, d := range all {
		switch {
		case !d.Replayable():
			continue
		case len(out.Replayed) == api.MaxReplay:
			out.Left++
			continue
		}
		err := c.Sync.Replay(c.ctx, c.Queue, c.actor, d)
		if errors.Is(err, core.Conflict) {
			continue
		}
		if err != nil {
			return failed(err)
		}
		out.Replayed = append(out.Replayed, d.ID)
	}
	return ok(out)
}

func deleteDeadLetter(c *call) (reply, error) {
	d, err := c.deadLetter()
	if err != nil {
		return failed(err)
	}
	if err := c.Sync.Discard(c.ctx, c.actor, d); err != nil {
		return failed(err)
	}
	return noContent()
}

func wireDeadLetter(d sync.DeadLetter) api.DeadLetter {
	cluster, _ := d.Cluster()
	return api.DeadLetter{
		ID: d.ID, Kind: api.DeadLetterKind(d.Kind), ClusterID: cluster, Reason: d.Reason, Tries: d.Tries,
		FirstAt: d.First, LastAt: d.Last, Request: d.Request, Replayable: d.Replayable(),
	}
}
