# The functions' own lines are kept for log_days in a bucket of their own. The platform's line per request is kept nowhere: it
# holds queries, and those hold codes and states.
locals {
  services    = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(" OR ", [for name, f in local.functions : "\"${var.name}-${name}\""])})"
  own_lines   = "${local.services} AND NOT log_id(\"run.googleapis.com/requests\")"
  log_bucket  = "projects/${var.project}/locations/${var.region}/buckets/${var.name}"
  destination = "logging.googleapis.com/${local.log_bucket}"
}

resource "google_logging_project_bucket_config" "functions" {
  project        = var.project
  location       = var.region
  bucket_id      = var.name
  retention_days = var.log_days
}

resource "google_logging_project_sink" "functions" {
  project                = var.project
  name                   = var.name
  destination            = local.destination
  filter                 = local.own_lines
  unique_writer_identity = true

  depends_on = [google_logging_project_bucket_config.functions]
}

# _Default would keep them, too, for 30 days and with the requests.
resource "google_logging_project_exclusion" "functions" {
  project     = var.project
  name        = var.name
  description = "Fleetpass: kept in its own bucket"
  filter      = local.services
}
