# The store: one database. Documents are KIND/REST/items/ID; k is the sort key, b the body, e the expiry, n what makes every
# write a change (adapters/firestore).
resource "google_firestore_database" "store" {
  project                           = var.project
  name                              = var.database
  location_id                       = local.database_location
  type                              = "FIRESTORE_NATIVE"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.deletion_protection ? "ABANDON" : "DELETE"

  depends_on = [google_project_service.api]
}

# e deletes, and is not looked up; b and n are not looked up either. An index of them would cost writes, heat up on ascending
# values, and refuse bodies over 1500 bytes' worth of index entry.
resource "google_firestore_field" "item" {
  for_each = { b = false, e = true, n = false }

  project    = var.project
  database   = google_firestore_database.store.name
  collection = "items"
  field      = each.key

  index_config {}

  dynamic "ttl_config" {
    for_each = each.value ? ["on"] : []
    content {}
  }
}

resource "google_kms_key_ring" "ring" {
  project  = var.project
  location = var.region
  name     = var.name

  depends_on = [google_project_service.api]
}

# Wraps the tenants' signing keys, their MAC secrets, and what their secrets towards identity providers are sealed with. A key for
# each, since IAM cannot see what a call is for. Who loses a
# version loses what was wrapped with it, so a destroyed one can be had back for 30 days.
resource "google_kms_crypto_key" "key" {
  for_each = toset(["signing", "mac", "sso"])

  key_ring                   = google_kms_key_ring.ring.id
  name                       = each.value
  purpose                    = "ENCRYPT_DECRYPT"
  rotation_period            = "7776000s"
  destroy_scheduled_duration = "2592000s"
}
