package kubernetes

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
)

// serve starts an API server that answers as h does, and returns a Cluster that speaks to it.
func serve(t *testing.T, h http.HandlerFunc, l Limits) (*Cluster, *httptest.Server) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	c, err := New(Config{Server: srv.URL, CA: string(ca), Token: func(context.Context) (string, error) { return "the-token", nil }, Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, srv
}

// list is an answer with n objects of a kind.
func listOf(kind string, from, n int, next string) string {
	items := []map[string]any{}
	for i := range n {
		items = append(items, map[string]any{"metadata": map[string]any{"name": fmt.Sprintf("o%d", from+i), "uid": fmt.Sprintf("u-%s-%d", kind, from+i), "resourceVersion": "1",
			"labels": map[string]string{"app.kubernetes.io/managed-by": "fleetpass"}}, "roleRef": map[string]string{"kind": "ClusterRole", "name": "r"},
			"subjects": []map[string]string{{"kind": "User", "name": "b"}, {"kind": "Group", "name": "a"}}})
	}
	b, _ := json.Marshal(map[string]any{"kind": kind + "List", "metadata": map[string]string{"continue": next}, "items": items})
	return string(b)
}

// honest answers all that Current asks with two pages of each list.
func honest(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer the-token" || r.Method != http.MethodGet {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	kind := map[string]string{namespacesPath: "Namespace", roleBindings: "RoleBinding", clusterBindings: "ClusterRoleBinding"}[r.URL.Path]
	switch {
	case r.URL.Path == bootstrapVersion:
		fmt.Fprint(w, `{"metadata":{"annotations":{"fleetpass.dev/bootstrap-version":"v1"}}}`)
	case kind == "":
		w.WriteHeader(http.StatusNotFound)
	case kind != "Namespace" && r.URL.Query().Get("labelSelector") != "app.kubernetes.io/managed-by=fleetpass":
		w.WriteHeader(http.StatusBadRequest)
	case r.URL.Query().Get("continue") == "":
		fmt.Fprint(w, listOf(kind, 0, 2, "more"))
	default:
		fmt.Fprint(w, listOf(kind, 2, 1, ""))
	}
}

func TestCurrent(t *testing.T) {
	c, _ := serve(t, honest, Limits{})
	s, err := c.Current(t.Context())
	if err != nil || len(s.Objects) != 9 || s.Bootstrap != "v1" {
		t.Fatalf("%+v, %v", s, err)
	}
	if o := s.Objects[8]; o.Kind != kube.ClusterRoleBinding || o.Role != "r" || len(o.Subjects) != 2 || o.Subjects[0].Name != "a" {
		t.Errorf("%+v", o)
	}
}

// A binding that is named is read by itself if no list has it, and an answer that is not about it is an error (SYN-021).
func TestCurrentNamed(t *testing.T) {
	lostIn := rbacPath + "/namespaces/ns0/rolebindings/lost"
	ref := kube.Ref{Kind: kube.RoleBinding, Namespace: "ns0", Name: "lost"}
	for name, tt := range map[string]struct {
		answer string
		want   error
		found  int
	}{
		"there":         {`{"metadata":{"name":"lost","namespace":"ns0","uid":"u","resourceVersion":"7","finalizers":["f"]},"roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"User","name":"a"}]}`, nil, 1},
		"absent":        {"", nil, 0},
		"another":       {`{"metadata":{"name":"x","namespace":"ns0","uid":"u","resourceVersion":"7"}}`, core.Unavailable, 0},
		"without a uid": {`{"metadata":{"name":"lost","namespace":"ns0","resourceVersion":"7"}}`, core.Unavailable, 0},
	} {
		c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == namespacesPath:
				fmt.Fprint(w, `{"kind":"NamespaceList","items":[{"metadata":{"name":"ns0","uid":"n","resourceVersion":"1"}}]}`)
			case r.URL.Path == lostIn && tt.answer != "":
				fmt.Fprint(w, tt.answer)
			case r.URL.Path == lostIn:
				w.WriteHeader(http.StatusNotFound)
			case strings.HasPrefix(r.URL.Path, rbacPath+"/namespaces/"):
				t.Errorf("%s is asked for", r.URL.Path)
			default:
				honest(w, r)
			}
		}, Limits{})
		// In a namespace that is not there, nothing is looked for.
		s, err := c.Current(t.Context(), ref, kube.Ref{Kind: kube.RoleBinding, Namespace: "gone", Name: "lost"})
		if !errors.Is(err, tt.want) || err != nil && len(s.Objects) > 0 {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
			continue
		}
		found := 0
		for _, o := range s.Objects {
			if o.Ref == ref && o.Role == "r" && len(o.Subjects) == 1 && len(o.Finalizers) == 1 {
				found++
			}
		}
		if found != tt.found {
			t.Errorf("%s: found %d times: %+v", name, found, s.Objects)
		}
	}
}

