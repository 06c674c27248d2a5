package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
)

// args are the arguments of any constructor in keys.go.
type args struct {
	a, b, c, d string
	n          uint64
}

func (x args) String() string { return fmt.Sprintf("(%+q %+q %+q %+q %d)", x.a, x.b, x.c, x.d, x.n) }

func (x args) tenant() core.TenantID { return core.TenantID(x.a) }

// at is a time for each n, to the millisecond, which is what keys keep, within the years that a stamp can sort.
func (x args) at() time.Time { return time.UnixMilli(int64(x.n % 250_000_000_000_000)).UTC() }

// constructor makes a key of some of the arguments, and says which.
type constructor struct {
	name string
	key  func(args) Key
	used func(args) args
}

func tenantOnly(x args) args { return args{a: x.a} }
func two(x args) args        { return args{a: x.a, b: x.b} }
func three(x args) args      { return args{a: x.a, b: x.b, c: x.c} }
func four(x args) args       { return args{a: x.a, b: x.b, c: x.c, d: x.d} }
func numbered(x args) args   { return args{a: x.a, n: x.n} }
func goneRule(x args) args   { return args{a: x.a, n: x.n} }
func timed(x args) args      { return args{a: x.a, b: x.b, n: uint64(x.at().UnixMilli())} }

// constructors are all of keys.go, but for AuditSort, which names what Audit has made. TestEveryConstructor counts them.
var constructors = []constructor{
	{"Meta", func(x args) Key { return Meta(x.tenant()) }, tenantOnly},
	{"Scope", func(x args) Key { return Scope(x.tenant(), core.ScopeID(x.b)) }, two},
	{"ScopeName", func(x args) Key {
		return ScopeName(x.tenant(), core.ScopeID(x.b), core.ScopeKind(x.c), x.d)
	}, four},
	{"NamespaceOwner", func(x args) Key { return NamespaceOwner(x.tenant(), core.ClusterID(x.b), core.Namespace(x.c)) }, three},
	{"Rule", func(x args) Key { return Rule(x.tenant(), core.RuleID(x.n)) }, numbered},
	{"Grants", func(x args) Key {
		return Grants(x.tenant(), core.Subject{Kind: core.SubjectKind(x.b), ID: x.c}, GrantsIn(x.d))
	}, four},
	{"ClusterRule", func(x args) Key {
		return ClusterRule(x.tenant(), core.ScopeID(x.b), core.RuleID(x.n))
	}, func(x args) args { return args{a: x.a, b: x.b, n: x.n} }},
	{"User", func(x args) Key { return User(x.tenant(), core.Email(x.b)) }, two},
	{"UserByID", func(x args) Key { return UserByID(x.tenant(), core.UserID(x.b)) }, two},
	{"Group", func(x args) Key { return Group(x.tenant(), core.GroupName(x.b)) }, two},
	{"Application", func(x args) Key { return Application(x.tenant(), core.ApplicationID(x.b)) }, two},
	{"ApplicationName", func(x args) Key { return ApplicationName(x.tenant(), x.b) }, two},
	{"AccessKey", func(x args) Key { return AccessKey(x.tenant(), core.ApplicationID(x.b)) }, two},
	{"AccessKeysOf", func(x args) Key { return AccessKeysOf(x.tenant(), core.UserID(x.b)) }, two},
	{"Member", func(x args) Key { return Member(x.tenant(), core.GroupName(x.b), core.Email(x.c)) }, three},
	{"GroupSeen", func(x args) Key { return GroupSeen(x.tenant(), core.GroupName(x.b)) }, two},
	{"RuleGone", func(x args) Key { return RuleGone(x.tenant(), x.at(), core.RuleID(x.n)) }, goneRule},
	{"Once", func(x args) Key { return Once(x.tenant(), x.b) }, two},
	{"TrustedIssuer", func(x args) Key { return TrustedIssuer(x.tenant(), x.b) }, two},
	{"Device", func(x args) Key { return Device(x.tenant(), x.b) }, two},
	{"DeviceUserCode", func(x args) Key { return DeviceUserCode(x.tenant(), x.b) }, two},
	{"Attempts", func(x args) Key { return Attempts(x.tenant(), x.b, x.c) }, three},
	{"Login", func(x args) Key { return Login(x.tenant(), x.b) }, two},
	{"Session", func(x args) Key { return Session(x.tenant(), x.b) }, two},
	{"Family", func(x args) Key { return Family(x.tenant(), x.b) }, two},
	{"Code", func(x args) Key { return Code(x.tenant(), x.b) }, two},
	{"Used", func(x args) Key { return Used(x.tenant(), x.b, x.c) }, three},
	{"Flow", func(x args) Key { return Flow(x.tenant(), x.b) }, two},
	{"Kept", func(x args) Key { return Kept(x.tenant(), x.b) }, two},
	{"Connection", func(x args) Key { return Connection(x.tenant(), x.b) }, two},
	{"Catalog", func(x args) Key { return Catalog(x.tenant()) }, tenantOnly},
	{"Trace", func(x args) Key { return Trace(x.tenant(), x.at(), x.b) }, timed},
	{"SigningKey", func(x args) Key { return SigningKey(x.tenant(), x.b) }, two},
	{"Outbox", func(x args) Key { return Outbox(x.tenant(), x.at(), x.b) }, timed},
	{"Audit", func(x args) Key { return Audit(x.tenant(), x.at(), x.b) }, timed},
	{"AuditNew", func(x args) Key { return AuditNew(x.tenant(), x.at(), x.b) }, timed},
	{"AuditSeal", func(x args) Key { return AuditSeal(x.tenant(), x.n) }, numbered},
	{"Sync", func(x args) Key { return Sync(x.tenant(), core.ClusterID(x.b)) }, two},
	{"Recorded", func(x args) Key { return Recorded(x.tenant(), core.ClusterID(x.b), x.c) }, three},
	{"TenantEntry", func(x args) Key { return TenantEntry(x.tenant()) }, tenantOnly},
	{"Due", func(x args) Key { return Due(x.tenant(), x.at(), x.b) }, timed},
	{"DeadLetter", func(x args) Key { return DeadLetter(x.tenant(), x.b, x.c) }, three},
	{"Queued", func(x args) Key { return Queued(x.a) }, func(x args) args { return args{a: x.a} }},
}

