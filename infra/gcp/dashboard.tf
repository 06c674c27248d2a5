# One page: what comes in, what fails, what waits.
locals {
  widgets = [
    { title = "requests", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["metric.label.response_code_class"], filter = "metric.type=\"loadbalancing.googleapis.com/https/request_count\" resource.type=\"https_lb_rule\" resource.label.url_map_name=\"${google_compute_url_map.front.name}\"" },
    { title = "latency, p99, ms", aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = [], filter = "metric.type=\"loadbalancing.googleapis.com/https/total_latencies\" resource.type=\"https_lb_rule\" resource.label.url_map_name=\"${google_compute_url_map.front.name}\"" },
    { title = "errors by function", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["resource.label.service_name"], filter = "metric.type=\"run.googleapis.com/request_count\" resource.type=\"cloud_run_revision\" resource.label.service_name=starts_with(\"${var.name}-\") metric.label.response_code_class=\"5xx\"" },
    { title = "duration by function, p99, ms", aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = ["resource.label.service_name"], filter = "metric.type=\"run.googleapis.com/request_latencies\" resource.type=\"cloud_run_revision\" resource.label.service_name=starts_with(\"${var.name}-\")" },
    { title = "events wait, s", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = [], filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" resource.type=\"pubsub_subscription\" resource.label.subscription_id=starts_with(\"eventarc-\")" },
    { title = "messages waiting", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = [], filter = "metric.type=\"cloudtasks.googleapis.com/queue/depth\" resource.type=\"cloud_tasks_queue\" resource.label.queue_id=\"${google_cloud_tasks_queue.sync.name}\"" },
  ]
}

resource "google_monitoring_dashboard" "overview" {
  project = var.project
  dashboard_json = jsonencode({
    displayName = var.name
    gridLayout = {
      columns = "2"
      widgets = [for w in local.widgets : {
        title = w.title
        xyChart = { dataSets = [{ timeSeriesQuery = { timeSeriesFilter = {
          filter      = w.filter
          aggregation = { alignmentPeriod = "60s", perSeriesAligner = w.aligner, crossSeriesReducer = w.reducer, groupByFields = w.by }
        } } }] }
      }]
    }
  })
}
