package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
	"github.com/fleetpass/fleetpass/core/policy"
)

func (a *app) accessRuleCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "access-rule", Aliases: []string{"access-rules"},
		Short: "Give access, see who has it, and take it back",
		Long:  "An access rule says: <subject> is a <role> in a <scope>. It holds for the scope and everything below it, until it is deleted or expires.",
	}
	c.AddCommand(a.createRuleCommand(), a.listRulesCommand(), a.deleteRuleCommand())
	return c
}

// subjectFlags name who a rule is given to.
type subjectFlags struct{ user, group, app string }

func (f *subjectFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.user, "user", "", "a person, by `e-mail`")
	c.Flags().StringVar(&f.group, "group", "", "a group, by `name` as the identity provider sends it")
	c.Flags().StringVar(&f.app, "app", "", "an application, by client `id`")
	c.MarkFlagsMutuallyExclusive("user", "group", "app")
}

func (f *subjectFlags) subject() (t api.SubjectType, id string) {
	switch {
	case f.user != "":
		return api.SubjectUser, f.user
	case f.group != "":
		return api.SubjectGroup, f.group
	case f.app != "":
		return api.SubjectServiceAccount, f.app
	}
	return "", ""
}

func (f *scopeFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.project, "project", "", "a project, by `name` or id")
	c.Flags().StringVar(&f.department, "department", "", "a department, by `name` or id")
	c.Flags().StringVar(&f.cluster, "cluster", "", "a cluster, by `name` or id; with --project or --department, the one that they are in")
	c.Flags().BoolVar(&f.account, "account", false, "the whole account")
}

func (a *app) createRuleCommand() *cobra.Command {
	var server, role, expires, reason string
	var dry bool
	var who subjectFlags
	var where scopeFlags
	c := &cobra.Command{
		Use:   "create --user|--group|--app NAME --role ROLE --project|--department|--cluster NAME | --account",
		Short: "Give a role to somebody in a scope",
		Example: `  fleetpass access-rule create --user ada@example.com --role "L1 researcher" --project vision
  fleetpass access-rule create --group ops --role Viewer --cluster east --expires 8h --reason "incident 42"`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			kind, id := who.subject()
			if kind == "" {
				return core.BadField("--user, --group or --app", "must say who the rule is for")
			}
			if where.empty() {
				return core.BadField("--project, --department, --cluster or --account", "must say where the rule holds")
			}
			until, err := parseExpiry(expires, time.Now())
			if err != nil {
				return err
			}
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				roleID, err := findRole(ctx, client, role)
				if err != nil {
					return err
				}
				scope, err := where.resolve(ctx, client)
				if err != nil {
					return err
				}
				wanted := api.AccessRuleRequest{
					SubjectID: id, SubjectType: kind, RoleID: roleID, ScopeID: scope.ID, ScopeType: scope.Type, ExpiresAt: until, Reason: reason,
				}
				if dry {
					p, err := client.PreviewAccessRule(ctx, wanted)
					if err != nil {
						return err
					}
					return a.printPreview(p)
				}
				rule, err := client.CreateAccessRule(ctx, wanted)
				if err != nil {
					return err
				}
				return a.print(rule, func(w io.Writer) {
					fmt.Fprintf(w, "Rule %d: %s\n", rule.ID, clean(sentence(rule)))
				})
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	who.add(c)
	where.add(c)
	c.Flags().StringVar(&role, "role", "", "the `role`, by name or id")
	c.Flags().StringVar(&expires, "expires", "", "when it ends: after a `time` such as 8h or 30d, or at 2026-12-31T18:00:00Z (default: never)")
	c.Flags().StringVar(&reason, "reason", "", "`why`, for whoever reads the rules later")
	dryRunFlag(c, &dry)
	_ = c.MarkFlagRequired("role")
	return c
}

// sentence says a rule in words.
func sentence(r api.AccessRule) string {
	s := fmt.Sprintf("%s is %s in %s", subjectName(r), r.RoleName, place{Type: r.ScopeType, Name: r.ScopeName})
	if !r.ExpiresAt.IsZero() {
		s += ", until " + r.ExpiresAt.Local().Format("2006-01-02 15:04 MST")
	}
	return s
}

func subjectName(r api.AccessRule) string {
	switch r.SubjectType {
	case api.SubjectUser:
		return r.SubjectID
	case api.SubjectGroup:
		return "group " + r.SubjectID
	}
	return "application " + r.SubjectID
}

// parseExpiry reads a duration, with d for days of 24 hours, or a time of RFC 3339. Empty is never.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		var d time.Duration
		if days, ok := strings.CutSuffix(s, "d"); ok {
			n, e := strconv.ParseUint(days, 10, 16)
			d, err = time.Duration(n)*24*time.Hour, e
		} else {
			d, err = time.ParseDuration(s)
		}
		t = now.Add(d)
	}
	if err != nil || !t.After(now) {
		return time.Time{}, core.BadField("--expires", "must be a time to come: a duration such as 8h or 30d, or a time such as 2026-12-31T18:00:00Z")
	}
	return t.UTC().Truncate(time.Second), nil
}

