package core

// Kind says which error happened, to programs. It is itself an error, so that a sentence for people wraps it:
//
//	return fmt.Errorf("rule %d: %w", id, core.NotFound)
//
// and errors.Is(err, core.NotFound) asks for it. An error without a kind is internal: it is logged in full and shown to
// nobody. Only core/web turns kinds into HTTP statuses.
type Kind string

// Error returns the kind's own plain words.
func (k Kind) Error() string { return string(k) }

// The kinds of error.
const (
	NotFound        Kind = "not found"               // absent, or of another tenant: the two look alike
	Invalid         Kind = "invalid"                 // the input is wrong; the message names the field and the fix
	Exists          Kind = "already exists"          // a name or id is taken
	Conflict        Kind = "changed meanwhile"       // an expected version was not the stored one; read again and retry
	Outdated        Kind = "not as you read it"      // the object is not the one that the caller's precondition names
	Denied          Kind = "denied"                  // known caller, not permitted
	Unauthenticated Kind = "not authenticated"       // no caller, or a proof that does not hold
	Limit           Kind = "limit reached"           // a documented bound would be passed
	Throttled       Kind = "too many attempts"       // come back later; the message says when
	Unavailable     Kind = "temporarily unavailable" // the store, a key or a cluster does not answer; retry
	TooLarge        Kind = "too large"               // an input is over its bound in bytes
	Unsupported     Kind = "not supported"           // understood and refused for good
)

// A FieldError is an Invalid input that names the field at fault, in the caller's own spelling, and the fix.
type FieldError struct {
	Field string // as the caller wrote it: a JSON pointer, a form field or a header
	Fix   string // one clause: what a right value looks like
}

// Error names the field, then the fix.
func (e *FieldError) Error() string { return e.Field + ": " + e.Fix }

// Unwrap makes errors.Is(err, Invalid) hold.
func (e *FieldError) Unwrap() error { return Invalid }

// BadField returns an Invalid error that names a field and its fix.
func BadField(field, fix string) error { return &FieldError{Field: field, Fix: fix} }
