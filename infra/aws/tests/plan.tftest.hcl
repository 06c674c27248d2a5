# Applies the module over a provider that only pretends: every expression is evaluated and every resource's order is found,
# with nothing optional and with everything. Run it with `terraform test` here; infra_test.go does.
mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/mock" }
  }
  mock_resource "aws_dynamodb_table" {
    defaults = {
      arn        = "arn:aws:dynamodb:eu-central-1:123456789012:table/mock"
      stream_arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/mock/stream/2026-01-01T00:00:00.000"
    }
  }
  mock_resource "aws_sqs_queue" {
    defaults = {
      arn = "arn:aws:sqs:eu-central-1:123456789012:mock"
      url = "https://sqs.eu-central-1.amazonaws.com/123456789012/mock"
    }
  }
  mock_resource "aws_lambda_function" {
    defaults = {
      arn        = "arn:aws:lambda:eu-central-1:123456789012:function:mock"
      invoke_arn = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-central-1:123456789012:function:mock/invocations"
    }
  }
  mock_resource "aws_apigatewayv2_api" {
    defaults = { execution_arn = "arn:aws:execute-api:eu-central-1:123456789012:mock" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:mock" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/mock" }
  }
}

variables {
  domain          = "auth.example.com"
  certificate_arn = "arn:aws:acm:eu-central-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
}

run "nothing_optional" {
  command = apply

  assert {
    condition     = length(aws_lambda_function.function) == length(local.functions) && length(aws_apigatewayv2_route.path) == length(local.routes)
    error_message = "A function or a route is missing."
  }
  assert {
    condition     = alltrue([for f in aws_lambda_function.function : length(setintersection(keys(f.environment[0].variables), ["FLEETPASS_WELCOME_SHA256", "FLEETPASS_OUTBOUND_ALLOW"])) == 0 && length(f.vpc_config) == 0])
    error_message = "A variable is set that nobody asked for."
  }
}

run "everything" {
  command = apply

  variables {
    zone_id          = "Z0000000000000000000"
    welcome_sha256   = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    table_encryption = "customer"
    alarm_topic_arn  = "arn:aws:sns:eu-central-1:123456789012:alarms"
    xray             = true
    table_name       = "restored"
    outbound_allow   = "10.20.0.0/16, fd00::/8,:9443"
    key_operators    = ["arn:aws:iam::123456789012:role/operator"]
    otel             = { endpoint = "https://otlp.example.com", headers = "authorization=secret" }
    provider_network = { subnet_ids = ["subnet-2"], security_group_ids = ["sg-2"] }
    sync_network     = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
    edge = {
      web_acl_arn     = "arn:aws:wafv2:us-east-1:123456789012:global/webacl/mock/00000000-0000-0000-0000-000000000000"
      certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
      secret          = "0123456789abcdef0123456789abcdef"
    }
  }

  assert {
    condition     = length(aws_cloudfront_distribution.edge) == 1 && length(aws_kms_key.table) == 1
    error_message = "Something optional was not made."
  }
  assert {
    condition     = alltrue([for name, f in aws_lambda_function.function : contains(keys(f.environment[0].variables), "FLEETPASS_WELCOME_SHA256") == (name == "maintain")])
    error_message = "The welcome's hash is for maintain, and for no other."
  }
  assert {
    condition     = alltrue([for name, f in aws_lambda_function.function : join(",", flatten([for v in f.vpc_config : tolist(v.subnet_ids)])) == (name == "sync" ? "subnet-1" : name == "maintain" || contains(local.permissions[name].unwrap, "sso") ? "subnet-2" : "")])
    error_message = "A function runs in a network that it has no business in, or not where its clusters or providers are."
  }
  assert {
    condition     = alltrue([for f in aws_lambda_function.function : f.environment[0].variables.FLEETPASS_OUTBOUND_ALLOW == "10.20.0.0/16, fd00::/8,:9443"])
    error_message = "A function is not told which private addresses it may ask."
  }
  assert {
    condition     = length(aws_cloudwatch_event_target.key_at_risk) == 1 && length(aws_cloudwatch_metric_alarm.given_up) == 2 && length(aws_cloudwatch_metric_alarm.events_unread) == 1
    error_message = "An alarm is missing."
  }
  assert {
    condition     = alltrue([for name, f in aws_lambda_function.function : f.environment[0].variables.OTEL_SERVICE_NAME == "fleetpass-${name}"])
    error_message = "A function has no name in traces."
  }
}
