package otlp

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// The messages of opentelemetry-proto 1.x, as far as Fleetpass sends them, in OTLP's JSON encoding: protobuf's JSON mapping,
// but trace and span ids are hexadecimal and enums are numbers (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
// Protobuf's mapping writes 64-bit integers as strings, and leaves out what has its type's zero value.

type traceRequest struct {
	ResourceSpans []resourceSpans `json:"resourceSpans"`
}

type resourceSpans struct {
	Resource   resourceJSON `json:"resource"`
	ScopeSpans []scopeSpans `json:"scopeSpans"`
	SchemaURL  string       `json:"schemaUrl,omitempty"`
}

type scopeSpans struct {
	Scope     scopeJSON  `json:"scope"`
	Spans     []spanJSON `json:"spans"`
	SchemaURL string     `json:"schemaUrl,omitempty"`
}

type resourceJSON struct {
	Attributes []keyValue `json:"attributes,omitempty"`
}

type scopeJSON struct {
	Name       string     `json:"name,omitempty"`
	Version    string     `json:"version,omitempty"`
	Attributes []keyValue `json:"attributes,omitempty"`
}

type spanJSON struct {
	TraceID           string      `json:"traceId"`
	SpanID            string      `json:"spanId"`
	TraceState        string      `json:"traceState,omitempty"`
	ParentSpanID      string      `json:"parentSpanId,omitempty"`
	Flags             uint32      `json:"flags,omitempty"`
	Name              string      `json:"name"`
	Kind              int         `json:"kind,omitempty"`
	Start             nano        `json:"startTimeUnixNano,omitempty"`
	End               nano        `json:"endTimeUnixNano,omitempty"`
	Attributes        []keyValue  `json:"attributes,omitempty"`
	DroppedAttributes int         `json:"droppedAttributesCount,omitempty"`
	Events            []eventJSON `json:"events,omitempty"`
	DroppedEvents     int         `json:"droppedEventsCount,omitempty"`
	Links             []linkJSON  `json:"links,omitempty"`
	DroppedLinks      int         `json:"droppedLinksCount,omitempty"`
	Status            *statusJSON `json:"status,omitempty"`
}

type eventJSON struct {
	Time       nano       `json:"timeUnixNano,omitempty"`
	Name       string     `json:"name"`
	Attributes []keyValue `json:"attributes,omitempty"`
}

type linkJSON struct {
	TraceID    string     `json:"traceId"`
	SpanID     string     `json:"spanId"`
	TraceState string     `json:"traceState,omitempty"`
	Attributes []keyValue `json:"attributes,omitempty"`
	Flags      uint32     `json:"flags,omitempty"`
}

type statusJSON struct {
	Message string `json:"message,omitempty"`
	Code    int    `json:"code,omitempty"`
}

type keyValue struct {
	Key   string   `json:"key"`
	Value anyValue `json:"value"`
}

// anyValue has exactly one member, or none for an empty value.
type anyValue struct {
	String *string     `json:"stringValue,omitempty"`
	Bool   *bool       `json:"boolValue,omitempty"`
	Int    *int64      `json:"intValue,omitempty,string"`
	Double *number     `json:"doubleValue,omitempty"`
	Bytes  *string     `json:"bytesValue,omitempty"`
	Array  *arrayValue `json:"arrayValue,omitempty"`
}

type arrayValue struct {
	Values []anyValue `json:"values"`
}

// nano is a time in nanoseconds since 1970, a string on the wire.
type nano int64

func (n nano) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, strconv.FormatInt(int64(n), 10)), nil
}

func nanoOf(t time.Time) nano {
	if t.IsZero() {
		return 0
	}
	return nano(t.UnixNano())
}

// count is a uint64, a string on the wire.
type count uint64

func (c count) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, strconv.FormatUint(uint64(c), 10)), nil
}

// number is a double; what JSON has no number for is a string.
type number float64

