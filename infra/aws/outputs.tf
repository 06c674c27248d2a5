output "base" {
  description = "What every issuer begins with."
  value       = "https://${var.domain}"
}

output "dns_target" {
  description = "What the domain's record must point at, where zone_id was not given."
  value       = local.front.name
}

output "table" {
  description = "The table, for backups and `fleetpass store copy`."
  value       = aws_dynamodb_table.store.name
}

output "kms_key" {
  description = "The key that wraps signing keys."
  value       = aws_kms_key.keys.arn
}

output "functions" {
  description = "The functions' ARNs, by name."
  value       = { for name, f in aws_lambda_function.function : name => f.arn }
}

output "queues" {
  description = "The queues' URLs: sync carries messages, dead and undelivered hold what failed."
  value = {
    sync        = aws_sqs_queue.sync.url
    dead        = aws_sqs_queue.dead.url
    undelivered = aws_sqs_queue.undelivered.url
  }
}
