package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/api"
)

func (a *app) whoamiCommand() *cobra.Command {
	var server, cluster string
	var explain bool
	c := &cobra.Command{
		Use:   "whoami",
		Short: "Show who you are; with --explain, why a cluster would refuse you",
		Long: `Shows who you are to Fleetpass. With --explain it looks at everything by which a token is judged, one by one, and with
--cluster also presents one to that cluster's API server: a 401 from there says nothing of its reason, and this does.
Exits 1 if something is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withClient(c.Context(), server, func(ctx context.Context, acc *account, client *api.Client) error {
				if explain || cluster != "" {
					return a.explain(ctx, acc, client, cluster)
				}
				me, err := client.Me(ctx)
				if err != nil {
					return err
				}
				return a.print(me, func(w io.Writer) { showMe(w, acc, me) })
			})
		},
	}
	serverFlag(c, &server)
	outputFlag(a, c)
	c.Flags().BoolVar(&explain, "explain", false, "look at everything by which a token is judged")
	c.Flags().StringVar(&cluster, "cluster", "", "with --explain: also present a token to the cluster of that `name` or id")
	return c
}

func showMe(w io.Writer, acc *account, me api.Me) {
	fmt.Fprintln(w, clean(me.Username))
	var groups []string
	for _, g := range me.Groups {
		groups = append(groups, string(g))
	}
	rows := [][]string{{"  server", acc.Server}, {"  groups", strings.Join(groups, ", ")}}
	if name := strings.TrimSpace(me.FirstName + " " + me.LastName); name != "" {
		rows = append(rows, []string{"  name", name})
	}
	if me.UID != nil {
		rows = append(rows, []string{"  uid", fmt.Sprint(*me.UID)})
	}
	if me.GID != nil {
		rows = append(rows, []string{"  gid", fmt.Sprint(*me.GID)})
	}
	if len(me.SupplementaryGroups) > 0 {
		rows = append(rows, []string{"  supplementary groups", strings.Trim(fmt.Sprint(me.SupplementaryGroups), "[]")})
	}
	if s, err := acc.load(); err == nil && s.Access != "" {
		rows = append(rows, []string{"  token", "ends " + until(s.Expires, time.Now()) + ", and is renewed by itself"})
	}
	table(w, rows)
}

// finding is one line of an explanation.
type finding struct {
	OK    bool   `json:"ok"`
	What  string `json:"what"`
	Found string `json:"found"`
	Fix   string `json:"fix,omitempty"`
}

// findings is an explanation.
type findings []finding

// note adds a line; the fix is only of interest where something is wrong.
func (f *findings) note(ok bool, what, found, fix string) {
	if ok {
		fix = ""
	}
	*f = append(*f, finding{ok, what, found, fix})
}

// maxClockSkew is how far clocks may be apart before tokens of minutes suffer.
const maxClockSkew = 10 * time.Second

// explain looks at what can go wrong, from our side to the API server's, and says how to mend what is.
func (a *app) explain(ctx context.Context, acc *account, client *api.Client, cluster string) error {
	var found findings
	i, err := api.Discover(ctx, acc.http, acc.Server)
	if err != nil {
		found.note(false, "server", err.Error(), orElse(hint(err), "Check the URL that you signed in to."))
		return a.showFindings(found)
	}
	found.note(true, "server", acc.Server+" is the issuer that it says it is", "")
	found.note(i.Skew.Abs() <= maxClockSkew, "clock", "the server's is "+apart(i.Skew),
		"Set this machine's clock (NTP): tokens last minutes, and programs that compare times will think them expired or not yet valid.")
	token, err := acc.access(ctx)
	if err != nil {
		found.note(false, "session", err.Error(), "Run `fleetpass login`.")
		return a.showFindings(found)
	}
	s, err := acc.load()
	if err != nil {
		return err
	}
	found.note(true, "session", fmt.Sprintf("of %s, its access token ends %s", orElse(s.Email, "a person whose ID token was not sent"), until(s.Expires, time.Now())), "")
	c, err := readClaims(token)
	if err != nil {
		return err
	}
	judge(&found, "access token", c, acc.Server, acc.Server, time.Now().Add(i.Skew))
	keys, err := publishedKeys(ctx, acc.http, i)
	if err != nil {
		found.note(false, "signing keys", err.Error(), "API servers cannot verify tokens either while the keys cannot be fetched.")
	}
	if cluster != "" {
		if err := a.explainCluster(ctx, &found, acc, client, i, keys, cluster); err != nil {
			found.note(false, "cluster", err.Error(), orElse(hint(err), "See `fleetpass cluster list`."))
		}
	}
	return a.showFindings(found)
}

func (a *app) explainCluster(ctx context.Context, found *findings, acc *account, client *api.Client, i *api.Issuer, keys []string, name string) error {
	list, err := clusters(ctx, client)
	if err != nil {
		return err
	}
	var cl api.Cluster
	for _, one := range list {
		if one.Name == name || string(one.UUID) == name {
			cl = one
		}
	}
	if cl.UUID == "" {
		return fmt.Errorf("there is no cluster %q that you may see: %w", name, core.NotFound)
	}
	pass, err := acc.pass(ctx, cl.UUID)
	if err != nil {
		return fmt.Errorf("no token for cluster %s: %w", cl.Name, err)
	}
	c, err := readClaims(pass.Token)
	if err != nil {
		return err
	}
	judge(found, "cluster token", c, acc.Server, string(cl.UUID), time.Now().Add(i.Skew))
	if keys != nil {
		known := false
		for _, k := range keys {
			known = known || k == c.KeyID
		}
		found.note(known, "signature", fmt.Sprintf("%s, by key %s of %d published", c.Algorithm, c.KeyID, len(keys)),
			"The key is not among those that the server publishes; an API server refuses the token.")
	}
	found.note(true, "as", fmt.Sprintf("user %q, groups %q, before the cluster's prefixes", c.Username, c.Groups), "")
	if cl.Server == "" {
		found.note(true, "API server", "is not reached from here (mode "+cl.Mode+")", "")
		return nil
	}
	return a.present(ctx, found, cl, c, pass.Token)
}

// present shows the token to the API server and asks who it thinks we are.
func (a *app) present(ctx context.Context, found *findings, cl api.Cluster, c claims, token string) error {
	h, err := api.NewHTTPClient([]byte(cl.CA))
	if err != nil {
		return err
	}
	review := `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, cl.Server+"/apis/authentication.k8s.io/v1/selfsubjectreviews", bytes.NewReader([]byte(review)))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.Do(req)
	if err != nil {
		found.note(false, "API server", fmt.Sprintf("%s cannot be reached: %v", cl.Server, errors.Unwrap(err)), "Is it up, and its address and CA in Fleetpass right?")
		return nil
	}
	defer resp.Body.Close()
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		skew := time.Until(date).Round(time.Second)
		issued, expires := time.Unix(c.Issued, 0), time.Unix(c.Expires, 0)
		found.note(date.After(issued.Add(-maxClockSkew)) && date.Before(expires), "its clock", fmt.Sprintf("%s; the token holds from %s to %s", apart(skew),
			issued.UTC().Format(time.TimeOnly), expires.UTC().Format(time.TimeOnly)), "By its clock the token has expired or was not issued yet: set the API server's clock.")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var answer struct {
		Status struct {
			UserInfo struct {
				Username string   `json:"username"`
				Groups   []string `json:"groups"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		found.note(false, "API server", "401: it refuses the token", fmt.Sprintf(
			"If nothing above is wrong, its own configuration is: its AuthenticationConfiguration must have an issuer with url %s and audiences [%s], "+
				"and certificateAuthority if the issuer's certificate is a private one; and the API server must reach that URL itself.", c.Issuer, cl.UUID))
	case resp.StatusCode != http.StatusCreated || json.Unmarshal(body, &answer) != nil:
		found.note(false, "API server", resp.Status, "That is no answer to who we are; is "+cl.Server+" a Kubernetes API server?")
	default:
		u := answer.Status.UserInfo
		found.note(true, "API server", fmt.Sprintf("takes you for user %q, groups %q", u.Username, u.Groups), "")
	}
	return nil
}

// apart says how far another clock is from ours. A Date header has whole seconds, so one more or less means nothing.
func apart(d time.Duration) string {
	switch {
	case d.Abs() <= time.Second:
		return "that of this machine, to the second"
	case d > 0:
		return d.String() + " ahead of this machine's"
	}
	return d.Abs().String() + " behind this machine's"
}

// judge looks at a token as a verifier would, by the server's clock.
func judge(found *findings, what string, c claims, issuer, audience string, now time.Time) {
	found.note(c.Issuer == issuer, what+" iss", c.Issuer, "It must be "+issuer+" to the letter.")
	found.note(len(c.Audience) == 1 && c.Audience[0] == audience, what+" aud", strings.Join(c.Audience, ", "), "It must be "+audience+" alone.")
	left := time.Unix(c.Expires, 0).Sub(now).Round(time.Second)
	found.note(left > 0, what+" exp", fmt.Sprintf("%s left", left), "It has expired; `fleetpass login` gets new ones.")
	early := max(c.NotBefore, c.Issued)
	found.note(time.Unix(early, 0).Before(now.Add(maxClockSkew)), what+" iat, nbf", time.Unix(early, 0).UTC().Format(time.RFC3339), "It is not valid yet: a clock is wrong.")
}

// publishedKeys is the ids of the keys in the issuer's JWKS.
func publishedKeys(ctx context.Context, h *http.Client, i *api.Issuer) ([]string, error) {
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	path, ok := strings.CutPrefix(i.JWKS, i.URL)
	if !ok {
		return nil, fmt.Errorf("they are published elsewhere, at %s", i.JWKS)
	}
	if _, err := (&api.Client{Server: i.URL, HTTP: h}).Do(ctx, http.MethodGet, path, nil, nil, &set); err != nil {
		return nil, err
	}
	ids := []string{}
	for _, k := range set.Keys {
		ids = append(ids, k.ID)
	}
	return ids, nil
}

func (a *app) showFindings(found findings) error {
	wrong := false
	for _, f := range found {
		wrong = wrong || !f.OK
	}
	err := a.print(found, func(w io.Writer) {
		for _, f := range found {
			fmt.Fprintf(w, "%s %-22s %s\n", a.tick(f.OK), f.What, clean(f.Found))
			if f.Fix != "" {
				fmt.Fprintf(w, "  %-22s → %s\n", "", clean(f.Fix))
			}
		}
	})
	if err == nil && wrong {
		err = exitCode(1)
	}
	return err
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
