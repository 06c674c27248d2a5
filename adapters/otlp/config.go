package otlp

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"golang.org/x/net/http/httpguts"

	"github.com/fleetpass/fleetpass/core"
)

// config is what the environment says.
type config struct {
	endpoint   string // without a slash at the end
	headers    http.Header
	timeout    time.Duration
	attributes []attribute.KeyValue // of the resource
	sampler    sdktrace.Sampler
}

const defaultTimeout = 10 * time.Second

// read reads the variables that OpenTelemetry specifies; see Start. A nil config says that nothing is to be exported.
func read(getenv func(string) string, function string) (*config, error) {
	endpoint := strings.TrimSpace(getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if endpoint == "" || strings.EqualFold(strings.TrimSpace(getenv("OTEL_SDK_DISABLED")), "true") {
		return nil, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, core.BadField("OTEL_EXPORTER_OTLP_ENDPOINT", "must be http://HOST:PORT[/PATH] or https://…, of a collector that speaks OTLP over HTTP")
	}
	if p := getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "http/json" {
		return nil, core.BadField("OTEL_EXPORTER_OTLP_PROTOCOL", fmt.Sprintf("is %q; only http/json is spoken here", clip(p)))
	}
	c := &config{endpoint: strings.TrimRight(endpoint, "/"), timeout: defaultTimeout}
	if c.headers, err = headers(getenv("OTEL_EXPORTER_OTLP_HEADERS")); err != nil {
		return nil, err
	}
	if s := getenv("OTEL_EXPORTER_OTLP_TIMEOUT"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 600_000 {
			return nil, core.BadField("OTEL_EXPORTER_OTLP_TIMEOUT", "must be a number of milliseconds from 1 to 600000")
		}
		c.timeout = time.Duration(n) * time.Millisecond
	}
	if c.sampler, err = sampler(getenv("OTEL_TRACES_SAMPLER"), getenv("OTEL_TRACES_SAMPLER_ARG")); err != nil {
		return nil, err
	}
	c.attributes, err = identity(getenv, function)
	return c, err
}

// headers reads "name=value,name=value", in which both sides may be percent-encoded. An error never quotes a value: they are
// keys and tokens.
func headers(list string) (http.Header, error) {
	out := http.Header{}
	err := pairs(list, func(name, value string) bool {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return false
		}
		out.Set(name, value)
		return true
	})
	if err != nil {
		return nil, core.BadField("OTEL_EXPORTER_OTLP_HEADERS", "must be name=value,name=value with percent-encoded values")
	}
	return out, nil
}

// identity is the resource: whose spans and metrics these are.
func identity(getenv func(string) string, function string) ([]attribute.KeyValue, error) {
	out := []attribute.KeyValue{semconv.ServiceName("fleetpass"), semconv.FaaSName(function)}
	err := pairs(getenv("OTEL_RESOURCE_ATTRIBUTES"), func(name, value string) bool {
		out = append(out, attribute.String(name, value)) // of two, the later counts
		return name != ""
	})
	if err != nil {
		return nil, core.BadField("OTEL_RESOURCE_ATTRIBUTES", "must be name=value,name=value with percent-encoded values")
	}
	if name := getenv("OTEL_SERVICE_NAME"); name != "" {
		out = append(out, semconv.ServiceName(name))
	}
	return out, nil
}

// errPair says that a list is malformed; which list, the caller knows.
var errPair = fmt.Errorf("malformed pair: %w", core.Invalid)

// pairs reads a list in the form of W3C Baggage without properties.
func pairs(list string, each func(name, value string) bool) error {
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return errPair
		}
		name, err := url.PathUnescape(strings.TrimSpace(name))
		if err != nil {
			return errPair
		}
		if value, err = url.PathUnescape(strings.TrimSpace(value)); err != nil || !each(name, value) {
			return errPair
		}
	}
	return nil
}

// sampler reads which traces are kept. The default keeps all, and what belongs to a trace that is kept.
func sampler(name, arg string) (sdktrace.Sampler, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	ratio := 1.0
	if strings.HasSuffix(name, "traceidratio") && strings.TrimSpace(arg) != "" {
		var err error
		if ratio, err = strconv.ParseFloat(strings.TrimSpace(arg), 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, core.BadField("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1")
		}
	}
	switch name {
	case "", "parentbased_always_on":
		return sdktrace.ParentBased(sdktrace.AlwaysSample()), nil
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample()), nil
	case "parentbased_traceidratio":
		return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)), nil
	case "always_on":
		return sdktrace.AlwaysSample(), nil
	case "always_off":
		return sdktrace.NeverSample(), nil
	case "traceidratio":
		return sdktrace.TraceIDRatioBased(ratio), nil
	}
	return nil, core.BadField("OTEL_TRACES_SAMPLER", fmt.Sprintf("is %q; known are always_on, always_off, traceidratio, and each of them after parentbased_", clip(name)))
}

// clip keeps an error to one line.
func clip(s string) string { return s[:min(len(s), 64)] }
