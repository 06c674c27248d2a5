package infra_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"

	"github.com/fleetpass/fleetpass/functions"
)

// everythingAWS turns on all that is optional.
var everythingAWS = map[string]cty.Value{
	"zone_id":          cty.StringVal("Z"),
	"welcome_sha256":   cty.StringVal(strings.Repeat("0", 64)),
	"table_encryption": cty.StringVal("customer"),
	"alarm_topic_arn":  cty.StringVal("topic"),
	"xray":             cty.True,
	"table_name":       cty.StringVal("restored"),
	"outbound_allow":   cty.StringVal("10.0.0.0/8,:8500"),
	"key_operators":    cty.ListVal([]cty.Value{cty.StringVal("operator")}),
	"otel":             cty.ObjectVal(map[string]cty.Value{"endpoint": cty.StringVal("https://otlp"), "headers": cty.StringVal("a=b")}),
	"sync_network": cty.ObjectVal(map[string]cty.Value{"subnet_ids": cty.ListVal([]cty.Value{cty.StringVal("s")}),
		"security_group_ids": cty.ListVal([]cty.Value{cty.StringVal("g")})}),
	"provider_network": cty.ObjectVal(map[string]cty.Value{"subnet_ids": cty.ListVal([]cty.Value{cty.StringVal("p")}),
		"security_group_ids": cty.ListVal([]cty.Value{cty.StringVal("g")})}),
	"edge": cty.ObjectVal(map[string]cty.Value{"web_acl_arn": cty.StringVal("acl"), "certificate_arn": cty.StringVal("certificate"), "secret": cty.StringVal("secret")}),
}

// checkAWS holds the module to the table, to permissions.json and to the variables that the code reads.
func checkAWS(m *configuration, perms map[string]permission, reads map[string]bool) (bad []string) {
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
	var names []string
	triggers := map[functions.Trigger][]string{}
	for _, f := range functions.Table {
		names = append(names, f.Name)
		triggers[f.Trigger] = append(triggers[f.Trigger], f.Name)
	}

	// Every function is there, with its role, its log and its variables.
	lambdas, roles, policies, logs := made("aws_lambda_function.function"), made("aws_iam_role.function"), made("aws_iam_role_policy.function"), made("aws_cloudwatch_log_group.function")
	for at, all := range map[string]map[string]instance{"aws_lambda_function": lambdas, "aws_iam_role": roles, "aws_iam_role_policy": policies, "aws_cloudwatch_log_group": logs} {
		bad = append(bad, difference(at, names, slices.Collect(maps.Keys(all)))...)
	}
	environments := map[string]cty.Value{}
	for name, f := range lambdas {
		for arg, want := range map[string]string{"handler": name, "runtime": "provided.al2023", "role": "aws_iam_role.function[" + name + "].arn"} {
			if got := text(f.at(arg)); got != want {
				say("function %s: %s is %q, want %q", name, arg, got, want)
			}
		}
		if got := texts(f.at("architectures")); !slices.Equal(got, []string{"arm64"}) {
			say("function %s: architectures are %v: the archive is arm64", name, got)
		}
		if got, want := text(f.at("logging_config", "0", "log_group")), "aws_cloudwatch_log_group.function["+name+"].name"; got != want {
			say("function %s: logs to %s", name, got)
		}
		environments[name] = f.at("environment", "0", "variables")
	}
	bad = append(bad, checkEnvironment(environments, reads)...)
	for name, l := range logs {
		if l.at("retention_in_days").IsNull() {
			say("function %s: its log is kept for ever", name)
		}
	}
	for name, p := range policies {
		bad = append(bad, checkRole(m, name, p.statements(), perms[name], triggers)...)
	}
	for name, r := range roles {
		if s := r.statements(); len(s) != 1 || !slices.Equal(s[0].Principal["Service"], some{"lambda.amazonaws.com"}) || len(s[0].Principal) != 1 {
			say("role %s can be assumed by others than Lambda: %+v", name, s)
		}
	}

	// Routes are the table's paths.
	var want []string
	owner := map[string]string{}
	for _, f := range functions.Table {
		for _, p := range f.Paths {
			method, path, _ := strings.Cut(p, " ")
			if strings.HasSuffix(path, "/{$}") {
				continue // an HTTP API refuses such a route, and takes the request to the one without the slash
			}
			keys := []string{method + " " + path}
			if method == "GET" {
				keys = append(keys, "HEAD "+path)
			}
			for _, k := range keys {
				if owner[k] == "" {
					want = append(want, k)
				}
				owner[k] = f.Name
			}
		}
	}
	routes := made("aws_apigatewayv2_route.path")
	bad = append(bad, difference("routes", want, slices.Collect(maps.Keys(routes)))...)
	for key, r := range routes {
		if strings.HasSuffix(key, "/") {
			say("routes: %s ends in a slash, which an HTTP API refuses", key)
		}
		if got, want := text(r.at("target")), "integrations/aws_apigatewayv2_integration.function["+owner[key]+"].id"; got != want || text(r.at("route_key")) != key {
			say("route %s goes to %s, want %s", key, got, want)
		}
	}
	bad = append(bad, difference("integrations", triggers[functions.HTTP], slices.Collect(maps.Keys(made("aws_apigatewayv2_integration.function"))))...)
	bad = append(bad, difference("permissions of the API", triggers[functions.HTTP], slices.Collect(maps.Keys(made("aws_lambda_permission.api"))))...)
	for name, i := range made("aws_apigatewayv2_integration.function") {
		if text(i.at("payload_format_version")) != "2.0" || text(i.at("integration_uri")) != "aws_lambda_function.function["+name+"].invoke_arn" {
			say("the integration of %s is another function's, or not in format 2.0", name)
		}
	}

	bad = append(bad, checkTriggersAWS(made, triggers)...)
	bad = append(bad, checkStoreAWS(m, made, perms)...)
	return bad
}

