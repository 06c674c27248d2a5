# What calls the functions that no request calls; the outbox's trigger is the function's own (functions.tf).

# One task per cluster and run. sync answers for what fails itself, so the queue tries again only what never got an answer,
# and drops it after a day: the next full reconcile makes up for it. A deleted queue's name is taken for some days.
resource "google_cloud_tasks_queue" "sync" {
  project  = var.project
  location = var.region
  name     = "${var.name}-sync"

  rate_limits {
    max_concurrent_dispatches = var.sync_concurrency
    max_dispatches_per_second = 100
  }

  retry_config {
    max_attempts       = -1
    max_retry_duration = "86400s"
    min_backoff        = "5s"
    max_backoff        = "600s"
    max_doublings      = 6
  }

  stackdriver_logging_config {
    sampling_ratio = 1
  }

  depends_on = [google_project_service.api]
}

# Each minute, on the minute; maintain reads X-CloudScheduler-ScheduleTime. A minute that fails is not tried again: the next one
# does its work, too.
resource "google_cloud_scheduler_job" "minute" {
  for_each = { for name, f in local.functions : name => f if f.trigger == "schedule" }

  project          = var.project
  region           = var.region
  name             = "${var.name}-${each.key}"
  description      = "Fleetpass: ${each.key}, each minute"
  schedule         = "* * * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = "60s"

  retry_config {
    retry_count = 0
  }

  http_target {
    uri         = google_cloudfunctions2_function.function[each.key].service_config[0].uri
    http_method = "POST"

    oidc_token {
      service_account_email = google_service_account.caller[each.value.trigger].email
      audience              = google_cloudfunctions2_function.function[each.key].service_config[0].uri
    }
  }
}
