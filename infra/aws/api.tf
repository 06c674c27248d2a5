# One host in front: an HTTP API with a route per path of the table, so that what no function serves never reaches one.
locals {
  http = { for name, f in local.functions : name => f if f.trigger == "http" }

  # A pattern of net/http ("GET /t/{tenant}/jwks") is a route key as it stands; HEAD goes where GET does. {$}, an end with a
  # slash, is none: an HTTP API refuses a route that ends so, and takes a request that does to the route without it.
  routes = merge([for name, f in local.http : merge([for pattern in f.paths : {
    for method in(startswith(pattern, "GET ") ? ["GET", "HEAD"] : [split(" ", pattern)[0]]) :
    "${method} ${split(" ", pattern)[1]}" => name
  } if !endswith(pattern, "{$}")]...)]...)
}

resource "aws_apigatewayv2_api" "front" {
  name                         = var.name
  description                  = "Fleetpass at ${var.domain}"
  protocol_type                = "HTTP"
  disable_execute_api_endpoint = true # the domain is the one way in: issuers are compared to the byte
}

resource "aws_apigatewayv2_integration" "function" {
  for_each = local.http

  api_id                 = aws_apigatewayv2_api.front.id
  integration_type       = "AWS_PROXY"
  integration_method     = "POST"
  integration_uri        = aws_lambda_function.function[each.key].invoke_arn
  payload_format_version = "2.0"
  timeout_milliseconds   = 30000
}

resource "aws_apigatewayv2_route" "path" {
  for_each = local.routes

  api_id    = aws_apigatewayv2_api.front.id
  route_key = each.key
  target    = "integrations/${aws_apigatewayv2_integration.function[each.value].id}"
}

resource "aws_lambda_permission" "api" {
  for_each = local.http

  statement_id  = "api"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function[each.key].function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.front.execution_arn}/${aws_apigatewayv2_stage.front.name}/*"
}

resource "aws_apigatewayv2_stage" "front" {
  api_id      = aws_apigatewayv2_api.front.id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    throttling_rate_limit    = var.throttle.rate
    throttling_burst_limit   = var.throttle.burst
    detailed_metrics_enabled = true
  }

  # Routes, never paths or queries: those hold names, codes and states.
  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn
    format = jsonencode({
      time      = "$context.requestTimeEpoch"
      request   = "$context.requestId"
      address   = "$context.identity.sourceIp"
      route     = "$context.routeKey"
      status    = "$context.status"
      latency   = "$context.responseLatency"
      bytes     = "$context.responseLength"
      error     = "$context.error.message"
      integrate = "$context.integrationErrorMessage"
    })
  }
}

resource "aws_cloudwatch_log_group" "access" {
  name              = "/aws/apigateway/${var.name}"
  retention_in_days = var.log_days
}

resource "aws_apigatewayv2_domain_name" "front" {
  domain_name = var.domain

  domain_name_configuration {
    certificate_arn = var.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "front" {
  api_id      = aws_apigatewayv2_api.front.id
  domain_name = aws_apigatewayv2_domain_name.front.id
  stage       = aws_apigatewayv2_stage.front.id
}

locals {
  regional = aws_apigatewayv2_domain_name.front.domain_name_configuration[0]
  front = {
    name = local.edge ? aws_cloudfront_distribution.edge[0].domain_name : local.regional.target_domain_name
    zone = local.edge ? aws_cloudfront_distribution.edge[0].hosted_zone_id : local.regional.hosted_zone_id
  }
}

resource "aws_route53_record" "front" {
  count = var.zone_id == null ? 0 : 1

  zone_id = var.zone_id
  name    = var.domain
  type    = "A"

  alias {
    name                   = local.front.name
    zone_id                = local.front.zone
    evaluate_target_health = false
  }
}
