package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

// idpFlags are what can be said about an identity provider. A secret is never one of them: it comes from a file or is asked
// for, since every user of a machine can read the arguments of its programs.
type idpFlags struct {
	name, alias, prefix, takesOver, ca string
	domains, mappers                   []string
	enabled                            bool

	metadata, entityID, pin    string // saml
	idpInitiated, signRequests bool

	discovery, auth string   // oidc
	claims          []string // CLAIM=VALUE

	apiServer string // openshift

	clientID, secretFile string // oidc, openshift
	scopes               []string
}

func (f *idpFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.name, "name", "", "its `name`, for the button of the login page")
	c.Flags().StringArrayVar(&f.domains, "domain", nil, "an e-mail `domain` of its people; may be given several times (default: all that no other provider names)")
	c.Flags().StringVar(&f.ca, "ca", "", "PEM `file` of the authority that signed the provider's own certificate, if it is a private one")
	c.Flags().StringArrayVar(&f.mappers, "map", nil, "rename an attribute: `FIELD=NAME`, as of fleetpass sso mappers; may be given several times")
	c.Flags().BoolVar(&f.enabled, "enabled", true, "whether people can sign in by it; --enabled=false to test it first")
}

func (f *idpFlags) addNew(c *cobra.Command) {
	c.Flags().StringVar(&f.alias, "alias", "", "what it is called in addresses (default: made from the name)")
	c.Flags().StringVar(&f.prefix, "group-prefix", "", "stands before the names of its groups, for good (default: none for the first provider, else ALIAS:)")
	c.Flags().StringVar(&f.takesOver, "takes-over", "", "the `alias` of a deleted provider, whose people become this one's")
}

func (f *idpFlags) addSAML(c *cobra.Command) {
	c.Flags().StringVar(&f.metadata, "metadata", "", "the provider's metadata: its `URL`, which is read again by itself, or a file")
	c.Flags().StringVar(&f.entityID, "entity-id", "", "our entity ID towards the provider (default: made from our address)")
	c.Flags().StringVar(&f.pin, "metadata-pin", "", "PEM `file` of the certificate that must have signed the metadata")
	c.Flags().BoolVar(&f.idpInitiated, "idp-initiated", false, "take sign-ins that began at the provider, such as from its portal")
	c.Flags().BoolVar(&f.signRequests, "sign-requests", false, "sign our requests though the metadata does not ask for it")
}

func (f *idpFlags) addClient(c *cobra.Command) {
	c.Flags().StringVar(&f.clientID, "client-id", "", "the client `ID` that the provider gave")
	c.Flags().StringVar(&f.secretFile, "client-secret-file", "", "`file` with the client secret, or - for standard input (default: asked for)")
	c.Flags().StringArrayVar(&f.scopes, "scope", nil, "an OAuth `scope` to ask for; may be given several times")
}

func (f *idpFlags) addOIDC(c *cobra.Command) {
	c.Flags().StringVar(&f.discovery, "discovery", "", "the `URL` of the provider's discovery document, …/.well-known/openid-configuration")
	c.Flags().StringVar(&f.auth, "auth", "", "how we prove who we are: client_secret_basic, client_secret_post or private_key_jwt")
	c.Flags().StringArrayVar(&f.claims, "require", nil, "admit only people with `CLAIM=VALUE`; several values of one claim may be given")
}

func (f *idpFlags) addOpenShift(c *cobra.Command) {
	c.Flags().StringVar(&f.apiServer, "api-server", "", "the `URL` of the cluster's API server, https://api.CLUSTER:6443")
}

