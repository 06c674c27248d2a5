package infra_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/fleetpass/fleetpass/functions"
)

var everythingGoogle = map[string]cty.Value{
	"welcome_sha256":     cty.StringVal(strings.Repeat("0", 64)),
	"outbound_allow":     cty.StringVal("10.0.0.0/8,:8500"),
	"rate_limit":         cty.NumberIntVal(600),
	"sync_connector":     cty.StringVal("connector"),
	"provider_connector": cty.StringVal("providers"),
	"otel":               cty.ObjectVal(map[string]cty.Value{"endpoint": cty.StringVal("https://otlp"), "headers": cty.StringVal("a=b")}),
}

// checkGoogle holds the module to the table, to permissions.json and to the variables that the code reads.
func checkGoogle(m *configuration, perms map[string]permission, reads map[string]bool) (bad []string) {
	say := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	made := func(at string) map[string]instance {
		all, err := m.instances(at)
		if err != nil {
			say("%v", err)
		}
		byKey := map[string]instance{}
		for _, i := range all {
			byKey[i.key] = i
		}
		return byKey
	}
	triggers := map[string]functions.Trigger{}
	var names, public []string
	for _, f := range functions.Table {
		names = append(names, f.Name)
		triggers[f.Name] = f.Trigger
		if f.Trigger == functions.HTTP {
			public = append(public, f.Name)
		}
	}
	all, accounts, invokers, stores := made("google_cloudfunctions2_function.function"), made("google_service_account.function"), made("google_cloud_run_service_iam_member.invoker"), made("google_project_iam_member.store")
	for at, has := range map[string]map[string]instance{"functions": all, "service accounts": accounts, "invokers": invokers, "roles in the store": stores} {
		bad = append(bad, difference(at, names, slices.Collect(maps.Keys(has)))...)
	}
	for _, at := range []string{"google_compute_region_network_endpoint_group.function", "google_compute_backend_service.function"} {
		bad = append(bad, difference(at, public, slices.Collect(maps.Keys(made(at))))...)
	}
	environments := map[string]cty.Value{}
	for name, f := range all {
		ingress, caller := "ALLOW_INTERNAL_ONLY", "google_service_account.caller["+string(triggers[name])+"].member"
		if triggers[name] == functions.HTTP {
			ingress, caller = "ALLOW_INTERNAL_AND_GCLB", "allUsers"
		}
		for path, want := range map[string]string{
			"build_config.0.entry_point": name, "service_config.0.ingress_settings": ingress,
			"service_config.0.service_account_email":                        "google_service_account.function[" + name + "].email",
			"service_config.0.environment_variables.FLEETPASS_TRUSTED_HOPS": "2", // the load balancer and the front end: adapters/cloudfunctions
		} {
			if got := text(f.at(strings.Split(path, ".")...)); got != want {
				say("function %s: %s is %s, want %s", name, path, got, want)
			}
		}
		if limit, told := text(f.at("service_config", "0", "timeout_seconds")), text(f.at("service_config", "0", "environment_variables", "FLEETPASS_TIMEOUT")); limit != told {
			say("function %s is granted %s s a call, and told %s", name, limit, told)
		}
		if got := text(invokers[name].at("member")); got != caller {
			say("function %s may be called by %s, want %s", name, got, caller)
		}
		environments[name] = f.at("service_config", "0", "environment_variables")

		trigger := f.at("event_trigger", "0")
		if triggers[name] != functions.Stream {
			if !trigger.IsNull() {
				say("function %s has a trigger, and none is wanted", name)
			}
			continue
		}
		filters := map[string]string{}
		for _, e := range within(trigger, "event_filters").AsValueSlice() {
			filters[text(within(e, "attribute"))] = text(within(e, "value"))
		}
		if text(within(trigger, "event_type")) != "google.cloud.firestore.document.v1.created" || filters["document"] != "outbox/{partition}/items/{item}" ||
			filters["database"] != "google_firestore_database.store.name" || text(within(trigger, "retry_policy")) != "RETRY_POLICY_RETRY" {
			say("the stream's trigger of %s has not the filter on the outbox, or does not retry: %v", name, filters)
		}
	}
	bad = append(bad, checkEnvironment(environments, reads)...)
	for name, p := range perms {
		role := "roles/datastore.viewer"
		if len(p.Put)+len(p.Delete) > 0 {
			role = "roles/datastore.user"
		}
		if got := text(stores[name].at("role")); got != role {
			say("%s has %s in the store, want %s", name, got, role)
		}
		if got := text(stores[name].at("condition", "0", "expression")); !strings.Contains(got, "/databases/google_firestore_database.store.name") {
			say("%s has a role in every database: %s", name, got)
		}
		if slices.Contains(p.Unwrap, "signing") && !slices.Contains(signers, name) {
			say("%s may unwrap signing keys, which only %v may", name, signers)
		}
	}

	// Keys and queue: exactly what permissions.json says.
	var want, got, senders []string
	for name, p := range perms {
		for _, purpose := range p.Wrap {
			want = append(want, name+" roles/cloudkms.cryptoKeyEncrypter "+purpose)
		}
		for _, purpose := range p.Unwrap {
			want = append(want, name+" roles/cloudkms.cryptoKeyDecrypter "+purpose)
		}
		if p.Send {
			senders = append(senders, name)
		}
	}
	between := regexp.MustCompile(`\[(.*)\]`)
	for _, k := range made("google_kms_crypto_key_iam_member.user") {
		function, key := between.FindStringSubmatch(text(k.at("member"))), between.FindStringSubmatch(text(k.at("crypto_key_id")))
		got = append(got, function[1]+" "+text(k.at("role"))+" "+key[1])
	}
	bad = append(bad, difference("roles for keys", want, got)...)
	bad = append(bad, difference("senders", senders, slices.Collect(maps.Keys(made("google_cloud_tasks_queue_iam_member.sender"))))...)
	bad = append(bad, difference("who lets the queue call", senders, slices.Collect(maps.Keys(made("google_service_account_iam_member.sender"))))...)

	for name, f := range map[string]bool{"b": false, "e": true, "n": false} {
		field := made("google_firestore_field.item")[name]
		if text(field.at("collection")) != "items" || field.at("index_config", "0").IsNull() || field.at("ttl_config", "0").IsNull() == f {
			say("the field %s of items is indexed, or expires where it must not, or not where it must", name)
		}
	}
	for name, trigger := range triggers {
		if _, is := made("google_cloud_scheduler_job.minute")[name]; is != (trigger == functions.Schedule) {
			say("%s: scheduled is %v", name, is)
		}
	}
	for name, j := range made("google_cloud_scheduler_job.minute") {
		if text(j.at("schedule")) != "* * * * *" || j.at("http_target", "0", "oidc_token", "0", "audience").IsNull() {
			say("%s does not run each minute, or without a token", name)
		}
	}
	return append(bad, checkURLMap(made("google_compute_url_map.front")[""])...)
}

