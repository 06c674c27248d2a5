package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
)

// ParseKey makes the key whose Leading and Sort these are: the way back for keys that come out of a file. It takes exactly
// what a constructor of keys.go could have made, to the byte, and nothing else (core.Invalid), so that a file cannot name an
// item that no code would find again, nor one under a second spelling. What it refuses it does not repeat.
func ParseKey(leading, sort string) (Key, error) {
	names, ok := partsOf(leading, "#")
	parts, fine := partsOf(sort, sep)
	if !ok || !fine || len(names) < 2 {
		return Key{}, errNoKey
	}
	again, known := spellings[names[0]]
	if !known {
		return Key{}, errNoKey
	}
	k, ok := again(core.TenantID(names[1]), names[2:], parts)
	if !ok || k.Leading() != leading || k.sort != sort {
		return Key{}, errNoKey
	}
	return k, k.check()
}

var errNoKey = fmt.Errorf("store: not a key of ours: %w", core.Invalid)

// spellings make a key of each kind out of the parts of its name again, by the kind's own constructor. False: the kind has
// another number of parts, or they are not of their form. ParseKey compares what comes out with what went in, so nothing
// here needs to be strict. TestParseKey walks the constructors, so none can be missing.
var spellings = map[string]func(t core.TenantID, more, sort []string) (Key, bool){
	"meta":             one(func(t core.TenantID, _ string) Key { return Meta(t) }),
	"scope":            one(func(t core.TenantID, id string) Key { return Scope(t, core.ScopeID(id)) }),
	"rule":             numberedKey(func(t core.TenantID, n uint64) Key { return Rule(t, core.RuleID(n)) }),
	"user":             one(func(t core.TenantID, e string) Key { return User(t, core.Email(e)) }),
	"user-id":          one(func(t core.TenantID, id string) Key { return UserByID(t, core.UserID(id)) }),
	"group":            one(func(t core.TenantID, name string) Key { return Group(t, core.GroupName(name)) }),
	"application":      one(func(t core.TenantID, id string) Key { return Application(t, core.ApplicationID(id)) }),
	"application-name": one(ApplicationName),
	"access-key":       one(func(t core.TenantID, id string) Key { return AccessKey(t, core.ApplicationID(id)) }),
	"access-keys-of":   one(func(t core.TenantID, id string) Key { return AccessKeysOf(t, core.UserID(id)) }),
	"member":           pair(func(t core.TenantID, g, e string) Key { return Member(t, core.GroupName(g), core.Email(e)) }),
	"group-seen":       one(func(t core.TenantID, name string) Key { return GroupSeen(t, core.GroupName(name)) }),
	"rule-gone": pair(func(t core.TenantID, at, n string) Key {
		when, err := time.Parse(stampForm, at)
		id, bad := strconv.ParseUint(n, 10, 64)
		if err != nil || bad != nil {
			return Key{}
		}
		return RuleGone(t, when, core.RuleID(id))
	}),
	"once":             one(Once),
	"trusted-issuer":   one(TrustedIssuer),
	"device":           one(Device),
	"device-user-code": one(DeviceUserCode),
	"attempts":         pair(Attempts),
	"login":            one(Login),
	"session":          one(Session),
	"family":           one(Family),
	"code":             one(Code),
	"used":             pair(Used),
	"flow":             one(Flow),
	"kept":             one(Kept),
	"connection":       one(Connection),
	"catalog":          one(func(t core.TenantID, _ string) Key { return Catalog(t) }),
	"trace":            timedKey(Trace),
	"key":              one(SigningKey),
	"outbox":           timedKey(Outbox),
	"audit":            timedKey(Audit),
	"audit-new":        timedKey(AuditNew),
	"audit-seal":       numberedKey(AuditSeal),
	"sync":             one(func(t core.TenantID, c string) Key { return Sync(t, core.ClusterID(c)) }),
	"dead":             pair(DeadLetter),
	"tenant":           one(func(_ core.TenantID, t string) Key { return TenantEntry(core.TenantID(t)) }),
	"queue":            one(func(_ core.TenantID, id string) Key { return Queued(id) }),
	"namespace": pair(func(t core.TenantID, c, n string) Key {
		return NamespaceOwner(t, core.ClusterID(c), core.Namespace(n))
	}),
	"scope-name": func(t core.TenantID, more, s []string) (Key, bool) {
		if len(more) != 0 || len(s) != 3 {
			return Key{}, false
		}
		return ScopeName(t, core.ScopeID(s[0]), core.ScopeKind(s[1]), s[2]), true
	},
	"grants": func(t core.TenantID, more, s []string) (Key, bool) {
		if len(more) != 0 || len(s) != 3 {
			return Key{}, false
		}
		return Grants(t, core.Subject{Kind: core.SubjectKind(s[0]), ID: s[1]}, GrantsIn(s[2])), true
	},
	"cluster": func(t core.TenantID, _, s []string) (Key, bool) { // the gathering follows from the scope
		if len(s) != 2 {
			return Key{}, false
		}
		n, err := strconv.ParseUint(s[1], 10, 64)
		return ClusterRule(t, core.ScopeID(s[0]), core.RuleID(n)), err == nil
	},
	"recorded": func(t core.TenantID, more, s []string) (Key, bool) {
		if len(more) != 1 || len(s) != 1 {
			return Key{}, false
		}
		return Recorded(t, core.ClusterID(more[0]), s[0]), true
	},
	"due": func(_ core.TenantID, _, s []string) (Key, bool) { // the shard follows from the tenant
		if len(s) != 3 {
			return Key{}, false
		}
		at, err := time.Parse(stampForm, s[0])
		return Due(core.TenantID(s[1]), at, s[2]), err == nil
	},
}

