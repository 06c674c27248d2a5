# docs/operations.md has a paragraph for each: what it means and what to do. A test holds the two together.
locals {
  alarm_actions = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]

  # What a function logs when it gives something up for good, by its trigger. A test looks that the code still says so.
  given_up = { queue = "sync: given up", stream = "dispatch: event parked" }
}

resource "aws_cloudwatch_metric_alarm" "function_errors" {
  for_each = local.functions

  alarm_name          = "${var.name}-function-errors-${each.key}"
  alarm_description   = "The function ${each.key} failed; docs/operations.md, function_errors"
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.function[each.key].function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "function_throttles" {
  for_each = local.functions

  alarm_name          = "${var.name}-function-throttles-${each.key}"
  alarm_description   = "Calls of the function ${each.key} were turned away; docs/operations.md, function_throttles"
  namespace           = "AWS/Lambda"
  metric_name         = "Throttles"
  dimensions          = { FunctionName = aws_lambda_function.function[each.key].function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  for_each = { dead = aws_sqs_queue.dead.name, undelivered = aws_sqs_queue.undelivered.name }

  alarm_name          = "${var.name}-dead-letters-${each.key}"
  alarm_description   = "Messages lie in ${each.value}; docs/operations.md, dead_letters"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = each.value }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "events_late" {
  for_each = aws_lambda_event_source_mapping.stream

  alarm_name          = "${var.name}-events-late"
  alarm_description   = "Events wait for ${each.key}; docs/operations.md, events_late"
  namespace           = "AWS/Lambda"
  metric_name         = "IteratorAge"
  dimensions          = { FunctionName = aws_lambda_function.function[each.key].function_name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  comparison_operator = "GreaterThanThreshold"
  threshold           = 60000
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

# The age of what waits is told by who reads it, so a mapping that is disabled, or may not read, has none. Each poll tells how
# many events it found, be it none; a failed one tells nothing.
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html#event-source-mapping-metrics
resource "aws_cloudwatch_metric_alarm" "events_unread" {
  for_each = aws_lambda_event_source_mapping.stream

  alarm_name          = "${var.name}-events-unread"
  alarm_description   = "Nobody reads the stream for ${each.key}; docs/operations.md, events_unread"
  namespace           = "AWS/Lambda"
  metric_name         = "PolledEventCount"
  dimensions          = { EventSourceMappingUUID = each.value.uuid }
  statistic           = "SampleCount"
  period              = 300
  evaluation_periods  = 2
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "sync_late" {
  alarm_name          = "${var.name}-sync-late"
  alarm_description   = "Messages wait for sync; docs/operations.md, sync_late"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.sync.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 5
  comparison_operator = "GreaterThanThreshold"
  threshold           = 1800
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "maintain_stopped" {
  for_each = aws_cloudwatch_event_rule.minute

  alarm_name          = "${var.name}-maintain-stopped"
  alarm_description   = "${each.key} has not run for five minutes; docs/operations.md, maintain_stopped"
  namespace           = "AWS/Lambda"
  metric_name         = "Invocations"
  dimensions          = { FunctionName = aws_lambda_function.function[each.key].function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "api_errors" {
  alarm_name          = "${var.name}-api-errors"
  alarm_description   = "Requests are answered with 5xx; docs/operations.md, api_errors"
  namespace           = "AWS/ApiGateway"
  metric_name         = "5xx"
  dimensions          = { ApiId = aws_apigatewayv2_api.front.id }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

resource "aws_cloudwatch_metric_alarm" "table_throttles" {
  alarm_name          = "${var.name}-table-throttles"
  alarm_description   = "The table turned requests away; docs/operations.md, table_throttles"
  evaluation_periods  = 2
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions

  metric_query {
    id          = "both"
    expression  = "FILL(reads, 0) + FILL(writes, 0)"
    label       = "throttled"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { reads = "ReadThrottleEvents", writes = "WriteThrottleEvents" }
    content {
      id = metric_query.key
      metric {
        namespace   = "AWS/DynamoDB"
        metric_name = metric_query.value
        dimensions  = { TableName = aws_dynamodb_table.store.name }
        stat        = "Sum"
        period      = 300
      }
    }
  }
}

resource "aws_cloudwatch_log_metric_filter" "given_up" {
  for_each = { for name, f in local.functions : name => local.given_up[f.trigger] if contains(keys(local.given_up), f.trigger) }

  name           = "given-up"
  log_group_name = aws_cloudwatch_log_group.function[each.key].name
  pattern        = "{ $.msg = \"${each.value}\" }"

  metric_transformation {
    namespace = "Fleetpass/${var.name}"
    name      = "given-up-${each.key}"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "given_up" {
  for_each = aws_cloudwatch_log_metric_filter.given_up

  alarm_name          = "${var.name}-given-up-${each.key}"
  alarm_description   = "${each.key} gave something up; docs/operations.md, given_up"
  namespace           = each.value.metric_transformation[0].namespace
  metric_name         = each.value.metric_transformation[0].name
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
}

# No metric tells of a key that is about to be lost; the call that does it is an event, where the account has a trail. The
# table's own key counts as well: without it there is no table.
resource "aws_cloudwatch_event_rule" "key_at_risk" {
  name        = "${var.name}-key-at-risk"
  description = "Somebody disables or deletes a key; docs/operations.md, key_at_risk"
  event_pattern = jsonencode({
    source      = ["aws.kms"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail = {
      eventSource = ["kms.amazonaws.com"]
      eventName   = ["DisableKey", "PutKeyPolicy", "ScheduleKeyDeletion"]
      resources   = { ARN = concat([aws_kms_key.keys.arn], aws_kms_key.table[*].arn) }
    }
  })
}

resource "aws_cloudwatch_event_target" "key_at_risk" {
  count = var.alarm_topic_arn == null ? 0 : 1

  rule = aws_cloudwatch_event_rule.key_at_risk.name
  arn  = var.alarm_topic_arn
}
