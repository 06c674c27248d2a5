variable "project" {
  description = "Project to install into."
  type        = string
}

variable "region" {
  description = "Region of the functions, the queue, the schedule and the keys."
  type        = string
}

variable "name" {
  description = "What every resource's name begins with: one per installation in a project. Short, since service accounts' names are."
  type        = string
  default     = "fleetpass"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{3,15}[a-z0-9]$", var.name))
    error_message = "Five to 17 lower-case letters, digits and hyphens, a letter first and no hyphen last: a service account's name has 30 at most."
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

variable "archive" {
  description = "dist/gcp.zip, as `make dist` builds it; null: the one in this repository."
  type        = string
  default     = null
}

variable "runtime" {
  description = "Go runtime that builds and runs the archive. Its go.mod wants Go 1.26."
  type        = string
  default     = "go126"
}

variable "database" {
  description = "Name of the Firestore database that is made."
  type        = string
  default     = "fleetpass"
}

variable "database_location" {
  description = "Location of the database, for good: a region or a multi-region (eur3, nam5); null: the region. Events are triggered there."
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

variable "deletion_protection" {
  description = "Keep the database from being deleted. Turn it off, and apply, before a destroy."
  type        = bool
  default     = true
}

variable "max_instances" {
  description = "Most instances of each HTTP function; what is above gets 429."
  type        = number
  default     = 20
}

variable "sync_concurrency" {
  description = "How many clusters are brought up to date at the same time (1 to 1000)."
  type        = number
  default     = 50
  validation {
    condition     = var.sync_concurrency >= 1 && var.sync_concurrency <= 1000
    error_message = "1 to 1000."
  }
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

variable "sync_connector" {
  description = "Serverless VPC Access connector for the sync function, where clusters have private addresses; null: it reaches public addresses only."
  type        = string
  default     = null
}

variable "provider_connector" {
  description = "Serverless VPC Access connector for the functions that ask identity providers (those that may open a tenant's secrets, and maintain), where providers have private addresses; null: they reach public addresses only. Give outbound_allow, too."
  type        = string
  default     = null
}

variable "rate_limit" {
  description = "Requests that one address may make in a minute, by Cloud Armor; null: no Cloud Armor."
  type        = number
  default     = null
}

variable "log_days" {
  description = "Days that the functions' logs are kept."
  type        = number
  default     = 90
}

variable "alarm_channels" {
  description = "Names of the notification channels that alerts go to; none: they only show."
  type        = list(string)
  default     = []
}

variable "otel" {
  description = "OTLP/HTTP endpoint that traces and metrics go to, and its headers (\"name=value,...\"); null: none are made."
  type        = object({ endpoint = string, headers = optional(string, "") })
  default     = null
  sensitive   = true
}