func (n number) MarshalJSON() ([]byte, error) {
	switch f := float64(n); {
	case math.IsNaN(f):
		return []byte(`"NaN"`), nil
	case math.IsInf(f, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(f, -1):
		return []byte(`"-Infinity"`), nil
	default:
		return json.Marshal(f)
	}
}

func attributes(list []attribute.KeyValue) []keyValue {
	out := make([]keyValue, 0, len(list))
	for _, kv := range list {
		out = append(out, keyValue{string(kv.Key), value(kv.Value)})
	}
	return out
}

func value(v attribute.Value) anyValue {
	switch v.Type() {
	case attribute.BOOL:
		return boolean(v.AsBool())
	case attribute.INT64:
		return integer(v.AsInt64())
	case attribute.FLOAT64:
		return double(v.AsFloat64())
	case attribute.STRING:
		return text(v.AsString())
	case attribute.BOOLSLICE:
		return array(v.AsBoolSlice(), boolean)
	case attribute.INT64SLICE:
		return array(v.AsInt64Slice(), integer)
	case attribute.FLOAT64SLICE:
		return array(v.AsFloat64Slice(), double)
	case attribute.STRINGSLICE:
		return array(v.AsStringSlice(), text)
	case attribute.SLICE:
		return array(v.AsSlice(), value)
	case attribute.BYTESLICE:
		s := base64.StdEncoding.EncodeToString(v.AsByteSlice())
		return anyValue{Bytes: &s}
	}
	return anyValue{}
}

func text(s string) anyValue    { return anyValue{String: &s} }
func boolean(b bool) anyValue   { return anyValue{Bool: &b} }
func integer(n int64) anyValue  { return anyValue{Int: &n} }
func double(f float64) anyValue { n := number(f); return anyValue{Double: &n} }

func array[T any](list []T, one func(T) anyValue) anyValue {
	a := &arrayValue{Values: make([]anyValue, 0, len(list))}
	for _, v := range list {
		a.Values = append(a.Values, one(v))
	}
	return anyValue{Array: a}
}

// spans makes a request of spans. All of them are one process's, so they share a resource; scopes keep the order in which
// they come.
func spans(list []sdktrace.ReadOnlySpan) traceRequest {
	if len(list) == 0 {
		return traceRequest{ResourceSpans: []resourceSpans{}}
	}
	r := list[0].Resource()
	of := resourceSpans{Resource: resourceJSON{attributes(r.Attributes())}, SchemaURL: r.SchemaURL()}
	at := map[instrumentation.Scope]int{}
	for _, s := range list {
		scope := s.InstrumentationScope()
		i, ok := at[scope]
		if !ok {
			i = len(of.ScopeSpans)
			at[scope] = i
			of.ScopeSpans = append(of.ScopeSpans, scopeSpans{Scope: scopeOf(scope), SchemaURL: scope.SchemaURL})
		}
		of.ScopeSpans[i].Spans = append(of.ScopeSpans[i].Spans, span(s))
	}
	return traceRequest{[]resourceSpans{of}}
}

func scopeOf(s instrumentation.Scope) scopeJSON {
	return scopeJSON{Name: s.Name, Version: s.Version, Attributes: attributes(s.Attributes.ToSlice())}
}

func span(s sdktrace.ReadOnlySpan) spanJSON {
	sc := s.SpanContext()
	out := spanJSON{
		TraceID: sc.TraceID().String(), SpanID: sc.SpanID().String(), TraceState: sc.TraceState().String(), Flags: flags(sc.TraceFlags(), s.Parent()),
		Name: s.Name(), Kind: int(s.SpanKind()), // numbered alike
		Start: nanoOf(s.StartTime()), End: nanoOf(s.EndTime()),
		Attributes: attributes(s.Attributes()), DroppedAttributes: s.DroppedAttributes(), DroppedEvents: s.DroppedEvents(), DroppedLinks: s.DroppedLinks(),
	}
	if s.Parent().SpanID().IsValid() {
		out.ParentSpanID = s.Parent().SpanID().String()
	}
	for _, e := range s.Events() {
		out.Events = append(out.Events, eventJSON{nanoOf(e.Time), e.Name, attributes(e.Attributes)})
	}
	for _, l := range s.Links() {
		to := l.SpanContext
		out.Links = append(out.Links, linkJSON{to.TraceID().String(), to.SpanID().String(), to.TraceState().String(), attributes(l.Attributes), flags(to.TraceFlags(), to)})
	}
	switch st := s.Status(); st.Code { // numbered otherwise than in the API
	case codes.Ok:
		out.Status = &statusJSON{Code: 1}
	case codes.Error:
		out.Status = &statusJSON{Code: 2, Message: st.Description}
	}
	return out
}

// flags are the W3C flags, and whether the parent, or the span that is linked to, is in another process (SpanFlags of
// trace.proto: bit 8 says that bit 9 is known).
func flags(own oteltrace.TraceFlags, other oteltrace.SpanContext) uint32 {
	f := uint32(own) | 0x100
	if other.IsRemote() {
		f |= 0x200
	}
	return f
}

type metricsRequest struct {
	ResourceMetrics []resourceMetrics `json:"resourceMetrics"`
}

type resourceMetrics struct {
	Resource     resourceJSON   `json:"resource"`
	ScopeMetrics []scopeMetrics `json:"scopeMetrics"`
	SchemaURL    string         `json:"schemaUrl,omitempty"`
}

type scopeMetrics struct {
	Scope     scopeJSON    `json:"scope"`
	Metrics   []metricJSON `json:"metrics"`
	SchemaURL string       `json:"schemaUrl,omitempty"`
}

type metricJSON struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Unit        string   `json:"unit,omitempty"`
	Gauge       *series  `json:"gauge,omitempty"`
	Sum         *series  `json:"sum,omitempty"`
	Histogram   *buckets `json:"histogram,omitempty"`
}

