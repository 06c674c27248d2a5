package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/kube"
)

// paged answers the list of role bindings with pages of its own, of no more memory than the text.
type paged func(after string) string

func (p paged) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == roleBindings {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(p(r.URL.Query().Get("continue"))))}, nil
	}
	w := httptest.NewRecorder()
	honest(w, r)
	return w.Result(), nil
}

// A cluster cannot have us make of its few bytes more memory than a function has: "{}," is an object, or a subject.
func TestHostileSizes(t *testing.T) {
	const mega = 4<<20 - 1024
	numbered := func(form string, size int) string {
		var b bytes.Buffer
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, form, i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	list := func(items, next string) string {
		return `{"kind":"RoleBindingList","metadata":{"continue":"` + next + `"},"items":[` + items + `]}`
	}
	object := func(metadata, subjects string) string {
		return `{"metadata":{"name":"x","namespace":"default","uid":"u","resourceVersion":"1"` + metadata + `},"roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[` + subjects + `]}`
	}
	one := func(items string) paged {
		text := list(items, "")
		return func(string) string { return text }
	}
	crowd := object("", strings.Repeat("{},", 39_999)+"{}")
	page := strings.Repeat(crowd+",", 33) + crowd
	pages := [2]string{list(page, "a"), list(page, "b")}
	for name, tt := range map[string]struct {
		answer paged
		most   uint64 // MiB, of all that is ever allocated
	}{
		"subjects of one object":    {one(object("", strings.Repeat("{},", mega/3)+"{}")), 60},
		"subjects of many objects":  {func(after string) string { return pages[min(len(after), 1)] }, 200},
		"objects":                   {one(strings.Repeat("{},", mega/3) + "{}"), 300},
		"labels of one object":      {one(object(`,"labels":{`+numbered(`"%d":"",`, mega)+`}`, "")), 60},
		"annotations of one object": {one(object(`,"annotations":{`+numbered(`"%d":"",`, mega)+`}`, "")), 60},
		"finalizers of one object":  {one(object(`,"finalizers":[`+strings.Repeat(`"",`, mega/3)+`""]`, "")), 60},
	} {
		c := &Cluster{server: "https://a.example.com", token: func(context.Context) (string, error) { return "the-token", nil }, client: &http.Client{Transport: tt.answer}}
		c.limits = defaults(Limits{})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s, err := c.Current(t.Context())
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) >> 20; !errors.Is(err, core.TooLarge) || len(s.Objects) != 0 || got > tt.most {
			t.Errorf("%s: allocated %d MiB, at most %d; %.300v", name, got, tt.most, err)
		}
	}
	// What etcd takes is read.
	s, err := (&Cluster{server: "https://a.example.com", limits: defaults(Limits{}), token: func(context.Context) (string, error) { return "the-token", nil },
		client: &http.Client{Transport: one(object("", strings.TrimSuffix(strings.Repeat(`{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"x"},`, 39_000), ",")))}}).Current(t.Context())
	if err != nil || len(s.Objects) != 7 {
		t.Errorf("an object as large as there are: %d objects, %v", len(s.Objects), err)
	}
}

// What is read of all lists together counts.
func TestLimitsAreOfAllLists(t *testing.T) {
	for name, l := range map[string]Limits{"objects": {Objects: 8}, "bytes": {Total: 1700}, "parts": {Parts: 20}} {
		c, _ := serve(t, honest, l)
		if s, err := c.Current(t.Context()); !errors.Is(err, core.TooLarge) || len(s.Objects) != 0 {
			t.Errorf("%s: %d objects, %v", name, len(s.Objects), err)
		}
	}
	c, _ := serve(t, honest, Limits{Objects: 9, Total: 4000, Parts: 27})
	if _, err := c.Current(t.Context()); err != nil {
		t.Error(err)
	}
}

// One page that is not a page is an error, whatever it holds.
func TestBrokenPages(t *testing.T) {
	for _, text := range []string{"", "[]", "{", `{"kind":"XList","items":[]`, `{"kind":"XList","items":[{}`, `{"kind":"XList","items":[{}]}}`, `{"kind":"XList","items":[]} {}`, `{"kind":"XList","items":{}}`,
		`{"kind":"XList","items":null}`, `{"kind":"XList"}`, `{"kind":"X","items":[]}`, `{"kind":"XList","items":[],"items":[]}`, `{"kind":7,"items":[]}`, `{"kind":"XList","metadata":[],"items":[]}`, `{"kind":"XList","items":[7]}`} {
		l := defaults(Limits{})
		if p, err := l.read([]byte(text)); !errors.Is(err, core.Unavailable) || len(p.items) != 0 {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
	l := defaults(Limits{})
	if p, err := l.read([]byte(` {"more":{"a":[1]},"metadata":{"continue":"c"},"items":[{"metadata":{"name":"n"}}],"kind":"XList"} `)); err != nil || len(p.items) != 1 || p.next != "c" || p.items[0].Metadata.Name != "n" {
		t.Errorf("%+v, %v", p, err)
	}
}

// Bindings that are read by themselves, since their labels were taken away, count as those of the lists do.
func TestLimitsAreOfNamedBindings(t *testing.T) {
	var named []kube.Ref
	for i := range 30 {
		named = append(named, kube.Ref{Kind: kube.ClusterRoleBinding, Name: fmt.Sprint("n", i)})
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, clusterBindings+"/n"); ok {
			fmt.Fprintf(w, `{"metadata":{"name":"n%s","uid":"u","resourceVersion":"1","annotations":{"a":"b"}}}`, name)
			return
		}
		honest(w, r)
	}
	for name, tt := range map[string]struct {
		limits Limits
		want   error
	}{
		"enough": {Limits{Objects: 39, Total: 6000, Parts: 57}, nil}, "objects": {Limits{Objects: 38}, core.TooLarge},
		"bytes": {Limits{Total: 4000}, core.TooLarge}, "parts": {Limits{Parts: 56}, core.TooLarge},
	} {
		c, _ := serve(t, answer, tt.limits)
		if s, err := c.Current(t.Context(), named...); !errors.Is(err, tt.want) || err == nil && len(s.Objects) != 39 {
			t.Errorf("%s: %d objects, %v", name, len(s.Objects), err)
		}
	}
}
