output "base" {
  description = "What every issuer begins with."
  value       = "https://${var.domain}"
}

output "address" {
  description = "What the domain's A record must point at. The certificate is issued once it does."
  value       = google_compute_global_address.front.address
}

output "database" {
  description = "The database, for backups and `fleetpass store copy`."
  value       = google_firestore_database.store.name
}

output "kms_keys" {
  description = "The keys that wrap signing keys and MAC secrets."
  value       = { for purpose, key in google_kms_crypto_key.key : purpose => key.id }
}

output "functions" {
  description = "The functions' ids, by name."
  value       = { for name, f in google_cloudfunctions2_function.function : name => f.id }
}

output "queue" {
  description = "The queue that carries messages to sync."
  value       = google_cloud_tasks_queue.sync.id
}
