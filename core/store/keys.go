package store

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
)

// Key names an item. Only this file makes keys, and every constructor asks for the tenant, so that no code can reach an
// item without saying whose it is. Parts are joined with bytes that no part can hold (see part), so one tenant's or
// subject's key can never be another's.
type Key struct {
	tenant    core.TenantID
	partition string
	sort      string
}

// Tenant is whose item it is.
func (k Key) Tenant() core.TenantID { return k.tenant }

// Partition is the full name of the partition, its tenant first: what an adapter uses as the partition key.
func (k Key) Partition() string { return string(k.tenant) + sep + k.partition }

// Leading is the name of the partition in printable form, its kind first: "KIND#TENANT", with "#" and more behind it where
// the partition is named after more. A cloud that confines a function to items whose partition key begins in some way can
// confine it to kinds with that. Two partitions never have the same one.
func (k Key) Leading() string {
	name := k.partition
	kind, more, named := strings.Cut(name, sep)
	name = kind + sep + string(k.tenant)
	if named {
		name += sep + more
	}
	return leading.Replace(name)
}

// leading spells the separator as "#". A "#" in a part gets a DEL before it, which in parts only hexadecimal digits follow.
var leading = strings.NewReplacer("#", string(rune(del))+"#", sep, "#")

// Kind is the first part of the partition's name without the tenant: "rule", "outbox".
func (k Key) Kind() string {
	kind, _, _ := strings.Cut(k.partition, sep)
	return kind
}

// About is the tenant that the item is about: its own, but for the registry and the due index, where the operators' tenant
// keeps what is about others.
func (k Key) About() core.TenantID {
	parts := strings.Split(k.sort, sep)
	switch kind := k.Kind(); {
	case kind == "tenant":
		return core.TenantID(parts[0])
	case kind == "due" && len(parts) == 3:
		return core.TenantID(parts[1])
	}
	return k.tenant
}

// Sort is the key within the partition.
func (k Key) Sort() string { return k.sort }

// String is for logs and errors.
func (k Key) String() string { return strings.ReplaceAll(k.Partition()+sep+k.sort, sep, "/") }

func (k Key) check() error {
	if k.tenant == "" || k.partition == "" || k.sort == "" {
		return fmt.Errorf("store: incomplete key %q: %w", k.String(), core.Invalid)
	}
	if n := len(k.tenant) + len(sep) + len(k.partition) + len(k.sort); n > MaxKey {
		return fmt.Errorf("store: key of %d bytes, at most %d: %w", n, MaxKey, core.Limit)
	}
	return nil
}

// sep joins the parts of a key. It sorts below everything that a part may hold.
const sep = "\x1f"

