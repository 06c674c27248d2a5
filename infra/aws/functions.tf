# One function per row of functions.Table (functions/functions.go), which a test writes to infra/functions.json. All run the
# same archive; the handler's name says which row a function serves.
locals {
  functions   = jsondecode(file("${path.module}/../functions.json"))
  permissions = jsondecode(file("${path.module}/../permissions.json"))

  # Megabytes and seconds. Lambda gives processor time by memory: what hashes passwords (login, admin), or decrypts, canonicalizes
  # and verifies XML while a person waits (samlacs), gets more, and so does what signs (token) or verifies (oidccallback, which
  # waits for the provider most of the time). The API waits 30 s at most. sync ends a run itself, ten seconds before its time is
  # up; maintain has its minute.
  sizes = {
    login        = { memory = 1024, timeout = 29 }
    samlacs      = { memory = 1024, timeout = 29 }
    oidccallback = { memory = 512, timeout = 29 }
    token        = { memory = 512, timeout = 29 }
    jwks         = { memory = 256, timeout = 29 }
    evaluate     = { memory = 512, timeout = 29 }
    kubeconfig   = { memory = 256, timeout = 29 }
    admin        = { memory = 1024, timeout = 29 }
    dispatch     = { memory = 256, timeout = 60 }
    sync         = { memory = 512, timeout = 60 }
    maintain     = { memory = 512, timeout = 55 }
  }

  environment = merge(
    {
      FLEETPASS_BASE      = "https://${var.domain}"
      FLEETPASS_TABLE     = aws_dynamodb_table.store.name
      FLEETPASS_KMS_KEY   = aws_kms_key.keys.arn
      FLEETPASS_QUEUE_URL = aws_sqs_queue.sync.url
    },
    var.outbound_allow == "" ? {} : { FLEETPASS_OUTBOUND_ALLOW = var.outbound_allow },
    var.edge == null ? {} : { FLEETPASS_EDGE_SHA256 = sha256(var.edge.secret) },
    var.otel == null ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT = var.otel.endpoint },
    try(var.otel.headers, "") == "" ? {} : { OTEL_EXPORTER_OTLP_HEADERS = var.otel.headers },
  )

  # What the schedule's function alone is given, since it alone makes the operators' tenant.
  welcome = var.welcome_sha256 == null ? {} : { FLEETPASS_WELCOME_SHA256 = var.welcome_sha256 }

  # The network that a function runs in, if any: sync reaches clusters; what opens a tenant's secrets asks
  # its providers, and the schedule reads what those publish.
  networks = { for name, f in local.functions : name => [for n in [
    f.trigger == "queue" ? var.sync_network : f.trigger == "schedule" || contains(try(local.permissions[name].unwrap, []), "sso") ? var.provider_network : null
  ] : n if n != null] }

  archive = var.archive == null ? "${path.module}/../../dist/aws.zip" : var.archive
}

resource "aws_lambda_function" "function" {
  for_each = local.functions

  function_name    = "${var.name}-${each.key}"
  description      = "Fleetpass: ${each.key} (${each.value.trigger})"
  role             = aws_iam_role.function[each.key].arn
  filename         = local.archive
  source_code_hash = filebase64sha256(local.archive)
  runtime          = "provided.al2023"
  architectures    = ["arm64"]
  handler          = each.key
  memory_size      = local.sizes[each.key].memory
  timeout          = local.sizes[each.key].timeout

  reserved_concurrent_executions = lookup(var.reserved_concurrency, each.key, -1)

  environment {
    variables = merge(
      local.environment,
      each.value.trigger == "schedule" ? local.welcome : {},
      var.otel == null ? {} : { OTEL_SERVICE_NAME = "${var.name}-${each.key}" },
    )
  }

  logging_config {
    log_format = "Text" # the functions write JSON lines themselves
    log_group  = aws_cloudwatch_log_group.function[each.key].name
  }

  tracing_config {
    mode = var.xray ? "Active" : "PassThrough"
  }

  dynamic "vpc_config" {
    for_each = local.networks[each.key]
    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  depends_on = [aws_iam_role_policy.function]
}

resource "aws_cloudwatch_log_group" "function" {
  for_each = local.functions

  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_days
}
