package session

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

func TestParseRefresh(t *testing.T) {
	mac := bytes.Repeat([]byte{9}, refreshMAC)
	want := refreshName{7, "family", ada}
	raw := want.token(mac)
	got, gotMAC, ok := parseRefresh(raw)
	if !ok || got != want || !bytes.Equal(gotMAC, mac) {
		t.Fatalf("%+v %v", got, ok)
	}
	body := raw[len(refreshPrefix):]
	for _, bad := range []string{
		"", "fpr_", body, "FPR_" + body, "fpr_" + body + "=", "fpr_" + body[:10] + "\n" + body[10:], "fpr_" + body[:len(body)-1], " " + raw,
		"fpr_" + strings.Repeat("A", 700), refreshName{7, "", ada}.token(mac), refreshName{7, "family", ""}.token(mac), want.token(mac[:31]), want.token(append(mac, 9)),
	} {
		if n, _, ok := parseRefresh(bad); ok && n == want {
			t.Errorf("%q is read as the same token", bad)
		} else if ok && len(bad) < len(raw) {
			t.Errorf("%q is read as %+v", bad, n)
		}
	}
}

// The message of the MAC says what it names in one way only.
func TestRefreshMessage(t *testing.T) {
	a, b := refreshName{1, "ab", "c@d"}, refreshName{1, "a", "bc@d"}
	if bytes.Equal(a.message(), b.message()) {
		t.Error("two names, one message")
	}
}

// Whatever parses was written by token, to the byte: there is one spelling.
func FuzzParseRefresh(f *testing.F) {
	f.Add(refreshName{1, "family", ada}.token(bytes.Repeat([]byte{1}, refreshMAC)))
	f.Add(refreshName{4294967295, "f", "e"}.token(make([]byte, refreshMAC)))
	f.Add("fpr_AQAAAAE")
	f.Add("")
	f.Fuzz(func(t *testing.T, raw string) {
		n, mac, ok := parseRefresh(raw)
		if ok && n.token(mac) != raw {
			t.Fatalf("%q parses, and is written %q", raw, n.token(mac))
		}
	})
}

// told counts the events that tell of a person signed out.
func (r *rig) told(t *testing.T, user string) (n int) {
	t.Helper()
	for _, k := range r.outbox {
		items, err := r.DB.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		if items[0].Version == 0 {
			continue // of a commit that was refused
		}
		if _, fact, err := events.Decode(items[0].Body); err != nil {
			t.Fatal(err)
		} else if u, ok := fact.(events.UserChanged); ok && u.User == user && u.Change == "signed-out" {
			n++
		}
	}
	return n
}

// noted counts the audit records about a family.
func (r *rig) noted(t *testing.T, family string) (n int) {
	t.Helper()
	var records store.Table[audit.Record]
	for _, it := range r.list(t, store.AuditsNew("acme")) {
		rec, err := records.Decode(it)
		if err != nil {
			t.Fatal(err)
		}
		if v := rec.Value; v.EntityID == family && v.Request == "request-1" && v.Reason != "" && v.Action == audit.SignOut {
			n++
		}
	}
	return n
}