// checkURLMap walks every path of the table through the URL map, as the load balancer does, and looks where it comes out.
func checkURLMap(front instance) (bad []string) {
	matcher := front.at("path_matcher", "0")
	type route struct{ template, service string }
	var routes []route
	if rules := within(matcher, "route_rules"); !rules.IsNull() {
		for _, r := range rules.AsValueSlice() {
			routes = append(routes, route{text(within(r, "match_rules", "0", "path_template_match")), text(within(r, "service"))})
		}
	}
	if len(routes) > 200 {
		bad = append(bad, fmt.Sprintf("%d routes, and a path matcher takes 200", len(routes)))
	}
	wild := regexp.MustCompile(`\\\{[a-z]+=\\\*\\\}`)
	used := map[string]bool{}
	for _, f := range functions.Table {
		for _, pattern := range f.Paths {
			_, path, _ := strings.Cut(pattern, " ")
			own := regexp.MustCompile(`\{([a-z]+)\}`).ReplaceAllString(path, "{$1=*}")
			path = regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(strings.TrimSuffix(path, "{$}"), "something")
			service := text(within(matcher, "default_service"))
			for _, r := range routes {
				if regexp.MustCompile("^" + wild.ReplaceAllString(regexp.QuoteMeta(r.template), "[^/]+") + "$").MatchString(path) {
					service, used[r.template] = r.service, true
					break
				}
			}
			for _, r := range routes { // a wildcard of the same function may stand before the path's own route
				if r.template == own && r.service == service {
					used[own] = true
				}
			}
			if want := "google_compute_backend_service.function[" + f.Name + "].id"; service != want {
				bad = append(bad, fmt.Sprintf("routes: %s goes to %s, want %s", pattern, service, want))
			}
		}
	}
	for _, r := range routes {
		if !used[r.template] {
			bad = append(bad, "routes: "+r.template+" is too many")
		}
	}
	return bad
}

func TestGoogle(t *testing.T) {
	schema, reads := readSchema(t), variablesRead(t, "infra/gcp")
	for name, given := range map[string]map[string]cty.Value{"nothing optional": {}, "everything": everythingGoogle} {
		t.Run(name, func(t *testing.T) {
			m, err := load("gcp")
			must(t, err)
			m.give(given)
			bad := slices.Concat(m.checkReferences(schema), m.checkAdded("gcp"), m.checkWildcards(wildcards(t, "gcp"), len(given) > 0))
			read := maps.Clone(reads)
			if len(given) == 0 {
				maps.DeleteFunc(read, func(k string, _ bool) bool {
					return strings.HasPrefix(k, "OTEL_") || k == "FLEETPASS_WELCOME_SHA256" || k == "FLEETPASS_OUTBOUND_ALLOW"
				})
			}
			for _, b := range append(bad, checkGoogle(m, allPermissions(t), read)...) {
				t.Error(b)
			}
		})
	}
}

// One host serves all of the table, so no two functions may share a path: a load balancer tells them apart by path alone, and
// net/http's mux must not find two patterns ambiguous.
func TestPathsBelongToOneFunction(t *testing.T) {
	owner := map[string]string{}
	mux := http.NewServeMux()
	for _, f := range functions.Table {
		for _, pattern := range f.Paths {
			_, path, _ := strings.Cut(pattern, " ")
			if o := owner[path]; o != "" && o != f.Name {
				t.Errorf("%s belongs to %s and to %s", path, o, f.Name)
			}
			owner[path] = f.Name
			mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Function", f.Name) })
		}
	}
	for _, f := range functions.Table {
		for _, pattern := range f.Paths {
			method, path, _ := strings.Cut(pattern, " ")
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(method, regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(strings.TrimSuffix(path, "{$}"), "something"), nil))
			if got := w.Header().Get("Function"); got != f.Name {
				t.Errorf("%s is answered by %q, not by %s", pattern, got, f.Name)
			}
		}
	}
}
