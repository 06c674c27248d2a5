// Package kubernetes implements sync.Cluster over the REST API of a Kubernetes API server, with net/http, and without
// client-go. The API server belongs to a tenant and is not trusted: every answer is bounded in
// bytes and in what it may become in memory, every call in time, lists in their number of objects and pages; redirects are
// not followed, since they could carry the token elsewhere; and the token that is sent is good for this one cluster only.
package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
	"github.com/fleetpass/fleetpass/core/sync"
)

// Config says how to reach a cluster.
type Config struct {
	Server string // https://HOST[:PORT][/PATH]
	CA     string // PEM certificates that the server's chain ends at; empty: the system's

	// Token returns the bearer token. It is asked before each request, so it should keep one until shortly before it ends.
	Token func(ctx context.Context) (string, error)

	// Wrote is called after each request that may have written something, with the HTTP status or 0. For tests and metrics.
	Wrote func(verb kube.Verb, ref kube.Ref, status int)

	Limits Limits // the zero Limits are the defaults
}

// Limits bound what one cluster can cost.
type Limits struct {
	Timeout  time.Duration // of one request with its answer. Default 15 s
	PageSize int           // objects asked for at once. Default 500
	Page     int64         // bytes of one answer. Default 4 MiB: an object has at most 1.5, etcd takes no more
	Total    int64         // bytes of all lists together. Default 64 MiB
	Objects  int           // of all lists together. Default 100,000
	Parts    int           // subjects, labels, annotations and finalizers of all objects together. Default 500,000
}

// defaults fills in what is not said.
func defaults(l Limits) Limits {
	if l.Timeout <= 0 {
		l.Timeout = 15 * time.Second
	}
	if l.PageSize <= 0 {
		l.PageSize = 500
	}
	if l.Page <= 0 {
		l.Page = 4 << 20
	}
	if l.Total <= 0 {
		l.Total = 64 << 20
	}
	if l.Objects <= 0 {
		l.Objects = 100_000
	}
	if l.Parts <= 0 {
		l.Parts = 500_000
	}
	return l
}

// Cluster is one cluster's API server.
type Cluster struct {
	server string
	client *http.Client
	token  func(ctx context.Context) (string, error)
	wrote  func(kube.Verb, kube.Ref, int)
	limits Limits
}

// New returns a Cluster. It makes no request. What is wrong with the Config is core.Invalid.
func New(c Config) (*Cluster, error) {
	u, err := url.Parse(c.Server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, core.BadField("server", "must be https://HOST[:PORT][/PATH]")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(c.CA)) {
			return nil, core.BadField("ca", "must be PEM certificates")
		}
	}
	if c.Token == nil {
		return nil, errors.New("kubernetes: no Token")
	}
	if c.Wrote == nil {
		c.Wrote = func(kube.Verb, kube.Ref, int) {}
	}
	return &Cluster{
		server: strings.TrimRight(c.Server, "/"),
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:                  http.ProxyFromEnvironment,
				DialContext:            (&net.Dialer{Timeout: 5 * time.Second, Control: reachable}).DialContext,
				TLSClientConfig:        conf,
				TLSHandshakeTimeout:    5 * time.Second,
				ForceAttemptHTTP2:      true,
				MaxIdleConnsPerHost:    8,
				IdleConnTimeout:        30 * time.Second,
				MaxResponseHeaderBytes: 64 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		token: c.Token, wrote: c.Wrote, limits: defaults(c.Limits),
	}, nil
}

// reachable refuses addresses that no API server has, after names are resolved: a tenant chooses the name and what it
// resolves to, and on a link-local address the cloud's metadata service gives credentials to whoever asks.
func reachable(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if ip := a.Addr().Unmap(); err != nil || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return fmt.Errorf("address %s is not one of an API server: %w", address, core.Invalid)
	}
	return nil
}

// Close ends idle connections.
func (c *Cluster) Close() { c.client.CloseIdleConnections() }

const (
	namespacesPath   = "/api/v1/namespaces"
	rbacPath         = "/apis/rbac.authorization.k8s.io/v1"
	roleBindings     = rbacPath + "/rolebindings"
	clusterBindings  = rbacPath + "/clusterrolebindings"
	bootstrapVersion = rbacPath + "/clusterroles/" + kube.SyncRole
)

// path is where an object is, or with collection where its like are made.
func path(r kube.Ref, collection bool) string {
	var base string
	switch r.Kind {
	case kube.Namespace:
		base = namespacesPath
	case kube.ClusterRoleBinding:
		base = clusterBindings
	case kube.RoleBinding:
		base = rbacPath + "/namespaces/" + url.PathEscape(string(r.Namespace)) + "/rolebindings"
	}
	if collection {
		return base
	}
	return base + "/" + url.PathEscape(r.Name)
}

