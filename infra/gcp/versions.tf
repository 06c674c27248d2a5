# Fleetpass on Google Cloud. Works with OpenTofu as it does with Terraform; configure the provider (credentials) where you call
# this module, or by the environment where it is the root.
terraform {
  required_version = ">= 1.6"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.10"
    }
  }
}
