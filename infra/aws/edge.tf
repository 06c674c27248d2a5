# CloudFront before the API, for a web ACL: AWS WAF cannot be attached to an HTTP API. The viewer's Host goes through, so the
# API's own domain name answers; nothing is cached but what an origin says may be.
locals {
  edge = nonsensitive(var.edge != null)
}

data "aws_cloudfront_cache_policy" "disabled" {
  count = local.edge ? 1 : 0
  name  = "Managed-CachingDisabled"
}

data "aws_cloudfront_origin_request_policy" "all" {
  count = local.edge ? 1 : 0
  name  = "Managed-AllViewerAndCloudFrontHeaders-2022-06" # with CloudFront-Viewer-Address, which adapters/lambda reads
}

resource "aws_cloudfront_distribution" "edge" {
  count = local.edge ? 1 : 0

  comment         = "Fleetpass at ${var.domain}"
  enabled         = true
  is_ipv6_enabled = true
  http_version    = "http2and3"
  aliases         = [var.domain]
  web_acl_id      = var.edge.web_acl_arn

  origin {
    origin_id   = "api"
    domain_name = local.regional.target_domain_name

    custom_origin_config {
      http_port              = 80
      https_port             = 443
      origin_protocol_policy = "https-only"
      origin_ssl_protocols   = ["TLSv1.2"]
    }

    custom_header {
      name  = "X-Fleetpass-Edge"
      value = var.edge.secret
    }
  }

  default_cache_behavior {
    target_origin_id         = "api"
    viewer_protocol_policy   = "https-only"
    allowed_methods          = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]
    cached_methods           = ["GET", "HEAD"]
    cache_policy_id          = data.aws_cloudfront_cache_policy.disabled[0].id
    origin_request_policy_id = data.aws_cloudfront_origin_request_policy.all[0].id
  }

  restrictions {
    geo_restriction {
      restriction_type = "none"
    }
  }

  viewer_certificate {
    acm_certificate_arn      = var.edge.certificate_arn
    ssl_support_method       = "sni-only"
    minimum_protocol_version = "TLSv1.2_2021"
  }
}
