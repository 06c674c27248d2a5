package infra_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// expected is what must be so, one value a row, where the comparison with the table and with permissions.json does not look:
// who is trusted, what is shut, what is counted. In an address "[x]" picks an instance; without it every instance must have the
// value, "{key}" being its key. A path goes through blocks and through JSON; "#" is a length, "keys" what for_each makes.
// Each row comes with a fault: what to replace in the module so that the row, and it alone needs to, notices.
var expected = []struct{ address, path, want, file, old, new string }{
	// Who may be whom.
	{"aws_iam_role.function", "assume_role_policy.Statement.#", "1", "aws/roles.tf", "    Statement = [{\n      Effect    = \"Allow\"\n      Action    = \"sts:AssumeRole\"", "    Statement = [{ Effect = \"Allow\", Action = \"sts:AssumeRole\", Principal = { AWS = \"999999999999\" } }, {\n      Effect    = \"Allow\"\n      Action    = \"sts:AssumeRole\""},
	{"aws_iam_role.function", "assume_role_policy.Statement.0.Principal", `{"Service":"lambda.amazonaws.com"}`, "aws/roles.tf", `{ Service = "lambda.amazonaws.com" }`, `{ Service = "lambda.amazonaws.com", AWS = "999999999999" }`},
	{"aws_iam_role.function", "assume_role_policy.Statement.0.Condition", `{"StringEquals":{"aws:SourceAccount":"data.aws_caller_identity.current.account_id"}}`, "aws/roles.tf", `      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }`, ""},
	{"aws_iam_role_policy.function", "role", "aws_iam_role.function[{key}].id", "aws/roles.tf", "role   = aws_iam_role.function[each.key].id", `role   = aws_iam_role.function["jwks"].id`},
	{"aws_kms_key.keys", "policy.Statement.0.Principal", `{"AWS":"arn:data.aws_partition.current.partition:iam::data.aws_caller_identity.current.account_id:root"}`, "aws/store.tf", "Principal = { AWS = local.root }", `Principal = { AWS = [local.root, "999999999999"] }`},
	{"aws_kms_key.keys", "policy.Statement.#", "8", "aws/store.tf", "[local.key_administration],\n", "[local.key_administration, local.key_administration],\n"},
	{"aws_kms_key.table", "policy.Statement.#", "3", "aws/store.tf", "      local.key_administration,\n", "      local.key_administration, local.key_administration,\n"},
	{"aws_kms_key.table", "policy.Statement.1.Principal", `{"AWS":"*"}`, "aws/store.tf", `Principal = { AWS = "*" }`, `Principal = { AWS = local.root }`},
	{"aws_kms_key.table", "policy.Statement.1.Condition", `{"StringEquals":{"kms:CallerAccount":"data.aws_caller_identity.current.account_id","kms:ViaService":"dynamodb.data.aws_region.current.name.amazonaws.com"}}`, "aws/store.tf", `          "kms:CallerAccount" = data.aws_caller_identity.current.account_id` + "\n", ""},
	{"aws_kms_key.table", "policy.Statement.2.Action", `["kms:DescribeKey"]`, "aws/store.tf", `["kms:DescribeKey"]`, `["kms:DescribeKey", "kms:Decrypt"]`},
	{"aws_dynamodb_table.store", "server_side_encryption.0.kms_key_arn", "aws_kms_key.table[0].arn", "aws/store.tf", "aws_kms_key.table[0].arn : null", "aws_kms_key.keys.arn : null"},
	{"aws_lambda_permission.api", "principal", "apigateway.amazonaws.com", "aws/api.tf", `"apigateway.amazonaws.com"`, `"*"`},
	{"aws_lambda_permission.api", "source_arn", "aws_apigatewayv2_api.front.execution_arn/aws_apigatewayv2_stage.front.name/*", "aws/api.tf", "${aws_apigatewayv2_api.front.execution_arn}/${aws_apigatewayv2_stage.front.name}/*", "arn:aws:execute-api:*"},
	{"aws_lambda_permission.minute", "principal", "events.amazonaws.com", "aws/triggers.tf", `"events.amazonaws.com"`, `"999999999999"`},
	{"aws_lambda_permission.minute", "source_arn", "aws_cloudwatch_event_rule.minute[{key}].arn", "aws/triggers.tf", "  source_arn    = each.value.arn\n", ""},

	// The front.
	{"aws_apigatewayv2_api.front", "disable_execute_api_endpoint", "true", "aws/api.tf", "disable_execute_api_endpoint = true", "disable_execute_api_endpoint = false"},
	{"aws_apigatewayv2_stage.front", "default_route_settings.0.throttling_rate_limit", "500", "aws/api.tf", "    throttling_rate_limit    = var.throttle.rate\n", ""},
	{"aws_apigatewayv2_stage.front", "default_route_settings.0.throttling_burst_limit", "1000", "aws/api.tf", "    throttling_burst_limit   = var.throttle.burst\n", ""},
	{"aws_apigatewayv2_stage.front", "access_log_settings.0.format", `{"address":"$context.identity.sourceIp","bytes":"$context.responseLength","error":"$context.error.message","integrate":"$context.integrationErrorMessage","latency":"$context.responseLatency","request":"$context.requestId","route":"$context.routeKey","status":"$context.status","time":"$context.requestTimeEpoch"}`, "aws/api.tf", "$context.routeKey", "$context.path"},
	{"aws_apigatewayv2_domain_name.front", "domain_name_configuration.0.security_policy", "TLS_1_2", "aws/api.tf", `"TLS_1_2"`, `"TLS_1_0"`},
	{"data.aws_cloudfront_cache_policy.disabled", "name", "Managed-CachingDisabled", "aws/edge.tf", `"Managed-CachingDisabled"`, `"Managed-CachingOptimized"`},
	{"data.aws_cloudfront_origin_request_policy.all", "name", "Managed-AllViewerAndCloudFrontHeaders-2022-06", "aws/edge.tf", `"Managed-AllViewerAndCloudFrontHeaders-2022-06"`, `"Managed-AllViewer"`},
	{"aws_cloudfront_distribution.edge", "default_cache_behavior.0.cache_policy_id", "data.aws_cloudfront_cache_policy.disabled[0].id", "aws/edge.tf", "data.aws_cloudfront_cache_policy.disabled[0].id", `"658327ea-f89d-4fab-a63d-7e88639e58f6"`},
	{"aws_cloudfront_distribution.edge", "origin.0.custom_header.0.name", "X-Fleetpass-Edge", "aws/edge.tf", `"X-Fleetpass-Edge"`, `"X-Edge"`},
	{"aws_cloudfront_distribution.edge", "origin.0.custom_header.0.value", "secret", "aws/edge.tf", "value = var.edge.secret", `value = "secrets"`},
	{"aws_cloudfront_distribution.edge", "origin.0.custom_origin_config.0.origin_protocol_policy", "https-only", "aws/edge.tf", `origin_protocol_policy = "https-only"`, `origin_protocol_policy = "match-viewer"`},
	{"aws_cloudfront_distribution.edge", "default_cache_behavior.0.viewer_protocol_policy", "https-only", "aws/edge.tf", `viewer_protocol_policy   = "https-only"`, `viewer_protocol_policy   = "allow-all"`},
	{"aws_cloudfront_distribution.edge", "web_acl_id", "acl", "aws/edge.tf", "web_acl_id      = var.edge.web_acl_arn\n", ""},
	{"aws_lambda_function.function", "environment.0.variables.FLEETPASS_EDGE_SHA256", "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", "aws/functions.tf", "sha256(var.edge.secret)", "var.edge.secret"},

	// What calls, and what becomes of what fails.
	{"aws_lambda_function.function[sync]", "timeout", "60", "aws/functions.tf", `sync         = { memory = 512, timeout = 60 }`, `sync         = { memory = 512, timeout = 29 }`},
	{"aws_lambda_event_source_mapping.stream", "starting_position", "TRIM_HORIZON", "aws/triggers.tf", `"TRIM_HORIZON"`, `"LATEST"`},
	{"aws_lambda_event_source_mapping.stream", "maximum_retry_attempts", "30", "aws/triggers.tf", "maximum_retry_attempts             = 30", "maximum_retry_attempts             = 0"},
	{"aws_lambda_event_source_mapping.stream", "maximum_record_age_in_seconds", "21600", "aws/triggers.tf", "= 21600", "= 60"},
	{"aws_lambda_event_source_mapping.stream", "metrics_config.0.metrics.0", "EventCount", "aws/triggers.tf", `    metrics = ["EventCount"]`, `    metrics = []`},
	{"aws_lambda_event_source_mapping.queue", "scaling_config.0.maximum_concurrency", "50", "aws/triggers.tf", "maximum_concurrency = var.sync_concurrency", "maximum_concurrency = 2"},
	{"aws_sqs_queue.sync", "visibility_timeout_seconds", "360", "aws/triggers.tf", "6 * local.sizes", "1 * local.sizes"},
	{"aws_sqs_queue.sync", "redrive_policy", `{"deadLetterTargetArn":"aws_sqs_queue.dead.arn","maxReceiveCount":5}`, "aws/triggers.tf", "deadLetterTargetArn = aws_sqs_queue.dead.arn", "deadLetterTargetArn = aws_sqs_queue.undelivered.arn"},
	{"aws_sqs_queue.sync", "sqs_managed_sse_enabled", "true", "aws/triggers.tf", "sqs_managed_sse_enabled    = true", "sqs_managed_sse_enabled    = false"},
	{"aws_sqs_queue_redrive_allow_policy.dead", "redrive_allow_policy", `{"redrivePermission":"byQueue","sourceQueueArns":["aws_sqs_queue.sync.arn"]}`, "aws/triggers.tf", `"byQueue"`, `"allowAll"`},
	{"aws_cloudwatch_event_target.minute", "arn", "aws_lambda_function.function[{key}].arn", "aws/triggers.tf", "  arn  = aws_lambda_function.function[each.key].arn", `  arn  = aws_lambda_function.function["jwks"].arn`},
	{"aws_cloudwatch_event_target.minute", "rule", "aws_cloudwatch_event_rule.minute[{key}].name", "aws/triggers.tf", "  rule = each.value.name", `  rule = "another"`},
	{"aws_lambda_function_event_invoke_config.minute", "maximum_retry_attempts", "0", "aws/triggers.tf", "maximum_retry_attempts       = 0", "maximum_retry_attempts       = 2"},
	{"aws_lambda_function_event_invoke_config.minute", "maximum_event_age_in_seconds", "60", "aws/triggers.tf", "maximum_event_age_in_seconds = 60", "maximum_event_age_in_seconds = 3600"},
	{"aws_lambda_function_event_invoke_config.minute", "destination_config", "(null)", "aws/triggers.tf", "maximum_event_age_in_seconds = 60\n", "maximum_event_age_in_seconds = 60\n  destination_config {\n    on_failure {\n      destination = aws_sqs_queue.undelivered.arn\n    }\n  }\n"},

	// Where functions run that reach into private networks: those that meet clusters or identity providers, and no other.
	{"aws_lambda_function.function[sync]", "vpc_config.0.subnet_ids.0", "s", "aws/functions.tf", `f.trigger == "queue" ? var.sync_network`, `f.trigger == "queue" ? var.provider_network`},
	{"aws_lambda_function.function[samlacs]", "vpc_config.0.subnet_ids.0", "p", "aws/functions.tf", `"sso") ? var.provider_network`, `"mac") ? var.provider_network`},
	{"aws_lambda_function.function[jwks]", "vpc_config", "(null)", "aws/functions.tf", `"sso") ? var.provider_network : null`, `"sso") ? null : var.provider_network`},
	{"aws_lambda_function.function", "environment.0.variables.FLEETPASS_OUTBOUND_ALLOW", "10.0.0.0/8,:8500", "aws/functions.tf", "FLEETPASS_OUTBOUND_ALLOW = var.outbound_allow", `FLEETPASS_OUTBOUND_ALLOW = "0.0.0.0/0"`},

	// What rings.
	{"aws_cloudwatch_metric_alarm.maintain_stopped", "treat_missing_data", "breaching", "aws/alarms.tf", "\"${each.key} has not run for five minutes; docs/operations.md, maintain_stopped\"\n  namespace           = \"AWS/Lambda\"\n  metric_name         = \"Invocations\"\n  dimensions          = { FunctionName = aws_lambda_function.function[each.key].function_name }\n  statistic           = \"Sum\"\n  period              = 300\n  evaluation_periods  = 1\n  comparison_operator = \"LessThanThreshold\"\n  threshold           = 1\n  treat_missing_data  = \"breaching\"", "\"docs/operations.md, maintain_stopped\"\n  treat_missing_data  = \"notBreaching\""},
	{"aws_cloudwatch_metric_alarm.events_unread", "treat_missing_data", "breaching", "aws/alarms.tf", "statistic           = \"SampleCount\"\n  period              = 300\n  evaluation_periods  = 2\n  comparison_operator = \"LessThanThreshold\"\n  threshold           = 1\n  treat_missing_data  = \"breaching\"", "statistic           = \"SampleCount\"\n  treat_missing_data  = \"notBreaching\""},
	{"aws_cloudwatch_metric_alarm.events_unread", "statistic", "SampleCount", "aws/alarms.tf", `"SampleCount"`, `"Sum"`}, // a sum of 0 is a quiet hour
	{"aws_cloudwatch_metric_alarm.events_unread", "dimensions.EventSourceMappingUUID", "aws_lambda_event_source_mapping.stream[{key}].uuid", "aws/alarms.tf", "each.value.uuid", `"another"`},
	{"aws_cloudwatch_log_metric_filter.given_up", "keys", "dispatch,sync", "aws/alarms.tf", `given_up = { queue = "sync: given up", stream`, "given_up = { stream"},
	{"aws_cloudwatch_log_metric_filter.given_up[sync]", "pattern", `{ $.msg = "sync: given up" }`, "aws/alarms.tf", `"{ $.msg = `, `"{ $.message = `},
	{"aws_cloudwatch_log_metric_filter.given_up[dispatch]", "pattern", `{ $.msg = "dispatch: event parked" }`, "aws/alarms.tf", `stream = "dispatch: event parked"`, `stream = "dispatch: parked"`},
	{"aws_cloudwatch_log_metric_filter.given_up", "log_group_name", "aws_cloudwatch_log_group.function[{key}].name", "aws/alarms.tf", "log_group_name = aws_cloudwatch_log_group.function[each.key].name", "log_group_name = aws_cloudwatch_log_group.access.name"},
	{"aws_cloudwatch_metric_alarm.given_up", "metric_name", "aws_cloudwatch_log_metric_filter.given_up[{key}].metric_transformation.name", "aws/alarms.tf", "each.value.metric_transformation[0].name\n", "\"given-up\"\n"},
	{"aws_cloudwatch_metric_alarm.given_up", "threshold", "0", "aws/alarms.tf", "metric_name         = each.value.metric_transformation[0].name\n  statistic           = \"Sum\"\n  period              = 300\n  evaluation_periods  = 1\n  comparison_operator = \"GreaterThanThreshold\"\n  threshold           = 0", "metric_name         = each.value.metric_transformation[0].name\n  threshold           = 10"},
	{"aws_cloudwatch_event_rule.key_at_risk", "event_pattern.detail", `{"eventName":["DisableKey","PutKeyPolicy","ScheduleKeyDeletion"],"eventSource":["kms.amazonaws.com"],"resources":{"ARN":["aws_kms_key.keys.arn","aws_kms_key.table[0].arn"]}}`, "aws/alarms.tf", `"ScheduleKeyDeletion"]`, `]`},
	{"aws_cloudwatch_event_target.key_at_risk", "arn", "topic", "aws/alarms.tf", "  arn  = var.alarm_topic_arn", "  arn  = aws_sqs_queue.dead.arn"},

	// Google: who may be whom, and what the build may read.
	{"google_project_iam_member.build", "keys", "roles/artifactregistry.writer,roles/logging.logWriter", "gcp/accounts.tf", `"roles/logging.logWriter"]`, `"roles/logging.logWriter", "roles/storage.objectViewer"]`},
	{"google_storage_bucket_iam_member.build", "bucket", "google_storage_bucket.source.name", "gcp/accounts.tf", "bucket = google_storage_bucket.source.name", `bucket = "another"`},
	{"google_storage_bucket_iam_member.build", "role", "roles/storage.objectViewer", "gcp/accounts.tf", `"roles/storage.objectViewer"`, `"roles/storage.admin"`},
	{"google_project_iam_member.sources", "condition.0.expression", `resource.name.startsWith("projects/_/buckets/gcf-v2-sources-data.google_project.project.number-var.region/")`, "gcp/accounts.tf", `gcf-v2-sources-${data.google_project.project.number}-${var.region}/`, ""},
	{"google_project_iam_member.receive", "role", "roles/eventarc.eventReceiver", "gcp/accounts.tf", `"roles/eventarc.eventReceiver"`, `"roles/eventarc.admin"`},
	{"google_cloud_run_service_iam_member.invoker", "role", "roles/run.invoker", "gcp/accounts.tf", `"roles/run.invoker"`, `"roles/run.developer"`},
	{"google_cloud_tasks_queue_iam_member.sender", "role", "roles/cloudtasks.enqueuer", "gcp/accounts.tf", `"roles/cloudtasks.enqueuer"`, `"roles/cloudtasks.admin"`},
	{"google_service_account_iam_member.sender", "role", "roles/iam.serviceAccountUser", "gcp/accounts.tf", `"roles/iam.serviceAccountUser"`, `"roles/iam.serviceAccountTokenCreator"`},
	{"google_service_account_iam_member.sender", "service_account_id", "google_service_account.caller[queue].name", "gcp/accounts.tf", `service_account_id = google_service_account.caller["queue"].name`, `service_account_id = google_service_account.function["token"].name`},
	{"google_service_account_iam_member.sender", "member", "google_service_account.function[{key}].member", "gcp/accounts.tf", "member             = google_service_account.function[each.key].member", "member             = google_service_account.build.member"},
	{"google_kms_crypto_key.key", "keys", "mac,signing,sso", "gcp/store.tf", `"mac", "sso"])`, `"mac"])`},
	{"google_cloudfunctions2_function.function", "service_config.0.environment_variables.FLEETPASS_KMS_SSO_KEY", "google_kms_crypto_key.key[sso].id", "gcp/functions.tf", `google_kms_crypto_key.key["sso"].id`, `google_kms_crypto_key.key["signing"].id`},
	{"google_cloudfunctions2_function.function", "service_config.0.environment_variables.FLEETPASS_OUTBOUND_ALLOW", "10.0.0.0/8,:8500", "gcp/functions.tf", "FLEETPASS_OUTBOUND_ALLOW = var.outbound_allow", `FLEETPASS_OUTBOUND_ALLOW = "0.0.0.0/0"`},
	{"google_cloudfunctions2_function.function[sync]", "service_config.0.vpc_connector", "connector", "gcp/functions.tf", `f.trigger == "queue" ? var.sync_connector`, `f.trigger == "queue" ? null`},
	{"google_cloudfunctions2_function.function[oidccallback]", "service_config.0.vpc_connector", "providers", "gcp/functions.tf", `"sso") ? var.provider_connector`, `"mac") ? var.provider_connector`},
	{"google_cloudfunctions2_function.function[oidccallback]", "service_config.0.vpc_connector_egress_settings", "PRIVATE_RANGES_ONLY", "gcp/functions.tf", `"PRIVATE_RANGES_ONLY"`, `"ALL_TRAFFIC"`},
	{"google_cloudfunctions2_function.function[jwks]", "service_config.0.vpc_connector", "(null)", "gcp/functions.tf", `"sso") ? var.provider_connector : null`, `"sso") ? null : var.provider_connector`},

	// Google: the front, the logs, the triggers, the alarms.
	{"google_compute_backend_service.function", "log_config.0.enable", "false", "gcp/front.tf", "enable = false", "enable = true"},
	{"google_compute_security_policy.front", "rule.0.rate_limit_options.0.rate_limit_threshold.0.interval_sec", "60", "gcp/front.tf", "interval_sec = 60", "interval_sec = 1"},
	{"google_compute_ssl_policy.front", "min_tls_version", "TLS_1_2", "gcp/front.tf", `"TLS_1_2"`, `"TLS_1_0"`},
	{"google_logging_project_exclusion.functions", "filter", `resource.type="cloud_run_revision" AND resource.labels.service_name=("fleetpass-admin" OR "fleetpass-dispatch" OR "fleetpass-evaluate" OR "fleetpass-jwks" OR "fleetpass-kubeconfig" OR "fleetpass-login" OR "fleetpass-maintain" OR "fleetpass-oidccallback" OR "fleetpass-samlacs" OR "fleetpass-sync" OR "fleetpass-token")`, "gcp/logs.tf", "filter      = local.services", "filter      = local.own_lines"},
	{"google_logging_project_exclusion.functions", "disabled", "(null)", "gcp/logs.tf", "filter      = local.services", "filter      = local.services\n  disabled    = true"},
	{"google_logging_project_sink.functions", "filter", `resource.type="cloud_run_revision" AND resource.labels.service_name=("fleetpass-admin" OR "fleetpass-dispatch" OR "fleetpass-evaluate" OR "fleetpass-jwks" OR "fleetpass-kubeconfig" OR "fleetpass-login" OR "fleetpass-maintain" OR "fleetpass-oidccallback" OR "fleetpass-samlacs" OR "fleetpass-sync" OR "fleetpass-token") AND NOT log_id("run.googleapis.com/requests")`, "gcp/logs.tf", ` AND NOT log_id(\"run.googleapis.com/requests\")`, ""},
	{"google_cloudfunctions2_function.function[sync]", "service_config.0.timeout_seconds", "60", "gcp/functions.tf", `sync         = { memory = "512Mi", timeout = 60,`, `sync         = { memory = "512Mi", timeout = 30,`},
	{"google_cloudfunctions2_function.function", "service_config.0.environment_variables.FLEETPASS_SYNC_URL", "https://fleetpass-sync-data.google_project.project.number.var.region.run.app", "gcp/functions.tf", "https://${var.name}-sync-", "https://${var.name}-token-"},
	{"google_cloudfunctions2_function.function", "service_config.0.environment_variables.FLEETPASS_TASKS_ACCOUNT", "google_service_account.caller[queue].email", "gcp/functions.tf", `caller["queue"].email`, `caller["stream"].email`},
	{"google_cloudfunctions2_function.function[dispatch]", "event_trigger.0.service_account_email", "google_service_account.caller[stream].email", "gcp/functions.tf", "service_account_email = google_service_account.caller[each.value.trigger].email", "service_account_email = google_service_account.build.email"},
	{"google_cloud_tasks_queue.sync", "retry_config.0.max_attempts", "-1", "gcp/triggers.tf", "max_attempts       = -1", "max_attempts       = 1"},
	{"google_cloud_tasks_queue.sync", "retry_config.0.max_retry_duration", "86400s", "gcp/triggers.tf", `"86400s"`, `"60s"`},
	{"google_cloud_tasks_queue.sync", "rate_limits.0.max_concurrent_dispatches", "50", "gcp/triggers.tf", "max_concurrent_dispatches = var.sync_concurrency", "max_concurrent_dispatches = 1"},
	{"google_cloud_scheduler_job.minute", "http_target.0.uri", "google_cloudfunctions2_function.function[{key}].service_config.uri", "gcp/triggers.tf", "google_cloudfunctions2_function.function[each.key].service_config[0].uri\n    http_method", "google_cloudfunctions2_function.function[\"jwks\"].service_config[0].uri\n    http_method"},
	{"google_cloud_scheduler_job.minute", "http_target.0.oidc_token.0.service_account_email", "google_service_account.caller[schedule].email", "gcp/triggers.tf", "google_service_account.caller[each.value.trigger].email", "google_service_account.build.email"},
	{"google_cloud_scheduler_job.minute", "retry_config.0.retry_count", "0", "gcp/triggers.tf", "retry_count = 0", "retry_count = 5"},
	{"google_monitoring_alert_policy.maintain_stopped", "conditions.0.condition_absent.0.duration", "300s", "gcp/alarms.tf", "condition_absent {\n      filter   = \"${local.run} AND ${local.service[each.key]}\"\n      duration = \"300s\"", "condition_absent {\n      filter   = \"${local.run} AND ${local.service[each.key]}\"\n      duration = \"86400s\""},
	{"google_logging_metric.given_up", "keys", "dispatch,sync", "gcp/alarms.tf", `given_up = { queue = "sync: given up", stream`, "given_up = { stream"},
	{"google_logging_metric.given_up[sync]", "filter", `resource.type="cloud_run_revision" AND resource.labels.service_name="fleetpass-sync" AND jsonPayload.msg="sync: given up"`, "gcp/alarms.tf", "jsonPayload.msg", "jsonPayload.message"},
	{"google_monitoring_alert_policy.given_up", "conditions.0.condition_threshold.0.filter", `resource.type="cloud_run_revision" AND metric.type="logging.googleapis.com/user/google_logging_metric.given_up[{key}].name"`, "gcp/alarms.tf", "logging.googleapis.com/user/${each.value.name}", "logging.googleapis.com/user/given-up"},
	{"google_monitoring_alert_policy.key_at_risk", "conditions.0.condition_matched_log.0.filter", `log_id("cloudaudit.googleapis.com/activity") AND protoPayload.serviceName="cloudkms.googleapis.com" AND protoPayload.methodName=("DestroyCryptoKeyVersion" OR "UpdateCryptoKeyVersion" OR "SetIamPolicy") AND protoPayload.resourceName:"google_kms_key_ring.ring.id/"`, "gcp/alarms.tf", `\"DestroyCryptoKeyVersion\" OR `, ""},
}