// Whatever a hostile API server answers, the read is an error and never a smaller State, and it ends (K8S-033, SYN-021).
func TestHostileLists(t *testing.T) {
	small := Limits{Timeout: 300 * time.Millisecond, Page: 4 << 10, Total: 16 << 10, Objects: 20, PageSize: 4}
	var pages atomic.Int64
	endless := func(w http.ResponseWriter, write string) {
		for range 1 << 20 {
			if _, err := fmt.Fprint(w, write); err != nil {
				return
			}
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"huge":    func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat("x", 5<<10)) },
		"endless": func(w http.ResponseWriter, r *http.Request) { endless(w, `{"items":[`) },
		"pages without end": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, listOf("Namespace", 0, 1, fmt.Sprint(pages.Add(1))))
		},
		"the same page again": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, listOf("Namespace", 0, 1, "same")) },
		"empty pages": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, listOf("Namespace", 0, 0, fmt.Sprint(pages.Add(1))))
		},
		"no list":              func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"kind":"Status","status":"Success"}`) },
		"a list without items": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"kind":"NamespaceList","metadata":{}}`) },
		"null items":           func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"kind":"NamespaceList","items":null}`) },
		"nothing":              func(w http.ResponseWriter, r *http.Request) {},
		"half of it":           func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, listOf("Namespace", 0, 2, "")[:80]) },
		"deep":                 func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, strings.Repeat("[", 4000)) },
		"duplicates": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, strings.ReplaceAll(listOf("Namespace", 0, 2, ""), "o1", "o0"))
		},
		"objects without uid": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"kind":"NamespaceList","items":[{"metadata":{"name":"x"}}]}`)
		},
		"silent": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"slow": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				fmt.Fprint(w, " ")
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		},
		"200 and hangs up": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"expired continue": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("continue") != "" {
				w.WriteHeader(http.StatusGone)
			}
			fmt.Fprint(w, listOf("Namespace", 0, 1, "more"))
		},
		"500": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			fmt.Fprint(w, listOf("Namespace", 0, 1, ""))
		},
		"403": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) },
		"404": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, attack := range []string{namespacesPath, roleBindings, clusterBindings} {
				c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == attack {
						h(w, r)
						return
					}
					honest(w, r)
				}, small)
				began := time.Now()
				s, err := c.Current(t.Context())
				if err == nil || len(s.Objects) != 0 {
					t.Errorf("%s: %d objects, %v", attack, len(s.Objects), err)
				}
				if time.Since(began) > 5*time.Second {
					t.Errorf("%s: took %s", attack, time.Since(began))
				}
				if err != nil && (strings.Contains(err.Error(), "the-token") || len(err.Error()) > 1000) {
					t.Errorf("%s: %v", attack, err)
				}
			}
		})
	}
	c, _ := serve(t, honest, small) // the same limits let an honest server through
	if _, err := c.Current(t.Context()); err != nil {
		t.Error(err)
	}
}

// A redirect is not followed: the token stays with the cluster that it is for.
func TestNoRedirects(t *testing.T) {
	var stolen atomic.Bool
	thief := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { stolen.Store(true) }))
	t.Cleanup(thief.Close)
	for _, code := range []int{301, 302, 303, 307, 308} {
		c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL+r.URL.Path, code) }, Limits{})
		_, err := c.Current(t.Context())
		_, errWrite := c.Apply(t.Context(), create())
		if !errors.Is(err, core.Unavailable) || !errors.Is(errWrite, core.Unavailable) || stolen.Load() {
			t.Errorf("%d: %v, %v; followed: %v", code, err, errWrite, stolen.Load())
		}
	}
}

