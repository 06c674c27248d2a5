// Package kubernetes implements sync.Cluster over the REST API of a Kubernetes API server, with net/http and the types of
// k8s.io/api, and without client-go. The API server belongs to a tenant and is not trusted: every answer is bounded in
// bytes, every call in time, lists in their number of objects and pages; redirects are not followed, since they could
// carry the token elsewhere; and the token that is sent is good for this one cluster only.
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

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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
	Page     int64         // bytes of one answer. Default 16 MiB
	Total    int64         // bytes of one list. Default 256 MiB
	Objects  int           // of one kind. Default 100,000
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
	l := c.Limits
	if l.Timeout <= 0 {
		l.Timeout = 15 * time.Second
	}
	if l.PageSize <= 0 {
		l.PageSize = 500
	}
	if l.Page <= 0 {
		l.Page = 16 << 20
	}
	if l.Total <= 0 {
		l.Total = 256 << 20
	}
	if l.Objects <= 0 {
		l.Objects = 100_000
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
		token: c.Token, wrote: c.Wrote, limits: l,
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
	var role struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	switch _, err := c.do(ctx, http.MethodGet, bootstrapVersion, nil, nil, &role); {
	case err == nil:
		s.Bootstrap = role.Metadata.Annotations[kube.AnnotationBootstrap]
	case !errors.Is(err, core.NotFound) && !errors.Is(err, core.Denied):
		return kube.State{}, err
	}
	ours := url.Values{"labelSelector": {kube.LabelManagedBy + "=" + kube.ManagedBy}}
	add := func(o kube.Object) { s.Objects = append(s.Objects, o) }
	err := list(ctx, c, namespacesPath, nil, func(n corev1.Namespace) {
		add(kube.Object{Ref: kube.Ref{Kind: kube.Namespace, Name: n.Name}, Labels: n.Labels, Annotations: n.Annotations,
			UID: string(n.UID), ResourceVersion: n.ResourceVersion, Terminating: n.DeletionTimestamp != nil || n.Status.Phase == corev1.NamespaceTerminating})
	})
	if err == nil {
		err = list(ctx, c, roleBindings, ours, func(b rbacv1.RoleBinding) {
			add(binding(kube.RoleBinding, b.ObjectMeta, b.RoleRef, b.Subjects))
		})
	}
	if err == nil {
		err = list(ctx, c, clusterBindings, ours, func(b rbacv1.ClusterRoleBinding) {
			add(binding(kube.ClusterRoleBinding, b.ObjectMeta, b.RoleRef, b.Subjects))
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
		o, err := c.get(ctx, ref)
		switch {
		case err == nil:
			add(o)
		case !errors.Is(err, core.NotFound):
			return kube.State{}, err
		}
	}
	return s, nil
}

// get reads one binding.
func (c *Cluster) get(ctx context.Context, ref kube.Ref) (kube.Object, error) {
	var b struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		RoleRef  rbacv1.RoleRef    `json:"roleRef"`
		Subjects []rbacv1.Subject  `json:"subjects"`
	}
	if _, err := c.do(ctx, http.MethodGet, path(ref, false), nil, nil, &b); err != nil {
		return kube.Object{}, err
	}
	o := binding(ref.Kind, b.Metadata, b.RoleRef, b.Subjects)
	if o.Ref != ref || o.UID == "" || o.ResourceVersion == "" {
		return kube.Object{}, fmt.Errorf("kubernetes: GET %s: the answer is about another object: %w", path(ref, false), core.Unavailable)
	}
	return o, nil
}

func binding(kind kube.Kind, m metav1.ObjectMeta, role rbacv1.RoleRef, subjects []rbacv1.Subject) kube.Object {
	o := kube.Object{
		Ref:    kube.Ref{Kind: kind, Namespace: core.Namespace(m.Namespace), Name: m.Name},
		Labels: m.Labels, Annotations: m.Annotations, Finalizers: m.Finalizers,
		UID: string(m.UID), ResourceVersion: m.ResourceVersion, Terminating: m.DeletionTimestamp != nil,
	}
	if role.Kind == "ClusterRole" {
		o.Role = role.Name
	} else {
		o.Role = role.Kind + "/" + role.Name // never equal to one of ours
	}
	for _, s := range subjects {
		o.Subjects = append(o.Subjects, kube.Subject{Kind: kube.SubjectKind(s.Kind), Name: s.Name, Namespace: s.Namespace})
	}
	slices.SortFunc(o.Subjects, kube.CompareSubjects)
	return o
}

// list reads all pages of a list. They are one snapshot: the continue token names it, and when the API server has
// forgotten it the list fails and must begin anew. Whatever is not a complete list is an error.
func list[T any](ctx context.Context, c *Cluster, path string, query url.Values, each func(T)) error {
	q := url.Values{}
	for k, v := range query {
		q[k] = v
	}
	n, total, limit := 0, int64(0), c.limits.PageSize
	for {
		q.Set("limit", strconv.Itoa(limit))
		var page struct {
			Kind     string          `json:"kind"`
			Metadata metav1.ListMeta `json:"metadata"`
			Items    *[]T            `json:"items"`
		}
		size, err := c.do(ctx, http.MethodGet, path, q, nil, &page)
		if errors.Is(err, core.TooLarge) && limit > 1 {
			limit = (limit + 3) / 4 // bindings with many subjects: fewer at once
			continue
		}
		if err != nil {
			return err
		}
		if total += size; total > c.limits.Total {
			return fmt.Errorf("kubernetes: GET %s: more than %d bytes: %w", path, c.limits.Total, core.TooLarge)
		}
		if !strings.HasSuffix(page.Kind, "List") || page.Items == nil {
			return fmt.Errorf("kubernetes: GET %s: not a list: %w", path, core.Unavailable)
		}
		n += len(*page.Items)
		if n > c.limits.Objects {
			return fmt.Errorf("kubernetes: GET %s: more than %d objects: %w", path, c.limits.Objects, core.TooLarge)
		}
		for _, item := range *page.Items {
			each(item)
		}
		next := page.Metadata.Continue
		if next == "" {
			return nil
		}
		if len(*page.Items) == 0 || next == q.Get("continue") {
			return fmt.Errorf("kubernetes: GET %s: a list without end: %w", path, core.Unavailable)
		}
		q.Set("continue", next)
	}
}

// Apply makes one change. See sync.Cluster.
func (c *Cluster) Apply(ctx context.Context, ch kube.Change) (kube.Object, error) {
	o := ch.Object
	var body any
	var err error
	var got struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
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
		uid := types.UID(o.UID)
		body = metav1.DeleteOptions{
			TypeMeta:      metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
			Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &o.ResourceVersion},
		}
		return o, c.write(ctx, ch, http.MethodDelete, path(o.Ref, false), body, nil)
	default:
		err = fmt.Errorf("kubernetes: verb %q: %w", ch.Verb, core.Invalid)
	}
	if err != nil {
		return kube.Object{}, err
	}
	if got.Metadata.Name != o.Name || got.Metadata.UID == "" || o.UID != "" && string(got.Metadata.UID) != o.UID {
		return kube.Object{}, fmt.Errorf("kubernetes: %s: the answer is about another object: %w", ch, core.Unavailable)
	}
	o.UID, o.ResourceVersion = string(got.Metadata.UID), got.Metadata.ResourceVersion
	return o, nil
}