func one(make func(core.TenantID, string) Key) func(core.TenantID, []string, []string) (Key, bool) {
	return func(t core.TenantID, more, s []string) (Key, bool) {
		if len(more) != 0 || len(s) != 1 {
			return Key{}, false
		}
		return make(t, s[0]), true
	}
}

func pair(make func(t core.TenantID, a, b string) Key) func(core.TenantID, []string, []string) (Key, bool) {
	return func(t core.TenantID, more, s []string) (Key, bool) {
		if len(more) != 0 || len(s) != 2 {
			return Key{}, false
		}
		return make(t, s[0], s[1]), true
	}
}

func numberedKey(make func(core.TenantID, uint64) Key) func(core.TenantID, []string, []string) (Key, bool) {
	return one(func(t core.TenantID, s string) Key {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return Key{}
		}
		return make(t, n)
	})
}

func timedKey(make func(t core.TenantID, at time.Time, id string) Key) func(core.TenantID, []string, []string) (Key, bool) {
	return pair(func(t core.TenantID, at, id string) Key {
		when, err := time.Parse(stampForm, at)
		if err != nil {
			return Key{}
		}
		return make(t, when, id)
	})
}

// partsOf takes a printable or a joined name apart and undoes what part did to each part. False: part does not write so.
func partsOf(name, between string) (parts []string, ok bool) {
	if !utf8.ValidString(name) {
		return nil, false
	}
	var b strings.Builder
	for len(name) > 0 {
		switch c := name[0]; {
		case c == between[0]:
			parts = append(parts, b.String())
			b.Reset()
			name = name[1:]
		case c == del && len(name) >= 2 && name[1] == '#' && between == "#": // as leading writes a "#" in a part
			b.WriteByte('#')
			name = name[2:]
		case c == del:
			if len(name) < 3 {
				return nil, false
			}
			n, err := strconv.ParseUint(name[1:3], 16, 8)
			if err != nil {
				return nil, false
			}
			b.WriteByte(byte(n))
			name = name[3:]
		default:
			b.WriteByte(c)
			name = name[1:]
		}
	}
	return append(parts, b.String()), true
}
