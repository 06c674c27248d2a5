package admin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/fleetpass/fleetpass/core/web"
)

// documentPattern is where the API describes itself (OpenAPI 3.1).
const documentPattern = "GET " + root + "/openapi.json"

// document is openapi.json, packed. Both are made from endpoints and the types of core/api by TestOpenAPI, so that nothing
// that reflects over types, and no copy of their comments, is deployed:
//
//	go test ./functions/admin -run TestOpenAPI -update
//
//go:embed openapi.json.gz
var document []byte

// documentTag is the document's entity tag without its quotes.
var documentTag = sync.OnceValue(func() string {
	sum := sha256.Sum256(document)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
})

// documentMaxAge is how long a copy of the document may be kept, in seconds. It changes with a release and never by itself.
const documentMaxAge = 3600

// serveDocument answers with the description of the API. It is public, and the same bytes for every tenant: its servers are
// given relative to where it lies.
func (d *Deps) serveDocument(w http.ResponseWriter, r *http.Request) {
	t, err := web.Tenant(r)
	if err == nil {
		_, err = d.Ring.JWKS(r.Context(), t) // a tenant is there if it has keys, and these are in memory
	}
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	body, tag, packed := document, documentTag(), acceptsGzip(r)
	if packed {
		tag += "-gzip" // the other form of it, and so another tag (RFC 9110 §8.8.3.3)
	}
	h := w.Header()
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(documentMaxAge))
	h.Set("Vary", "Accept-Encoding")
	h.Set("ETag", `"`+tag+`"`)
	if given, err := tags(r, "If-None-Match"); err == nil && among(given, object{tag: tag}, true) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if packed {
		h.Set("Content-Encoding", "gzip")
	} else if body, err = unpack(document); err != nil {
		web.Fail(w, r, err)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client went away; there is nobody to tell
}

// acceptsGzip says whether the client named gzip among the codings that it takes (RFC 9110 §12.5.3). One that only said "*"
// gets the document as it is, which is as good.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q, isNumber := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
			f, err := strconv.ParseFloat(q, 64)
			return !isNumber || err == nil && f > 0
		}
	}
	return false
}

func unpack(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
