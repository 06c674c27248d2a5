package firestore

import (
	"encoding/json"
	"fmt"
	"mime"
	"strings"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/fleetpass/fleetpass/core"
)

// Google delivers a change of a document as a CloudEvent (EventType) whose data is a google.events.cloud.firestore.v1
// DocumentEventData. Its field 1, "value", is the document as it is now. The Document of that package has the same fields, with
// the same numbers, as the one of google.firestore.v1, which is read in its place here.

// EventType is the type of the CloudEvents that the trigger on OutboxPattern asks for.
const EventType = "google.cloud.firestore.document.v1.created"

// ContentType is the datacontenttype of an event as Google sends it, and as Event writes it.
const ContentType = "application/protobuf"

// maxEvent bounds the data of an event, in bytes. A document of ours has 35 KiB at most.
const maxEvent = 1 << 20

const valueField protowire.Number = 1

// EventBody reads the event that a document of the outbox holds out of the data of a trigger's CloudEvent, which is protobuf,
// or JSON if its content type says so. Every error is final, and to be parked: core.TooLarge, or core.Invalid where the data
// is no created document of the outbox.
func EventBody(contentType string, data []byte) ([]byte, error) {
	if len(data) > maxEvent {
		return nil, fmt.Errorf("firestore: event of %d bytes, at most %d: %w", len(data), maxEvent, core.TooLarge)
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, fmt.Errorf("firestore: content type of an event: %w", core.Invalid)
	}
	var doc *pb.Document
	switch media {
	case ContentType, "application/x-protobuf":
		doc, err = decodeEvent(data)
	case "application/json":
		doc, err = decodeJSONEvent(data)
	default:
		err = fmt.Errorf("firestore: event of content type %q, want %q: %w", media, ContentType, core.Invalid)
	}
	if err != nil {
		return nil, err
	}
	if !isOutbox(doc.Name) {
		return nil, fmt.Errorf("firestore: event of a document that is not in the outbox: %w", core.Invalid)
	}
	body, ok := doc.Fields[BodyField].GetValueType().(*pb.Value_BytesValue)
	if !ok {
		return nil, fmt.Errorf("firestore: event of a document without a body: %w", core.Invalid)
	}
	return body.BytesValue, nil
}

// decodeEvent takes the document out of a DocumentEventData. A field that comes in several pieces is all of them merged, as
// protobuf wants it.
func decodeEvent(data []byte) (*pb.Document, error) {
	bad := func(err error) error {
		return fmt.Errorf("firestore: event is no protobuf (%v): %w", err, core.Invalid)
	}
	var value []byte
	found := false
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, bad(protowire.ParseError(n))
		}
		data = data[n:]
		if number == valueField && kind == protowire.BytesType {
			piece, n := protowire.ConsumeBytes(data)
			if n < 0 {
				return nil, bad(protowire.ParseError(n))
			}
			value, found = append(value, piece...), true
			data = data[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return nil, bad(protowire.ParseError(n))
		}
		data = data[n:]
	}
	if !found {
		return nil, fmt.Errorf("firestore: event without a document: %w", core.Invalid)
	}
	doc := new(pb.Document)
	if err := proto.Unmarshal(value, doc); err != nil {
		return nil, bad(err)
	}
	return doc, nil
}

// decodeJSONEvent is decodeEvent for the same message in protobuf's JSON.
func decodeJSONEvent(data []byte) (*pb.Document, error) {
	var event struct {
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(data, &event); err != nil || len(event.Value) == 0 {
		return nil, fmt.Errorf("firestore: event is no JSON object with a \"value\": %w", core.Invalid)
	}
	doc := new(pb.Document)
	// The error would quote the data, which no log should hold.
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(event.Value, doc); err != nil {
		return nil, fmt.Errorf("firestore: the \"value\" of an event is no document: %w", core.Invalid)
	}
	return doc, nil
}

// isOutbox says whether a document is an event to carry out: projects/P/databases/D/documents/outbox/PARTITION/items/ITEM.
func isOutbox(name string) bool {
	p := strings.Split(name, "/")
	return len(p) == 9 && p[0] == "projects" && p[2] == "databases" && p[4] == "documents" && p[5] == "outbox" && p[7] == Group
}

// Event is the data of the event that tells of a document, as Google would send it: for the Feed, and for tests.
func Event(doc *pb.Document) ([]byte, error) {
	value, err := proto.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("firestore: %w", err)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, valueField, protowire.BytesType), value), nil
}