// findRole finds a role by name, in any case, or id. The system roles are known here; the server is asked for others.
func findRole(ctx context.Context, c *api.Client, name string) (core.RoleID, error) {
	if r, ok := policy.RoleByName(name); ok {
		return r.ID, nil
	}
	roles, err := c.Roles(ctx)
	if err != nil && !errors.Is(err, core.Denied) {
		return 0, err
	}
	if len(roles) == 0 {
		for _, r := range policy.Roles() {
			roles = append(roles, api.Role{ID: r.ID, Name: r.Name})
		}
	}
	var all []string
	for _, r := range roles {
		if strings.EqualFold(r.Name, name) || strconv.Itoa(int(r.ID)) == name {
			return r.ID, nil
		}
		all = append(all, r.Name)
	}
	return 0, core.BadField("--role", fmt.Sprintf("%q is no role; these are: %s", name, strings.Join(all, ", ")))
}

func (a *app) listRulesCommand() *cobra.Command {
	var server string
	var who subjectFlags
	var where scopeFlags
	c := &cobra.Command{
		Use: "list", Short: "List the rules that you may see", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				query := url.Values{}
				if kind, id := who.subject(); kind != "" {
					query.Set("subjectType", string(kind))
					query.Set("subjectIds", id)
				}
				if !where.empty() {
					scope, err := where.resolve(ctx, client)
					if err != nil {
						return err
					}
					query.Set("scopeId", string(scope.ID))
				}
				list := []api.AccessRule{}
				for rule, err := range client.AccessRules(ctx, query) {
					if err != nil {
						return err
					}
					list = append(list, rule)
				}
				return a.print(list, func(w io.Writer) {
					if len(list) == 0 {
						fmt.Fprintln(w, "No rules.")
						return
					}
					rows := [][]string{{"ID", "SUBJECT", "ROLE", "SCOPE", "EXPIRES", "CREATED BY", "REASON"}}
					for _, r := range list {
						rows = append(rows, []string{strconv.FormatUint(uint64(r.ID), 10), subjectName(r), r.RoleName,
							place{Type: r.ScopeType, Name: r.ScopeName}.String(), until(r.ExpiresAt, time.Now()), r.CreatedBy, r.Reason})
					}
					table(w, rows)
				})
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	who.add(c)
	where.add(c)
	return c
}

func (a *app) deleteRuleCommand() *cobra.Command {
	var server string
	var dry bool
	c := &cobra.Command{
		Use: "delete ID...", Short: "Take access back", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var ids []core.RuleID
			for _, arg := range args { // all are read before any is deleted
				id, err := strconv.ParseUint(arg, 10, 64)
				if err != nil {
					return core.BadField(arg, "must be the number of a rule, as fleetpass access-rule list shows it")
				}
				ids = append(ids, core.RuleID(id))
			}
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				if dry {
					return a.previewDeletions(ctx, client, ids)
				}
				deleted := []core.RuleID{}
				var failed error
				for _, id := range ids {
					if err := client.DeleteAccessRule(ctx, id); err != nil {
						failed = fmt.Errorf("rule %d: %w", id, err)
						break
					}
					deleted = append(deleted, id)
				}
				printed := a.print(map[string]any{"deleted": deleted}, func(w io.Writer) {
					for _, id := range deleted {
						fmt.Fprintf(w, "Rule %d is deleted.\n", id)
					}
				})
				return errors.Join(failed, printed)
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	dryRunFlag(c, &dry)
	return c
}

// withClient calls the API with the account of a server, within the deadline of a command.
func (a *app) withClient(ctx context.Context, server string, do func(context.Context, *account, *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandWithin)
	defer cancel()
	acc, err := a.open(server)
	if err != nil {
		return err
	}
	return do(ctx, acc, acc.client())
}
