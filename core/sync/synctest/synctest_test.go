package synctest

import (
	"context"
	"testing"

	"github.com/fleetpass/fleetpass/core/kube"
)

func TestMemory(t *testing.T) {
	m := New()
	m.Put(kube.Object{Ref: kube.Ref{Kind: kube.Namespace, Name: "ns1"}})
	Run(t, m, "ns1", func(_ context.Context, o kube.Object) (kube.Object, error) { return m.Put(o), nil })
}
