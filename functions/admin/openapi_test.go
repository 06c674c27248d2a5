package admin

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/fleetpass/fleetpass/core"
)

var update = flag.Bool("update", false, "write openapi.json and openapi.json.gz")

// written is the document as it is kept.
func written(t testing.TB, document schema) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(document); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The document that is served is the one that the rows of the API and the types of core/api make now, and it is a valid
// OpenAPI 3.1 document.
func TestOpenAPI(t *testing.T) {
	want := written(t, describe(t))
	if *update {
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{second(z.Write(want)), z.Close(), os.WriteFile("openapi.json", want, 0o644), os.WriteFile("openapi.json.gz", packed.Bytes(), 0o644)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		document = packed.Bytes()
	}
	kept, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	served, err := unpack(document)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, want) || !bytes.Equal(served, want) {
		t.Fatal("openapi.json is not what the API is now: go test ./functions/admin -run TestOpenAPI -update")
	}
	operations(t, parsedDocument(t)) // every schema is one of JSON Schema 2020-12
	parsed, err := libopenapi.NewDocument(want)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.BuildV3Model(); err != nil { // names references that lead nowhere
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(parsed)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if valid, errs := v.ValidateDocument(); !valid {
		for _, e := range errs {
			t.Error(e.Message, e.Reason)
			for _, s := range e.SchemaValidationErrors {
				t.Error("  ", s.KeywordLocation, s.Reason)
			}
		}
	}
}

func second(_ int, err error) error { return err }

// Operations have ids of their own, every reference leads somewhere, everything that can be referred to is, and every row is
// there.
func TestOpenAPIIsWhole(t *testing.T) {
	document := parsedDocument(t)
	ids, refs := map[string]bool{}, map[string]bool{}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				refs[ref] = true
			}
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(document)
	for path, item := range document["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			if method == "parameters" {
				continue
			}
			o := op.(map[string]any)
			id := o["operationId"].(string)
			if ids[id] {
				t.Errorf("%s %s: %s is the id of another one, too", method, path, id)
			}
			ids[id] = true
			if s := o["summary"].(string); s == "" || strings.HasSuffix(s, ".") {
				t.Errorf("%s %s: summary %q", method, path, s)
			}
		}
	}
	for _, e := range endpoints() {
		if at(document, "paths", "/v1"+e.path, strings.ToLower(e.method)) == nil {
			t.Errorf("%s %s is missing", e.method, e.path)
		}
	}
	for kind, all := range document["components"].(map[string]any) {
		for name := range all.(map[string]any) {
			if ref := "#/components/" + kind + "/" + name; kind != "securitySchemes" && !refs[ref] {
				t.Errorf("%s: nothing refers to it", ref)
			}
		}
	}
	for ref := range refs {
		if at(document, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...) == nil {
			t.Errorf("%s: there is no such thing", ref)
		}
	}
}

func parsedDocument(t testing.TB) map[string]any {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(written(t, describe(t)), &document); err != nil {
		t.Fatal(err)
	}
	return document
}

// at is what lies in a document by names of members.
func at(document any, names ...string) any {
	for _, n := range names {
		object, _ := document.(map[string]any)
		document = object[n]
	}
	return document
}

// Everybody gets the document, and everybody the same one; its server is the tenant that it was read from.
func TestServeDocument(t *testing.T) {
	w := newWorld(t)
	get := func(tenant core.TenantID, header http.Header) response {
		return w.call(request{method: "GET", path: "/api/v1/openapi.json", tenant: tenant, header: header})
	}
	first := get(acme, nil).want(t, 200)
	kept, err := os.ReadFile("openapi.json")
	w.must(err)
	if !bytes.Equal(first.Body.Bytes(), kept) || first.Header().Get("Content-Type") != "application/json" || first.Header().Get("Content-Encoding") != "" {
		t.Errorf("not the document: %v", first.Header())
	}
	if !strings.HasPrefix(first.Header().Get("Cache-Control"), "public, max-age=") || first.Header().Get("Vary") != "Accept-Encoding" {
		t.Errorf("it may not be kept: %v", first.Header())
	}
	if other := get(globex, http.Header{"Authorization": {"Bearer junk"}}).want(t, 200); !bytes.Equal(other.Body.Bytes(), kept) {
		t.Error("another tenant has another document")
	}
	get("nobody", nil).want(t, 404)
	tags := []string{first.Header().Get("ETag")}
	for _, accept := range []string{"gzip", "br, GZIP;q=0.5", "deflate, gzip, br"} {
		packed := get(acme, http.Header{"Accept-Encoding": {accept}}).want(t, 200)
		if packed.Header().Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: not packed", accept)
		}
		if body, err := unpack(packed.Body.Bytes()); err != nil || !bytes.Equal(body, kept) {
			t.Errorf("%s: another document: %v", accept, err)
		}
		tags = append(tags, packed.Header().Get("ETag"))
	}
	if tags[0] == tags[1] || tags[1] != tags[2] || tags[0] == "" {
		t.Errorf("tags %q: one for each form", tags)
	}
	for _, accept := range []string{"gzip;q=0", "br", "identity", "*", "gzip;q=x"} {
		if plain := get(acme, http.Header{"Accept-Encoding": {accept}}).want(t, 200); plain.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s: packed", accept)
		}
	}
	if same := get(acme, http.Header{"If-None-Match": {tags[0]}}).want(t, 304); same.Body.Len() > 0 || same.Header().Get("ETag") != tags[0] {
		t.Errorf("304 with %d bytes", same.Body.Len())
	}
	get(acme, http.Header{"If-None-Match": {tags[1]}}).want(t, 200)
	get(acme, http.Header{"If-None-Match": {tags[1]}, "Accept-Encoding": {"gzip"}}).want(t, 304)

	servers := parsedDocument(t)["servers"].([]any)
	server, err := url.Parse(servers[0].(map[string]any)["url"].(string))
	w.must(err)
	where, err := url.Parse(base + "/t/acme/api/v1/openapi.json")
	w.must(err)
	if got := where.ResolveReference(server).String() + "/v1/me"; got != base+"/t/acme/api/v1/me" {
		t.Errorf("the server leads to %s", got)
	}
	if !slices.Contains(Paths, documentPattern) {
		t.Error("it is not among the paths")
	}
}