// checkRole compares a role's statements with what the code does. There is nothing else, whoever wrote it.
func checkRole(m *configuration, name string, got []statement, p permission, triggers map[functions.Trigger][]string) (bad []string) {
	const table, queue, key = "aws_dynamodb_table.store.arn", "aws_sqs_queue.sync.arn", "aws_kms_key.keys.arn"
	want := []statement{{Sid: "Log", Action: some{"logs:CreateLogStream", "logs:PutLogEvents"}, Resource: some{"aws_cloudwatch_log_group.function[" + name + "].arn:*"}}}
	for _, verb := range []struct {
		sid, action string
		kinds       []string
	}{{"StoreGet", "dynamodb:GetItem", p.Get}, {"StoreQuery", "dynamodb:Query", p.Query}, {"StorePut", "dynamodb:PutItem", p.Put},
		{"StoreDelete", "dynamodb:DeleteItem", p.Delete}, {"StoreCheck", "dynamodb:ConditionCheckItem", p.Check}} {
		if len(verb.kinds) == 0 {
			continue
		}
		var leading some
		for _, kind := range verb.kinds {
			leading = append(leading, kind+"#*")
		}
		want = append(want, statement{Sid: verb.sid, Action: some{verb.action}, Resource: some{table}, Condition: map[string]map[string]some{
			"ForAllValues:StringLike": {"dynamodb:LeadingKeys": leading}, "Null": {"dynamodb:LeadingKeys": {"false"}}}})
	}
	for _, verb := range []struct {
		sid, action string
		purposes    []string
	}{{"KeysWrap", "kms:Encrypt", p.Wrap}, {"KeysUnwrap", "kms:Decrypt", p.Unwrap}} {
		if len(verb.purposes) > 0 {
			want = append(want, statement{Sid: verb.sid, Action: some{verb.action}, Resource: some{key}, Condition: map[string]map[string]some{
				"StringEquals": {"kms:EncryptionContext:purpose": verb.purposes}}})
		}
	}
	if p.Send {
		want = append(want, statement{Sid: "Send", Action: some{"sqs:SendMessage"}, Resource: some{queue}})
	}
	is := func(t functions.Trigger) bool { return slices.Contains(triggers[t], name) }
	if is(functions.Stream) {
		want = append(want, statement{Sid: "ReadStream", Action: some{"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"},
			Resource: some{"aws_dynamodb_table.store.stream_arn"}})
	}
	if is(functions.Queue) {
		want = append(want, statement{Sid: "ReadQueue", Action: some{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}, Resource: some{queue}})
	}
	if is(functions.Stream) {
		want = append(want, statement{Sid: "Undelivered", Action: some{"sqs:SendMessage"}, Resource: some{"aws_sqs_queue.undelivered.arn"}})
	}
	if len(m.given) > 0 { // everything that is optional
		want = append(want, statement{Sid: "Trace", Action: some{"xray:PutTelemetryRecords", "xray:PutTraceSegments"}, Resource: some{"*"}})
		if is(functions.Queue) || is(functions.Schedule) || slices.Contains(p.Unwrap, "sso") {
			want = append(want, statement{Sid: "Network", Action: some{"ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"}, Resource: some{"*"}})
		}
	}
	for i := range want {
		want[i].Effect = "Allow"
	}
	wanted, has := bySid(want), bySid(got)
	bad = append(bad, difference("role "+name, slices.Collect(maps.Keys(wanted)), slices.Collect(maps.Keys(has)))...)
	if len(has) != len(got) {
		bad = append(bad, "role "+name+" has two statements of one name")
	}
	for sid, w := range wanted {
		if h, ok := has[sid]; ok {
			if diff := cmp.Diff(w, h); diff != "" {
				bad = append(bad, fmt.Sprintf("role %s: %s differs from infra/permissions.json (-want +got):\n%s", name, sid, diff))
			}
		}
	}
	return bad
}

