# A web ACL for the variable edge of the module beside this folder. CloudFront's are made in us-east-1, whatever region the rest
# is in, so this is a module of its own: call it with a provider of that region.
terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.80"
    }
  }
}

variable "name" {
  description = "What the ACL is called."
  type        = string
  default     = "fleetpass"
}

variable "rate_limit" {
  description = "Requests that one address may make in five minutes (10 at least)."
  type        = number
  default     = 3000
}

# The two lists of Amazon's that know addresses and known exploits, not those that read bodies: ours are JSON and forms that
# are parsed strictly, and a rule that dislikes a word in a group's name would be an outage.
locals {
  managed = ["AWSManagedRulesAmazonIpReputationList", "AWSManagedRulesKnownBadInputsRuleSet"]
}

resource "aws_wafv2_web_acl" "edge" {
  name        = var.name
  description = "Fleetpass: rates, bad addresses, known exploits"
  scope       = "CLOUDFRONT"

  default_action {
    allow {}
  }

  rule {
    name     = "rate"
    priority = 0

    action {
      block {}
    }

    statement {
      rate_based_statement {
        limit              = var.rate_limit
        aggregate_key_type = "IP"
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${var.name}-rate"
      sampled_requests_enabled   = false # samples hold queries, and those hold codes and states
    }
  }

  dynamic "rule" {
    for_each = local.managed
    content {
      name     = rule.value
      priority = rule.key + 1

      override_action {
        none {}
      }

      statement {
        managed_rule_group_statement {
          vendor_name = "AWS"
          name        = rule.value
        }
      }

      visibility_config {
        cloudwatch_metrics_enabled = true
        metric_name                = "${var.name}-${rule.value}"
        sampled_requests_enabled   = false
      }
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = var.name
    sampled_requests_enabled   = false
  }
}

output "web_acl_arn" {
  description = "For edge.web_acl_arn."
  value       = aws_wafv2_web_acl.edge.arn
}
