package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

func (a *app) ssoCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "sso", Short: "Connect identity providers, test them, and see why a sign-in failed",
		Long: `Connects your organization's identity providers, so that people sign in with the accounts that they have.

  fleetpass sso add saml --name "Acme Okta" --metadata https://acme.okta.com/app/…/sso/saml/metadata --domain acme.com
  fleetpass sso test acme-okta

The first prints what the provider must be told. The second signs you in there without changing anything, and says of each
thing that can be wrong whether it is, and what to do about it.`,
	}
	c.AddCommand(
		a.listSSOCommand(), a.showSSOCommand(), a.addSSOCommand(), a.updateSSOCommand(), a.deleteSSOCommand(),
		a.testSSOCommand(), a.tracesCommand(), a.traceCommand(),
		a.mappersCommand(), a.rotateKeysCommand(), a.refreshSSOCommand(),
	)
	return c
}

func (a *app) listSSOCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "list", Short: "List the identity providers, and what somebody should see to", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				all, err := client.IdPs(ctx)
				if err != nil {
					return err
				}
				return a.print(all, func(w io.Writer) {
					if len(all) == 0 {
						fmt.Fprintln(w, "No identity providers: everybody has a password here. `fleetpass sso add` connects one.")
						return
					}
					rows := [][]string{{"ALIAS", "NAME", "TYPE", "ENABLED", "DOMAINS", "TESTED"}}
					for _, p := range all {
						rows = append(rows, []string{p.Alias, p.Name, string(p.Type), yesNo(p.Enabled), domains(p), tested(p)})
					}
					table(w, rows)
					for _, p := range all {
						a.warn(w, p.Alias+": ", p.Warnings)
					}
				})
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func domains(p api.IdP) string {
	if len(p.Domains) == 0 {
		return "(all that no other names)"
	}
	return strings.Join(p.Domains, " ")
}

func tested(p api.IdP) string {
	if p.ProvenAt.IsZero() {
		return "not yet"
	}
	return p.ProvenAt.Local().Format("2006-01-02 15:04")
}

// warn shows warnings, each in a line.
func (a *app) warn(w io.Writer, before string, warnings []string) {
	for _, text := range warnings {
		fmt.Fprintln(w, a.mark("noted"), clean(before+text))
	}
}