// flat is a key as bolt spells it: partition and sort key in one.
func flat(k Key) string { return k.Partition() + "\x00" + k.Sort() }

// No two constructors, and no two different tuples of arguments, make the same key, whatever bytes the names are of.
func FuzzKeys(f *testing.F) {
	seeds := []args{
		{"acme", "ada@example.com", "group", "x", 7},
		{"acme", "a\x1fb", "", "", 0},
		{"acme", "a", "b", "", 1},
		{"acme\x1fuser", "a", "\x1f", "\x1f", 1 << 40},
		{"acme", "a\x7f1fb", "a\ufffdb", "a\x00b", 999},
		{"acme", "\xff", "\xfe\x01", "\x7f", 1000},
		{"", "", "", "", 1<<64 - 1},
		{"t", "1b671a64-40d5-491e-99b0-da01ff1f3341", "account", "1b671a64-40d5-491e-99b0-da01ff1f3341.abc", 4},
	}
	for i, x := range seeds {
		for j, y := range seeds {
			f.Add(uint8(i), x.a, x.b, x.c, x.d, x.n, uint8(j), y.a, y.b, y.c, y.d, y.n)
		}
	}
	f.Fuzz(func(t *testing.T, c1 uint8, a1, b1, x1, d1 string, n1 uint64, c2 uint8, a2, b2, x2, d2 string, n2 uint64) {
		first, second := args{a1, b1, x1, d1, n1}, args{a2, b2, x2, d2, n2}
		i, j := int(c1)%len(constructors), int(c2)%len(constructors)
		checkPair(t, constructors[i], first, constructors[j], second)
		checkPair(t, constructors[i], first, constructors[i], second) // where a collision is likelier
		// Parts must not run into each other either.
		checkPair(t, constructors[i], first, constructors[i], args{a1, b1 + x1, "", d1, n1})
		checkPair(t, constructors[i], first, constructors[i], args{a1, "", b1 + x1, d1, n1})
		checkPair(t, constructors[i], first, constructors[i], args{a1 + b1, "", x1, d1, n1})
	})
}

func checkPair(t *testing.T, c constructor, x args, d constructor, y args) {
	t.Helper()
	k, l := c.key(x), d.key(y)
	same := c.name == d.name && c.used(x) == d.used(y)
	if (flat(k) == flat(l)) != same || (k == l) != same {
		t.Errorf("%s%v = %q and %s%v = %q: the same %v, want %v", c.name, x, flat(k), d.name, y, flat(l), flat(k) == flat(l), same)
	}
	if !utf8.ValidString(flat(k)) || strings.ContainsRune(k.Partition()+k.Sort(), 0) {
		t.Errorf("%s%v = %q is not UTF-8, or has a zero byte", c.name, x, flat(k))
	}
}