func (a *app) addSSOCommand() *cobra.Command {
	c := &cobra.Command{Use: "add", Short: "Connect an identity provider, by SAML 2.0, OpenID Connect, or OpenShift"}
	for _, k := range []struct {
		kind     api.IdPType
		use      string
		short    string
		example  string
		flags    []func(*idpFlags, *cobra.Command)
		required []string
	}{
		{api.IdPSAML, "saml", "Connect a SAML 2.0 identity provider",
			`  fleetpass sso add saml --name "Acme Okta" --metadata https://acme.okta.com/app/…/sso/saml/metadata --domain acme.com`,
			[]func(*idpFlags, *cobra.Command){(*idpFlags).addSAML}, []string{"metadata"}},
		{api.IdPOIDC, "oidc", "Connect an OpenID provider",
			`  fleetpass sso add oidc --name Keycloak --discovery https://sso.acme.com/realms/acme/.well-known/openid-configuration \
    --client-id fleetpass --client-secret-file secret --domain acme.com`,
			[]func(*idpFlags, *cobra.Command){(*idpFlags).addOIDC, (*idpFlags).addClient}, []string{"discovery", "client-id"}},
		{api.IdPOpenShift, "openshift", "Connect the OAuth server of an OpenShift 4 cluster",
			`  fleetpass sso add openshift --name "East cluster" --api-server https://api.east.acme.com:6443 \
    --client-id fleetpass --client-secret-file secret --domain acme.com`,
			[]func(*idpFlags, *cobra.Command){(*idpFlags).addOpenShift, (*idpFlags).addClient}, []string{"api-server", "client-id"}},
	} {
		var f idpFlags
		var server string
		one := &cobra.Command{
			Use: k.use, Short: k.short, Example: k.example, Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error {
				r := api.IdPRequest{Type: k.kind, Alias: f.alias, TakesOver: f.takesOver}
				if c.Flags().Changed("group-prefix") {
					r.GroupPrefix = &f.prefix
				}
				if err := a.fill(&r, &f, c.Flags().Changed); err != nil {
					return err
				}
				if err := a.askSecret(&r, f.secretFile); err != nil {
					return err
				}
				return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
					p, err := client.CreateIdP(ctx, r)
					if err != nil {
						return err
					}
					return a.print(p, func(w io.Writer) {
						fmt.Fprintf(w, "%s is connected. Set this at the provider, exactly so:\n\n", clean(p.Alias))
						table(w, told(p))
						fmt.Fprintf(w, "\nThen test it: fleetpass sso test %s\n", clean(p.Alias))
					})
				})
			},
		}
		f.add(one)
		f.addNew(one)
		for _, more := range k.flags {
			more(&f, one)
		}
		for _, name := range append(k.required, "name") {
			_ = one.MarkFlagRequired(name)
		}
		serverFlag(one, &server)
		outputFlag(a, one)
		c.AddCommand(one)
	}
	return c
}

func (a *app) updateSSOCommand() *cobra.Command {
	var f idpFlags
	var server string
	c := &cobra.Command{
		Use: "update ALIAS", Short: "Change what is known about an identity provider", Args: cobra.ExactArgs(1),
		Long: `Changes what the flags say; all else stays. What the provider publishes is read again. Test it afterwards.`,
		Example: `  fleetpass sso update acme-okta --domain acme.com --domain acme.org
  fleetpass sso update keycloak --client-secret-file secret`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, _ *account, client *api.Client) error {
				is, err := client.IdP(ctx, args[0])
				if err != nil {
					return err
				}
				r := asItIs(is)
				if err := applies(is.Type, c.Flags().Changed); err != nil {
					return err
				}
				if len(f.mappers) > 0 {
					r.Mappers = &is.Mappers
				}
				if err := a.fill(&r, &f, c.Flags().Changed); err != nil {
					return err
				}
				if f.secretFile != "" {
					if err := a.askSecret(&r, f.secretFile); err != nil {
						return err
					}
				}
				p, err := client.UpdateIdP(ctx, args[0], r)
				if err != nil {
					return err
				}
				return a.print(p, func(w io.Writer) { a.showIdP(w, p) })
			})
		},
	}
	f.add(c)
	f.addSAML(c)
	f.addOIDC(c)
	f.addOpenShift(c)
	f.addClient(c)
	serverFlag(c, &server)
	outputFlag(a, c)
	return c
}

// asItIs is the request that leaves a connection as it is.
func asItIs(p api.IdP) api.IdPRequest {
	r := api.IdPRequest{Name: p.Name, Type: p.Type, Enabled: &p.Enabled, Domains: p.Domains, CA: p.CA}
	switch {
	case p.SAML != nil:
		d := p.SAML.SAMLData
		if d.MetadataType == "file" { // the document that was uploaded stays
			d.MetadataType, d.FileName = "", ""
		}
		r.SAML = &d
	case p.OIDC != nil:
		d := p.OIDC.OIDCData
		r.OIDC = &d
	case p.OpenShift != nil:
		d := p.OpenShift.OCPData
		r.OpenShift = &d
	}
	return r
}

// applies refuses flags that say nothing about a provider of that type.
func applies(t api.IdPType, given func(string) bool) error {
	of := map[string][]api.IdPType{
		"metadata": {api.IdPSAML}, "entity-id": {api.IdPSAML}, "metadata-pin": {api.IdPSAML}, "idp-initiated": {api.IdPSAML}, "sign-requests": {api.IdPSAML},
		"discovery": {api.IdPOIDC}, "auth": {api.IdPOIDC}, "require": {api.IdPOIDC}, "api-server": {api.IdPOpenShift},
		"client-id": {api.IdPOIDC, api.IdPOpenShift}, "client-secret-file": {api.IdPOIDC, api.IdPOpenShift}, "scope": {api.IdPOIDC, api.IdPOpenShift},
	}
	for _, flag := range []string{"metadata", "entity-id", "metadata-pin", "idp-initiated", "sign-requests", "discovery", "auth", "require", "api-server", "client-id", "client-secret-file", "scope"} {
		if !given(flag) {
			continue
		}
		ok := false
		for _, one := range of[flag] {
			ok = ok || one == t
		}
		if !ok {
			return core.BadField("--"+flag, fmt.Sprintf("means nothing to a provider of type %s", t))
		}
	}
	return nil
}

