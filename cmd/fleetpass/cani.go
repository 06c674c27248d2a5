package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

func (a *app) canICommand() *cobra.Command {
	var server, in string
	var who subjectFlags
	c := &cobra.Command{
		Use:   "can-i ACTION ENTITY --in SCOPE",
		Short: "Ask whether you may do something, and why",
		Long: `Asks Fleetpass whether you, or with --user, --group or --app somebody else, may do something in a scope, and which rule
decides it. Exits 0 for yes, 1 for no, 2 if it could not be asked.

ACTION is view, edit, create or delete. ENTITY is what roles speak of: workloads, project, access-rules and so on.
SCOPE is "account", "cluster/NAME", "department/NAME", "project/NAME", or a name or id alone.`,
		Example: "  fleetpass can-i create workloads --in project/vision",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var answer evaluation
			err := a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) (err error) {
				answer, err = evaluate(ctx, client, args[0], args[1], in, &who)
				return err
			})
			if err != nil {
				fmt.Fprintln(a.err, "fleetpass: "+clean(err.Error()))
				if h := hint(err); h != "" {
					fmt.Fprintln(a.err, h)
				}
				return exitCode(2)
			}
			err = a.print(answer, func(w io.Writer) {
				verdict := "no"
				if answer.Decision {
					verdict = "yes"
				}
				fmt.Fprintf(w, "%s %s: %s\n", a.tick(answer.Decision), verdict, clean(answer.Context.Reason))
			})
			if err == nil && !answer.Decision {
				err = exitCode(1)
			}
			return err
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	who.add(c)
	c.Flags().StringVar(&in, "in", "", "the `scope`")
	_ = c.MarkFlagRequired("in")
	return c
}

// evaluationRequest and evaluation are the AuthZEN Authorization API 1.0's access evaluation (§6).
type evaluationRequest struct {
	Subject  evaluationEntity `json:"subject"`
	Action   evaluationAction `json:"action"`
	Resource evaluationEntity `json:"resource"`
}

type evaluationEntity struct {
	Type string `json:"type"` // a core.SubjectKind; of a resource, the entity
	ID   string `json:"id"`   // of a resource, the scope's
}

type evaluationAction struct {
	Name string `json:"name"`
}

type evaluation struct {
	Decision bool `json:"decision"`
	Context  struct {
		Code     string        `json:"code,omitempty"`
		Reason   string        `json:"reason,omitempty"`
		Rule     core.RuleID   `json:"rule,omitempty"` // that allows it
		Revision core.Revision `json:"revision"`
	} `json:"context"`
}

func evaluate(ctx context.Context, client *api.Client, action, entity, in string, who *subjectFlags) (e evaluation, err error) {
	if _, ok := policy.ParseAction(action); !ok {
		return e, core.BadField(action, "is no action; these are: view, edit, create, delete")
	}
	what, err := parseEntity(entity)
	if err != nil {
		return e, err
	}
	scope, err := parsePlace(ctx, client, in)
	if err != nil {
		return e, err
	}
	spelt, id := who.subject()
	if spelt == "" {
		me, err := client.Me(ctx)
		if err != nil {
			return e, err
		}
		spelt, id = me.SubjectType, me.ID // the sub of our token, so nobody else can be meant
	}
	kind, _ := spelt.Kind()
	_, err = client.Do(ctx, http.MethodPost, "/access/v1/evaluation", nil, evaluationRequest{
		Subject:  evaluationEntity{Type: string(kind), ID: id},
		Action:   evaluationAction{action},
		Resource: evaluationEntity{Type: what.String(), ID: string(scope.ID)},
	}, &e)
	return e, err
}

// parseEntity reads an entity as people type it: in any case, with "-" or "_", singular or plural, or by its label.
func parseEntity(s string) (policy.Entity, error) {
	plain := func(s string) string {
		return strings.TrimSuffix(strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s)), "s")
	}
	var all []string
	for _, e := range policy.Entities() {
		if plain(e.String()) == plain(s) || plain(e.Label()) == plain(s) {
			return e, nil
		}
		all = append(all, strings.ReplaceAll(e.String(), "_", "-"))
	}
	return 0, core.BadField(s, "is nothing that roles speak of; these are: "+strings.Join(all, ", "))
}
