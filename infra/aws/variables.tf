variable "name" {
  description = "What every resource's name begins with: one per installation in an account and region."
  type        = string
  default     = "fleetpass"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}$", var.name))
    error_message = "Two to 31 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "domain" {
  description = "The host that people and clusters reach Fleetpass at. Every issuer begins with https://DOMAIN, so it cannot change later without every cluster being told."
  type        = string
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]+[a-z0-9]$", var.domain))
    error_message = "A host name alone: no scheme, no port, no path."
  }
}

variable "certificate_arn" {
  description = "ACM certificate of the domain, in this region."
  type        = string
}

variable "zone_id" {
  description = "Route 53 hosted zone to write the domain's records in; null: write them yourself from the output dns_target."
  type        = string
  default     = null
}

variable "archive" {
  description = "dist/aws.zip, as `make dist` builds it; null: the one in this repository."
  type        = string
  default     = null
}

variable "welcome_sha256" {
  description = "SHA-256, in hex, of the token with which the first operator signs up, once; null: nobody may (any more). Only the hash comes here, since what Terraform knows lies in its state."
  type        = string
  default     = null
  validation {
    condition     = var.welcome_sha256 == null || can(regex("^[0-9a-f]{64}$", var.welcome_sha256))
    error_message = "64 lower-case hexadecimal digits: printf %s \"$TOKEN\" | sha256sum"
  }
}

variable "table_encryption" {
  description = "Key of the table at rest: aws-owned (no cost), or customer (a KMS key of this module of its own, whose use is logged and billed). Signing keys lie wrapped in either."
  type        = string
  default     = "aws-owned"
  validation {
    condition     = contains(["aws-owned", "customer"], var.table_encryption)
    error_message = "One of aws-owned, customer."
  }
}

variable "table_name" {
  description = "The table's name, where it is another than the installation's: a restored one (docs/operations.md)."
  type        = string
  default     = null
}

variable "key_operators" {
  description = "ARNs of IAM principals that may wrap and unwrap with the key besides the functions, while they move tenants (`fleetpass store copy`). Whoever is here can read every signing key: take them out again."
  type        = list(string)
  default     = []
}

variable "deletion_protection" {
  description = "Keep the table from being deleted. Turn it off, and apply, before a destroy."
  type        = bool
  default     = true
}

variable "throttle" {
  description = "Requests a second, and at once, that the API takes from everybody together; what is above gets 429."
  type        = object({ rate = number, burst = number })
  default     = { rate = 500, burst = 1000 }
}

variable "sync_concurrency" {
  description = "How many clusters are brought up to date at the same time (2 to 1000)."
  type        = number
  default     = 50
  validation {
    condition     = var.sync_concurrency >= 2 && var.sync_concurrency <= 1000
    error_message = "2 to 1000, as Lambda wants it."
  }
}

variable "reserved_concurrency" {
  description = "Concurrent executions kept for, and allowed to, a function, by its name; others share the account's."
  type        = map(number)
  default     = {}
}

variable "outbound_allow" {
  description = "Private ranges, and ports beside 443, 6443 and 8443, at which identity providers may be asked, with commas: 10.20.0.0/16,:9443; empty: public addresses and those ports alone. What a tenant may have our functions call is decided by this, whatever they could reach."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^$|^([0-9a-fA-F.:]+(/[0-9]+)?)(, *[0-9a-fA-F.:]+(/[0-9]+)?)*$", var.outbound_allow))
    error_message = "Ranges like 10.20.0.0/16 and ports like :9443, with commas between."
  }
}

variable "sync_network" {
  description = "Subnets and security groups for the sync function, where clusters have private addresses; null: it runs outside of any VPC, and reaches public addresses only. It needs a way to the table, the queue and the key from there (endpoints or NAT)."
  type        = object({ subnet_ids = list(string), security_group_ids = list(string) })
  default     = null
}

variable "provider_network" {
  description = "Subnets and security groups for the functions that ask identity providers (those that may open a tenant's secrets, and maintain), where providers have private addresses; null: they run outside of any VPC. They need a way to the table, the queue and the key from there, and to public providers (NAT). Give outbound_allow, too."
  type        = object({ subnet_ids = list(string), security_group_ids = list(string) })
  default     = null
}

variable "edge" {
  description = <<-EOT
    Put CloudFront before the API, with a WAFv2 web ACL; null: neither. AWS WAF cannot be attached to an HTTP API, so CloudFront
    carries it. web_acl_arn: an ACL of scope CLOUDFRONT (made in us-east-1: the folder waf beside this module has one);
    certificate_arn: the domain's certificate in us-east-1; secret: at least 32 random characters that CloudFront sends along,
    so that the functions refuse whoever goes around it, and believe the client's address that it names.
  EOT
  type        = object({ web_acl_arn = string, certificate_arn = string, secret = string })
  default     = null
  sensitive   = true
  validation {
    condition     = var.edge == null || length(try(var.edge.secret, "")) >= 32
    error_message = "The edge's secret must have at least 32 characters."
  }
}

variable "log_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 90
}

variable "alarm_topic_arn" {
  description = "SNS topic that alarms go to; null: they only show. It must be there before this is planned, and its policy must let events.amazonaws.com publish, too, since key_at_risk is an event."
  type        = string
  default     = null
}

variable "xray" {
  description = "Trace invocations with X-Ray."
  type        = bool
  default     = false
}

variable "otel" {
  description = "OTLP/HTTP endpoint that traces and metrics go to, and its headers (\"name=value,...\"); null: none are made."
  type        = object({ endpoint = string, headers = optional(string, "") })
  default     = null
  sensitive   = true
}