func bySid(all []statement) map[string]statement {
	m := map[string]statement{}
	for _, s := range all {
		slices.Sort(s.Action)
		slices.Sort(s.Resource)
		for _, c := range s.Condition {
			for _, values := range c {
				slices.Sort(values)
			}
		}
		m[s.Sid] = s
	}
	return m
}

func checkTriggersAWS(made func(string) map[string]instance, triggers map[functions.Trigger][]string) (bad []string) {
	say := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	stream, queue := made("aws_lambda_event_source_mapping.stream"), made("aws_lambda_event_source_mapping.queue")
	bad = append(bad, difference("stream", triggers[functions.Stream], slices.Collect(maps.Keys(stream)))...)
	bad = append(bad, difference("queue", triggers[functions.Queue], slices.Collect(maps.Keys(queue)))...)
	for _, at := range []string{"aws_cloudwatch_event_rule.minute", "aws_cloudwatch_event_target.minute", "aws_lambda_permission.minute", "aws_lambda_function_event_invoke_config.minute"} {
		bad = append(bad, difference(at, triggers[functions.Schedule], slices.Collect(maps.Keys(made(at))))...)
	}
	for name, s := range stream {
		var filter any
		_ = json.Unmarshal([]byte(text(s.at("filter_criteria", "0", "filter", "0", "pattern"))), &filter)
		want := map[string]any{"eventName": []any{"INSERT"}, "dynamodb": map[string]any{"Keys": map[string]any{"p": map[string]any{"S": []any{map[string]any{"prefix": "outbox#"}}}}}}
		if diff := cmp.Diff(any(want), filter); diff != "" {
			say("the stream's trigger of %s has not the filter on the outbox (-want +got):\n%s", name, diff)
		}
		if text(s.at("event_source_arn")) != "aws_dynamodb_table.store.stream_arn" || text(s.at("bisect_batch_on_function_error")) != "true" ||
			s.at("maximum_retry_attempts").IsNull() || s.at("maximum_record_age_in_seconds").IsNull() ||
			text(s.at("destination_config", "0", "on_failure", "0", "destination_arn")) != "aws_sqs_queue.undelivered.arn" {
			say("the stream's trigger of %s does not end what always fails", name)
		}
		if !slices.Equal(texts(s.at("function_response_types")), []string{"ReportBatchItemFailures"}) {
			say("the stream's trigger of %s repeats what was handled", name)
		}
	}
	for name, q := range queue {
		if text(q.at("event_source_arn")) != "aws_sqs_queue.sync.arn" || text(q.at("batch_size")) != "1" || q.at("scaling_config", "0", "maximum_concurrency").IsNull() ||
			!slices.Equal(texts(q.at("function_response_types")), []string{"ReportBatchItemFailures"}) {
			say("the queue's trigger of %s is not one message at a time", name)
		}
	}
	for name, r := range made("aws_cloudwatch_event_rule.minute") {
		if got := text(r.at("schedule_expression")); got != "cron(* * * * ? *)" {
			say("%s runs at %s, not each minute", name, got)
		}
	}
	return bad
}

