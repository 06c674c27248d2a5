# Fleetpass on AWS. Works with OpenTofu as it does with Terraform; configure the provider (region, credentials, default tags)
# where you call this module, or by the environment where it is the root.
terraform {
  required_version = ">= 1.6"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}
