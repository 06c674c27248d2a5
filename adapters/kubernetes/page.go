package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fleetpass/fleetpass/core"
)

// What a few bytes of JSON become in memory is many times as much: "{}," is a subject of 64 bytes, or an object of 250. So
// it is counted before it is made.

// maxCommas bounds the commas of one object, and with them its subjects, labels, annotations and finalizers together: there
// is one before each but the first. An object of etcd's 1.5 MiB has no more than 40,000 subjects, since one takes 39 bytes
// there without its name; they have three commas each.
const maxCommas = 120_000

// UnmarshalJSON refuses an object of more than maxCommas, with core.TooLarge.
func (o *object) UnmarshalJSON(data []byte) error {
	if n := bytes.Count(data, []byte{','}); n > maxCommas {
		return fmt.Errorf("an object of more than %d commas: %w", maxCommas, core.TooLarge)
	}
	type plain object
	return json.Unmarshal(data, (*plain)(o))
}

// parts is how much of an object there may be very much of.
func (o *object) parts() int {
	return len(o.Subjects) + len(o.Metadata.Labels) + len(o.Metadata.Annotations) + len(o.Metadata.Finalizers)
}

// page is one page of a list.
type page struct {
	items []object
	next  string // the continue token; empty: it is the last
}

// read reads a page object by object, and takes it off the limits. One that is over them is core.TooLarge, at the object
// that is; what is no page of a list is core.Unavailable.
func (l *Limits) read(data []byte) (page, error) {
	if err := l.bytes(data); err != nil {
		return page{}, err
	}
	var (
		p    page
		kind string
		list bool
		in   = json.NewDecoder(bytes.NewReader(data))
	)
	bad := func(why string) (page, error) { return page{}, fmt.Errorf("%s: %w", why, core.Unavailable) }
	if t, err := in.Token(); err != nil || t != json.Delim('{') {
		return bad("not a JSON object")
	}
	for in.More() {
		name, err := in.Token()
		if err != nil {
			return bad("broken JSON")
		}
		switch name {
		case "kind":
			err = in.Decode(&kind)
		case "metadata":
			var m struct {
				Continue string `json:"continue"`
			}
			err = in.Decode(&m)
			p.next = m.Continue
		case "items":
			var t json.Token
			if t, err = in.Token(); err != nil || t != json.Delim('[') || list {
				return bad("not a list")
			}
			list = true
			for in.More() {
				o, err := l.object(in.Decode)
				if err != nil {
					return page{}, err
				}
				p.items = append(p.items, o)
			}
			_, err = in.Token()
		default:
			var skipped json.RawMessage
			err = in.Decode(&skipped)
		}
		if err != nil {
			return page{}, broken(err)
		}
	}
	if _, err := in.Token(); err != nil {
		return bad("broken JSON")
	}
	if _, err := in.Token(); err != io.EOF {
		return bad("more than a JSON object")
	}
	if !list || !strings.HasSuffix(kind, "List") {
		return bad("not a list")
	}
	return p, nil
}

// one reads an answer that is one object.
func (l *Limits) one(data []byte) (object, error) {
	if err := l.bytes(data); err != nil {
		return object{}, err
	}
	return l.object(func(o any) error { return json.Unmarshal(data, o) })
}

func (l *Limits) bytes(data []byte) error {
	if l.Total -= int64(len(data)); l.Total < 0 {
		return fmt.Errorf("lists of too many bytes: %w", core.TooLarge)
	}
	return nil
}

func (l *Limits) object(decode func(any) error) (o object, err error) {
	if l.Objects--; l.Objects < 0 {
		return object{}, fmt.Errorf("lists of too many objects: %w", core.TooLarge)
	}
	if err := decode(&o); err != nil {
		return object{}, broken(err)
	}
	if l.Parts -= o.parts(); l.Parts < 0 {
		return object{}, fmt.Errorf("lists of too many subjects, labels, annotations and finalizers: %w", core.TooLarge)
	}
	return o, nil
}

// broken keeps of the decoder's errors what core/sync acts upon: its own words quote the answer.
func broken(err error) error {
	if errors.Is(err, core.TooLarge) {
		return err
	}
	return fmt.Errorf("broken JSON: %w", core.Unavailable)
}
