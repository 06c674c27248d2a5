package web_test

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/web"
)

// A refusal that quotes what is not UTF-8 stays a refusal.
func TestFailMendsText(t *testing.T) {
	for field, want := range map[string]string{"/na\xffme": "/na\ufffdme", "/é"[:2]: "\ufffd", "/name": "/name"} {
		w, _ := call(func(w http.ResponseWriter, r *http.Request) { web.Fail(w, r, core.BadField(field, "is unknown")) })
		if w.Code != 400 || !utf8.Valid(w.Body.Bytes()) || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q: %d %s", field, w.Code, w.Body)
		}
	}
}