type series struct {
	Points      []point `json:"dataPoints"`
	Temporality int     `json:"aggregationTemporality,omitempty"`
	Monotonic   bool    `json:"isMonotonic,omitempty"`
}

type point struct {
	Attributes []keyValue `json:"attributes,omitempty"`
	Start      nano       `json:"startTimeUnixNano,omitempty"`
	Time       nano       `json:"timeUnixNano,omitempty"`
	Int        *int64     `json:"asInt,omitempty,string"`
	Double     *number    `json:"asDouble,omitempty"`
}

type buckets struct {
	Points      []bucketPoint `json:"dataPoints"`
	Temporality int           `json:"aggregationTemporality,omitempty"`
}

type bucketPoint struct {
	Attributes []keyValue `json:"attributes,omitempty"`
	Start      nano       `json:"startTimeUnixNano,omitempty"`
	Time       nano       `json:"timeUnixNano,omitempty"`
	Count      count      `json:"count,omitempty"`
	Sum        *number    `json:"sum,omitempty"`
	Counts     []count    `json:"bucketCounts,omitempty"`
	Bounds     []number   `json:"explicitBounds,omitempty"`
	Min        *number    `json:"min,omitempty"`
	Max        *number    `json:"max,omitempty"`
}

// metrics makes a request of metrics. A kind of aggregation that Fleetpass does not use is an error.
func metrics(m *metricdata.ResourceMetrics) (metricsRequest, error) {
	r := m.Resource
	if r == nil {
		r = resource.Empty()
	}
	of := resourceMetrics{Resource: resourceJSON{attributes(r.Attributes())}, SchemaURL: r.SchemaURL(), ScopeMetrics: []scopeMetrics{}}
	for _, s := range m.ScopeMetrics {
		in := scopeMetrics{Scope: scopeOf(s.Scope), SchemaURL: s.Scope.SchemaURL}
		for _, one := range s.Metrics {
			out, err := metric(one)
			if err != nil {
				return metricsRequest{}, err
			}
			in.Metrics = append(in.Metrics, out)
		}
		of.ScopeMetrics = append(of.ScopeMetrics, in)
	}
	return metricsRequest{[]resourceMetrics{of}}, nil
}

func metric(m metricdata.Metrics) (metricJSON, error) {
	out := metricJSON{Name: m.Name, Description: m.Description, Unit: m.Unit}
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		out.Sum = &series{points(data.DataPoints), temporality(data.Temporality), data.IsMonotonic}
	case metricdata.Sum[float64]:
		out.Sum = &series{points(data.DataPoints), temporality(data.Temporality), data.IsMonotonic}
	case metricdata.Gauge[int64]:
		out.Gauge = &series{Points: points(data.DataPoints)}
	case metricdata.Gauge[float64]:
		out.Gauge = &series{Points: points(data.DataPoints)}
	case metricdata.Histogram[int64]:
		out.Histogram = histogram(data)
	case metricdata.Histogram[float64]:
		out.Histogram = histogram(data)
	default:
		return out, fmt.Errorf("otlp: metric %s is a %T, which is not sent", m.Name, m.Data)
	}
	return out, nil
}

func points[N int64 | float64](list []metricdata.DataPoint[N]) []point {
	out := make([]point, 0, len(list))
	for _, p := range list {
		next := point{Attributes: attributes(p.Attributes.ToSlice()), Start: nanoOf(p.StartTime), Time: nanoOf(p.Time)}
		switch v := any(p.Value).(type) {
		case int64:
			next.Int = &v
		case float64:
			next.Double = (*number)(&v)
		}
		out = append(out, next)
	}
	return out
}

func histogram[N int64 | float64](h metricdata.Histogram[N]) *buckets {
	out := &buckets{Temporality: temporality(h.Temporality), Points: make([]bucketPoint, 0, len(h.DataPoints))}
	for _, p := range h.DataPoints {
		sum := number(p.Sum)
		next := bucketPoint{Attributes: attributes(p.Attributes.ToSlice()), Start: nanoOf(p.StartTime), Time: nanoOf(p.Time), Count: count(p.Count), Sum: &sum, Min: extreme(p.Min), Max: extreme(p.Max)}
		for _, c := range p.BucketCounts {
			next.Counts = append(next.Counts, count(c))
		}
		for _, b := range p.Bounds {
			next.Bounds = append(next.Bounds, number(b))
		}
		out.Points = append(out.Points, next)
	}
	return out
}

func extreme[N int64 | float64](e metricdata.Extrema[N]) *number {
	v, ok := e.Value()
	if !ok {
		return nil
	}
	n := number(v)
	return &n
}

// temporality is AggregationTemporality of metrics.proto, numbered otherwise than in the SDK.
func temporality(t metricdata.Temporality) int {
	switch t {
	case metricdata.DeltaTemporality:
		return 1
	case metricdata.CumulativeTemporality:
		return 2
	}
	return 0
}
