package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

const (
	idps   = "/api/v1/idps"
	traces = "/api/v1/sso/traces"
)

func idp(alias string) string { return idps + "/" + url.PathEscape(alias) }

// IdPs returns the tenant's connections to identity providers, in the order in which they were made.
func (c *Client) IdPs(ctx context.Context) (all []IdP, err error) {
	_, err = c.Do(ctx, http.MethodGet, idps, nil, nil, &all)
	return all, err
}

// IdP returns a connection.
func (c *Client) IdP(ctx context.Context, alias string) (p IdP, err error) {
	_, err = c.Do(ctx, http.MethodGet, idp(alias), nil, nil, &p)
	return p, err
}

// CreateIdP connects an identity provider.
func (c *Client) CreateIdP(ctx context.Context, r IdPRequest) (p IdP, err error) {
	_, err = c.Do(ctx, http.MethodPost, idps, nil, r, &p)
	return p, err
}

// UpdateIdP says what a connection shall be from now on.
func (c *Client) UpdateIdP(ctx context.Context, alias string, r IdPRequest) (p IdP, err error) {
	_, err = c.Do(ctx, http.MethodPut, idp(alias), nil, r, &p)
	return p, err
}

// DeleteIdP takes a connection away. Its people stay its own: nobody else can sign in as them.
func (c *Client) DeleteIdP(ctx context.Context, alias string) error {
	_, err := c.Do(ctx, http.MethodDelete, idp(alias), nil, nil, nil)
	return err
}

// Mappers returns the names of a connection's attributes.
func (c *Client) Mappers(ctx context.Context, alias string) (m Mappers, err error) {
	_, err = c.Do(ctx, http.MethodGet, idp(alias)+"/mappers", nil, nil, &m)
	return m, err
}

// SetMappers replaces the names of a connection's attributes.
func (c *Client) SetMappers(ctx context.Context, alias string, m Mappers) error {
	_, err := c.Do(ctx, http.MethodPut, idp(alias)+"/mappers", nil, m, nil)
	return err
}

// RotateIdPKeys publishes another key of ours towards a provider, or ends the rollover that this began before.
func (c *Client) RotateIdPKeys(ctx context.Context, alias string) (p IdP, err error) {
	_, err = c.Do(ctx, http.MethodPost, idp(alias)+"/keys", nil, nil, &p)
	return p, err
}

// RefreshIdP reads what the provider publishes, now.
func (c *Client) RefreshIdP(ctx context.Context, alias string) (p IdP, err error) {
	_, err = c.Do(ctx, http.MethodPost, idp(alias)+"/refresh", nil, nil, &p)
	return p, err
}

// TestIdP makes a link for a sign-in that changes nothing.
func (c *Client) TestIdP(ctx context.Context, alias string) (t IdPTest, err error) {
	_, err = c.Do(ctx, http.MethodPost, idp(alias)+"/test", nil, nil, &t)
	return t, err
}

// Traces returns a page of the sign-in traces, the newest first: at most limit of them, after the one that cursor names, which
// is the Next of the page before.
func (c *Client) Traces(ctx context.Context, limit int, cursor string) (page TraceList, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	_, err = c.Do(ctx, http.MethodGet, traces, q, nil, &page)
	return page, err
}

// Trace returns a sign-in trace.
func (c *Client) Trace(ctx context.Context, id string) (t Trace, err error) {
	_, err = c.Do(ctx, http.MethodGet, traces+"/"+url.PathEscape(id), nil, nil, &t)
	return t, err
}
