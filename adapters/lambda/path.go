package lambda

import (
	"errors"
	"net/url"
	"regexp"
	"strings"

	awsevents "github.com/aws/aws-lambda-go/events"
)

var (
	errPath  = errors.New("lambda: the path does not begin with a slash")
	errRoute = errors.New("lambda: the path parameters are not those of the route")
)

// functionURL matches the domain of a function URL, and of nothing else that sends events.
var functionURL = regexp.MustCompile(`^[^.]+\.lambda-url\.[a-z0-9-]+\.on\.aws$`)

// target is the URL of a request.
//
// A function URL hands over the path as it was sent. An HTTP API hands it over decoded, with everything cut off from a
// question mark that this brought forth: a slash out of a name is then one like any other, and to decode it again would make
// another name of one with a percent sign. So behind a route the path is made from the route and its parameters, which come
// apart and decoded; whatever is in them, it is the same route's. That leaves out a slash at the end, too, which HTTP APIs
// pass over when they look for the route. On the route $default there is only the decoded path, which is taken as it is.
//
// What the front door itself lost before does not come back: https://github.com/hotsock/voker/pull/8 has seen HTTP APIs decode
// a path twice, refuse a percent sign with 400, and take an escaped slash for one that parts segments.
func target(ev awsevents.APIGatewayV2HTTPRequest) (*url.URL, error) {
	path := ev.RawPath
	if path == "" {
		path = "/"
	}
	if path[0] != '/' {
		return nil, errPath
	}
	u := &url.URL{Path: path, RawQuery: ev.RawQueryString}
	switch {
	case ev.RouteKey != "" && ev.RouteKey != "$default":
		escaped, err := routed(ev.RouteKey, ev.PathParameters)
		if err != nil {
			return nil, err
		}
		path = escaped
	case !functionURL.MatchString(ev.RequestContext.DomainName):
		return u, nil
	}
	if decoded, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = decoded, path
	}
	return u, nil
}

// routed is the escaped path of a request that came by way of a route: "GET /t/{tenant}/groups/{name}", with a value for each of
// the braces. "{rest+}" takes the whole of the rest.
func routed(route string, values map[string]string) (string, error) {
	_, path, _ := strings.Cut(route, " ")
	if !strings.HasPrefix(path, "/") {
		return "", errRoute
	}
	segments, used := strings.Split(path, "/"), 0
	for i, s := range segments {
		if !strings.HasPrefix(s, "{") || !strings.HasSuffix(s, "}") {
			continue
		}
		name, rest := strings.CutSuffix(s[1:len(s)-1], "+")
		value := values[name]
		if value == "" {
			return "", errRoute
		}
		used++
		parts := []string{value}
		if rest {
			parts = strings.Split(value, "/")
		}
		for j, p := range parts {
			parts[j] = segment(p)
		}
		segments[i] = strings.Join(parts, "/")
	}
	if used != len(values) {
		return "", errRoute
	}
	return strings.Join(segments, "/"), nil
}

// segment escapes a name for a path. One of dots alone is escaped as well, or a mux would take it for a step up.
func segment(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}
