package transfer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/store"
)

// Every kind of key is copied, or stays behind for a reason that is written here. A constructor that is added to
// core/store/keys.go fails this test until somebody has decided.
func TestEveryKindIsCopied(t *testing.T) {
	const acme, other = core.TenantID("acme"), core.TenantID("acme2")
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	c := core.NewClusterID()
	undecided := constructors(t)
	for name, tt := range map[string]struct {
		key   func(core.TenantID) store.Key
		stays string // why no copy has it
	}{
		"Meta":            {store.Meta, ""},
		"TenantEntry":     {store.TenantEntry, ""},
		"Scope":           {func(t core.TenantID) store.Key { return store.Scope(t, core.ClusterScope(c)) }, ""},
		"ScopeName":       {func(t core.TenantID) store.Key { return store.ScopeName(t, "a", "b", "c") }, ""},
		"NamespaceOwner":  {func(t core.TenantID) store.Key { return store.NamespaceOwner(t, c, "n") }, ""},
		"Rule":            {func(t core.TenantID) store.Key { return store.Rule(t, 7) }, ""},
		"Grants":          {func(t core.TenantID) store.Key { return store.Grants(t, core.UserSubject("a"), store.InAccount) }, ""},
		"ClusterRule":     {func(t core.TenantID) store.Key { return store.ClusterRule(t, core.ClusterScope(c), 7) }, ""},
		"User":            {func(t core.TenantID) store.Key { return store.User(t, "a") }, ""},
		"UserByID":        {func(t core.TenantID) store.Key { return store.UserByID(t, "a") }, ""},
		"Group":           {func(t core.TenantID) store.Key { return store.Group(t, "a") }, ""},
		"Application":     {func(t core.TenantID) store.Key { return store.Application(t, "a") }, ""},
		"ApplicationName": {func(t core.TenantID) store.Key { return store.ApplicationName(t, "a") }, ""},
		"Attempts":        {func(t core.TenantID) store.Key { return store.Attempts(t, "a", "b") }, ""},
		"Login":           {func(t core.TenantID) store.Key { return store.Login(t, "a") }, ""},
		"AccessKey":       {func(t core.TenantID) store.Key { return store.AccessKey(t, "a") }, ""},
		"AccessKeysOf":    {func(t core.TenantID) store.Key { return store.AccessKeysOf(t, "a") }, ""},
		"Member":          {func(t core.TenantID) store.Key { return store.Member(t, "a", "b") }, ""},
		"GroupSeen":       {func(t core.TenantID) store.Key { return store.GroupSeen(t, "a") }, ""},
		"RuleGone":        {func(t core.TenantID) store.Key { return store.RuleGone(t, at, 7) }, ""},
		"Once":            {func(t core.TenantID) store.Key { return store.Once(t, "a") }, ""},
		"TrustedIssuer":   {func(t core.TenantID) store.Key { return store.TrustedIssuer(t, "a") }, ""},
		"Device":          {func(t core.TenantID) store.Key { return store.Device(t, "a") }, ""},
		"DeviceUserCode":  {func(t core.TenantID) store.Key { return store.DeviceUserCode(t, "a") }, ""},
		"Session":         {func(t core.TenantID) store.Key { return store.Session(t, "a") }, ""},
		"Family":          {func(t core.TenantID) store.Key { return store.Family(t, "a") }, ""},
		"Code":            {func(t core.TenantID) store.Key { return store.Code(t, "a") }, ""},
		"Used":            {func(t core.TenantID) store.Key { return store.Used(t, "a", "b") }, ""},
		"Flow":            {func(t core.TenantID) store.Key { return store.Flow(t, "a") }, ""},
		"Kept":            {func(t core.TenantID) store.Key { return store.Kept(t, "a") }, ""},
		"Connection":      {func(t core.TenantID) store.Key { return store.Connection(t, "a") }, ""},
		"Catalog":         {store.Catalog, ""},
		"Trace":           {func(t core.TenantID) store.Key { return store.Trace(t, at, "a") }, ""},
		"SigningKey":      {func(t core.TenantID) store.Key { return store.SigningKey(t, "a") }, ""},
		"Audit":           {func(t core.TenantID) store.Key { return store.Audit(t, at, "a") }, ""},
		"AuditNew":        {func(t core.TenantID) store.Key { return store.AuditNew(t, at, "a") }, ""},
		"AuditSort":       {func(t core.TenantID) store.Key { return store.AuditSort(t, "a") }, ""},
		"AuditSeal":       {func(t core.TenantID) store.Key { return store.AuditSeal(t, 7) }, ""},
		"Sync":            {func(t core.TenantID) store.Key { return store.Sync(t, c) }, ""},
		"Recorded":        {func(t core.TenantID) store.Key { return store.Recorded(t, c, "a") }, ""},
		"Due":             {func(t core.TenantID) store.Key { return store.Due(t, at, "a") }, ""},
		"DeadLetter":      {func(t core.TenantID) store.Key { return store.DeadLetter(t, "a", "b") }, ""},
		"Outbox":          {func(t core.TenantID) store.Key { return store.Outbox(t, at, "a") }, "the source's stream carries it out"},
		"Queued":          {func(t core.TenantID) store.Key { return store.Queued("a") }, "it is of the source's queue"},
	} {
		copied := 0
		for _, p := range append(parts(acme, []core.ClusterID{c}), jobs(acme)) {
			if covers(p, tt.key(acme)) {
				copied++
			}
			if covers(p, tt.key(other)) {
				t.Errorf("copying acme copies acme2's %s", name)
			}
		}
		if slices.Contains(ends(acme), tt.key(acme)) {
			copied++
		}
		if want := map[bool]int{true: 1, false: 0}[tt.stays == ""]; copied != want {
			t.Errorf("%s is in %d parts, want %d (%s)", name, copied, want, tt.stays)
		}
		delete(undecided, name)
	}
	for name := range undecided {
		t.Errorf("nobody has decided whether a copy carries what store.%s names", name)
	}
}

func covers(p part, k store.Key) bool {
	return p.Leading() == k.Leading() && p.From <= k.Sort() && (p.To == "" || k.Sort() < p.To) && p.has(k)
}

// constructors is the name of every constructor of keys.go.
func constructors(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../store/keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || !fn.Name.IsExported() || fn.Type.Results == nil {
			continue
		}
		if result, ok := fn.Type.Results.List[0].Type.(*ast.Ident); ok && result.Name == "Key" {
			names[fn.Name.Name] = true
		}
	}
	if len(names) < 25 {
		t.Fatalf("found only %d constructors", len(names))
	}
	return names
}
