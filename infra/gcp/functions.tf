# One function per row of functions.Table (functions/functions.go), which a test writes to infra/functions.json. All are built
# from the same archive; the entry point's name says which row a function serves.
locals {
  functions   = jsondecode(file("${path.module}/../functions.json"))
  permissions = jsondecode(file("${path.module}/../permissions.json"))

  # Memory, seconds, and requests that one instance takes at the same time. A password's hash wants 19 MiB and a whole
  # processor for a moment, and so does a SAML response (samlacs), whose XML is a tree in memory many times its size. sync ends a run itself, ten seconds before its time is up, and has
  # an instance to itself, since what a cluster answers is not to be trusted; maintain has its minute.
  sizes = {
    login        = { memory = "1Gi", timeout = 30, concurrency = 20 }
    samlacs      = { memory = "1Gi", timeout = 30, concurrency = 20 }
    oidccallback = { memory = "512Mi", timeout = 30, concurrency = 40 }
    token        = { memory = "512Mi", timeout = 30, concurrency = 40 }
    jwks         = { memory = "256Mi", timeout = 30, concurrency = 80 }
    evaluate     = { memory = "512Mi", timeout = 30, concurrency = 80 }
    kubeconfig   = { memory = "256Mi", timeout = 30, concurrency = 40 }
    admin        = { memory = "1Gi", timeout = 30, concurrency = 20 }
    dispatch     = { memory = "256Mi", timeout = 60, concurrency = 10 }
    sync         = { memory = "512Mi", timeout = 60, concurrency = 1 }
    maintain     = { memory = "512Mi", timeout = 55, concurrency = 1 }
  }

  # A service's address, known before the service is there: https://cloud.google.com/run/docs/triggering/https-request.
  # sync sends to its own queue, so its address cannot come from the function itself.
  sync_url = "https://${var.name}-sync-${data.google_project.project.number}.${var.region}.run.app"

  environment = merge(
    {
      FLEETPASS_BASE            = "https://${var.domain}"
      FLEETPASS_PROJECT         = var.project
      FLEETPASS_DATABASE        = google_firestore_database.store.name
      FLEETPASS_KMS_SIGNING_KEY = google_kms_crypto_key.key["signing"].id
      FLEETPASS_KMS_MAC_KEY     = google_kms_crypto_key.key["mac"].id
      FLEETPASS_KMS_SSO_KEY     = google_kms_crypto_key.key["sso"].id
      FLEETPASS_QUEUE           = google_cloud_tasks_queue.sync.id
      FLEETPASS_SYNC_URL        = local.sync_url
      FLEETPASS_TASKS_ACCOUNT   = google_service_account.caller["queue"].email
      FLEETPASS_TRUSTED_HOPS    = "2" # the load balancer, and Google's front end behind it
    },
    var.outbound_allow == "" ? {} : { FLEETPASS_OUTBOUND_ALLOW = var.outbound_allow },
    var.otel == null ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT = var.otel.endpoint },
    try(var.otel.headers, "") == "" ? {} : { OTEL_EXPORTER_OTLP_HEADERS = var.otel.headers },
  )

  # What the schedule's function alone is given, since it alone makes the operators' tenant.
  welcome = var.welcome_sha256 == null ? {} : { FLEETPASS_WELCOME_SHA256 = var.welcome_sha256 }

  # The way into a network that a function has, if any: sync reaches clusters; what opens a tenant's secrets
  # asks its providers, and the schedule reads what those publish.
  connectors = { for name, f in local.functions : name =>
    f.trigger == "queue" ? var.sync_connector : f.trigger == "schedule" || contains(try(local.permissions[name].unwrap, []), "sso") ? var.provider_connector : null
  }

  archive           = var.archive == null ? "${path.module}/../../dist/gcp.zip" : var.archive
  database_location = var.database_location == null ? var.region : var.database_location
}

data "google_project" "project" {
  project_id = var.project
}

resource "google_project_service" "api" {
  for_each = toset([
    "artifactregistry.googleapis.com", "cloudbuild.googleapis.com", "cloudfunctions.googleapis.com", "cloudkms.googleapis.com",
    "cloudscheduler.googleapis.com", "cloudtasks.googleapis.com", "compute.googleapis.com", "eventarc.googleapis.com",
    "firestore.googleapis.com", "pubsub.googleapis.com", "run.googleapis.com",
  ])

  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

resource "google_storage_bucket" "source" {
  project                     = var.project
  name                        = "${var.project}-${var.name}-source"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true
}

resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  name   = "fleetpass-${filesha256(local.archive)}.zip" # another name, so that functions are built anew
  source = local.archive
}

resource "google_cloudfunctions2_function" "function" {
  for_each = local.functions

  project     = var.project
  location    = var.region
  name        = "${var.name}-${each.key}"
  description = "Fleetpass: ${each.key} (${each.value.trigger})"

  build_config {
    runtime         = var.runtime
    entry_point     = each.key
    service_account = google_service_account.build.id

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  service_config {
    available_memory                 = local.sizes[each.key].memory
    available_cpu                    = "1"
    timeout_seconds                  = local.sizes[each.key].timeout
    max_instance_request_concurrency = local.sizes[each.key].concurrency
    max_instance_count               = each.value.trigger == "http" ? var.max_instances : each.value.trigger == "schedule" ? 1 : ceil(var.sync_concurrency / local.sizes[each.key].concurrency)
    ingress_settings                 = each.value.trigger == "http" ? "ALLOW_INTERNAL_AND_GCLB" : "ALLOW_INTERNAL_ONLY"
    service_account_email            = google_service_account.function[each.key].email
    environment_variables = merge(
      local.environment,
      { FLEETPASS_TIMEOUT = tostring(local.sizes[each.key].timeout) }, # the platform does not tell the process
      each.value.trigger == "schedule" ? local.welcome : {},
      var.otel == null ? {} : { OTEL_SERVICE_NAME = "${var.name}-${each.key}" },
    )
    all_traffic_on_latest_revision = true
    vpc_connector                  = local.connectors[each.key]
    vpc_connector_egress_settings  = local.connectors[each.key] == null ? null : "PRIVATE_RANGES_ONLY"
  }

  dynamic "event_trigger" {
    for_each = each.value.trigger == "stream" ? ["outbox"] : []
    content {
      trigger_region        = local.database_location # where the database is
      event_type            = "google.cloud.firestore.document.v1.created"
      retry_policy          = "RETRY_POLICY_RETRY"
      service_account_email = google_service_account.caller[each.value.trigger].email

      event_filters {
        attribute = "database"
        value     = google_firestore_database.store.name
      }

      event_filters {
        attribute = "document"
        value     = "${event_trigger.value}/{partition}/items/{item}"
        operator  = "match-path-pattern"
      }
    }
  }

  depends_on = [google_project_service.api, google_project_iam_member.build, google_project_iam_member.sources, google_storage_bucket_iam_member.build, google_project_iam_member.receive]
}
