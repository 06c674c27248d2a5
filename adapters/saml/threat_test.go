package saml_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beevik/etree"

	"github.com/fleetpass/fleetpass/adapters/saml"
	"github.com/fleetpass/fleetpass/adapters/saml/forge"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/sso"
)

// The attacks of the literature and of other people's tests, each made from a message that was freshly signed and that is
// accepted in the same test: what is merely broken would be refused for ever for the wrong reason.

const (
	entityID = "https://fleetpass.example/t/acme/saml/corp"
	acs      = entityID + "/acs"
	asked    = "id-4f1dbd5a7c7f4b0a9bb1"
)

// now is when all of it happens. It is the present, since Load, too, judges what expires.
var now = time.Now().UTC().Truncate(time.Second)

// The keys are made once: each costs as much as a hundred sign-ins.
var (
	idp      = sync.OnceValue(func() *forge.IdP { return forge.NewIdP("https://idp.acme.example", now) })
	attacker = sync.OnceValue(func() *forge.IdP { return forge.NewIdP("https://attacker.example", now) })
	ecIdP    = sync.OnceValue(func() *forge.IdP {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return forge.NewIdPWithKey(idp().EntityID, key, now.AddDate(0, 0, -1), now.AddDate(1, 0, 0))
	})
	ourKeys = sync.OnceValue(func() []sso.Key { return []sso.Key{ourKey("first"), ourKey("second")} })
)

func ourKey(id string) sso.Key {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return sso.Key{ID: id, Certificate: forge.SelfSigned(key, id, now.AddDate(0, 0, -1), now.AddDate(1, 0, 0)).Raw, Private: key}
}

// encryptTo is an encryption to the key of ours of that place.
func encryptTo(t testing.TB, key int) *forge.Encryption {
	t.Helper()
	c, err := x509.ParseCertificate(ourKeys()[key].Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return &forge.Encryption{Certificate: c}
}

// documents is the outside world: what stands at which address.
type documents map[string][]byte

func (d documents) Get(_ context.Context, url, _ string) ([]byte, error) {
	if b, ok := d[url]; ok {
		return b, nil
	}
	return nil, core.Unavailable
}
func (documents) Check(field, url string) error {
	if !strings.HasPrefix(url, "https://") {
		return core.BadField(field, "give an https address")
	}
	return nil
}
func (d documents) CheckPage(field, url string) error { return d.Check(field, url) }

func newProvider(d documents) *saml.Provider { return saml.New(d) }

var provider = newProvider(documents{})

// connection is a tenant's connection to an identity provider, as it publishes itself.
func connection(t testing.TB, metadata []byte) sso.Connection {
	t.Helper()
	c := bare()
	if err := provider.Load(context.Background(), &c, metadata); err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

// bare is a connection whose metadata is not read yet.
func bare() sso.Connection {
	settings := &sso.SAMLSettings{EntityID: entityID}
	for _, k := range ourKeys() {
		settings.Keys = append(settings.Keys, sso.SPKey{ID: k.ID, Certificate: k.Certificate, CreatedAt: now})
	}
	return sso.Connection{ID: "con-1", Alias: "corp", Name: "Corp", Kind: sso.SAML, Enabled: true, Mappers: sso.DefaultMappers, SAML: settings, CreatedAt: now, UpdatedAt: now}
}

// options are those of a message that is accepted, but for the signature.
func options() forge.Options {
	return forge.Options{
		Now: now, Audience: entityID, Recipient: acs, InResponseTo: asked, NameID: "ada",
		Attributes: []forge.Attribute{
			{Name: "email", Values: []string{"ada@acme.example"}}, {Name: "GROUPS", Values: []string{"ml-team", "a,b"}}, {Name: "firstName", Values: []string{"Ada"}},
		},
	}
}

// arrival is a message as a browser brings it to the sign-in that asked for it.
func arrival(posted string) sso.Arrival {
	return sso.Arrival{
		Addresses: sso.Addresses{EntityID: entityID, Return: acs, Metadata: entityID + "/metadata"},
		Params:    map[string]string{"SAMLResponse": posted, "RelayState": "state"},
		Pending:   &sso.Pending{Request: asked, At: now.Add(-10 * time.Second)},
		Now:       now,
	}
}

// attack is one: all of it is the difference from what is accepted.
type attack struct {
	name string
	base func(*forge.Options)  // what the valid message is like, too; default: both signed
	sign func(*forge.Options)  // what the identity provider says, or is made to
	wire func([]byte) []byte   // what becomes of the message on its way
	tree func(*etree.Document) // the same, as a tree
	post func(string) string   // what becomes of it in base64
	conn func(*sso.Connection) // what the connection is like, for the valid message, too
	come func(*sso.Arrival)    // how it arrives
	from *forge.IdP            // who forges it; default: the identity provider of the connection
	mild bool                  // it may be accepted, if nothing of it is read
	want []sso.CheckName       // one of them fails; none: any
}

// run tries attacks: each message without the attack is accepted, and with it refused.
func run(t *testing.T, attacks []attack) {
	t.Helper()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			c, twin, hostile := a.make(t)
			accept(t, c, twin)
			if a.mild {
				inert(t, c, hostile)
			} else {
				refuse(t, c, hostile, a.want...)
			}
		})
	}
}

