package otlp

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"sync"
	"testing"
)

// collector takes what the OTLP specification says a JSON request is, and nothing else. It shares no code and no type with
// the exporter: it walks the decoded document by tables of members.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	answers []func(http.ResponseWriter) // one for each request, then 200
	paths   []string
	headers []http.Header
	spans   []map[string]any
	metrics []map[string]any
	wrong   []error
}

func newCollector(t *testing.T, answers ...func(http.ResponseWriter)) *collector {
	c := &collector{answers: answers}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(func() {
		c.Close()
		for _, err := range c.wrong {
			t.Errorf("the collector refuses: %v", err)
		}
	})
	return c
}

func status(code int, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func (c *collector) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths, c.headers = append(c.paths, r.URL.Path), append(c.headers, r.Header)
	if len(c.answers) > 0 {
		answer := c.answers[0]
		c.answers = c.answers[1:]
		answer(w)
		return
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		c.wrong = append(c.wrong, fmt.Errorf("%s with %q", r.Method, r.Header.Get("Content-Type")))
	}
	var doc any
	err := json.Unmarshal(body, &doc)
	switch r.URL.Path {
	case "/v1/traces", "/prefix/v1/traces":
		if err == nil {
			err = is(traceRequestShape, doc)
		}
		if err == nil {
			c.spans = append(c.spans, leaves(doc, "resourceSpans", "scopeSpans", "spans")...)
		}
	case "/v1/metrics", "/prefix/v1/metrics":
		if err == nil {
			err = is(metricsRequestShape, doc)
		}
		if err == nil {
			c.metrics = append(c.metrics, leaves(doc, "resourceMetrics", "scopeMetrics", "metrics")...)
		}
	default:
		err = fmt.Errorf("path %s", r.URL.Path)
	}
	if err != nil {
		c.wrong = append(c.wrong, fmt.Errorf("%w in %s", err, body))
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"partialSuccess":{}}`)
}

// leaves collects the elements at the end of a path of lists.
func leaves(doc any, path ...string) (out []map[string]any) {
	m := doc.(map[string]any)
	list, _ := m[path[0]].([]any)
	for _, e := range list {
		if len(path) == 1 {
			out = append(out, e.(map[string]any))
		} else {
			out = append(out, leaves(e, path[1:]...)...)
		}
	}
	return out
}

// A shape says what a value must be.
type shape func(any) error

func is(s shape, v any) error { return s(v) }

func object(members map[string]shape) shape {
	return func(v any) error {
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%v is no object", v)
		}
		for name, v := range m {
			s, known := members[name]
			if !known {
				return fmt.Errorf("unknown member %q", name)
			}
			if err := s(v); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}
}

func list(of shape) shape {
	return func(v any) error {
		l, ok := v.([]any)
		if !ok {
			return fmt.Errorf("%v is no list", v)
		}
		for i, e := range l {
			if err := of(e); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
		return nil
	}
}

func str(v any) error {
	if _, ok := v.(string); !ok {
		return fmt.Errorf("%v is no string", v)
	}
	return nil
}

func truth(v any) error {
	if _, ok := v.(bool); !ok {
		return fmt.Errorf("%v is no bool", v)
	}
	return nil
}

// whole is an int32, uint32 or enum: a number.
func whole(v any) error {
	if f, ok := v.(float64); !ok || f != math.Trunc(f) || f < 0 || f > math.MaxUint32 {
		return fmt.Errorf("%v is no 32-bit integer", v)
	}
	return nil
}

// long is a 64-bit integer: a decimal string.
func long(v any) error {
	s, _ := v.(string)
	if _, err := strconv.ParseInt(s, 10, 64); err != nil {
		return fmt.Errorf("%v is no 64-bit integer in a string", v)
	}
	return nil
}

func real(v any) error {
	switch v {
	case "NaN", "Infinity", "-Infinity":
		return nil
	}
	if _, ok := v.(float64); !ok {
		return fmt.Errorf("%v is no double", v)
	}
	return nil
}

func hexadecimal(bytes int) shape {
	form := regexp.MustCompile(fmt.Sprintf("^[0-9a-fA-F]{%d}$", 2*bytes))
	return func(v any) error {
		if s, _ := v.(string); !form.MatchString(s) {
			return fmt.Errorf("%v are no %d bytes in hexadecimal", v, bytes)
		}
		return nil
	}
}

func anything(v any) error {
	if m, ok := v.(map[string]any); !ok || len(m) > 1 {
		return fmt.Errorf("%v has not one value", v)
	}
	return object(map[string]shape{
		"stringValue": str, "boolValue": truth, "intValue": long, "doubleValue": real, "bytesValue": str,
		"arrayValue": object(map[string]shape{"values": list(anything)}),
	})(v)
}

var (
	attributeShape = object(map[string]shape{"key": str, "value": anything})
	attributeList  = list(attributeShape)
	resourceShape  = object(map[string]shape{"attributes": attributeList, "droppedAttributesCount": whole})
	scopeShape     = object(map[string]shape{"name": str, "version": str, "attributes": attributeList, "droppedAttributesCount": whole})

	traceRequestShape = object(map[string]shape{"resourceSpans": list(object(map[string]shape{
		"resource": resourceShape, "schemaUrl": str,
		"scopeSpans": list(object(map[string]shape{"scope": scopeShape, "schemaUrl": str, "spans": list(object(map[string]shape{
			"traceId": hexadecimal(16), "spanId": hexadecimal(8), "parentSpanId": hexadecimal(8), "traceState": str, "flags": whole,
			"name": str, "kind": whole, "startTimeUnixNano": long, "endTimeUnixNano": long, "attributes": attributeList,
			"droppedAttributesCount": whole, "droppedEventsCount": whole, "droppedLinksCount": whole,
			"events": list(object(map[string]shape{"timeUnixNano": long, "name": str, "attributes": attributeList, "droppedAttributesCount": whole})),
			"links":  list(object(map[string]shape{"traceId": hexadecimal(16), "spanId": hexadecimal(8), "traceState": str, "attributes": attributeList, "droppedAttributesCount": whole, "flags": whole})),
			"status": object(map[string]shape{"message": str, "code": whole}),
		}))})),
	}))})

	pointShape = object(map[string]shape{"attributes": attributeList, "startTimeUnixNano": long, "timeUnixNano": long, "asInt": long, "asDouble": real, "flags": whole})

	metricsRequestShape = object(map[string]shape{"resourceMetrics": list(object(map[string]shape{
		"resource": resourceShape, "schemaUrl": str,
		"scopeMetrics": list(object(map[string]shape{"scope": scopeShape, "schemaUrl": str, "metrics": list(object(map[string]shape{
			"name": str, "description": str, "unit": str,
			"gauge": object(map[string]shape{"dataPoints": list(pointShape)}),
			"sum":   object(map[string]shape{"dataPoints": list(pointShape), "aggregationTemporality": whole, "isMonotonic": truth}),
			"histogram": object(map[string]shape{"aggregationTemporality": whole, "dataPoints": list(object(map[string]shape{
				"attributes": attributeList, "startTimeUnixNano": long, "timeUnixNano": long, "count": long, "sum": real, "bucketCounts": list(long), "explicitBounds": list(real), "min": real, "max": real, "flags": whole,
			}))}),
		}))})),
	}))})
)
