# One service account per function, one per caller of functions, one that builds.

resource "google_service_account" "function" {
  for_each = local.functions

  project      = var.project
  account_id   = "${var.name}-${each.key}"
  display_name = "Fleetpass: the function ${each.key}"
}

# The callers: of the stream's function Eventarc, of the queue's Cloud Tasks, of the schedule's Cloud Scheduler.
resource "google_service_account" "caller" {
  for_each = toset(["stream", "queue", "schedule"])

  project      = var.project
  account_id   = "${var.name}-by-${each.value}"
  display_name = "Fleetpass: calls the function behind the ${each.value}"
}

resource "google_service_account" "build" {
  project      = var.project
  account_id   = "${var.name}-build"
  display_name = "Fleetpass: builds the functions"
}

resource "google_project_iam_member" "build" {
  for_each = toset(["roles/artifactregistry.writer", "roles/logging.logWriter"])

  project = var.project
  role    = each.value
  member  = google_service_account.build.member
}

# The archive, and the bucket of the platform's own that it is copied to and built from. That one is made with the first
# function of a region, so no role can be given in it beforehand; in the project's, nothing else is meant.
# https://cloud.google.com/functions/docs/building
resource "google_storage_bucket_iam_member" "build" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.build.member
}

resource "google_project_iam_member" "sources" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member

  condition {
    title      = "${var.name}-sources-only"
    expression = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${data.google_project.project.number}-${var.region}/\")"
  }
}

resource "google_project_iam_member" "receive" {
  project = var.project
  role    = "roles/eventarc.eventReceiver"
  member  = google_service_account.caller["stream"].member
}

# HTTP functions take anybody who comes by way of the load balancer (their ingress), since people and clusters have no Google
# identity. The others take their caller alone.
resource "google_cloud_run_service_iam_member" "invoker" {
  for_each = local.functions

  project  = var.project
  location = var.region
  service  = google_cloudfunctions2_function.function[each.key].name
  role     = "roles/run.invoker"
  member   = each.value.trigger == "http" ? "allUsers" : google_service_account.caller[each.value.trigger].member
}

# What a function may do is infra/permissions.json, which a test derives from what the code does. Firestore's IAM knows
# databases, not kinds of items: what writes may write everything in this database (docs/security.md).
resource "google_project_iam_member" "store" {
  for_each = local.functions

  project = var.project
  role    = length(concat(try(local.permissions[each.key].put, []), try(local.permissions[each.key].delete, []))) > 0 ? "roles/datastore.user" : "roles/datastore.viewer"
  member  = google_service_account.function[each.key].member

  condition {
    title      = "${var.name}-only"
    expression = "resource.name == \"projects/${var.project}/databases/${google_firestore_database.store.name}\""
  }
}

locals {
  key_roles = {
    wrap   = "roles/cloudkms.cryptoKeyEncrypter"
    unwrap = "roles/cloudkms.cryptoKeyDecrypter"
  }
  key_users = merge([for name, f in local.functions : merge([for verb, role in local.key_roles : {
    for purpose in try(local.permissions[name][verb], []) : "${name} ${verb} ${purpose}" => { function = name, role = role, purpose = purpose }
  }]...)]...)
  senders = { for name, f in local.functions : name => f if try(local.permissions[name].send, false) }
}

resource "google_kms_crypto_key_iam_member" "user" {
  for_each = local.key_users

  crypto_key_id = google_kms_crypto_key.key[each.value.purpose].id
  role          = each.value.role
  member        = google_service_account.function[each.value.function].member
}

# To send is to add a task, and to let Cloud Tasks call as the queue's caller.
resource "google_cloud_tasks_queue_iam_member" "sender" {
  for_each = local.senders

  project  = var.project
  location = var.region
  name     = google_cloud_tasks_queue.sync.name
  role     = "roles/cloudtasks.enqueuer"
  member   = google_service_account.function[each.key].member
}

resource "google_service_account_iam_member" "sender" {
  for_each = local.senders

  service_account_id = google_service_account.caller["queue"].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.function[each.key].member
}
