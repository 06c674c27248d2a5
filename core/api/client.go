package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/fleetpass/fleetpass/core"
)

// maxAnswer bounds what is read of an answer, in bytes: a full page of rules and the kubeconfig of a large fleet fit.
const maxAnswer = 16 << 20

// Client calls the admin API of one tenant. Its methods' errors are *ResponseError for what the server refused, and
// core.Unavailable where it cannot be reached.
type Client struct {
	Server string       // the tenant's URL, which is its issuer: https://HOST/t/TENANT
	HTTP   *http.Client // NewHTTPClient's

	// Token returns the access token to send. It is asked before every request, so that it may renew it.
	Token func(context.Context) (string, error)
}

// NewHTTPClient returns a client for Client and Issuer: it trusts the system's certificate authorities and those of
// ca (PEM, may be empty), follows no redirect, which could carry a token elsewhere, and gives a request 30 s.
func NewHTTPClient(ca []byte) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(bytes.TrimSpace(ca)) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(ca) {
			return nil, core.BadField("ca", "holds no PEM certificate")
		}
		config.RootCAs = pool
	}
	return &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:       config,
			TLSHandshakeTimeout:   10 * time.Second,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   4,
			IdleConnTimeout:       30 * time.Second,
			ResponseHeaderTimeout: 25 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// ParseServer checks a tenant's URL and returns it in the one form that is compared and stored: https, or http to this
// machine itself; no user, query, fragment or slash at the end.
func ParseServer(field, s string) (string, error) {
	u, err := url.Parse(strings.TrimRight(s, "/"))
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return "", core.BadField(field, "must be a tenant's URL, such as https://fleetpass.example.com/t/acme")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", core.BadField(field, "must be a plain URL, with no user, query or fragment")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return "", core.BadField(field, "must begin with https://")
	}
	return u.String(), nil
}

// loopback says whether the host is this machine, which plain HTTP may be spoken to.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// ResponseError is an answer that refuses. errors.Is finds the core.Kind in it.
type ResponseError struct {
	Status  int
	Message string // the server's sentence for people
	Details Details
}

// Error is the server's sentence.
func (e *ResponseError) Error() string { return e.Message }

// Unwrap is the kind that the server names, or else the one that its status stands for.
func (e *ResponseError) Unwrap() error {
	if e.Details.Kind != "" {
		return e.Details.Kind
	}
	switch e.Status {
	case http.StatusBadRequest:
		return core.Invalid
	case http.StatusUnauthorized:
		return core.Unauthenticated
	case http.StatusForbidden:
		return core.Denied
	case http.StatusNotFound:
		return core.NotFound
	case http.StatusConflict:
		return core.Conflict
	case http.StatusTooManyRequests:
		return core.Throttled
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return core.Unavailable
	}
	return nil
}

// Do sends a request with in as its JSON body, if in is not nil, and decodes the answer into out, if out is not nil: a
// *[]byte takes it as it is. The path begins with a slash and is below the tenant's URL. It returns the answer's header.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Server+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Token != nil {
		token, err := c.Token(ctx)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	status, header, data, err := send(c.HTTP, req)
	if err != nil {
		return nil, err
	}
	if status < 200 || status > 299 {
		return header, responseError(c.Server, status, header, data)
	}
	switch out := out.(type) {
	case nil:
	case *[]byte:
		*out = data
	default:
		if err := json.Unmarshal(data, out); err != nil {
			return header, fmt.Errorf("%s answers %s %s with something else than its API: %w", c.Server, method, req.URL.Path, err)
		}
	}
	return header, nil
}

