package localkeys

import (
	"testing"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
)

// FuzzUnwrap: nothing opens but what was wrapped, for the purpose and the tenant that it was wrapped for.
func FuzzUnwrap(f *testing.F) {
	w, err := New(masterKey(1))
	if err != nil {
		f.Fatal(err)
	}
	good, err := w.Wrap(f.Context(), keys.PurposeSigning, "acme", []byte("a key"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "acme")
	f.Add(good[:len(good)-1], "acme")
	f.Add(good, "globex")
	f.Add([]byte{}, "acme")
	f.Fuzz(func(t *testing.T, wrapped []byte, tenant string) {
		plain, err := w.Unwrap(t.Context(), keys.PurposeSigning, core.TenantID(tenant), wrapped)
		// Another process of the fuzzer wraps the same key with another nonce: that opens, too.
		if err == nil && (tenant != "acme" || string(plain) != "a key") {
			t.Fatalf("%x opens for %q: %q", wrapped, tenant, plain)
		}
		if string(wrapped) == string(good) && tenant == "acme" && err != nil {
			t.Fatalf("what was wrapped does not open: %v", err)
		}
	})
}