// Another certificate authority's certificate is refused before anything is sent.
func TestCertificate(t *testing.T) {
	var asked atomic.Bool
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Store(true) }))
	t.Cleanup(srv.Close)
	c, err := New(Config{Server: srv.URL, Token: func(context.Context) (string, error) { return "the-token", nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Current(t.Context()); !errors.Is(err, core.Unavailable) || asked.Load() {
		t.Errorf("%v; asked: %v", err, asked.Load())
	}
	for _, server := range []string{"http://a.example.com", "", "https://u:p@a.example.com", "https://a.example.com?x=y", "://"} {
		if _, err := New(Config{Server: server, Token: c.token}); !errors.Is(err, core.Invalid) {
			t.Errorf("server %q: %v", server, err)
		}
	}
	if _, err := New(Config{Server: srv.URL, CA: "no certificate", Token: c.token}); !errors.Is(err, core.Invalid) {
		t.Errorf("CA: %v", err)
	}
}

// Names may resolve to anything; what is no API server's address is not dialled (TestCurrent is the positive twin).
func TestUnreachable(t *testing.T) {
	for _, host := range []string{"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0.0.0.0", "[ff02::1]", "224.0.0.1"} {
		c, err := New(Config{Server: "https://" + host, Token: func(context.Context) (string, error) { return "the-token", nil }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Current(t.Context()); !errors.Is(err, core.Invalid) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func create() kube.Change {
	return kube.Change{Verb: kube.Create, Object: kube.Object{Ref: kube.Ref{Kind: kube.RoleBinding, Namespace: "ns", Name: "b"}, Role: "r"}}
}

// Answers to writes become the kinds that core/sync acts upon (SYN-015).
func TestApplyErrors(t *testing.T) {
	status := func(code int, reason, cause string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"kind":"Status","reason":%q,"message":"\u001b[31mno\n%s","details":{"causes":[{"reason":%q}]}}`, reason, strings.Repeat("x", 5000), cause)
		}
	}
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   core.Kind
	}{
		"exists":                {status(409, "AlreadyExists", ""), core.Exists},
		"conflict":              {status(409, "Conflict", ""), core.Conflict},
		"forbidden":             {status(403, "Forbidden", ""), core.Denied},
		"namespace terminating": {status(403, "Forbidden", "NamespaceTerminating"), core.NotFound},
		"unauthorized":          {status(401, "Unauthorized", ""), core.Unauthenticated},
		"invalid":               {status(422, "Invalid", ""), core.Invalid},
		"busy":                  {status(429, "TooManyRequests", ""), core.Throttled},
		"down":                  {status(503, "ServiceUnavailable", ""), core.Unavailable},
		"no JSON":               {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404); fmt.Fprint(w, "<html>") }, core.NotFound},
		"200, about another":    {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"metadata":{"name":"c","uid":"u"}}`) }, core.Unavailable},
		"200 on everything":     {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{}`) }, core.Unavailable},
	} {
		c, _ := serve(t, tt.answer, Limits{})
		wrote := 0
		c.wrote = func(kube.Verb, kube.Ref, int) { wrote++ }
		_, err := c.Apply(t.Context(), create())
		if !errors.Is(err, tt.want) || wrote != 1 {
			t.Errorf("%s: %v, want %q; counted %d", name, err, tt.want, wrote)
		}
		if s := err.Error(); strings.ContainsAny(s, "\x1b\n") || len(s) > 600 {
			t.Errorf("%s: the cluster's words go unfiltered: %q", name, s)
		}
		var e *apiError
		if errors.As(err, &e) && e.RetryAfter > time.Minute {
			t.Errorf("%s: told to wait %s", name, e.RetryAfter)
		}
	}
	// Nothing unconditional and no subject of a kind that we do not write ever leaves.
	c, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s %s was sent", r.Method, r.URL) }, Limits{})
	sa := create()
	sa.Object.Subjects = []kube.Subject{{Kind: kube.ServiceAccountKind, Name: "x"}}
	for _, ch := range []kube.Change{{Verb: kube.Update, Object: create().Object}, {Verb: kube.Delete, Object: create().Object}, sa, {Verb: "patch", Object: create().Object},
		{Verb: kube.Delete, Object: kube.Object{Ref: kube.Ref{Kind: kube.Namespace, Name: "x"}, UID: "u", ResourceVersion: "1"}}} {
		if _, err := c.Apply(t.Context(), ch); !errors.Is(err, core.Invalid) {
			t.Errorf("%s: %v", ch, err)
		}
	}
}

// An answer of any bytes is an error or a state, and no panic.
func FuzzCurrent(f *testing.F) {
	f.Add([]byte(listOf("RoleBinding", 0, 2, "")))
	f.Add([]byte(`{"kind":"RoleBindingList","items":[{"metadata":{"name":"x","uid":"u","resourceVersion":"1","deletionTimestamp":"2026-01-01T00:00:00Z"}}]}`))
	f.Add([]byte(`{"kind":"RoleBindingList","items":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &Cluster{server: "https://a.example.com", limits: Limits{Timeout: time.Second, Page: 1 << 20, Total: 1 << 20, Objects: 100, Parts: 1000, PageSize: 10},
			token: func(context.Context) (string, error) { return "t", nil }, client: &http.Client{Transport: canned(body)}}
		s, err := c.Current(t.Context())
		if err != nil && len(s.Objects) > 0 {
			t.Errorf("%v, and %d objects", err, len(s.Objects))
		}
	})
}

type canned []byte

func (b canned) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.URL.Path == roleBindings {
		_, _ = w.Write(b)
	} else {
		r.Header.Set("Authorization", "Bearer the-token")
		honest(w, r)
	}
	return w.Result(), nil
}
