package store

import "unicode/utf8"

// Starting returns the part of a range whose keys go on with a prefix of their last part. The range must be one that a
// constructor made, of keys that differ in their last part alone: Users, Groups, ScopeNames.
func (r Range) Starting(prefix string) Range {
	if prefix != "" {
		r.From += part(prefix)
		r.To = r.From + string(utf8.MaxRune) // which is no character, so no name goes on with it, and which every store takes
	}
	return r
}

// Exactly returns the part of such a range that holds the key with that last part, and no other.
func (r Range) Exactly(last string) Range {
	r.From += part(last)
	r.To = r.From + "\x00"
	return r
}

// Behind returns what is left of the range behind a sort key in the range's direction, which need not lie in the range as
// it must for After. False: nothing is left.
func (r Range) Behind(sort string) (Range, bool) {
	switch {
	case r.Descending && (r.To == "" || sort < r.To), !r.Descending && sort >= r.From:
		r = r.After(sort)
	}
	return r, r.To == "" || r.From < r.To
}
