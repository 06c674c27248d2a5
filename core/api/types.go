// Package api is the wire form of the admin API, and the HTTP client that speaks it. It owns how requests and answers are
// spelt (types_*.go): paths and members are those of the product whose access control Fleetpass follows, so that its
// clients need little change. It decides nothing: functions/admin serves these types, and the CLI reads them.
//
// Times are RFC 3339 in UTC. Members that a later version adds may appear in any answer, so readers pass over what they do
// not know; requests are read strictly, and an unknown member is refused by name.
package api

import "github.com/fleetpass/fleetpass/core"

// Error is the body of every failed answer of the admin API.
type Error struct {
	Code    int     `json:"code"`    // the HTTP status
	Message string  `json:"message"` // one sentence for people
	Details Details `json:"details,omitzero"`
}

// Details says more about an Error, to programs.
type Details struct {
	Kind    core.Kind      `json:"kind,omitzero"`    // what errors.Is is asked about
	Field   string         `json:"field,omitzero"`   // the input at fault: a JSON pointer, or the name of a parameter
	Request core.RequestID `json:"request,omitzero"` // to quote when asking for help
}

// The bounds of lists: how many entries an answer holds unless the parameter limit says otherwise, and at most.
const (
	DefaultLimit = 50
	MaxLimit     = 500
)

// HeaderTotal is a header of every answer that lists: how many entries match in all. For the next page, a client adds the
// length of this one to the parameter offset.
const HeaderTotal = "X-Total-Count"

// HeaderNext is a header of an answer that lists a page and has more to tell: the parameter cursor of the next page.
const HeaderNext = "X-Next-Cursor"

// Count is how many of something there are that the caller may see.
type Count struct {
	Count int `json:"count"`
}
