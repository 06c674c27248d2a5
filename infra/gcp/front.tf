# One host in front: a global load balancer, a serverless group per HTTP function, and a URL map made from the table's paths.
locals {
  http = { for name, f in local.functions : name => f if f.trigger == "http" }

  # A pattern of net/http ("GET /t/{tenant}/jwks") as a path template ("/t/{tenant=*}/jwks"); the methods are the functions'
  # own business. {$}, an end with a slash, has no such form: its function is the one that everything else goes to as well,
  # and answers that there is nothing.
  routes = distinct(flatten([for name, f in local.http : [for pattern in f.paths : {
    function = name
    template = replace(split(" ", pattern)[1], "/\\{([a-z]+)\\}/", "{$1=*}")
  } if !endswith(pattern, "{$}")]]))
  otherwise = one([for name, f in local.http : name if anytrue([for pattern in f.paths : endswith(pattern, "{$}")])])
}

resource "google_compute_region_network_endpoint_group" "function" {
  for_each = local.http

  project               = var.project
  region                = var.region
  name                  = "${var.name}-${each.key}"
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = google_cloudfunctions2_function.function[each.key].name
  }
}

# No request log: it holds queries, and those hold codes and states. The functions log what they may.
resource "google_compute_backend_service" "function" {
  for_each = local.http

  project               = var.project
  name                  = "${var.name}-${each.key}"
  protocol              = "HTTPS"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  security_policy       = var.rate_limit == null ? null : google_compute_security_policy.front[0].id

  backend {
    group = google_compute_region_network_endpoint_group.function[each.key].id
  }

  log_config {
    enable = false
  }
}

resource "google_compute_url_map" "front" {
  project         = var.project
  name            = var.name
  default_service = google_compute_backend_service.function[local.otherwise].id

  host_rule {
    hosts        = [var.domain]
    path_matcher = "functions"
  }

  path_matcher {
    name            = "functions"
    default_service = google_compute_backend_service.function[local.otherwise].id

    dynamic "route_rules" {
      for_each = local.routes
      content {
        priority = route_rules.key + 1
        service  = google_compute_backend_service.function[route_rules.value.function].id

        match_rules {
          path_template_match = route_rules.value.template
        }
      }
    }
  }
}

resource "google_compute_managed_ssl_certificate" "front" {
  project = var.project
  name    = var.name

  managed {
    domains = [var.domain]
  }

  depends_on = [google_project_service.api]
}

resource "google_compute_ssl_policy" "front" {
  project         = var.project
  name            = var.name
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"

  depends_on = [google_project_service.api]
}

resource "google_compute_target_https_proxy" "front" {
  project          = var.project
  name             = var.name
  url_map          = google_compute_url_map.front.id
  ssl_certificates = [google_compute_managed_ssl_certificate.front.id]
  ssl_policy       = google_compute_ssl_policy.front.id
}

resource "google_compute_global_address" "front" {
  project = var.project
  name    = var.name

  depends_on = [google_project_service.api]
}

resource "google_compute_global_forwarding_rule" "front" {
  project               = var.project
  name                  = var.name
  target                = google_compute_target_https_proxy.front.id
  ip_address            = google_compute_global_address.front.id
  port_range            = "443"
  load_balancing_scheme = "EXTERNAL_MANAGED"
}

resource "google_compute_security_policy" "front" {
  count = var.rate_limit == null ? 0 : 1

  project     = var.project
  name        = var.name
  description = "Fleetpass: how much one address may ask for"

  rule {
    description = "more than ${var.rate_limit} a minute"
    priority    = 1000
    action      = "throttle"

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }

    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"

      rate_limit_threshold {
        count        = var.rate_limit
        interval_sec = 60
      }
    }
  }

  rule {
    description = "everybody else"
    priority    = 2147483647
    action      = "allow"

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
  }
}
