# One page: what comes in, what fails, what waits.
locals {
  region = data.aws_region.current.name
  widgets = [
    { title = "requests", stat = "Sum", metrics = [for m in ["Count", "4xx", "5xx"] : ["AWS/ApiGateway", m, "ApiId", aws_apigatewayv2_api.front.id]] },
    { title = "latency, p99, ms", stat = "p99", metrics = [["AWS/ApiGateway", "Latency", "ApiId", aws_apigatewayv2_api.front.id]] },
    { title = "errors by function", stat = "Sum", metrics = [for name, f in aws_lambda_function.function : ["AWS/Lambda", "Errors", "FunctionName", f.function_name]] },
    { title = "duration by function, p99, ms", stat = "p99", metrics = [for name, f in aws_lambda_function.function : ["AWS/Lambda", "Duration", "FunctionName", f.function_name]] },
    { title = "events wait, ms", stat = "Maximum", metrics = [for name, m in aws_lambda_event_source_mapping.stream : ["AWS/Lambda", "IteratorAge", "FunctionName", aws_lambda_function.function[name].function_name]] },
    { title = "oldest message, s", stat = "Maximum", metrics = [["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", aws_sqs_queue.sync.name]] },
    { title = "messages", stat = "Maximum", metrics = [for q in [aws_sqs_queue.sync.name, aws_sqs_queue.dead.name, aws_sqs_queue.undelivered.name] : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", q]] },
    { title = "table: capacity units used", stat = "Sum", metrics = [for m in ["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits"] : ["AWS/DynamoDB", m, "TableName", aws_dynamodb_table.store.name]] },
  ]
}

resource "aws_cloudwatch_dashboard" "overview" {
  dashboard_name = var.name
  dashboard_body = jsonencode({ widgets = [for i, w in local.widgets : {
    type       = "metric"
    x          = i % 2 * 12
    y          = floor(i / 2) * 6
    width      = 12
    height     = 6
    properties = { title = w.title, stat = w.stat, metrics = w.metrics, region = local.region, period = 60, view = "timeSeries" }
  }] })
}
