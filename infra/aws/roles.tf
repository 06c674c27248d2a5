# One role per function. What it may do is infra/permissions.json, which a test derives from what the code does.
locals {
  # How the store's verbs are named to IAM. A transaction is authorized item by item, by exactly these.
  # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html
  store_actions = {
    get    = "dynamodb:GetItem"
    query  = "dynamodb:Query"
    put    = "dynamodb:PutItem"
    delete = "dynamodb:DeleteItem"
    check  = "dynamodb:ConditionCheckItem"
  }
  key_actions = {
    wrap   = "kms:Encrypt"
    unwrap = "kms:Decrypt"
  }

  statements = { for name, f in local.functions : name => concat(
    [{
      Sid      = "Log"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.function[name].arn}:*"
    }],
    # A partition key begins with its kind, so a function is confined to the kinds of items that its code touches. ForAllValues
    # is true of a request that names no key at all (a Scan); Null refuses those, and no role is given such an action either.
    [for verb, action in local.store_actions : {
      Sid      = "Store${title(verb)}"
      Effect   = "Allow"
      Action   = [action]
      Resource = aws_dynamodb_table.store.arn
      Condition = {
        "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = [for kind in local.permissions[name][verb] : "${kind}#*"] }
        "Null"                    = { "dynamodb:LeadingKeys" = "false" }
      }
    } if length(try(local.permissions[name][verb], [])) > 0],
    [for verb, action in local.key_actions : {
      Sid       = "Keys${title(verb)}"
      Effect    = "Allow"
      Action    = [action]
      Resource  = aws_kms_key.keys.arn
      Condition = { StringEquals = { "kms:EncryptionContext:purpose" = local.permissions[name][verb] } }
    } if length(try(local.permissions[name][verb], [])) > 0],
    [for queue in [aws_sqs_queue.sync.arn] : {
      Sid      = "Send"
      Effect   = "Allow"
      Action   = ["sqs:SendMessage"]
      Resource = queue
    } if try(local.permissions[name].send, false)],
    # What the platform does in the function's name.
    [for stream in [aws_dynamodb_table.store.stream_arn] : {
      Sid      = "ReadStream"
      Effect   = "Allow"
      Action   = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"]
      Resource = stream
    } if f.trigger == "stream"],
    [for queue in [aws_sqs_queue.sync.arn] : {
      Sid      = "ReadQueue"
      Effect   = "Allow"
      Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
      Resource = queue
    } if f.trigger == "queue"],
    [for queue in [aws_sqs_queue.undelivered.arn] : {
      Sid      = "Undelivered"
      Effect   = "Allow"
      Action   = ["sqs:SendMessage"]
      Resource = queue
    } if f.trigger == "stream"],
    [for resource in ["*"] : {
      Sid      = "Trace"
      Effect   = "Allow"
      Action   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
      Resource = resource
    } if var.xray],
    [for resource in ["*"] : {
      Sid      = "Network"
      Effect   = "Allow"
      Action   = ["ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"]
      Resource = resource
    } if length(local.networks[name]) > 0],
  ) }
}

resource "aws_iam_role" "function" {
  for_each = local.functions

  name        = "${var.name}-${each.key}"
  description = "Fleetpass: the function ${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "function" {
  for_each = local.functions

  name   = "what-the-code-does"
  role   = aws_iam_role.function[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = local.statements[each.key] })
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}
