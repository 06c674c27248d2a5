package admin

import (
	"slices"

	"github.com/fleetpass/fleetpass/core/policy"
	"github.com/fleetpass/fleetpass/core/store"
)

// endpoint is one row of the API: what is called, what doing it needs, what it takes and gives. The OpenAPI document is made
// from the rows.
type endpoint struct {
	method  string
	path    string // below /t/{tenant}/api/v1
	summary string // one sentence without its full stop, for the OpenAPI document
	need    need
	do      func(*call) (reply, error)

	query  []string                    // the parameters that it understands; any other is refused by name
	in     any                         // a zero value of what the body holds; nil: there is none, or only an empty object
	out    any                         // a zero value of what the answer holds; nil: nothing
	yaml   bool                        // the answer is YAML
	files  []string                    // the media types of an answer that is a file
	status int                         // of success
	object func(*call) (object, error) // what the path names and If-Match is about; nil: nothing that can change
	body   int                         // bounds the body, in bytes; 0: maxBody
	maybe  bool                        // the body may be left out
	dry    any                         // a zero value of what the parameter dryRun=true answers instead, with 200; nil: there is none
}

func row(method, path, summary string, n need, do func(*call) (reply, error)) endpoint {
	return endpoint{method: method, path: path, summary: summary, need: n, do: do, status: 200}
}

// takes says what the body holds.
func (e endpoint) takes(in any) endpoint {
	e.in = in
	return e
}

// may says what the body holds if there is one.
func (e endpoint) may(in any) endpoint {
	e.in, e.maybe = in, true
	return e
}

// gives says what success answers.
func (e endpoint) gives(status int, out any) endpoint {
	e.status, e.out = status, out
	return e
}

// givesYAML says that success answers with a YAML document.
func (e endpoint) givesYAML() endpoint {
	e.yaml = true
	return e
}

// givesFile says that success answers with a file of one of those media types.
func (e endpoint) givesFile(media ...string) endpoint {
	e.files = media
	return e
}

// with names the parameters of the query.
func (e endpoint) with(query ...string) endpoint {
	e.query = append(slices.Clone(e.query), query...)
	return e
}

// on says which object the path names, for ETag and If-Match.
func (e endpoint) on(object func(*call) (object, error)) endpoint {
	e.object = object
	return e
}

// foretells says what the call answers when it is only asked what it would do, with the parameter dryRun=true.
func (e endpoint) foretells(out any) endpoint {
	e.dry = out
	return e.with(dryRun)
}

// upTo bounds the body, in bytes.
func (e endpoint) upTo(body int) endpoint {
	e.body = body
	return e
}

// creates says whether the call makes something new, and so heeds an idempotency key.
func (e endpoint) creates() bool { return e.method == "POST" && e.status == 201 }

// need is the permission that a call needs before its handler runs.
type need struct {
	entity policy.Entity
	action policy.Action
	in     place
}

// place says in which scope a permission is needed.
type place uint8

const (
	// byHandler: the handler knows, since the scope is named in the body, or follows from the object. The tests walk every
	// endpoint with every role, so that one that forgot to ask fails there.
	byHandler place = iota
	// inAccount: the object belongs to the account itself, such as a person.
	inAccount
	// inScope: the object is the scope {id}.
	inScope
	// anywhere: some scope of the tenant will do. The object is the same for everyone, and only of use to those who hold
	// the permission.
	anywhere
	// ofOneself: the call concerns the caller alone.
	ofOneself
	// ofSignedIn: the same, of a person who signed in: neither an application nor an access key will do.
	ofSignedIn
	// byAdministrator: who may do everything at the account that a System administrator does. No single permission of the
	// matrix is as much as this.
	byAdministrator
	// byOperator: a System administrator of the account of the operators' tenant. No permission of the matrix stands for
	// this, since no role of a customer's tenant may come near it.
	byOperator
)

// object is what a call is about, as it is stored.
type object struct {
	key     store.Key
	version store.Version
	tag     string // changes with what the object looks like; empty: with every version
}