// A range holds the keys that its constructor names, and no other of any constructor.
func FuzzRanges(f *testing.F) {
	for _, n := range []string{"", "a", "a\x1f", "a ", "a\x7f", "\xff", "ab", "account"} {
		f.Add("acme", n, "group", "x", uint64(5), "acme", "a", "group", "y", uint64(6))
		f.Add("acme", "group", n, "x", uint64(5), "acme", "group", "a", "y", uint64(6))
	}
	f.Fuzz(func(t *testing.T, a1, b1, c1, d1 string, n1 uint64, a2, b2, c2, d2 string, n2 uint64) {
		x, y := args{a1, b1, c1, d1, n1}, args{a2, b2, c2, d2, n2}
		for name, r := range map[string]Range{
			"Rule":            Rules(x.tenant()),
			"User":            Users(x.tenant()),
			"Group":           Groups(x.tenant()),
			"Application":     Applications(x.tenant()),
			"Scope":           Scopes(x.tenant()),
			"SigningKey":      SigningKeys(x.tenant()),
			"AuditSeal":       AuditSeals(x.tenant()),
			"Connection":      Connections(x.tenant()),
			"Trace":           Traces(x.tenant()),
			"Sync":            Syncs(x.tenant()),
			"Audit":           Audits(x.tenant(), time.Time{}),
			"AuditNew":        AuditsNew(x.tenant()),
			"ScopeName":       ScopeNames(x.tenant(), core.ScopeID(x.b), core.ScopeKind(x.c)),
			"Grants":          GrantsOf(x.tenant(), core.Subject{Kind: core.SubjectKind(x.b), ID: x.c}),
			"ClusterRule":     ScopeRules(x.tenant(), core.ScopeID(x.b)),
			"Recorded":        RecordedIn(x.tenant(), core.ClusterID(x.b)),
			"TenantEntry":     TenantEntries(),
			"Queued":          QueuedAll(),
			"only one tenant": all(x.tenant(), "user"), // the same as Users: no constructor bears the name
		} {
			for _, c := range constructors {
				for _, z := range []args{x, y, {a1, b1, c1, d2, n2}, {a1, b1 + "x", c1, d1, n2}, {a1, b1, c1 + "\x1f", d1, n2}} {
					want := c.name == name && z.a == x.a
					switch name {
					case "ScopeName", "Grants":
						want = want && z.b == x.b && z.c == x.c
					case "ClusterRule", "Recorded":
						want = want && z.b == x.b
					case "TenantEntry", "Queued":
						want = c.name == name
					case "only one tenant":
						want = c.name == "User" && z.a == x.a
					}
					if k := c.key(z); r.holds(k) != want && k.check() == nil {
						t.Errorf("range of %s%v holds %s%v: %v, want %v", name, x, c.name, z, r.holds(k), want)
					}
				}
			}
		}
	})
}

func (r Range) holds(k Key) bool {
	return k.Partition() == r.Partition() && r.From <= k.Sort() && (r.To == "" || k.Sort() < r.To)
}

// Erasing a tenant empties PartitionsOf and the partitions named after its clusters, so every kind of key is there, or is
// one of the few that are erased by name.
func TestPartitionsOf(t *testing.T) {
	byName := map[string]string{
		"Meta":        "the last to go",
		"ClusterRule": "in ClusterRules",
		"Recorded":    "in RecordedIn",
		"TenantEntry": "in the registry",
		"Due":         "in the due index, and falls due for nobody",
		"Queued":      "of the local queue",
	}
	for _, c := range constructors {
		n := 0
		for _, r := range PartitionsOf("acme") {
			if r.holds(c.key(args{"acme", "b", "c", "d", 1})) {
				n++
			}
			if r.holds(c.key(args{"acme2", "b", "c", "d", 1})) {
				t.Errorf("erasing acme erases acme2's %s", c.name)
			}
		}
		if _, except := byName[c.name]; (n == 1) == except || n > 1 {
			t.Errorf("%s: in %d partitions of its tenant (%s)", c.name, n, byName[c.name])
		}
	}
}

func TestAuditKeys(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	k := Audit("acme", at, "x")
	if got := AuditNew("acme", at, "x").Sealed(); got != k {
		t.Errorf("a record is sealed to %s, want %s", got, k)
	}
	if got := AuditSort("acme", k.Sort()); got != k {
		t.Errorf("a link names %s, want %s", got, k)
	}
}