func (a attack) make(t *testing.T) (c sso.Connection, twin, hostile sso.Arrival) {
	t.Helper()
	c = connection(t, idp().Metadata())
	if a.conn != nil {
		a.conn(&c)
	}
	if a.base == nil {
		a.base = bothSigned
	}
	message := once(a.base)
	twin = arrival(forge.Encode(message))
	if a.sign != nil || a.from != nil {
		o, from := options(), idp()
		a.base(&o)
		if a.from != nil {
			from, o.Issuer = a.from, idp().EntityID
		}
		if a.sign != nil {
			a.sign(&o)
		}
		message = from.Response(o)
	}
	if a.tree != nil {
		d := forge.Parse(message)
		a.tree(d)
		message = forge.Bytes(d)
	}
	if a.wire != nil {
		changed := a.wire(message)
		if string(changed) == string(message) {
			t.Fatal("the attack changes nothing")
		}
		message = changed
	}
	posted := forge.Encode(message)
	if a.post != nil {
		changed := a.post(posted)
		if changed == posted {
			t.Fatal("the attack changes nothing")
		}
		posted = changed
	}
	hostile = arrival(posted)
	if a.come != nil {
		a.come(&hostile)
	}
	return c, twin, hostile
}

// once signs a valid message; of those that differ only in what is signed, once for all: signing is what these tests spend
// their time on.
func once(base func(*forge.Options)) []byte {
	sign := func() []byte {
		o := options()
		base(&o)
		return idp().Response(o)
	}
	common := reflect.ValueOf(base).Pointer()
	for _, way := range ways {
		if reflect.ValueOf(way).Pointer() == common {
			message, _ := messages.LoadOrStore(common, sync.OnceValue(sign))
			return message.(func() []byte)()
		}
	}
	return sign()
}

var messages sync.Map // from the function that sets what is signed, to a func() []byte

// ways are the ways in which a message is signed.
var ways = map[string]func(*forge.Options){"response signed": responseSigned, "assertion signed": assertionSigned, "both signed": bothSigned}

func responseSigned(o *forge.Options)  { o.SignResponse = true }
func assertionSigned(o *forge.Options) { o.SignAssertion = true }
func bothSigned(o *forge.Options)      { o.SignResponse, o.SignAssertion = true, true }

// finish judges an arrival, within the memory that is allowed for it.
func finish(t testing.TB, c sso.Connection, a sso.Arrival) (sso.Assertion, *sso.Report, error) {
	t.Helper()
	var before, after runtime.MemStats
	report := &sso.Report{}
	runtime.ReadMemStats(&before)
	got, err := provider.Finish(context.Background(), c, sso.Secrets{Keys: ourKeys()}, a, report)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
		t.Errorf("%d MiB were allocated", used>>20)
	}
	return got, report, err
}