// cloudOf is the module that an address is in.
func cloudOf(address string) string {
	if strings.Contains(address, "google_") {
		return "gcp"
	}
	return "aws"
}

// checkExpected says where a row of expected is not so. The module must have been given everything that is optional.
func (m *configuration) checkExpected(address, path, want string) (bad []string) {
	at, key, _ := strings.Cut(strings.TrimSuffix(address, "]"), "[")
	all, err := m.instances(at)
	if err != nil {
		return []string{err.Error()}
	}
	if path == "keys" {
		var keys []string
		for _, i := range all {
			keys = append(keys, i.key)
		}
		if got := strings.Join(keys, ","); got != want {
			bad = append(bad, fmt.Sprintf("%s is made for %s, want %s", at, got, want))
		}
		return bad
	}
	seen := false
	for _, i := range all {
		if key != "" && i.key != key {
			continue
		}
		seen = true
		if got, want := look(cty.ObjectVal(i.body), strings.Split(path, ".")), strings.ReplaceAll(want, "{key}", i.key); got != want {
			bad = append(bad, fmt.Sprintf("%s[%s].%s is %s, want %s", at, i.key, path, got, want))
		}
	}
	if !seen {
		bad = append(bad, address+" is not there")
	}
	return bad
}

// look is what lies at a path, as text: blocks and lists first, and then within a string that is JSON.
func look(v cty.Value, path []string) string {
	for n := range path {
		if v.IsNull() || v.Type() != cty.String {
			v = within(v, path[n])
			continue
		}
		var doc any
		if err := json.Unmarshal([]byte(v.AsString()), &doc); err != nil {
			return err.Error()
		}
		for _, step := range path[n:] {
			switch d := doc.(type) {
			case map[string]any:
				doc = d[step]
			case []any:
				if i, err := strconv.Atoi(step); err == nil && i < len(d) {
					doc = d[i]
				} else {
					doc = len(d)
				}
			default:
				return fmt.Sprintf("(no %s in %v)", step, d)
			}
		}
		if s, is := doc.(string); is {
			return s
		}
		out, _ := json.Marshal(doc)
		return string(out)
	}
	return text(v)
}