func TestScopesOf(t *testing.T) {
	const acme = core.TenantID("acme")
	c, other := core.NewClusterID(), core.NewClusterID()
	r := ScopesOf(acme, c)
	for _, tt := range []struct {
		id   core.ScopeID
		want bool
	}{
		{core.ClusterScope(c), true},
		{core.NewScopeID(c), true},
		{core.ClusterScope(other), false},
		{core.NewScopeID(other), false},
		{core.AccountScope(acme), false},
	} {
		if got := r.holds(Scope(acme, tt.id)); got != tt.want {
			t.Errorf("the scopes of %s hold %s: %v, want %v", c, tt.id, got, tt.want)
		}
	}
}

func TestClusterRulesAndGrants(t *testing.T) {
	const acme = core.TenantID("acme")
	c := core.NewClusterID()
	inside, account := core.NewScopeID(c), core.AccountScope(acme)
	for _, tt := range []struct {
		in   GrantsIn
		of   core.ScopeID
		want bool
	}{
		{InCluster(c), inside, true},
		{InCluster(c), core.ClusterScope(c), true},
		{InCluster(c), account, false},
		{InAccount, account, true},
		{InAccount, inside, false},
	} {
		if got := ClusterRules(acme, tt.in).holds(ClusterRule(acme, tt.of, 5)); got != tt.want {
			t.Errorf("the rules of %s hold one at %s: %v, want %v", tt.in, tt.of, got, tt.want)
		}
		if got := GrantsAt(tt.of) == tt.in; got != tt.want {
			t.Errorf("grants at %s are gathered in %s: %v, want %v", tt.of, tt.in, got, tt.want)
		}
	}
}

// What is in order of time or number by its arguments is so by its key, for the ranges that rely on it.
func TestOrder(t *testing.T) {
	const acme = core.TenantID("acme")
	times := []time.Time{
		time.Date(1999, 12, 31, 23, 59, 59, 999e6, time.UTC),
		time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		time.Date(2026, 1, 2, 3, 4, 5, 1e6, time.UTC),
		time.Date(2026, 1, 2, 12, 4, 6, 0, time.FixedZone("east", 3600)), // 11:04 in UTC
		time.Date(2026, 1, 2, 11, 30, 0, 0, time.UTC),
		time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC),
	}
	for i := 1; i < len(times); i++ {
		a, b := times[i-1], times[i]
		for name, keys := range map[string][2]Key{
			"audit":  {Audit(acme, a, "z"), Audit(acme, b, "a")},
			"outbox": {Outbox(acme, a, "z"), Outbox(acme, b, "a")},
			"due":    {Due(acme, a, "z"), Due(acme, b, "a")},
			"rule":   {Rule(acme, core.RuleID(9*i)), Rule(acme, core.RuleID(9*i+100))},
		} {
			if keys[0].Sort() >= keys[1].Sort() {
				t.Errorf("%s: %q is not before %q", name, keys[0].Sort(), keys[1].Sort())
			}
		}
		if r := Audits(acme, b); r.holds(Audit(acme, a, "z")) || !r.holds(Audit(acme, b, "")) {
			t.Errorf("the records from %v on hold one of %v, or not their own", b, a)
		}
		due := func(at, before time.Time) (n int) {
			for shard := range DueShards {
				if DueBefore(shard, before).holds(Due(acme, at, "z")) {
					n++
				}
			}
			return n
		}
		if due(a, b) != 1 || due(b, b) != 0 || due(b, a) != 0 {
			t.Errorf("due before %v and %v: %d %d %d shards", a, b, due(a, b), due(b, b), due(b, a))
		}
	}
}

func TestRangeAfter(t *testing.T) {
	const acme = core.TenantID("acme")
	r := Users(acme).After("m")
	for name, want := range map[string]bool{"l": false, "m": false, "m ": true, "n": true} {
		if got := r.holds(User(acme, core.Email(name))); got != want {
			t.Errorf("behind m: %q %v, want %v", name, got, want)
		}
	}
	r = Users(acme)
	r.Descending = true
	r = r.After("m")
	for name, want := range map[string]bool{"l": true, "m": false, "n": false} {
		if got := r.holds(User(acme, core.Email(name))); got != want {
			t.Errorf("behind m, descending: %q %v, want %v", name, got, want)
		}
	}
}

