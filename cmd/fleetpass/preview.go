package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

func dryRunFlag(c *cobra.Command, dry *bool) {
	c.Flags().BoolVar(dry, "dry-run", false, "only say what it would change in the clusters")
}

// previewDeletions says what it would change to take rules back, all together.
func (a *app) previewDeletions(ctx context.Context, client *api.Client, ids []core.RuleID) error {
	if len(ids) == 1 {
		p, err := client.PreviewDeletion(ctx, ids[0])
		if err != nil {
			return fmt.Errorf("rule %d: %w", ids[0], err)
		}
		return a.printPreview(p)
	}
	done, err := client.PreviewDeletions(ctx, ids)
	if err != nil {
		return err
	}
	if len(done.Failed) > 0 {
		f := done.Failed[0]
		return fmt.Errorf("rule %d: %w", f.ID, &api.ResponseError{Status: f.Code, Message: f.Message})
	}
	return a.printPreview(done.Preview)
}

func (a *app) printPreview(p api.RulePreview) error {
	return a.print(p, func(w io.Writer) { writePreview(w, p) })
}

// writePreview says in words what a change of rules would do.
func writePreview(w io.Writer, p api.RulePreview) {
	for _, r := range p.Rules.Create {
		fmt.Fprintf(w, "would create a rule: %s\n", clean(sentence(r)))
	}
	for _, r := range p.Rules.Delete {
		fmt.Fprintf(w, "would delete rule %d: %s\n", r.ID, clean(sentence(r)))
	}
	changes, partial, problems := 0, false, false
	for _, c := range p.Clusters {
		changes += len(c.Changes)
		partial, problems = partial || c.Partial, problems || len(c.Problems) > 0
		if len(c.Changes) == 0 && !c.Partial && len(c.Problems) == 0 {
			continue
		}
		fmt.Fprintf(w, "cluster %s%s\n", clean(c.ClusterName), standing(c))
		for _, ch := range c.Changes {
			fmt.Fprintf(w, "  would %s\n", clean(changeSentence(ch)))
		}
		for _, problem := range c.Problems {
			fmt.Fprintf(w, "  problem: %s\n", clean(problem))
		}
		if c.Partial {
			fmt.Fprintln(w, "  (without the bindings of the whole cluster, whose rules you may not view)")
		}
	}
	if changes == 0 && len(p.Clusters) > 0 {
		fmt.Fprintln(w, unchanged(partial, problems, p.More > 0))
	}
	if p.More > 0 {
		fmt.Fprintf(w, "and %d more clusters\n", p.More)
	}
	fmt.Fprintln(w, "Nothing was changed.")
}

// unchanged says what it means that a preview shows no change: why there is none is known only if nothing is hidden, every
// cluster is told of, and none has a problem with the rules.
func unchanged(partial, problems, more bool) string {
	switch {
	case partial:
		return "No binding would change that you may see: there may be changes among those that are left out."
	case problems:
		return "No binding would change: see the problems above."
	case more:
		return "No binding would change in these clusters."
	}
	return "No binding would change: whoever is concerned has the same by another rule, or has it no more."
}

// standing says of a cluster what matters to who reads a preview.
func standing(c api.ClusterPreview) string {
	switch {
	case c.Phase == api.PhaseNotReady:
		return " (which has not taken the present rules, and is tried again)"
	case c.Behind:
		return " (which is behind, and catches up besides)"
	}
	return ""
}

// changeSentence is "create RoleBinding NAME in namespace NS: + ada@example.com, - group ops".
func changeSentence(ch api.ClusterChange) string {
	verb := string(ch.Verb)
	if ch.Empties {
		verb = "empty"
	}
	s := verb + " " + ch.Kind + " " + ch.Name
	if ch.Namespace != "" {
		s += " in namespace " + string(ch.Namespace)
	}
	var who []string
	for _, list := range []struct {
		sign     string
		subjects []api.ClusterSubject
	}{{"+ ", ch.Adds}, {"- ", ch.Removes}} {
		for _, sub := range list.subjects {
			name := subjectName(api.AccessRule{SubjectType: sub.SubjectType, SubjectID: sub.SubjectID})
			if sub.SubjectID == "" {
				name = sub.Kind + " " + sub.Name
			}
			who = append(who, list.sign+name)
		}
	}
	if len(who) > 0 {
		s += ": " + strings.Join(who, ", ")
	}
	return s
}
