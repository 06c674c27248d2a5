package store

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
)

// Whatever a constructor makes, ParseKey makes again out of what an adapter or a file keeps of it.
func TestParseKey(t *testing.T) {
	odd := []string{"a", "", "a#b", "#", "\x7f", "\x7f#", "a\x7f23", "é", "\x1f", "x\x00y", "\xff\xfe", "\ufffd", "1b671a64-40d5-491e-99b0-da01ff1f3341.abc", "system", "account", "\n\"\\"}
	for _, c := range constructors {
		for _, tenant := range []string{"acme", "a#b", "\x7f", "\x1facme", "system"} {
			for i, b := range odd {
				x := args{tenant, b, odd[(i+3)%len(odd)], odd[(i+7)%len(odd)], uint64(i) * 987_654_321}
				checkParse(t, c, x)
			}
		}
	}
}

// checkParse holds ParseKey to one key. A key that is no key (an empty name) is refused, as the stores refuse it.
func checkParse(t *testing.T, c constructor, x args) {
	t.Helper()
	k := c.key(x)
	got, err := ParseKey(k.Leading(), k.Sort())
	if err == nil != (k.check() == nil) {
		t.Errorf("%s%v = %q %q: error %v, of the key itself %v", c.name, x, k.Leading(), k.Sort(), err, k.check())
	}
	if err == nil && got != k {
		t.Errorf("%s%v = %q %q, parsed %q %q", c.name, x, k.Leading(), k.Sort(), got.Leading(), got.Sort())
	}
}

func TestParseKeyRefuses(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	cluster := core.NewClusterID()
	due := Due("acme", at, "x")
	shard := strings.TrimPrefix(due.Leading(), "due#system#")
	for name, k := range map[string][2]string{
		"nothing":                        {"", ""},
		"no tenant":                      {"user", "ada"},
		"an empty tenant":                {"user#", "ada"},
		"no such kind":                   {"trace#acme", "x"},
		"an empty kind":                  {"#acme", "x"},
		"a kind in capitals":             {"User#acme", "ada"},
		"no sort key":                    {"user#acme", ""},
		"one part too many":              {"user#acme", "ada\x1fbob"},
		"a partition too deep":           {"user#acme#x", "ada"},
		"a partition not deep enough":    {"recorded#acme", "x"},
		"another sort for meta":          {"meta#acme", "other"},
		"a number with too few digits":   {"rule#acme", "7"},
		"a number with a sign":           {"rule#acme", "+0000000000000000007"},
		"a number out of range":          {"rule#acme", "99999999999999999999"},
		"a letter for a number":          {"audit-seal#acme", "0000000000000000000x"},
		"a time of another form":         {"audit#acme", "2026-05-01T12:00:00\x1fx"},
		"a time that is none":            {"audit#acme", "20261301T120000.000\x1fx"},
		"a time without its fraction":    {"audit#acme", "20260501T120000\x1fx"},
		"a rule in another gathering":    {"cluster#acme#account", string(cluster) + "\x1f00000000000000000007"},
		"a rule in no gathering":         {"cluster#acme", "acme\x1f00000000000000000007"},
		"a registry of another tenant":   {"tenant#acme", "acme"},
		"a due index of another tenant":  {"due#acme#" + shard, due.Sort()},
		"a due item in another shard":    {"due#system#" + string('0'+(shard[0]-'0'+1)%DueShards), due.Sort()},
		"a queue of another tenant":      {"queue#acme", "x"},
		"an escape that is not needed":   {"user#acme", "\x7f61da"},
		"an escape in capitals":          {"user#acme", "\x7f1F"},
		"half an escape":                 {"user#acme", "a\x7f1"},
		"an escape that is none":         {"user#acme", "a\x7fzz"},
		"a # escaped in a sort key":      {"user#acme", "a\x7f#b"},
		"a separator in the partition":   {"user\x1facme", "ada"},
		"a zero byte":                    {"user#acme", "a\x00b"},
		"bytes that are not UTF-8":       {"user#acme", "\xff"},
		"a key that is too long":         {"user#acme", strings.Repeat("k", MaxKey)},
		"a partition with a slash for #": {"user/acme", "ada"},
	} {
		if got, err := ParseKey(k[0], k[1]); err == nil {
			t.Errorf("%s: %q %q is taken for %s", name, k[0], k[1], got)
		} else if !errors.Is(err, core.Invalid) && !errors.Is(err, core.Limit) {
			t.Errorf("%s: %v has no kind", name, err)
		}
	}
	// The twins: as near as can be, and right.
	for _, k := range []Key{Rule("acme", 7), Audit("acme", at, "x"), due, ClusterRule("acme", core.ClusterScope(cluster), 7), User("acme", "a#b"), Recorded("acme", cluster, "x")} {
		if got, err := ParseKey(k.Leading(), k.Sort()); err != nil || got != k {
			t.Errorf("%q %q: %v, %v", k.Leading(), k.Sort(), got, err)
		}
	}
}

// Whatever is taken for a key is spelt as it was given, and is within the limits.
func FuzzParseKey(f *testing.F) {
	for _, c := range constructors {
		k := c.key(args{"acme", "b#c", "d\x7f", "e", 7})
		f.Add(k.Leading(), k.Sort(), uint8(1), "b", uint64(3))
	}
	f.Fuzz(func(t *testing.T, leading, sort string, c uint8, name string, n uint64) {
		if k, err := ParseKey(leading, sort); err == nil {
			if k.Leading() != leading || k.Sort() != sort || k.check() != nil || !utf8.ValidString(leading+sort) {
				t.Errorf("%q %q is taken for %q %q (%v)", leading, sort, k.Leading(), k.Sort(), k.check())
			}
		}
		checkParse(t, constructors[int(c)%len(constructors)], args{leading, sort, name, leading, n})
	})
}

// Every key is about its own tenant, but for what the operators' tenant keeps about others.
func TestAbout(t *testing.T) {
	for _, c := range constructors {
		k := c.key(args{"acme", "b", "c", "d", 1})
		want := core.TenantID("acme")
		if c.name == "Queued" {
			want = core.SystemTenant
		}
		if got := k.About(); got != want {
			t.Errorf("%s is about %s, want %s", k, got, want)
		}
	}
	due := Due("acme", time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), "seal:")
	if !DueShardOf("acme").holds(due) {
		t.Errorf("the shard of acme does not hold %s", due)
	}
}

func TestOnly(t *testing.T) {
	k := TenantEntry("acme")
	for _, other := range []Key{TenantEntry("acme2"), TenantEntry("acm"), User("acme", "acme")} {
		if !Only(k).holds(k) || Only(k).holds(other) {
			t.Errorf("only %s: holds it %v, holds %s %v", k, Only(k).holds(k), other, Only(k).holds(other))
		}
	}
}
