package strict_test

import (
	"encoding/base64"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/strict"
)

// request is an admin request as they are.
type request struct {
	SubjectID string            `json:"subjectId"`
	Kind      kind              `json:"kind"`
	ExpiresAt time.Time         `json:"expiresAt,omitzero"`
	Count     int8              `json:"count"`
	Size      uint16            `json:"size"`
	Share     float64           `json:"share"`
	Enabled   bool              `json:"enabled"`
	Groups    []string          `json:"groups"`
	Labels    map[string]string `json:"labels"`
	Data      []byte            `json:"data"`
	Limit     *int32            `json:"limit"`
	Inner     struct {
		List []struct {
			Name string `json:"name"`
		} `json:"list"`
	} `json:"inner"`
	paging
	Hidden string `json:"-"`
}

type paging struct {
	Offset int `json:"offset"`
}

// kind checks itself.
type kind string

func (k *kind) UnmarshalText(b []byte) error {
	if string(b) != "user" && string(b) != "group" {
		return core.BadField("kind", "must be user or group")
	}
	*k = kind(b)
	return nil
}

const canary = "CANARY-8741"

func TestJSON(t *testing.T) {
	good := `{"subjectId":"ada@example.com","kind":"user","expiresAt":"2030-01-31T12:00:00Z","count":-128,"size":65535,"share":0.5,"enabled":true,` +
		`"groups":["a","b"],"labels":{"k":"v"},"data":"` + base64.StdEncoding.EncodeToString([]byte("x")) + `","limit":7,"inner":{"list":[{"name":"n"}]},"offset":3}`
	var got request
	if err := strict.JSON([]byte(" "+good+"\n"), 4096, &got); err != nil {
		t.Fatal(err)
	}
	if got.SubjectID != "ada@example.com" || got.Kind != "user" || got.Count != -128 || *got.Limit != 7 || got.Inner.List[0].Name != "n" || got.Offset != 3 {
		t.Errorf("decoded %+v", got)
	}
	for _, tt := range []struct{ in, field, fix string }{
		{`{"subjctId":"x"}`, "/subjctId", "unknown field; did you mean subjectId?"},
		{`{"SubjectID":"x"}`, "/SubjectID", "unknown field; write it subjectId, upper and lower case matter"},
		{`{"subjectid":"x"}`, "/subjectid", "unknown field; write it subjectId, upper and lower case matter"},
		{`{"ofset":1}`, "/ofset", "unknown field; did you mean offset?"},
		{`{"roleTenantAdmin":true}`, "/roleTenantAdmin", "unknown field; leave it out"},
		{`{"hidden":"x"}`, "/hidden", "unknown field; leave it out"},
		{`{"Hidden":"x"}`, "/Hidden", "unknown field; leave it out"},
		{`{"inner":{"list":[{"name":"n"},{"nam":"n"}]}}`, "/inner/list/1/nam", "unknown field; did you mean name?"},
		{`{"subjectId":"a","subjectId":"b"}`, "/subjectId", "appears twice; give it once"},
		{`{"subjectId":"a","\u0073ubjectId":"b"}`, "/subjectId", "appears twice; give it once"},
		{`{"labels":{"k":"1","k":"2"}}`, "/labels/k", "appears twice; give it once"},
		{`{"subjectId":7}`, "/subjectId", "must be a string"},
		{`{"subjectId":["` + canary + `"]}`, "/subjectId", "must be a string"},
		{`{"kind":"` + canary + `"}`, "/kind", "must be user or group"},
		{`{"kind":1}`, "/kind", "must be a string of the documented form"},
		{`{"expiresAt":"` + canary + `"}`, "/expiresAt", "must be an RFC 3339 time, such as 2030-01-31T12:00:00Z"},
		{`{"expiresAt":"2030-02-31T12:00:00Z"}`, "/expiresAt", "must be an RFC 3339 time, such as 2030-01-31T12:00:00Z"},
		{`{"expiresAt":1}`, "/expiresAt", "must be an RFC 3339 time, such as 2030-01-31T12:00:00Z"},
		{`{"count":128}`, "/count", "must be a whole number of at most 8 bits"},
		{`{"count":"1"}`, "/count", "must be a whole number of at most 8 bits"},
		{`{"count":1.5}`, "/count", "must be a whole number of at most 8 bits"},
		{`{"size":-1}`, "/size", "must be a whole number, not negative, of at most 16 bits"},
		{`{"limit":"7"}`, "/limit", "must be a whole number of at most 32 bits"},
		{`{"share":"x"}`, "/share", "must be a number"},
		{`{"share":1e999}`, "/share", "must be a number"},
		{`{"enabled":"true"}`, "/enabled", "must be true or false"},
		{`{"groups":"` + canary + `"}`, "/groups", "must be a list"},
		{`{"groups":["a",1]}`, "/groups/1", "must be a string"},
		{`{"labels":["` + canary + `"]}`, "/labels", "must be an object"},
		{`{"inner":"` + canary + `"}`, "/inner", "must be an object"},
		{`{"data":"!` + canary + `"}`, "/data", "must be a base64 string"},
		{`["` + canary + `"]`, "body", "must be an object"},
		{`"` + canary + `"`, "body", "must be an object"},
		{`null`, "body", "must not be null"},
		{``, "body", "is empty; send JSON"},
		{" \n", "body", "is empty; send JSON"},
		{`{"subjectId":"` + canary, "/subjectId", "ends too early: the JSON is cut off"},
		{`{"subjectId":"a"}{}`, "body", "has more after its end, at byte 17; send one JSON value"},
		{`{"subjectId":"a"} ` + canary, "body", "has more after its end, at byte 18; send one JSON value"},
		{`{"subjectId":` + canary + `}`, "/subjectId", "is not valid JSON at byte 13"},
		{`{"subjectId":"a",}`, "body", "is not valid JSON at byte 16"},
		{`{'subjectId':"a"}`, "body", "is not valid JSON at byte 1"},
		{`{"subjectId":NaN}`, "/subjectId", "is not valid JSON at byte 13"},
		{`{"subjectId":"a" /* c */}`, "body", "is not valid JSON at byte 17"},
		{"\ufeff" + good, "body", "is not valid JSON at byte 0"},
		{"{\"subjectId\":\"\xff\"}", "/subjectId", "must be UTF-8"},
		{`{"subjectId":"\ud800"}`, "/subjectId", "is not valid JSON at byte 14"},
		{"{\"subjectId\":\"\x00\"}", "/subjectId", "is not valid JSON at byte 14"},
		{"{\"a\\u0000\\u202eb\":1}", "/a\ufffd\ufffdb", "unknown field; leave it out"},
		{`{"` + strings.Repeat("k", 300) + `":1}`, "/" + strings.Repeat("k", 99) + "…", "unknown field; leave it out"},
		{`{"labels":` + strings.Repeat(`{"a":`, 32) + `1` + strings.Repeat("}", 32) + `}`, "/labels" + strings.Repeat("/a", 31), "is nested deeper than 32 levels"},
		{strings.Repeat("[", 4000), "", "is nested deeper than 32 levels"},
	} {
		var v request
		err := strict.JSON([]byte(tt.in), 4096, &v)
		field, ok := errors.AsType[*core.FieldError](err)
		if !ok || !errors.Is(err, core.Invalid) {
			t.Errorf("%.80s: %v, want a FieldError", tt.in, err)
			continue
		}
		if tt.field != "" && field.Field != tt.field || field.Fix != tt.fix {
			t.Errorf("%.80s:\n got %s: %s\nwant %s: %s", tt.in, field.Field, field.Fix, tt.field, tt.fix)
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("%.80s: the error repeats the value: %v", tt.in, err)
		}
	}
}