// What must be so is so, and each row would notice its fault.
func TestExpected(t *testing.T) {
	everything := map[string]map[string]cty.Value{"aws": everythingAWS, "gcp": everythingGoogle}
	for _, cloud := range clouds {
		m, err := load(cloud)
		must(t, err)
		m.give(everything[cloud])
		for _, e := range expected {
			if cloudOf(e.address) == cloud {
				for _, bad := range m.checkExpected(e.address, e.path, e.want) {
					t.Error(bad)
				}
			}
		}
	}
	for _, e := range expected {
		root := t.TempDir()
		copyInfra(t, root)
		plant(t, root, e.file, e.old, e.new)
		m, err := load(filepath.Join(root, cloudOf(e.address)))
		must(t, err)
		if bad := m.give(everything[cloudOf(e.address)]).checkExpected(e.address, e.path, e.want); len(bad) == 0 || !strings.Contains(bad[0], ", want ") {
			t.Errorf("%s.%s: the fault in %s is not noticed: %q", e.address, e.path, e.file, bad)
		}
	}
}

// plant replaces the first occurrence of old in a file of a copied module.
func plant(t *testing.T, root, file, old, with string) {
	t.Helper()
	path := filepath.Join(root, file)
	src, err := os.ReadFile(path)
	must(t, err)
	if !strings.Contains(string(src), old) {
		t.Fatalf("%s has no %q any more: plant something else", file, old)
	}
	must(t, os.WriteFile(path, []byte(strings.Replace(string(src), old, with, 1)), 0o644))
}