func checkStoreAWS(m *configuration, made func(string) map[string]instance, perms map[string]permission) (bad []string) {
	say := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	table := made("aws_dynamodb_table.store")[""]
	for path, want := range map[string]string{
		"hash_key": "p", "range_key": "s", "stream_enabled": "true", "stream_view_type": "NEW_IMAGE", "billing_mode": "PAY_PER_REQUEST",
		"ttl.0.enabled": "true", "ttl.0.attribute_name": "e", "point_in_time_recovery.0.enabled": "true",
	} {
		if got := text(table.at(strings.Split(path, ".")...)); got != want {
			say("the table's %s is %s, want %s", path, got, want)
		}
	}
	// The key's policy and the roles say the same, and only those that mint tokens unwrap signing keys.
	mayUnwrap := signers
	for name, p := range perms {
		if slices.Contains(p.Unwrap, "signing") && !slices.Contains(mayUnwrap, name) {
			say("%s may unwrap signing keys, which only %v may", name, mayUnwrap)
		}
	}
	key := made("aws_kms_key.keys")[""]
	if text(key.at("enable_key_rotation")) != "true" {
		say("the key does not rotate")
	}
	statements := bySid(key.statements())
	for verb, action := range map[string]string{"Wrap": "kms:Encrypt", "Unwrap": "kms:Decrypt"} {
		for _, purpose := range []string{"signing", "mac", "sso"} {
			var want []string
			for name, p := range perms {
				purposes := p.Wrap
				if verb == "Unwrap" {
					purposes = p.Unwrap
				}
				if slices.Contains(purposes, purpose) {
					want = append(want, "aws_iam_role.function["+name+"].arn")
				}
			}
			sid := verb + strings.ToUpper(purpose[:1]) + purpose[1:]
			s := statements[sid]
			delete(statements, sid)
			bad = append(bad, difference("the key's policy, "+sid, want, s.Principal["AWS"])...)
			wanted := map[string]map[string]some{"StringEquals": {"kms:EncryptionContext:purpose": {purpose}}}
			if diff := cmp.Diff(wanted, s.Condition); len(want) > 0 && (!slices.Equal(s.Action, some{action}) || len(s.Principal) != 1 || diff != "") {
				say("the key's policy, %s: %v by %v with %v", sid, s.Action, s.Principal, s.Condition)
			}
		}
	}
	if operators := m.given["key_operators"]; operators != cty.NilVal { // nobody, if nobody says otherwise
		bad = append(bad, difference("the key's policy, Operate", texts(operators), statements["Operate"].Principal["AWS"])...)
		delete(statements, "Operate")
	}
	for sid, s := range statements {
		for _, action := range s.Action {
			if sid != "Administer" || strings.Contains(action, "crypt") || strings.Contains(action, "DataKey") || action == "kms:CreateGrant" {
				say("the key's policy, %s: %s is for nobody", sid, action)
			}
		}
	}
	return bad
}

func TestAWS(t *testing.T) {
	schema, reads := readSchema(t), variablesRead(t, "infra/aws")
	for name, given := range map[string]map[string]cty.Value{"nothing optional": {}, "everything": everythingAWS} {
		t.Run(name, func(t *testing.T) {
			m, err := load("aws")
			must(t, err)
			m.give(given)
			bad := slices.Concat(m.checkReferences(schema), m.checkAdded("aws"), m.checkWildcards(wildcards(t, "aws"), len(given) > 0))
			read := maps.Clone(reads)
			if len(given) == 0 { // what is optional is not set, and set if it is asked for
				maps.DeleteFunc(read, func(k string, _ bool) bool {
					return strings.HasPrefix(k, "OTEL_") || k == "FLEETPASS_WELCOME_SHA256" || k == "FLEETPASS_OUTBOUND_ALLOW" || k == "FLEETPASS_EDGE_SHA256"
				})
			}
			for _, b := range append(bad, checkAWS(m, allPermissions(t), read)...) {
				t.Error(b)
			}
		})
	}
}