func TestDepth(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, in := range []string{nested(strict.MaxDepth), `"` + strings.Repeat("[", 100) + `"`, `{"` + strings.Repeat("{", 100) + `":"\"` + strings.Repeat("[", 100) + `"}`} {
		var v any
		if err := strict.JSON([]byte(in), 4096, &v); err != nil {
			t.Errorf("%.40s: %v", in, err)
		}
	}
	var v any
	if err := strict.JSON([]byte(nested(strict.MaxDepth+1)), 4096, &v); !errors.Is(err, core.Invalid) {
		t.Errorf("a level too deep: %v, want core.Invalid", err)
	}
}

func TestSize(t *testing.T) {
	in := `{"subjectId":"ada"}`
	var v request
	if err := strict.JSON([]byte(in), len(in), &v); err != nil {
		t.Errorf("just fits: %v", err)
	}
	if _, err := strict.Object([]byte(in), len(in)); err != nil {
		t.Errorf("just fits: %v", err)
	}
	for _, err := range []error{
		strict.JSON([]byte(in), len(in)-1, &v),
		func() error { _, err := strict.Object([]byte(in), len(in)-1); return err }(),
		func() error { _, err := strict.Form("a=123", 4); return err }(),
	} {
		if !errors.Is(err, core.TooLarge) {
			t.Errorf("a byte too many: %v, want core.TooLarge", err)
		}
	}
}