func (a *app) showSSOCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "show ALIAS", Short: "Show an identity provider, and what it must be told", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				p, err := client.IdP(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(p, func(w io.Writer) { a.showIdP(w, p) })
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

// told is what an identity provider must be told.
func told(p api.IdP) (rows [][]string) {
	rows = append(rows, []string{"redirect URI", p.RedirectURI})
	if p.PostLogoutRedirectURI != "" {
		rows = append(rows, []string{"post-logout URI", p.PostLogoutRedirectURI})
	}
	if p.SAML != nil {
		rows = append(rows, []string{"entity ID", p.EntityID}, []string{"SP metadata", p.MetadataURL})
	}
	return rows
}

func (a *app) showIdP(w io.Writer, p api.IdP) {
	rows := [][]string{
		{"alias", p.Alias}, {"name", p.Name}, {"type", string(p.Type)}, {"enabled", yesNo(p.Enabled)}, {"domains", domains(p)},
		{"group prefix", p.GroupPrefix}, {"tested", tested(p)},
	}
	rows = append(rows, told(p)...)
	switch {
	case p.SAML != nil:
		rows = append(rows, []string{"metadata", orElse(p.SAML.MetadataURL, "uploaded "+p.SAML.FileName)},
			[]string{"provider's entity ID", p.SAML.IdPEntityID}, []string{"sign-in page", p.SAML.SignOnURL})
		for _, cert := range p.SAML.Certificates {
			rows = append(rows, []string{"signing certificate", cert.Subject + ", until " + cert.NotAfter.Format(time.DateOnly) + ", SHA-256 " + cert.SHA256})
		}
		for i, key := range p.SAML.Keys {
			what := []string{"signs", "the next one"}[min(i, 1)]
			rows = append(rows, []string{"our key", what + ", until " + key.NotAfter.Format(time.DateOnly) + ", SHA-256 " + key.SHA256})
		}
	case p.OIDC != nil:
		rows = append(rows, []string{"discovery", p.OIDC.DiscoveryURL}, []string{"issuer", p.OIDC.Issuer}, []string{"client ID", p.OIDC.ClientID},
			[]string{"proves itself by", p.OIDC.AuthMethod}, []string{"scopes", strings.Join(p.OIDC.Scopes, " ")})
		if m := p.OIDC.MandatoryClaim; m != nil {
			rows = append(rows, []string{"admits", m.Claim + " " + strings.Join(m.Values, " or ")})
		}
	case p.OpenShift != nil:
		rows = append(rows, []string{"API server", p.OpenShift.BaseURL}, []string{"issuer", p.OpenShift.Issuer}, []string{"client ID", p.OpenShift.ClientID},
			[]string{"scopes", strings.Join(p.OpenShift.Scopes, " ")})
	}
	if at := p.Refresh.At; !at.IsZero() {
		rows = append(rows, []string{"last read", ago(at)})
	}
	table(w, append(rows, mapperRows(p.Mappers)...))
	a.warn(w, "", p.Warnings)
}

func (a *app) deleteSSOCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "delete ALIAS", Short: "Take an identity provider away", Args: cobra.ExactArgs(1),
		Long: `Takes an identity provider away. Its people can sign in no more, and nobody else can sign in as them: they are remembered
as its own. fleetpass sso add --takes-over ALIAS hands them to another one, and an administrator can make a person local.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				if err := client.DeleteIdP(ctx, args[0]); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "%s is deleted. `fleetpass sso add … --takes-over %s` hands its people to another identity provider.\n", args[0], args[0])
				return nil
			})
		},
	}
	serverFlag(c, &server)
	return c
}

func (a *app) rotateKeysCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "rotate-keys ALIAS", Short: "Begin to replace our key towards an identity provider, or finish it", Args: cobra.ExactArgs(1),
		Long: `Replaces the key that we sign with and that the identity provider encrypts for, in two steps, so that nobody's sign-in
fails in between. The first call publishes a second key in our metadata, beside the one that still signs. Once the provider
has read the metadata again, the second call has the new key sign and takes the old one away.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				p, err := client.RotateIdPKeys(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(p, func(w io.Writer) {
					if keys(p) > 1 {
						fmt.Fprintf(w, "Two keys are published. Have the provider read %s again, then run this once more.\n", orElse(p.MetadataURL, "our keys"))
						return
					}
					fmt.Fprintln(w, "The new key is the only one now.")
				})
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

// keys is how many keys of ours are published to a provider.
func keys(p api.IdP) int {
	switch {
	case p.SAML != nil:
		return len(p.SAML.Keys)
	case p.OIDC != nil:
		return len(p.OIDC.Keys)
	}
	return 0
}

func (a *app) refreshSSOCommand() *cobra.Command {
	var server string
	c := &cobra.Command{
		Use: "refresh ALIAS", Short: "Read what an identity provider publishes, now", Args: cobra.ExactArgs(1),
		Long: `Reads the provider's metadata or discovery document now. This happens by itself from time to time, and whenever a sign-in
shows that it has changed.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				p, err := client.RefreshIdP(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(p, func(w io.Writer) {
					switch r := p.Refresh; {
					case !r.FailingSince.IsZero():
						fmt.Fprintf(w, "It could not be read: %s\n", clean(r.Error))
					case !r.At.IsZero() && r.ChangedAt.Equal(r.At):
						fmt.Fprintln(w, "It was read, and had changed.")
					default:
						fmt.Fprintln(w, "It was read, and had not changed.")
					}
				})
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

func (a *app) mappersCommand() *cobra.Command {
	var server string
	var set []string
	var reset bool
	c := &cobra.Command{
		Use: "mappers ALIAS", Short: "Show or rename the attributes of an identity provider", Args: cobra.ExactArgs(1),
		Long: `Shows by which names the identity provider sends what is known about a person, or with --set renames some of them.
FIELD is email, groups, uid, gid, supplementaryGroups, firstName or lastName; NAME is the attribute or claim.`,
		Example: "  fleetpass sso mappers acme-okta --set groups=memberOf --set uid=uidNumber",
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				m, err := client.Mappers(ctx, args[0])
				if err != nil {
					return err
				}
				if reset {
					m = api.Mappers{}
				}
				if err := rename("--set", &m, set); err != nil {
					return err
				}
				if reset || len(set) > 0 {
					if err := client.SetMappers(ctx, args[0], m); err != nil {
						return err
					}
					if m, err = client.Mappers(ctx, args[0]); err != nil {
						return err
					}
				}
				return a.print(m, func(w io.Writer) { table(w, mapperRows(m)) })
			})
		},
	}
	c.Flags().StringArrayVar(&set, "set", nil, "rename an attribute: `FIELD=NAME`; may be given several times")
	c.Flags().BoolVar(&reset, "reset", false, "give all others their default names")
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

func mapperRows(m api.Mappers) [][]string {
	return [][]string{
		{"email", "is attribute " + m.Email}, {"groups", "is attribute " + m.Groups}, {"uid", "is attribute " + m.UID}, {"gid", "is attribute " + m.GID},
		{"supplementaryGroups", "is attribute " + m.SupplementaryGroups}, {"firstName", "is attribute " + m.FirstName}, {"lastName", "is attribute " + m.LastName},
	}
}

// rename applies FIELD=NAME to the names of attributes.
func rename(flag string, m *api.Mappers, set []string) error {
	fields := map[string]*string{
		"email": &m.Email, "groups": &m.Groups, "uid": &m.UID, "gid": &m.GID,
		"supplementaryGroups": &m.SupplementaryGroups, "firstName": &m.FirstName, "lastName": &m.LastName,
	}
	for _, s := range set {
		field, name, ok := strings.Cut(s, "=")
		if fields[field] == nil || !ok {
			return core.BadField(flag, "must be FIELD=NAME, where FIELD is email, groups, uid, gid, supplementaryGroups, firstName or lastName")
		}
		*fields[field] = name
	}
	return nil
}