// accept judges what must be accepted.
func accept(t testing.TB, c sso.Connection, a sso.Arrival) sso.Assertion {
	t.Helper()
	got, report, err := finish(t, c, a)
	if err != nil {
		check, _ := report.Failure()
		t.Fatalf("the valid message is refused: %v: %+v", err, check)
	}
	if check, failed := report.Failure(); failed {
		t.Fatalf("accepted, though a check failed: %+v", check)
	}
	if got.ID == "" || !got.Until.After(now) || len(got.Attributes) == 0 {
		t.Fatalf("accepted as %+v", got)
	}
	return got
}

// refuse judges what must be refused, and wants a failed check with one of those names, with its fix.
func refuse(t testing.TB, c sso.Connection, a sso.Arrival, names ...sso.CheckName) sso.Check {
	t.Helper()
	got, report, err := finish(t, c, a)
	if !errors.Is(err, sso.ErrRefused) {
		t.Fatalf("want ErrRefused, got %v and %+v", err, got)
	}
	if !reflect.DeepEqual(got, sso.Assertion{ID: got.ID}) { // which tells a replay
		t.Errorf("refused, and yet something is returned: %+v", got)
	}
	check, failed := report.Failure()
	switch {
	case !failed:
		t.Errorf("refused, and no check failed: %+v", report.Checks)
	case !slices.Contains(sso.Checks, check.Name) || check.Fix == "":
		t.Errorf("no name or no fix: %+v", check)
	case strings.HasPrefix(check.Found, "the response could not be judged"):
		t.Errorf("a panic, which only the second net caught: %+v", check)
	case len(names) > 0 && !slices.ContainsFunc(report.Checks, func(c sso.Check) bool { return c.Result == sso.Failed && slices.Contains(names, c.Name) }):
		t.Errorf("failed are %+v, want one of %v", report.Checks, names)
	}
	return check
}

// inert judges a decoy: whether it is refused or not, nobody but Ada is signed in.
func inert(t testing.TB, c sso.Connection, a sso.Arrival) {
	t.Helper()
	got, _, err := finish(t, c, a)
	switch {
	case errors.Is(err, sso.ErrRefused):
	case err != nil:
		t.Errorf("neither accepted nor refused: %v", err)
	case got.Subject != "ada" || !reflect.DeepEqual(got.Attributes["email"], []any{"ada@acme.example"}):
		t.Errorf("the decoy is read: %+v", got)
	}
}

// listener is an address of the attacker's. Nobody may ever call there.
func listener(t *testing.T) string {
	t.Helper()
	var calls atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	t.Cleanup(func() {
		s.Close()
		if n := calls.Load(); n > 0 {
			t.Errorf("%d calls went to the attacker", n)
		}
	})
	return s.URL
}

// at is the element of that path, which has to be there.
func at(d interface{ FindElement(string) *etree.Element }, path string) *etree.Element {
	e := d.FindElement(path)
	if e == nil {
		panic("no " + path)
	}
	return e
}

// replaced is a wire attack that writes one thing for another, once.
func replaced(old, made string) func([]byte) []byte {
	return func(m []byte) []byte { return []byte(strings.Replace(string(m), old, made, 1)) }
}

// What the twins are: each way of signing is accepted.
func TestValid(t *testing.T) {
	c := connection(t, idp().Metadata())
	for name, base := range ways {
		t.Run(name, func(t *testing.T) {
			o := options()
			base(&o)
			got := accept(t, c, arrival(forge.Encode(idp().Response(o))))
			if got.Subject != "ada" || !reflect.DeepEqual(got.Attributes["GROUPS"], []any{"ml-team", "a,b"}) || !reflect.DeepEqual(got.Attributes["email"], []any{"ada@acme.example"}) {
				t.Errorf("%+v", got)
			}
		})
	}
}
