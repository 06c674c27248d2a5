# The store: one table. p is "KIND#TENANT...", s the sort key, v the version, b the body, e the expiry (adapters/dynamodb).
resource "aws_dynamodb_table" "store" {
  name                        = var.table_name == null ? var.name : var.table_name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "p"
  range_key                   = "s"
  stream_enabled              = true
  stream_view_type            = "NEW_IMAGE"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "p"
    type = "S"
  }

  attribute {
    name = "s"
    type = "S"
  }

  ttl {
    enabled        = true
    attribute_name = "e"
  }

  point_in_time_recovery {
    enabled = true
  }

  # Off is the key that AWS owns, not no encryption.
  server_side_encryption {
    enabled     = var.table_encryption == "customer"
    kms_key_arn = var.table_encryption == "customer" ? aws_kms_key.table[0].arn : null
  }
}

locals {
  root = "arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"

  # What an account's administrators may do with a key: everything but use it. Whether they may do it, IAM says.
  key_administration = {
    Sid       = "Administer"
    Effect    = "Allow"
    Principal = { AWS = local.root }
    Action = [
      "kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey", "kms:DisableKey", "kms:EnableKey",
      "kms:EnableKeyRotation", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants", "kms:ListKeyPolicies",
      "kms:ListKeyRotations", "kms:ListResourceTags", "kms:PutKeyPolicy", "kms:RevokeGrant", "kms:RotateKeyOnDemand",
      "kms:ScheduleKeyDeletion", "kms:TagResource", "kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
    ]
    Resource = "*"
  }

  # Who may wrap and unwrap what, by purpose: {wrap = {signing = [functions], mac = [...]}, unwrap = {...}}.
  key_users = { for verb, action in local.key_actions : verb => {
    for purpose in distinct(flatten([for name, f in local.functions : try(local.permissions[name][verb], [])])) : purpose => [
      for name, f in local.functions : aws_iam_role.function[name].arn if contains(try(local.permissions[name][verb], []), purpose)
    ]
  } }
}

# Wraps the tenants' signing keys, MAC secrets and sealing keys. The policy names the roles and leaves nobody else a way to use the key, an
# administrator with every right in IAM included, unless they change the policy, which CloudTrail shows. Losing this key is
# losing every tenant's keys.
resource "aws_kms_key" "keys" {
  description             = "${var.name}: wraps signing keys, MAC secrets and sealing keys"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [local.key_administration],
      flatten([for verb, purposes in local.key_users : [for purpose, roles in purposes : {
        Sid       = "${title(verb)}${title(purpose)}"
        Effect    = "Allow"
        Principal = { AWS = roles }
        Action    = [local.key_actions[verb]]
        Resource  = "*"
        Condition = { StringEquals = { "kms:EncryptionContext:purpose" = purpose } }
      }]]),
      [for operators in [var.key_operators] : {
        Sid       = "Operate"
        Effect    = "Allow"
        Principal = { AWS = operators }
        Action    = values(local.key_actions)
        Resource  = "*"
      } if length(operators) > 0],
    )
  })
}

resource "aws_kms_alias" "keys" {
  name          = "alias/${var.name}-keys"
  target_key_id = aws_kms_key.keys.key_id
}

# The table's own key, if it shall have one: another, so that who reads the table through DynamoDB can unwrap nothing.
resource "aws_kms_key" "table" {
  count = var.table_encryption == "customer" ? 1 : 0

  description             = "${var.name}: the table at rest"
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      local.key_administration,
      # As the policy of Amazon's own aws/dynamodb has it: whoever may use the table by way of DynamoDB, and nobody else. DynamoDB
      # asks in the caller's name, and the functions' roles have no rights of their own in this key.
      {
        Sid       = "ThroughTheTable"
        Effect    = "Allow"
        Principal = { AWS = "*" }
        Action = [
          "kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey",
          "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo",
        ]
        Resource = "*"
        Condition = { StringEquals = {
          "kms:CallerAccount" = data.aws_caller_identity.current.account_id
          "kms:ViaService"    = "dynamodb.${data.aws_region.current.name}.amazonaws.com"
        } }
      },
      {
        Sid       = "Look"
        Effect    = "Allow"
        Principal = { Service = "dynamodb.amazonaws.com" }
        Action    = ["kms:DescribeKey"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.current.account_id } }
      },
    ]
  })
}