// part keeps a name from outside from reaching into the next part. Control bytes are the only ones below a space, and no
// name has any (core's parsers see to it); were one to come, it is written as DEL and two hexadecimal digits, and so are
// DEL itself and bytes that are not UTF-8. So parts are valid UTF-8, as some stores want it, and two names never become
// the same part.
func part(s string) string {
	plain := utf8.ValidString(s)
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= ' ' && s[i] != del
	}
	if plain {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r < ' ' || r == del || r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "%c%02x", del, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

const del = 0x7f

func key(t core.TenantID, partition, sort string) Key {
	return Key{core.TenantID(part(string(t))), partition, sort}
}

func all(t core.TenantID, partition string) Range {
	return Range{partition: key(t, partition, "")}
}

// under is the range of the sort keys that begin with these parts, and have others behind them.
func under(t core.TenantID, partition string, parts ...string) Range {
	r := all(t, partition)
	prefix := strings.Join(parts, sep)
	r.From, r.To = prefix+sep, prefix+string(sep[0]+1)
	return r
}

// Only is the range that holds one key, or nothing.
func Only(k Key) Range {
	r := Range{partition: k, From: k.sort, To: k.sort + "\x00"}
	r.partition.sort = ""
	return r
}

// After returns the range from behind a sort key that an earlier page ended at.
func (r Range) After(sort string) Range {
	if r.Descending {
		r.To = sort
	} else {
		r.From = sort + "\x00"
	}
	return r
}

// stamp is a time as a sortable string, to the millisecond.
func stamp(t time.Time) string { return t.UTC().Format(stampForm) }

const stampForm = "20060102T150405.000"

// Meta holds the tenant: its settings, state and revision.
func Meta(t core.TenantID) Key { return key(t, "meta", "tenant") }

// Scope holds one node of the scope tree.
func Scope(t core.TenantID, id core.ScopeID) Key { return key(t, "scope", part(string(id))) }

// Scopes is the whole scope tree of a tenant.
func Scopes(t core.TenantID) Range { return all(t, "scope") }

// ScopesOf is a cluster with its departments and projects: their ids begin with the cluster's.
func ScopesOf(t core.TenantID, c core.ClusterID) Range {
	r := all(t, "scope")
	r.From, r.To = part(string(c)), part(string(c))+"/" // "/" follows ".", which joins the cluster and the random half
	return r
}

// ScopeName holds the id of the scope of that kind and name under a parent, so that names are unique there.
func ScopeName(t core.TenantID, parent core.ScopeID, kind core.ScopeKind, name string) Key {
	return key(t, "scope-name", part(string(parent))+sep+part(string(kind))+sep+part(name))
}

// ScopeNames is the names of one kind under a parent.
func ScopeNames(t core.TenantID, parent core.ScopeID, kind core.ScopeKind) Range {
	return under(t, "scope-name", part(string(parent)), part(string(kind)))
}

// AllScopeNames is the names of a whole tree: in order of the parents' ids, below one parent of the kinds.
func AllScopeNames(t core.TenantID) Range { return all(t, "scope-name") }

// NamedUnder is the parent and the kind that a key of ScopeName is about.
func (k Key) NamedUnder() (parent core.ScopeID, kind core.ScopeKind) {
	id, rest, _ := strings.Cut(k.sort, sep)
	of, _, _ := strings.Cut(rest, sep)
	return core.ScopeID(id), core.ScopeKind(of)
}

// ScopeNamesInDepartments is the names of everything in the departments of a cluster, whose ids begin with the cluster's.
func ScopeNamesInDepartments(t core.TenantID, cluster core.ScopeID) Range {
	r := all(t, "scope-name")
	r.From, r.To = part(string(cluster))+".", part(string(cluster))+"/"
	return r
}

// NamespaceOwner holds the project that a namespace of a cluster belongs to, so that no two projects share one.
func NamespaceOwner(t core.TenantID, c core.ClusterID, n core.Namespace) Key {
	return key(t, "namespace", part(string(c))+sep+part(string(n)))
}

// Rule holds an access rule.
func Rule(t core.TenantID, id core.RuleID) Key { return key(t, "rule", ruleSort(id)) }

// Rules is every rule of a tenant, in order of creation.
func Rules(t core.TenantID) Range { return all(t, "rule") }

func ruleSort(id core.RuleID) string { return fmt.Sprintf("%020d", uint64(id)) }

// GrantsIn names where a subject's rules are gathered: a cluster, or core.Account for the rules of the whole account.
type GrantsIn string

// InAccount gathers the rules at the account.
const InAccount GrantsIn = "account"

// InCluster gathers the rules at a cluster and at everything in it.
func InCluster(c core.ClusterID) GrantsIn { return GrantsIn(c) }

// GrantsAt is the gathering of a scope.
func GrantsAt(s core.ScopeID) GrantsIn {
	if c, ok := s.ClusterOf(); ok {
		return InCluster(c)
	}
	return InAccount
}

// Grants holds the rules of one subject in one cluster, or at the account: what a decision reads.
func Grants(t core.TenantID, s core.Subject, in GrantsIn) Key {
	return key(t, "grants", part(string(s.Kind))+sep+part(s.ID)+sep+part(string(in)))
}

// GrantsOf is everything that a subject was granted.
func GrantsOf(t core.TenantID, s core.Subject) Range {
	return under(t, "grants", part(string(s.Kind)), part(s.ID))
}

// ClusterRule indexes a rule for sync, by scope id, never by path: a move of a scope touches no rule.
func ClusterRule(t core.TenantID, s core.ScopeID, id core.RuleID) Key {
	return key(t, "cluster"+sep+part(string(GrantsAt(s))), part(string(s))+sep+ruleSort(id))
}

// ClusterRules is the rules that sync reads for one gathering: a cluster's, or the account's.
func ClusterRules(t core.TenantID, in GrantsIn) Range { return all(t, "cluster"+sep+part(string(in))) }

// ScopeRules is the rules at exactly one scope.
func ScopeRules(t core.TenantID, s core.ScopeID) Range {
	return under(t, "cluster"+sep+part(string(GrantsAt(s))), part(string(s)))
}

// User holds a person, by canonical e-mail, since the e-mail is what sign-ins, rules and tokens name.
func User(t core.TenantID, e core.Email) Key { return key(t, "user", part(string(e))) }

// Users is every person of a tenant, by e-mail.
func Users(t core.TenantID) Range { return all(t, "user") }

// UserByID holds the e-mail of the person with that id.
func UserByID(t core.TenantID, id core.UserID) Key { return key(t, "user-id", part(string(id))) }

// Group holds a group.
func Group(t core.TenantID, g core.GroupName) Key { return key(t, "group", part(string(g))) }

// Groups is every group of a tenant, by name.
func Groups(t core.TenantID) Range { return all(t, "group") }

// Application holds an application, by client id.
func Application(t core.TenantID, a core.ApplicationID) Key {
	return key(t, "application", part(string(a)))
}

// Applications is every application of a tenant.
func Applications(t core.TenantID) Range { return all(t, "application") }

// ApplicationName holds the client id of the application of that name.
func ApplicationName(t core.TenantID, name string) Key { return key(t, "application-name", part(name)) }

// Attempts counts failed proofs of one login name, seen from one place ("" = from anywhere). Under the name "begin", which
// nobody has, it counts the sign-ins that a place began.
func Attempts(t core.TenantID, name, place string) Key {
	return key(t, "attempts", part(name)+sep+part(place))
}

// Login holds a sign-in under way.
func Login(t core.TenantID, id string) Key { return key(t, "login", part(id)) }

// Session holds a signed-in browser, by the hash of its cookie.
func Session(t core.TenantID, id string) Key { return key(t, "session", part(id)) }

// Family holds a refresh family.
func Family(t core.TenantID, id string) Key { return key(t, "family", part(id)) }

// AccessKey holds a personal access key, by its client id.
func AccessKey(t core.TenantID, id core.ApplicationID) Key {
	return key(t, "access-key", part(string(id)))
}

// AccessKeys is every personal access key of a tenant.
func AccessKeys(t core.TenantID) Range { return all(t, "access-key") }

// AccessKeysOf holds the client ids of the access keys of one person.
func AccessKeysOf(t core.TenantID, u core.UserID) Key {
	return key(t, "access-keys-of", part(string(u)))
}

// Member says that a person is in a group. It is a hint, written before what it says holds and taken away after: the
// person's record decides.
func Member(t core.TenantID, g core.GroupName, e core.Email) Key {
	return key(t, "member", part(string(g))+sep+part(string(e)))
}

// Members is the people of a group, by e-mail.
func Members(t core.TenantID, g core.GroupName) Range { return under(t, "member", part(string(g))) }

// GroupSeen holds a group that an identity provider told of.
func GroupSeen(t core.TenantID, g core.GroupName) Key { return key(t, "group-seen", part(string(g))) }

// GroupsSeen is every group that identity providers told of, by name.
func GroupsSeen(t core.TenantID) Range { return all(t, "group-seen") }

// RuleGone holds an access rule that was deleted, for a while, so that who follows the rules hears of it.
func RuleGone(t core.TenantID, at time.Time, id core.RuleID) Key {
	return key(t, "rule-gone", stamp(at)+sep+ruleSort(id))
}

// RulesGone is the rules deleted from a time on (zero: all that are remembered), in order of time.
func RulesGone(t core.TenantID, from time.Time) Range {
	r := all(t, "rule-gone")
	if !from.IsZero() {
		r.From = stamp(from)
	}
	return r
}

// Once marks a request that was carried out and is not to be carried out again, by the hash of its idempotency key.
func Once(t core.TenantID, hash string) Key { return key(t, "once", part(hash)) }

// TrustedIssuer holds an issuer whose tokens applications may prove themselves with, by name.
func TrustedIssuer(t core.TenantID, name string) Key { return key(t, "trusted-issuer", part(name)) }

// TrustedIssuers is every trusted issuer of a tenant, by name.
func TrustedIssuers(t core.TenantID) Range { return all(t, "trusted-issuer") }

// Device holds a sign-in that was begun on a device without a browser, by the hash of its device code.
func Device(t core.TenantID, hash string) Key { return key(t, "device", part(hash)) }

// DeviceUserCode holds the hash of the device code that goes with a user code.
func DeviceUserCode(t core.TenantID, code string) Key { return key(t, "device-user-code", part(code)) }

// Code holds an authorization code, by its hash.
func Code(t core.TenantID, hash string) Key { return key(t, "code", part(hash)) }

// Used marks something that may be used once, by its hash.
func Used(t core.TenantID, what, hash string) Key { return key(t, "used", part(what)+sep+part(hash)) }

// Flow holds a sign-in that is on its way to an identity provider or back, by the hash of its handle.
func Flow(t core.TenantID, hash string) Key { return key(t, "flow", part(hash)) }

// Kept holds what a session's identity provider can be asked again with, sealed, by the session's public id.
func Kept(t core.TenantID, session string) Key { return key(t, "kept", part(session)) }

// Connection holds a connection to an identity provider, by its alias.
func Connection(t core.TenantID, alias string) Key { return key(t, "connection", part(alias)) }

// Connections is every connection of a tenant, by alias.
func Connections(t core.TenantID) Range { return all(t, "connection") }

// Catalog holds what the login page must know of all the tenant's connections.
func Catalog(t core.TenantID) Key { return key(t, "catalog", "connections") }

// Trace holds the trace of one sign-in at an identity provider.
func Trace(t core.TenantID, at time.Time, id string) Key {
	return key(t, "trace", stamp(at)+sep+part(id))
}

// Traces is the traces of a tenant, in order of time.
func Traces(t core.TenantID) Range { return all(t, "trace") }

// SigningKey holds a wrapped signing key, or the tenant's wrapped MAC secret.
func SigningKey(t core.TenantID, id string) Key { return key(t, "key", part(id)) }

// SigningKeys is every key of a tenant.
func SigningKeys(t core.TenantID) Range { return all(t, "key") }

// Outbox holds an event that leaves with its commit.
func Outbox(t core.TenantID, at time.Time, id string) Key {
	return key(t, "outbox", stamp(at)+sep+part(id))
}

// IsOutbox says whether a change of that key is an event to carry out.
func (k Key) IsOutbox() bool { return k.Kind() == "outbox" }

// Audit holds an audit record.
func Audit(t core.TenantID, at time.Time, id string) Key {
	return key(t, "audit", stamp(at)+sep+part(id))
}

// Audits is the records from a time on, in order of time.
func Audits(t core.TenantID, from time.Time) Range {
	r := all(t, "audit")
	if !from.IsZero() {
		r.From = stamp(from)
	}
	return r
}

// AuditNew holds an audit record that no link of the hash chain names yet.
func AuditNew(t core.TenantID, at time.Time, id string) Key {
	return key(t, "audit-new", stamp(at)+sep+part(id))
}

// AuditsNew is the records that are not sealed yet.
func AuditsNew(t core.TenantID) Range { return all(t, "audit-new") }

// Sealed is where a record of AuditNew goes when it is sealed: the same place in the log.
func (k Key) Sealed() Key { return Key{k.tenant, "audit", k.sort} }

// AuditSort is an audit record of that sort key, as a link of the hash chain names it.
func AuditSort(t core.TenantID, sort string) Key { return key(t, "audit", sort) }

// AuditSeal holds link n of the tenant's hash chain over the audit records.
func AuditSeal(t core.TenantID, n uint64) Key { return key(t, "audit-seal", fmt.Sprintf("%020d", n)) }

// AuditSeals is the tenant's hash chain.
func AuditSeals(t core.TenantID) Range { return all(t, "audit-seal") }

// Sync holds a cluster's synchronization: revision wanted and reached, lease, last error.
func Sync(t core.TenantID, c core.ClusterID) Key { return key(t, "sync", part(string(c))) }

// Syncs is every cluster's.
func Syncs(t core.TenantID) Range { return all(t, "sync") }

// Recorded holds the uid of an object that we made in a cluster, by the object's name.
func Recorded(t core.TenantID, c core.ClusterID, object string) Key {
	return key(t, "recorded"+sep+part(string(c)), part(object))
}

// RecordedIn is all that we made in a cluster.
func RecordedIn(t core.TenantID, c core.ClusterID) Range {
	return all(t, "recorded"+sep+part(string(c)))
}

// TenantEntry is a tenant's entry in the registry of the system tenant.
func TenantEntry(t core.TenantID) Key { return key(core.SystemTenant, "tenant", part(string(t))) }

// TenantEntries is the registry of tenants.
func TenantEntries() Range { return all(core.SystemTenant, "tenant") }

// DueShards is how many partitions the due index is spread over.
const DueShards = 4

// Due holds something of a tenant that falls due at a time.
func Due(t core.TenantID, at time.Time, id string) Key {
	return key(core.SystemTenant, fmt.Sprintf("due%s%d", sep, dueShard(t)), stamp(at)+sep+part(string(t))+sep+part(id))
}

// DueBefore is what falls due before a time, in one shard.
func DueBefore(shard int, at time.Time) Range {
	r := all(core.SystemTenant, fmt.Sprintf("due%s%d", sep, shard))
	r.To = stamp(at)
	return r
}

// DueShardOf is the whole shard of the due index that a tenant's items lie in, with those of other tenants: see Key.About.
func DueShardOf(t core.TenantID) Range {
	return all(core.SystemTenant, fmt.Sprintf("due%s%d", sep, dueShard(t)))
}

func dueShard(t core.TenantID) int {
	h := uint32(2166136261) // FNV-1a
	for i := 0; i < len(t); i++ {
		h = (h ^ uint32(t[i])) * 16777619
	}
	return int(h % DueShards)
}

// Queued holds a message of the local queue.
func Queued(id string) Key { return key(core.SystemTenant, "queue", part(id)) }

// QueuedAll is the local queue.
func QueuedAll() Range { return all(core.SystemTenant, "queue") }

// DeadLetter holds what could not be handled, with the reason, until a person looks. of is what it was: "sync" for a message
// of the sync queue, "event" for an event of the outbox. What belongs to no tenant lies with the system tenant.
func DeadLetter(t core.TenantID, of, id string) Key { return key(t, "dead", part(of)+sep+part(id)) }

// IsDeadLetter says whether a put of that key gives something up.
func (k Key) IsDeadLetter() bool { return k.Kind() == "dead" }

// DeadLetters is all of a tenant's.
func DeadLetters(t core.TenantID) Range { return all(t, "dead") }

// PartitionsOf is every partition of a tenant that is named after nothing but the tenant, except meta: what erasing a
// tenant empties. The partitions named after a cluster are ClusterRules and RecordedIn.
func PartitionsOf(t core.TenantID) []Range {
	var out []Range
	for _, p := range []string{
		"session", "family", "login", "flow", "kept", "code", "used", "attempts", "trace", "connection", "catalog",
		"rule", "grants", "scope-name", "namespace", "sync",
		"user", "user-id", "group", "application", "application-name",
		"access-key", "access-keys-of", "member", "group-seen", "rule-gone", "once", "trusted-issuer", "device", "device-user-code",
		"audit-new", "audit", "audit-seal", "outbox", "dead", "key", "scope",
	} {
		out = append(out, all(t, p))
	}
	return out
}
