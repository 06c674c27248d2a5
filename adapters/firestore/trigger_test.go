package firestore_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	pb "cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/core"
)

const outboxDocument = "projects/p/databases/(default)/documents/outbox/=acme/items/=20260102T030405.0000!_id"

func outboxDoc(name string, body []byte) *pb.Document {
	return &pb.Document{Name: name, Fields: map[string]*pb.Value{
		firestore.BodyField: {ValueType: &pb.Value_BytesValue{BytesValue: body}},
		"k":                 {ValueType: &pb.Value_BytesValue{BytesValue: []byte("sort")}},
	}}
}

func encode(t testing.TB, doc *pb.Document) []byte {
	t.Helper()
	data, err := firestore.Event(doc)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func jsonEvent(t testing.TB, doc *pb.Document) []byte {
	t.Helper()
	value, err := protojson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]json.RawMessage{"value": value, "updateMask": json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEventBody(t *testing.T) {
	want := []byte("{\"the\":\"event\"}\x00\xff")
	good := encode(t, outboxDoc(outboxDocument, want))
	// What Google adds: the old value (2) and a mask (3), and what it may add one day.
	more := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), []byte{10, 1, 'x'})
	more = append(more, good...)
	more = protowire.AppendBytes(protowire.AppendTag(more, 3, protowire.BytesType), nil)
	more = protowire.AppendVarint(protowire.AppendTag(more, 99, protowire.VarintType), 7)
	for name, tt := range map[string]struct {
		contentType string
		data        []byte
		want        []byte
		kind        core.Kind
	}{
		"protobuf":             {"application/protobuf", good, want, ""},
		"with parameters":      {"application/protobuf; charset=utf-8", good, want, ""},
		"with other fields":    {"application/protobuf", more, want, ""},
		"json":                 {"application/json", jsonEvent(t, outboxDoc(outboxDocument, want)), want, ""},
		"empty body":           {"application/protobuf", encode(t, outboxDoc(outboxDocument, []byte{})), []byte{}, ""},
		"no content type":      {"", good, nil, core.Invalid},
		"text":                 {"text/plain", good, nil, core.Invalid},
		"nothing":              {"application/protobuf", nil, nil, core.Invalid},
		"deleted document":     {"application/protobuf", more[:5], nil, core.Invalid},
		"cut":                  {"application/protobuf", good[:len(good)-3], nil, core.Invalid},
		"value is no message":  {"application/protobuf", protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7), nil, core.Invalid},
		"json for protobuf":    {"application/protobuf", jsonEvent(t, outboxDoc(outboxDocument, want)), nil, core.Invalid},
		"protobuf for json":    {"application/json", good, nil, core.Invalid},
		"json without value":   {"application/json", []byte(`{"oldValue":{}}`), nil, core.Invalid},
		"no body":              {"application/protobuf", encode(t, &pb.Document{Name: outboxDocument}), nil, core.Invalid},
		"body is a string":     {"application/protobuf", encode(t, &pb.Document{Name: outboxDocument, Fields: map[string]*pb.Value{"b": {ValueType: &pb.Value_StringValue{StringValue: "x"}}}}), nil, core.Invalid},
		"another kind":         {"application/protobuf", encode(t, outboxDoc("projects/p/databases/(default)/documents/user/=outbox/items/=x", want)), nil, core.Invalid},
		"another group":        {"application/protobuf", encode(t, outboxDoc("projects/p/databases/(default)/documents/outbox/=acme/other/=x", want)), nil, core.Invalid},
		"the partition itself": {"application/protobuf", encode(t, outboxDoc("projects/p/databases/(default)/documents/outbox/=acme", want)), nil, core.Invalid},
		"too large":            {"application/protobuf", encode(t, outboxDoc(outboxDocument, make([]byte, 1<<20))), nil, core.TooLarge},
	} {
		got, err := firestore.EventBody(tt.contentType, tt.data)
		if tt.kind != "" {
			if !errors.Is(err, tt.kind) || got != nil {
				t.Errorf("%s: %q, error %v, want %q", name, got, err, string(tt.kind))
			}
			continue
		}
		if err != nil || !bytes.Equal(got, tt.want) {
			t.Errorf("%s: %q, error %v, want %q", name, got, err, tt.want)
		}
	}
}

// An error must not quote what an event holds.
func TestEventErrorsAreSafeToLog(t *testing.T) {
	const secret = "hunter2"
	for _, data := range [][]byte{
		fmt.Appendf(nil, `{"value":{"name":%q,"fields":{"b":{"bytesValue":%q}}}}`, secret, secret),
		fmt.Appendf(nil, `{"value":{"fields":{%q:1}}}`, secret),
		fmt.Appendf(nil, `{"value":%q}`, secret),
	} {
		if _, err := firestore.EventBody("application/json", data); err == nil || bytes.Contains([]byte(err.Error()), []byte(secret)) {
			t.Errorf("%s: error %v", data, err)
		}
	}
}

func FuzzEventBody(f *testing.F) {
	f.Add(true, encode(f, outboxDoc(outboxDocument, []byte("body"))))
	f.Add(false, jsonEvent(f, outboxDoc(outboxDocument, []byte("body"))))
	f.Add(true, encode(f, outboxDoc("x", nil)))
	f.Add(false, []byte(`{"value":null}`))
	f.Add(true, []byte{10, 255, 255, 255, 255, 15})
	f.Fuzz(func(t *testing.T, binary bool, data []byte) {
		contentType := "application/json"
		if binary {
			contentType = firestore.ContentType
		}
		body, err := firestore.EventBody(contentType, data)
		if err != nil {
			if body != nil || !errors.Is(err, core.Invalid) && !errors.Is(err, core.TooLarge) {
				t.Fatalf("body %q, error %v", body, err)
			}
			return
		}
		again, err := firestore.EventBody(firestore.ContentType, encode(t, outboxDoc(outboxDocument, body)))
		if err != nil || !bytes.Equal(again, body) {
			t.Fatalf("%q came back as %q, error %v", body, again, err)
		}
	})
}