func TestObject(t *testing.T) {
	got, err := strict.Object([]byte(` {"a":1,"b":{"c":[null]},"":"x"} `), 100)
	if err != nil || len(got) != 3 || string(got["b"]) != `{"c":[null]}` {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := strict.Object([]byte(`{}`), 100); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	for _, tt := range []struct{ in, field string }{
		{`{"a":1,"a":2}`, "/a"},
		{`{"a":{"b":[{"c":1,"c":2}]}}`, "/a/b/0/c"},
		{`[]`, "body"}, {`null`, "body"}, {`"a"`, "body"}, {``, "body"}, {`{} {}`, "body"}, {`{`, "body"},
	} {
		got, err := strict.Object([]byte(tt.in), 100)
		if field, _ := errors.AsType[*core.FieldError](err); field == nil || field.Field != tt.field || got != nil {
			t.Errorf("%s: %v, %v, want an error at %s", tt.in, got, err, tt.field)
		}
	}
}

func TestForm(t *testing.T) {
	known := []string{"grant_type", "client_id", "scope"}
	got, err := strict.Form("grant_type=refresh_token&client_id=a%26b&scope=openid+email", 100, known...)
	want := map[string]string{"grant_type": "refresh_token", "client_id": "a&b", "scope": "openid email"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if got, err := strict.Form("any=1&", 100); err != nil || got["any"] != "1" {
		t.Errorf("with nothing known: %v, %v", got, err)
	}
	if got, err := strict.Form("", 100); err != nil || len(got) != 0 {
		t.Errorf("empty: %v, %v", got, err)
	}
	for _, tt := range []struct{ in, field, fix string }{
		{"scope=a&scope=b", "scope", "appears twice; give it once"},
		{"scope=a&sco%70e=b", "scope", "appears twice; give it once"},
		{"scope=&scope=" + canary, "scope", "appears twice; give it once"},
		{"scop=" + canary, "scop", "unknown field; did you mean scope?"},
		{"Scope=" + canary, "Scope", "unknown field; write it scope, upper and lower case matter"},
		{"client_secret=" + canary, "client_secret", "unknown field; leave it out"},
		{"scope=%zz" + canary, "scope", "must be percent-encoded UTF-8 without NUL"},
		{"scope=" + canary + "%", "scope", "must be percent-encoded UTF-8 without NUL"},
		{"scope=%ff" + canary, "scope", "must be percent-encoded UTF-8 without NUL"},
		{"scope=%00" + canary, "scope", "must be percent-encoded UTF-8 without NUL"},
		{"=" + canary, "body", "has a field whose name is empty or not percent-encoded UTF-8"},
		{"%zz=" + canary, "body", "has a field whose name is empty or not percent-encoded UTF-8"},
		{"a\u202e=1", "a\ufffd", "unknown field; did you mean scope?"},
		{strings.Repeat("&", strict.MaxFields), "body", "has over 64 fields"},
	} {
		got, err := strict.Form(tt.in, 1000, known...)
		field, _ := errors.AsType[*core.FieldError](err)
		if field == nil || got != nil || field.Field != tt.field {
			t.Errorf("%q: %v, %v, want an error at %s", tt.in, got, err, tt.field)
			continue
		}
		if field.Fix != tt.fix && tt.field != "a\ufffd" {
			t.Errorf("%q: %s, want %s", tt.in, field.Fix, tt.fix)
		}
		if strings.Contains(err.Error(), canary) {
			t.Errorf("%q: the error repeats the value: %v", tt.in, err)
		}
	}
}

// FuzzJSON: what is taken is JSON that a lenient parser reads as one object with the same members.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"subjectId":"a"}`, `{"a":{"a":1,"a":2}}`, `[[[[]]]]`, `{"\u0061":1,"a":2}`, "{\"a\":\"\xff\"}", `{} x`, `null`, `{"a":1e400}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v request
		if err := strict.JSON(data, 1<<16, &v); err != nil && !errors.Is(err, core.Invalid) {
			t.Fatalf("%v, want core.Invalid", err)
		}
		members, err := strict.Object(data, 1<<16)
		if err != nil {
			if !errors.Is(err, core.Invalid) || members != nil {
				t.Fatalf("%v with %v", err, members)
			}
			return
		}
		var lenient map[string]stdjson.RawMessage
		if err := stdjson.Unmarshal(data, &lenient); err != nil || len(lenient) != len(members) {
			t.Fatalf("encoding/json: %v, %d members; strict %d", err, len(lenient), len(members))
		}
	})
}

// FuzzForm: what is taken, net/url reads the same way, with one value for each field.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"a=1&b=2", "a=1&a=2", "a=%41", "a=%", "&&", "a;b=1", "a+b=c+d", "%00=1", "a=b=c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		fields, err := strict.Form(body, 1<<16)
		if err != nil {
			if !errors.Is(err, core.Invalid) || fields != nil {
				t.Fatalf("%v with %v", err, fields)
			}
			return
		}
		if strings.Contains(body, ";") {
			return // which net/url refuses, for it once was a separator
		}
		values, err := url.ParseQuery(body)
		if err != nil || len(values) != len(fields) {
			t.Fatalf("net/url: %v, %v; strict %v", err, values, fields)
		}
		for name, v := range values {
			if len(v) != 1 || v[0] != fields[name] {
				t.Fatalf("%q: net/url %v, strict %q", name, v, fields[name])
			}
		}
	})
}

func ExampleJSON() {
	var rule struct {
		SubjectID string    `json:"subjectId"`
		ExpiresAt time.Time `json:"expiresAt"`
	}
	fmt.Println(strict.JSON([]byte(`{"subjctId": "ada@example.com"}`), 1024, &rule))
	fmt.Println(strict.JSON([]byte(`{"expiresAt": "tomorrow"}`), 1024, &rule))
	// Output:
	// /subjctId: unknown field; did you mean subjectId?
	// /expiresAt: must be an RFC 3339 time, such as 2030-01-31T12:00:00Z
}