// fill puts into a request what the flags say, but for the secret.
func (a *app) fill(r *api.IdPRequest, f *idpFlags, given func(string) bool) error {
	set := func(flag string, into *string, value string) {
		if given(flag) {
			*into = value
		}
	}
	set("name", &r.Name, f.name)
	if given("domain") {
		r.Domains = f.domains
	}
	if given("enabled") || r.Enabled == nil {
		r.Enabled = &f.enabled
	}
	if given("ca") {
		pem, err := readSmall("--ca", f.ca)
		if err != nil {
			return err
		}
		r.CA = pem
	}
	if len(f.mappers) > 0 {
		if r.Mappers == nil {
			r.Mappers = &api.Mappers{}
		}
		if err := rename("--map", r.Mappers, f.mappers); err != nil {
			return err
		}
	}
	switch r.Type {
	case api.IdPSAML:
		return f.fillSAML(r, given)
	case api.IdPOIDC:
		if r.OIDC == nil {
			r.OIDC = &api.OIDCData{}
		}
		set("client-id", &r.OIDC.ClientID, f.clientID)
		set("discovery", &r.OIDC.DiscoveryURL, f.discovery)
		set("auth", &r.OIDC.AuthMethod, f.auth)
		if given("scope") {
			r.OIDC.Scopes = f.scopes
		}
		return f.fillClaim(r, given)
	case api.IdPOpenShift:
		if r.OpenShift == nil {
			r.OpenShift = &api.OCPData{}
		}
		set("client-id", &r.OpenShift.ClientID, f.clientID)
		set("api-server", &r.OpenShift.BaseURL, f.apiServer)
		if given("scope") {
			r.OpenShift.Scopes = f.scopes
		}
	}
	return nil
}

func (f *idpFlags) fillSAML(r *api.IdPRequest, given func(string) bool) error {
	if r.SAML == nil {
		r.SAML = &api.SAMLData{}
	}
	d := r.SAML
	if given("metadata") {
		d.MetadataType, d.MetadataURL, d.MetadataXML, d.FileName = "url", f.metadata, "", ""
		if !strings.Contains(f.metadata, "://") {
			document, err := readSmall("--metadata", f.metadata)
			if err != nil {
				return err
			}
			d.MetadataType, d.MetadataURL, d.MetadataXML, d.FileName = "file", "", document, filepath.Base(f.metadata)
		}
	}
	if given("entity-id") {
		d.EntityID = f.entityID
	}
	if given("idp-initiated") {
		d.IdPInitiated = f.idpInitiated
	}
	if given("sign-requests") {
		d.SignRequests = f.signRequests
	}
	if given("metadata-pin") {
		pem, err := readSmall("--metadata-pin", f.pin)
		if err != nil {
			return err
		}
		d.MetadataPin = pem
	}
	return nil
}

func (f *idpFlags) fillClaim(r *api.IdPRequest, given func(string) bool) error {
	if !given("require") {
		return nil
	}
	var m api.MandatoryClaim
	for _, s := range f.claims {
		claim, value, ok := strings.Cut(s, "=")
		if !ok || m.Claim != "" && claim != m.Claim {
			return core.BadField("--require", "must be CLAIM=VALUE, always of the same claim")
		}
		m.Claim, m.Values = claim, append(m.Values, value)
	}
	r.OIDC.MandatoryClaim = &m
	return nil
}

// maxGiven bounds a file that is given to a command, in bytes.
const maxGiven = 1 << 20

// readSmall reads a file; "" is none.
func readSmall(flag, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	file, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxGiven+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	if len(data) > maxGiven {
		return "", core.BadField(flag, fmt.Sprintf("%s is over %d bytes", name, maxGiven))
	}
	return string(data), nil
}

// askSecret gets the client secret of a provider that needs one: from a file, from standard input, or from a person.
func (a *app) askSecret(r *api.IdPRequest, file string) error {
	var into *string
	switch {
	case r.OIDC != nil && r.OIDC.AuthMethod != "private_key_jwt":
		into = &r.OIDC.ClientSecret
	case r.OpenShift != nil:
		into = &r.OpenShift.ClientSecret
	default:
		return nil
	}
	var secret string
	var err error
	switch {
	case file == "-":
		var data []byte
		data, err = io.ReadAll(io.LimitReader(a.in, 4<<10))
		secret = string(data)
	case file != "":
		secret, err = readSmall("--client-secret-file", file)
	case !term.IsTerminal(int(a.in.Fd())):
		return errors.New("there is nobody to ask for the client secret: give --client-secret-file")
	default:
		fmt.Fprint(a.err, "Client secret: ")
		var data []byte
		data, err = term.ReadPassword(int(a.in.Fd()))
		fmt.Fprintln(a.err)
		secret = string(data)
	}
	if err != nil {
		return err
	}
	if *into = strings.TrimRight(secret, "\r\n"); *into == "" {
		return errors.New("the client secret is empty")
	}
	return nil
}