// The printable names of partitions are as different as the partitions, and begin with the kind.
func TestLeading(t *testing.T) {
	for k, want := range map[Key]string{
		Meta("acme"):                    "meta#acme",
		Due("acme", time.Time{}, "x"):   "due#system#" + fmt.Sprint(dueShard("acme")),
		Recorded("acme", "c#d", "x"):    "recorded#acme#c\x7f#d",
		Recorded("acme#c", "d", "x"):    "recorded#acme\x7f#c#d",
		Recorded("acme", "c\x1fd", "x"): "recorded#acme#c\x7f1fd",
	} {
		if got := k.Leading(); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	if got := RecordedIn("acme", "c").Leading(); got != "recorded#acme#c" {
		t.Errorf("%q", got)
	}
}

func TestKey(t *testing.T) {
	k := Grants("acme", core.GroupSubject("ops/eu"), InAccount)
	if k.Tenant() != "acme" || k.Kind() != "grants" || k.String() != "acme/grants/group/ops/eu/account" {
		t.Errorf("%s: tenant %s, kind %s", k, k.Tenant(), k.Kind())
	}
	if got := GrantsOf("acme", core.GroupSubject("ops/eu")).Key(k.Sort()); got != k {
		t.Errorf("a range makes the key %s of %s", got, k)
	}
	for _, c := range constructors {
		if k := c.key(args{"acme", "b", "c", "d", 1}); k.IsOutbox() != (c.name == "Outbox") {
			t.Errorf("%s: IsOutbox is %v", k, k.IsOutbox())
		}
	}
	// A tenant cannot take another kind's name, nor hide that a key is an event.
	if k := Meta("outbox"); k.IsOutbox() {
		t.Errorf("%s is no event", k)
	}
	if k := Outbox("acme\x1fuser", time.Now(), "x"); !k.IsOutbox() {
		t.Errorf("%s is an event", k)
	}
}

func TestChecks(t *testing.T) {
	long := func(n int) Key { return User("acme", core.Email(strings.Repeat("k", n-len("acme\x1fuser")))) }
	few := []Key{Meta("a"), Meta("b")}
	var many []Key
	for i := range MaxGet {
		many = append(many, Queued(fmt.Sprint(i)))
	}
	for name, tt := range map[string]struct {
		keys []Key
		want error
	}{
		"few":             {few, nil},
		"as many as may":  {many, nil},
		"none":            {nil, core.Limit},
		"one too many":    {append(many[:len(many):len(many)], Meta("a")), core.Limit},
		"one twice":       {append(few[:2:2], Meta("b")), core.Invalid},
		"of many, twice":  {append(many[:50:50], many[3]), core.Invalid},
		"longest":         {[]Key{long(MaxKey)}, nil},
		"too long":        {[]Key{long(MaxKey + 1)}, core.Limit},
		"no tenant":       {[]Key{Meta("")}, core.Invalid},
		"no name":         {[]Key{User("acme", "")}, core.Invalid},
		"never made":      {[]Key{{}}, core.Invalid},
		"bad behind good": {append(many[:20:20], Key{}), core.Invalid},
	} {
		var checks, puts []Op
		for _, k := range tt.keys {
			checks = append(checks, Check(k, 1))
			puts = append(puts, Put(k, 0, make([]byte, 10)))
		}
		for method, err := range map[string]error{"get": CheckGet(tt.keys), "commit of checks": CheckCommit(checks), "commit of puts": CheckCommit(puts)} {
			if !errors.Is(err, tt.want) {
				t.Errorf("%s, %s: error %v, want %v", name, method, err, tt.want)
			}
		}
	}
	body := func(n int) []Op { return []Op{Put(Meta("a"), 0, make([]byte, n))} }
	if err := CheckCommit(body(MaxBody)); err != nil {
		t.Error(err)
	}
	if err := CheckCommit(body(MaxBody + 1)); !errors.Is(err, core.Limit) {
		t.Errorf("a body too large: %v", err)
	}
	if err := CheckCommit([]Op{{Key: Meta("a")}}); !errors.Is(err, core.Invalid) {
		t.Errorf("no verb: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { CheckGet(few) }); n != 0 {
		t.Errorf("CheckGet of %d keys allocates %v times", len(few), n)
	}
}

func TestUntil(t *testing.T) {
	base := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ in, want time.Time }{
		{base, base},
		{base.Add(1), base.Add(time.Second)},
		{base.Add(-1), base},
		{base.In(time.FixedZone("west", -7*3600)), base},
		{time.Time{}, time.Time{}},
		{time.Time{}.Add(-1), time.Time{}.Add(time.Second)}, // rounded up to the zero time it would never expire
	} {
		if got := Put(Meta("a"), 0, nil).Until(tt.in).Expires; !got.Equal(tt.want) || got.Location() != time.UTC {
			t.Errorf("until %v: expires %v, want %v", tt.in, got, tt.want)
		}
	}
}
