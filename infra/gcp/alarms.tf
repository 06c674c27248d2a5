# docs/operations.md has a paragraph for each: what it means and what to do. A test holds the two together.
locals {
  run = "resource.type=\"cloud_run_revision\" AND metric.type=\"run.googleapis.com/request_count\""

  # What a function logs when it gives something up for good, by its trigger. A test looks that the code still says so.
  given_up = { queue = "sync: given up", stream = "dispatch: event parked" }

  service = { for name, f in local.functions : name => "resource.labels.service_name=\"${var.name}-${name}\"" }
}

resource "google_monitoring_alert_policy" "function_errors" {
  for_each = local.functions

  project               = var.project
  display_name          = "${var.name}: ${each.key} fails"
  combiner              = "OR"
  notification_channels = var.alarm_channels

  conditions {
    display_name = "5xx of ${each.key}"
    condition_threshold {
      filter          = "${local.run} AND ${local.service[each.key]} AND metric.labels.response_code_class=\"5xx\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "docs/operations.md, function_errors"
  }
}

resource "google_monitoring_alert_policy" "function_throttles" {
  for_each = local.functions

  project               = var.project
  display_name          = "${var.name}: ${each.key} is full"
  combiner              = "OR"
  notification_channels = var.alarm_channels

  conditions {
    display_name = "429 of ${each.key}"
    condition_threshold {
      filter          = "${local.run} AND ${local.service[each.key]} AND metric.labels.response_code=\"429\""
      comparison      = "COMPARISON_GT"
      threshold_value = 100
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "docs/operations.md, function_throttles"
  }
}

resource "google_monitoring_alert_policy" "events_late" {
  for_each = { for name, f in local.functions : name => f if f.trigger == "stream" }

  project               = var.project
  display_name          = "${var.name}: events wait for ${each.key}"
  combiner              = "OR"
  notification_channels = var.alarm_channels

  conditions {
    display_name = "oldest event not taken"
    condition_threshold {
      filter          = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.labels.subscription_id=monitoring.regex.full_match(\"eventarc-.*${var.name}-${each.key}.*\")"
      comparison      = "COMPARISON_GT"
      threshold_value = 60
      duration        = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_MAX"
        cross_series_reducer = "REDUCE_MAX"
      }
    }
  }

  documentation {
    content = "docs/operations.md, events_late"
  }
}

resource "google_monitoring_alert_policy" "sync_late" {
  project               = var.project
  display_name          = "${var.name}: messages wait for sync"
  combiner              = "OR"
  notification_channels = var.alarm_channels

  conditions {
    display_name = "delay of attempts, 99th percentile, ms"
    condition_threshold {
      filter          = "resource.type=\"cloud_tasks_queue\" AND metric.type=\"cloudtasks.googleapis.com/queue/task_attempt_delays\" AND resource.labels.queue_id=\"${google_cloud_tasks_queue.sync.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 60000
      duration        = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_PERCENTILE_99"
        cross_series_reducer = "REDUCE_MAX"
      }
    }
  }

  documentation {
    content = "docs/operations.md, sync_late"
  }
}

resource "google_monitoring_alert_policy" "maintain_stopped" {
  for_each = google_cloud_scheduler_job.minute

  project               = var.project
  display_name          = "${var.name}: ${each.key} has not run for five minutes"
  combiner              = "OR"
  notification_channels = var.alarm_channels

  conditions {
    display_name = "no run"
    condition_absent {
      filter   = "${local.run} AND ${local.service[each.key]}"
      duration = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "docs/operations.md, maintain_stopped"
  }
}

resource "google_monitoring_alert_policy" "api_errors" {
  project               = var.project
  display_name          = "${var.name}: requests are answered with 5xx"
  combiner              = "OR"
  notification_channels = var.alarm_channels

  conditions {
    display_name = "5xx of the load balancer"
    condition_threshold {
      filter          = "resource.type=\"https_lb_rule\" AND metric.type=\"loadbalancing.googleapis.com/https/request_count\" AND resource.labels.url_map_name=\"${google_compute_url_map.front.name}\" AND metric.labels.response_code_class=\"500\""
      comparison      = "COMPARISON_GT"
      threshold_value = 5
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "docs/operations.md, api_errors"
  }
}

resource "google_monitoring_alert_policy" "table_throttles" {
  project               = var.project
  display_name          = "${var.name}: the database turns requests away"
  combiner              = "OR"
  notification_channels = var.alarm_channels

  conditions {
    display_name = "RESOURCE_EXHAUSTED"
    condition_threshold {
      filter          = "resource.type=\"firestore.googleapis.com/Database\" AND metric.type=\"firestore.googleapis.com/api/request_count\" AND resource.labels.database_id=\"${google_firestore_database.store.name}\" AND metric.labels.response_code=\"RESOURCE_EXHAUSTED\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "300s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "docs/operations.md, table_throttles"
  }
}

# Metrics count what is logged before anything is excluded or routed, so that the lines lie in a bucket of their own does not matter.
resource "google_logging_metric" "given_up" {
  for_each = { for name, f in local.functions : name => local.given_up[f.trigger] if contains(keys(local.given_up), f.trigger) }

  project     = var.project
  name        = "${var.name}/given-up-${each.key}"
  description = "Fleetpass: what ${each.key} gave up"
  filter      = "resource.type=\"cloud_run_revision\" AND ${local.service[each.key]} AND jsonPayload.msg=\"${each.value}\""

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }
}

resource "google_monitoring_alert_policy" "given_up" {
  for_each = google_logging_metric.given_up

  project               = var.project
  display_name          = "${var.name}: ${each.key} gave something up"
  combiner              = "OR"
  notification_channels = var.alarm_channels

  conditions {
    display_name = "given up"
    condition_threshold {
      filter          = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/${each.value.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "docs/operations.md, given_up"
  }
}

# The call that endangers a key is in the project's audit log, which cannot be turned off.
resource "google_monitoring_alert_policy" "key_at_risk" {
  project               = var.project
  display_name          = "${var.name}: somebody disables or destroys a key"
  combiner              = "OR"
  notification_channels = var.alarm_channels

  conditions {
    display_name = "a version is destroyed or changed, or who may use it"
    condition_matched_log {
      filter = "log_id(\"cloudaudit.googleapis.com/activity\") AND protoPayload.serviceName=\"cloudkms.googleapis.com\" AND protoPayload.methodName=(\"DestroyCryptoKeyVersion\" OR \"UpdateCryptoKeyVersion\" OR \"SetIamPolicy\") AND protoPayload.resourceName:\"${google_kms_key_ring.ring.id}/\""
    }
  }

  alert_strategy {
    notification_rate_limit {
      period = "300s"
    }
  }

  documentation {
    content = "docs/operations.md, key_at_risk"
  }
}