// granting are the types of resource that let somebody do something, or that let somebody in.
var granting = regexp.MustCompile(`^(?:aws_(?:iam_\w+|lambda_permission|lambda_function_url|lambda_layer_version_permission|kms_(?:key|external_key|replica_key|grant|key_policy)|` +
	`\w+_policy|\w+_policy_attachment|ram_\w+|apigatewayv2_(?:api|authorizer|api_mapping|domain_name))|` +
	`google_\w+_iam_(?:member|binding|policy|audit_config|custom_role)|google_service_account\w*|google_cloud_run\w*|google_compute_\w+forwarding_rule)$`)

// granted are those of them that there are. Each is compared in full elsewhere: by checkAWS, checkGoogle or expected.
var granted = map[string][]string{
	"aws": {
		"aws_apigatewayv2_api.front", "aws_apigatewayv2_api_mapping.front", "aws_apigatewayv2_domain_name.front", "aws_iam_role.function", "aws_iam_role_policy.function",
		"aws_kms_key.keys", "aws_kms_key.table", "aws_lambda_permission.api", "aws_lambda_permission.minute", "aws_sqs_queue_redrive_allow_policy.dead",
	},
	"gcp": {
		"google_cloud_run_service_iam_member.invoker", "google_cloud_tasks_queue_iam_member.sender", "google_compute_global_forwarding_rule.front",
		"google_kms_crypto_key_iam_member.user", "google_project_iam_member.build", "google_project_iam_member.receive", "google_project_iam_member.sources",
		"google_project_iam_member.store", "google_service_account.build", "google_service_account.caller", "google_service_account.function",
		"google_service_account_iam_member.sender", "google_storage_bucket_iam_member.build",
	},
}