func manifest(o kube.Object) (any, error) {
	meta := metav1.ObjectMeta{
		Name: o.Name, Namespace: string(o.Namespace), Labels: o.Labels, Annotations: o.Annotations, Finalizers: o.Finalizers,
		UID: types.UID(o.UID), ResourceVersion: o.ResourceVersion,
	}
	role := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: o.Role}
	var subjects []rbacv1.Subject
	for _, s := range o.Subjects {
		if s.Kind != kube.UserKind && s.Kind != kube.GroupKind {
			return nil, fmt.Errorf("kubernetes: %s: subject of kind %q: %w", o.Ref, s.Kind, core.Invalid)
		}
		subjects = append(subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: string(s.Kind), Name: s.Name})
	}
	const rbac = "rbac.authorization.k8s.io/v1"
	switch o.Kind {
	case kube.Namespace:
		return corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: meta}, nil
	case kube.RoleBinding:
		return rbacv1.RoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: rbac, Kind: "RoleBinding"}, ObjectMeta: meta, RoleRef: role, Subjects: subjects}, nil
	case kube.ClusterRoleBinding:
		return rbacv1.ClusterRoleBinding{TypeMeta: metav1.TypeMeta{APIVersion: rbac, Kind: "ClusterRoleBinding"}, ObjectMeta: meta, RoleRef: role, Subjects: subjects}, nil
	}
	return nil, fmt.Errorf("kubernetes: kind %q: %w", o.Kind, core.Invalid)
}

func (c *Cluster) write(ctx context.Context, ch kube.Change, method, path string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("kubernetes: %s: %w", ch, err)
	}
	_, err = c.do(ctx, method, path, nil, data, into)
	c.wrote(ch.Verb, ch.Object.Ref, status(err))
	return err
}

// Dial is New for a sync.Target, with the default Limits.
func Dial(t sync.Target) (sync.Cluster, error) {
	return New(Config{Server: t.Server, CA: t.CA, Token: t.Token})
}

var _ sync.Cluster = (*Cluster)(nil)