// send returns the whole answer to a request. What goes wrong on the way is core.Unavailable.
func send(h *http.Client, req *http.Request) (status int, header http.Header, body []byte, err error) {
	req.Header.Set("User-Agent", "fleetpass")
	resp, err := h.Do(req)
	if err != nil {
		var u *url.Error // its text has the URL, whose query may hold what is nobody's business
		if errors.As(err, &u) {
			err = u.Err
		}
		return 0, nil, nil, fmt.Errorf("cannot reach %s://%s: %w%w", req.URL.Scheme, req.URL.Host, err, silent{core.Unavailable})
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, nil, fmt.Errorf("the answer of %s broke off: %w%w", req.URL.Host, err, silent{core.Unavailable})
	case len(body) > maxAnswer:
		return 0, nil, nil, fmt.Errorf("the answer of %s is over %d bytes: %w", req.URL.Host, maxAnswer, core.TooLarge)
	}
	return resp.StatusCode, resp.Header, body, nil
}

// silent gives an error a kind without adding its words.
type silent struct{ kind core.Kind }

func (s silent) Error() string { return "" }
func (s silent) Unwrap() error { return s.kind }

func responseError(server string, status int, header http.Header, data []byte) error {
	e := &ResponseError{Status: status}
	var body Error
	if media, _, _ := mime.ParseMediaType(header.Get("Content-Type")); media == "application/json" && json.Unmarshal(data, &body) == nil {
		e.Message, e.Details = body.Message, body.Details
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("%s answers %d %s; is this the URL of a tenant?", server, status, http.StatusText(status))
	}
	return e
}

// Me says who the caller is.
func (c *Client) Me(ctx context.Context) (me Me, err error) {
	_, err = c.Do(ctx, http.MethodGet, "/api/v1/me", nil, nil, &me)
	return me, err
}

// Roles returns the roles.
func (c *Client) Roles(ctx context.Context) (roles []Role, err error) {
	_, err = c.Do(ctx, http.MethodGet, "/api/v1/authorization/roles", nil, nil, &roles)
	return roles, err
}

// CreateAccessRule gives a subject a role in a scope.
func (c *Client) CreateAccessRule(ctx context.Context, rule AccessRuleRequest) (made AccessRule, err error) {
	_, err = c.Do(ctx, http.MethodPost, "/api/v1/authorization/access-rules", nil, rule, &made)
	return made, err
}

// PreviewAccessRule says what CreateAccessRule would do, and does nothing.
func (c *Client) PreviewAccessRule(ctx context.Context, rule AccessRuleRequest) (p RulePreview, err error) {
	_, err = c.Do(ctx, http.MethodPost, "/api/v1/authorization/access-rules", url.Values{"dryRun": {"true"}}, rule, &p)
	return p, err
}

// PreviewDeletion says what DeleteAccessRule would do, and does nothing.
func (c *Client) PreviewDeletion(ctx context.Context, id core.RuleID) (p RulePreview, err error) {
	_, err = c.Do(ctx, http.MethodDelete, "/api/v1/authorization/access-rules/"+strconv.FormatUint(uint64(id), 10), url.Values{"dryRun": {"true"}}, nil, &p)
	return p, err
}

// PreviewDeletions says what it would do to delete several rules, at most 100, each judged by itself, and does nothing.
func (c *Client) PreviewDeletions(ctx context.Context, ids []core.RuleID) (r AccessRuleBatchResult, err error) {
	_, err = c.Do(ctx, http.MethodPost, "/api/v1/authorization/access-rules/batch", url.Values{"dryRun": {"true"}}, AccessRuleBatch{IDs: ids, Action: BatchDelete}, &r)
	return r, err
}

// DeleteAccessRule takes a rule back.
func (c *Client) DeleteAccessRule(ctx context.Context, id core.RuleID) error {
	_, err := c.Do(ctx, http.MethodDelete, "/api/v1/authorization/access-rules/"+strconv.FormatUint(uint64(id), 10), nil, nil, nil)
	return err
}

// AccessRules yields the rules that match the query and that the caller may view, page by page.
func (c *Client) AccessRules(ctx context.Context, query url.Values) iter.Seq2[AccessRule, error] {
	return pages(query, func(q url.Values) ([]AccessRule, string, error) {
		var page AccessRuleList
		header, err := c.Do(ctx, http.MethodGet, "/api/v1/authorization/access-rules", q, nil, &page)
		return page.AccessRules, header.Get(HeaderNext), err
	})
}

