# What calls the functions that no request calls.

# The outbox's events, through the table's stream. A batch is retried from its lowest failure, so what can never be handled
# is parked by dispatch itself; what brings the function down is bisected out, and ends in undelivered.
resource "aws_lambda_event_source_mapping" "stream" {
  for_each = { for name, f in local.functions : name => f if f.trigger == "stream" }

  function_name                      = aws_lambda_function.function[each.key].arn
  event_source_arn                   = aws_dynamodb_table.store.stream_arn
  starting_position                  = "TRIM_HORIZON"
  batch_size                         = 100
  parallelization_factor             = 4
  bisect_batch_on_function_error     = true
  maximum_retry_attempts             = 30
  maximum_record_age_in_seconds      = 21600
  function_response_types            = ["ReportBatchItemFailures"]
  maximum_batching_window_in_seconds = 0

  filter_criteria {
    filter {
      pattern = jsonencode({
        eventName = ["INSERT"]
        dynamodb  = { Keys = { p = { S = [{ prefix = "outbox#" }] } } }
      })
    }
  }

  destination_config {
    on_failure {
      destination_arn = aws_sqs_queue.undelivered.arn
    }
  }

  # Counts what is read, 0 of it included: what reads nothing and what does not read are told apart by this alone.
  metrics_config {
    metrics = ["EventCount"]
  }
}

# One message per cluster and run. sync sends what failed again, later, and keeps what failed too often as a dead letter of
# the tenant; the queue's own dead letters are for what brought the function down.
resource "aws_sqs_queue" "sync" {
  name                       = "${var.name}-sync"
  sqs_managed_sse_enabled    = true
  message_retention_seconds  = 345600
  visibility_timeout_seconds = 6 * local.sizes["sync"].timeout
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = 5
  })
}

resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-dead"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  queue_url = aws_sqs_queue.dead.url
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.sync.arn]
  })
}

# Where events end that could not be delivered.
resource "aws_sqs_queue" "undelivered" {
  name                      = "${var.name}-undelivered"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 1209600
}

resource "aws_lambda_event_source_mapping" "queue" {
  for_each = { for name, f in local.functions : name => f if f.trigger == "queue" }

  function_name           = aws_lambda_function.function[each.key].arn
  event_source_arn        = aws_sqs_queue.sync.arn
  batch_size              = 1
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.sync_concurrency
  }
}

# Each minute, on the minute. A minute that fails is not tried again, and neither kept: the next one does its work, too. What
# failed rings function_errors, and what never came maintain_stopped.
resource "aws_cloudwatch_event_rule" "minute" {
  for_each = { for name, f in local.functions : name => f if f.trigger == "schedule" }

  name                = "${var.name}-${each.key}"
  description         = "Fleetpass: ${each.key}, each minute"
  schedule_expression = "cron(* * * * ? *)"
}

resource "aws_cloudwatch_event_target" "minute" {
  for_each = aws_cloudwatch_event_rule.minute

  rule = each.value.name
  arn  = aws_lambda_function.function[each.key].arn
}

resource "aws_lambda_permission" "minute" {
  for_each = aws_cloudwatch_event_rule.minute

  statement_id  = "minute"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function[each.key].function_name
  principal     = "events.amazonaws.com"
  source_arn    = each.value.arn
}

resource "aws_lambda_function_event_invoke_config" "minute" {
  for_each = aws_cloudwatch_event_rule.minute

  function_name                = aws_lambda_function.function[each.key].function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}