// Current lists every namespace and every binding that bears our label, each list as of one moment, gets those of the
// bindings named that are not among them, and reads which bootstrap the cluster has. See sync.Cluster.
func (c *Cluster) Current(ctx context.Context, named ...kube.Ref) (kube.State, error) {
	var s kube.State
	var role object
	switch err := c.do(ctx, http.MethodGet, bootstrapVersion, nil, nil, &role); {
	case err == nil:
		s.Bootstrap = role.Metadata.Annotations[kube.AnnotationBootstrap]
	case !errors.Is(err, core.NotFound) && !errors.Is(err, core.Denied):
		return kube.State{}, err
	}
	ours := url.Values{"labelSelector": {kube.LabelManagedBy + "=" + kube.ManagedBy}}
	add := func(o kube.Object) { s.Objects = append(s.Objects, o) }
	left := c.limits
	err := list(ctx, c, &left, namespacesPath, nil, func(n object) {
		m := n.Metadata
		add(kube.Object{Ref: kube.Ref{Kind: kube.Namespace, Name: m.Name}, Labels: m.Labels, Annotations: m.Annotations,
			UID: m.UID, ResourceVersion: m.ResourceVersion, Terminating: m.Deletion != nil || n.Status != nil && n.Status.Phase == phaseTerminating})
	})
	if err == nil {
		err = list(ctx, c, &left, roleBindings, ours, func(b object) {
			add(binding(kube.RoleBinding, b))
		})
	}
	if err == nil {
		err = list(ctx, c, &left, clusterBindings, ours, func(b object) {
			add(binding(kube.ClusterRoleBinding, b))
		})
	}
	if err != nil {
		return kube.State{}, err
	}
	seen := make(map[kube.Ref]bool, len(s.Objects))
	for _, o := range s.Objects {
		if o.Name == "" || o.UID == "" || o.ResourceVersion == "" || seen[o.Ref] {
			return kube.State{}, fmt.Errorf("kubernetes: a list holds %s twice or without name, uid or resourceVersion: %w", o.Ref, core.Unavailable)
		}
		seen[o.Ref] = true
	}
	for _, ref := range named {
		if ref.Kind == kube.Namespace || seen[ref] || ref.Namespace != "" && !seen[kube.Ref{Kind: kube.Namespace, Name: string(ref.Namespace)}] {
			continue
		}
		o, err := c.get(ctx, &left, ref)
		switch {
		case err == nil:
			add(o)
		case !errors.Is(err, core.NotFound):
			return kube.State{}, err
		}
	}
	return s, nil
}

// get reads one binding, and takes it off what is left of the limits.
func (c *Cluster) get(ctx context.Context, left *Limits, ref kube.Ref) (kube.Object, error) {
	var data []byte
	if err := c.do(ctx, http.MethodGet, path(ref, false), nil, nil, &data); err != nil {
		return kube.Object{}, err
	}
	b, err := left.one(data)
	if err != nil {
		return kube.Object{}, fmt.Errorf("kubernetes: GET %s: %w", path(ref, false), err)
	}
	o := binding(ref.Kind, b)
	if o.Ref != ref || o.UID == "" || o.ResourceVersion == "" {
		return kube.Object{}, fmt.Errorf("kubernetes: GET %s: the answer is about another object: %w", path(ref, false), core.Unavailable)
	}
	return o, nil
}

func binding(kind kube.Kind, b object) kube.Object {
	m, role := b.Metadata, roleRef{}
	if b.RoleRef != nil {
		role = *b.RoleRef
	}
	o := kube.Object{
		Ref:    kube.Ref{Kind: kind, Namespace: core.Namespace(m.Namespace), Name: m.Name},
		Labels: m.Labels, Annotations: m.Annotations, Finalizers: m.Finalizers,
		UID: m.UID, ResourceVersion: m.ResourceVersion, Terminating: m.Deletion != nil,
	}
	if role.Kind == "ClusterRole" {
		o.Role = role.Name
	} else {
		o.Role = role.Kind + "/" + role.Name // never equal to one of ours
	}
	for _, s := range b.Subjects {
		o.Subjects = append(o.Subjects, kube.Subject{Kind: kube.SubjectKind(s.Kind), Name: s.Name, Namespace: s.Namespace})
	}
	slices.SortFunc(o.Subjects, kube.CompareSubjects)
	return o
}