// Clusters yields the clusters that the caller may view.
func (c *Client) Clusters(ctx context.Context) iter.Seq2[Cluster, error] {
	return pages(nil, func(q url.Values) (page []Cluster, next string, err error) {
		header, err := c.Do(ctx, http.MethodGet, "/api/v1/clusters", q, nil, &page)
		return page, header.Get(HeaderNext), err
	})
}

// ClusterStatus says how far a cluster has followed.
func (c *Client) ClusterStatus(ctx context.Context, id core.ClusterID) (s ClusterStatus, err error) {
	_, err = c.Do(ctx, http.MethodGet, "/api/v1/clusters/"+url.PathEscape(string(id))+"/status", nil, nil, &s)
	return s, err
}

// Reconcile asks for a full look at a cluster, soon, as otherwise comes by a timer.
func (c *Client) Reconcile(ctx context.Context, id core.ClusterID) error {
	_, err := c.Do(ctx, http.MethodPost, "/api/v1/clusters/"+url.PathEscape(string(id))+"/reconcile", nil, nil, nil)
	return err
}

const deadLetters = "/api/v1/sync/dead-letters"

// DeadLetters yields what was given up in the scopes that the caller may view.
func (c *Client) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter, error] {
	return pages(nil, func(q url.Values) (page []DeadLetter, next string, err error) {
		header, err := c.Do(ctx, http.MethodGet, deadLetters, q, nil, &page)
		return page, header.Get(HeaderNext), err
	})
}

// ReplayDeadLetter has a dead letter tried again.
func (c *Client) ReplayDeadLetter(ctx context.Context, id string) error {
	_, err := c.Do(ctx, http.MethodPost, deadLetters+"/"+url.PathEscape(id)+"/replay", nil, nil, nil)
	return err
}

// ReplayDeadLetters has all that can be tried again, at most MaxReplay of them.
func (c *Client) ReplayDeadLetters(ctx context.Context) (done DeadLetterReplay, err error) {
	_, err = c.Do(ctx, http.MethodPost, deadLetters+"/replay", nil, nil, &done)
	return done, err
}

// DeleteDeadLetter takes a dead letter away for good.
func (c *Client) DeleteDeadLetter(ctx context.Context, id string) error {
	_, err := c.Do(ctx, http.MethodDelete, deadLetters+"/"+url.PathEscape(id), nil, nil, nil)
	return err
}

// Departments yields the departments that the caller may view.
func (c *Client) Departments(ctx context.Context) iter.Seq2[Department, error] {
	return pages(nil, func(q url.Values) ([]Department, string, error) {
		var page DepartmentList
		_, err := c.Do(ctx, http.MethodGet, "/api/v1/org-unit/departments", q, nil, &page)
		return page.Departments, page.Next, err
	})
}

// Projects yields the projects that the caller may view.
func (c *Client) Projects(ctx context.Context) iter.Seq2[Project, error] {
	return pages(nil, func(q url.Values) ([]Project, string, error) {
		var page ProjectList
		_, err := c.Do(ctx, http.MethodGet, "/api/v1/org-unit/projects", q, nil, &page)
		return page.Projects, page.Next, err
	})
}

// Kubeconfig returns the caller's kubeconfig, YAML with no secret in it.
func (c *Client) Kubeconfig(ctx context.Context) (yaml []byte, err error) {
	_, err = c.Do(ctx, http.MethodGet, "/api/v1/kubeconfig", nil, nil, &yaml)
	return yaml, err
}

// pages fetches page after page until one has no next.
func pages[T any](query url.Values, fetch func(url.Values) (page []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		q := url.Values{}
		for k, v := range query {
			q[k] = v
		}
		q.Set("limit", strconv.Itoa(MaxLimit))
		q.Set("cursor", "") // from the beginning, in steps: a filter may find nothing for a while
		for {
			page, next, err := fetch(q)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, v := range page {
				if !yield(v, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			q.Set("cursor", next)
		}
	}
}