// beside are the arguments with which a resource grants something by the way; none is used.
var beside = map[string][]string{
	"aws_iam_role":        {"managed_policy_arns", "inline_policy"},
	"aws_sqs_queue":       {"policy", "redrive_allow_policy"},
	"aws_lambda_function": {"layers"},
	"aws_dynamodb_table":  {"replica"},
}

// checkAdded says what grants something beside what is expected to.
func (m *configuration) checkAdded(cloud string) (bad []string) {
	var found []string
	for at, b := range m.resources {
		if b.Type != "resource" {
			continue
		}
		if granting.MatchString(b.Labels[0]) {
			found = append(found, at)
		}
		for _, arg := range beside[b.Labels[0]] {
			if b.Body.Attributes[arg] != nil || slices.ContainsFunc(b.Body.Blocks, func(n *hclsyntax.Block) bool { return n.Type == arg || n.Type == "dynamic" && n.Labels[0] == arg }) {
				bad = append(bad, at+": "+arg+" grants something beside the roles")
			}
		}
	}
	return append(bad, difference("what grants something", granted[cloud], found)...)
}

// The lines that given_up counts are logged by exactly these words, as errors.
func TestGivenUpIsLogged(t *testing.T) {
	code := ""
	for _, pattern := range []string{"../core/sync/*.go", "../functions/dispatch/*.go"} {
		files, err := filepath.Glob(pattern)
		must(t, err)
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				src, err := os.ReadFile(file)
				must(t, err)
				code += string(src)
			}
		}
	}
	for _, cloud := range clouds {
		m, err := load(cloud)
		must(t, err)
		words, err := m.value("local.given_up")
		must(t, err)
		if words.LengthInt() != 2 {
			t.Errorf("%s: %d kinds", cloud, words.LengthInt())
		}
		for it := words.ElementIterator(); it.Next(); {
			_, w := it.Element()
			if !strings.Contains(code, `ErrorContext(ctx, `+strconv.Quote(w.AsString())+`,`) {
				t.Errorf("%s counts lines that say %q, and nothing logs them as an error", cloud, w.AsString())
			}
		}
	}
}