// list reads all pages of a list, and takes what they come to off what is left of the limits. They are one snapshot: the
// continue token names it, and when the API server has forgotten it the list fails and must begin anew. Whatever is not a
// complete list is an error.
func list(ctx context.Context, c *Cluster, left *Limits, path string, query url.Values, each func(object)) error {
	q := url.Values{}
	for k, v := range query {
		q[k] = v
	}
	limit := c.limits.PageSize
	for {
		q.Set("limit", strconv.Itoa(limit))
		var data []byte
		err := c.do(ctx, http.MethodGet, path, q, nil, &data)
		if errors.Is(err, core.TooLarge) && limit > 1 {
			limit = (limit + 3) / 4 // bindings with many subjects: fewer at once
			continue
		}
		if err != nil {
			return err
		}
		page, err := left.read(data)
		if err != nil {
			return fmt.Errorf("kubernetes: GET %s: %w", path, err)
		}
		for _, item := range page.items {
			each(item)
		}
		if page.next == "" {
			return nil
		}
		if len(page.items) == 0 || page.next == q.Get("continue") {
			return fmt.Errorf("kubernetes: GET %s: a list without end: %w", path, core.Unavailable)
		}
		q.Set("continue", page.next)
	}
}

// Apply makes one change. See sync.Cluster.
func (c *Cluster) Apply(ctx context.Context, ch kube.Change) (kube.Object, error) {
	o := ch.Object
	var body any
	var err error
	got := receipt{answered: true}
	switch ch.Verb {
	case kube.Create:
		o.UID, o.ResourceVersion = "", ""
		if body, err = manifest(o); err == nil {
			err = c.write(ctx, ch, http.MethodPost, path(o.Ref, true), body, &got)
		}
	case kube.Update:
		// With uid and resourceVersion in it, the PUT fails on any object but the very one that was read, and on none.
		if o.UID == "" || o.ResourceVersion == "" {
			return kube.Object{}, fmt.Errorf("kubernetes: update of %s without uid and resourceVersion: %w", o.Ref, core.Invalid)
		}
		if body, err = manifest(o); err == nil {
			err = c.write(ctx, ch, http.MethodPut, path(o.Ref, false), body, &got)
		}
	case kube.Delete:
		if o.UID == "" || o.ResourceVersion == "" || o.Kind == kube.Namespace {
			return kube.Object{}, fmt.Errorf("kubernetes: unconditional delete of %s: %w", o.Ref, core.Invalid)
		}
		d := deletion{APIVersion: "v1", Kind: "DeleteOptions"}
		d.Preconditions.UID, d.Preconditions.ResourceVersion = o.UID, o.ResourceVersion
		got.answered = false
		err = c.write(ctx, ch, http.MethodDelete, path(o.Ref, false), d, &got)
		o.AuditID = got.auditID
		return o, err
	default:
		err = fmt.Errorf("kubernetes: verb %q: %w", ch.Verb, core.Invalid)
	}
	if err != nil {
		return kube.Object{}, err
	}
	m := got.object.Metadata
	if m.Name != o.Name || m.UID == "" || o.UID != "" && m.UID != o.UID {
		return kube.Object{}, fmt.Errorf("kubernetes: %s: the answer is about another object: %w", ch, core.Unavailable)
	}
	o.UID, o.ResourceVersion, o.AuditID = m.UID, m.ResourceVersion, got.auditID
	return o, nil
}

func manifest(o kube.Object) (any, error) {
	m := object{APIVersion: "v1", Kind: string(o.Kind), Metadata: meta{
		Name: o.Name, Namespace: string(o.Namespace), Labels: o.Labels, Annotations: o.Annotations, Finalizers: o.Finalizers,
		UID: o.UID, ResourceVersion: o.ResourceVersion,
	}}
	for _, s := range o.Subjects {
		if s.Kind != kube.UserKind && s.Kind != kube.GroupKind {
			return nil, fmt.Errorf("kubernetes: %s: subject of kind %q: %w", o.Ref, s.Kind, core.Invalid)
		}
		m.Subjects = append(m.Subjects, subject{APIGroup: rbacGroup, Kind: string(s.Kind), Name: s.Name})
	}
	switch o.Kind {
	case kube.Namespace:
		return m, nil
	case kube.RoleBinding, kube.ClusterRoleBinding:
		m.APIVersion, m.RoleRef = rbacVersion, &roleRef{APIGroup: rbacGroup, Kind: "ClusterRole", Name: o.Role}
		return m, nil
	}
	return nil, fmt.Errorf("kubernetes: kind %q: %w", o.Kind, core.Invalid)
}

func (c *Cluster) write(ctx context.Context, ch kube.Change, method, path string, body any, into *receipt) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("kubernetes: %s: %w", ch, err)
	}
	err = c.do(ctx, method, path, nil, data, into)
	c.wrote(ch.Verb, ch.Object.Ref, status(err))
	return err
}

// Dial is New for a sync.Target, with the default Limits.
func Dial(t sync.Target) (sync.Cluster, error) {
	return New(Config{Server: t.Server, CA: t.CA, Token: t.Token})
}

var _ sync.Cluster = (*Cluster)(nil)
