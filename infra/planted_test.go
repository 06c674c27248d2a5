package infra_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The rules find faults: each is planted into a copy of a module that they find nothing wrong with, and the message names it.
func TestPlanted(t *testing.T) {
	schema, perms := readSchema(t), allPermissions(t)
	reads := map[string]map[string]bool{"aws": variablesRead(t, "infra/aws"), "gcp": variablesRead(t, "infra/gcp")}
	check := func(t *testing.T, root, cloud string) []string {
		t.Helper()
		m, err := load(filepath.Join(root, cloud))
		must(t, err)
		perms := maps.Clone(perms)
		if cloud == "gcp" {
			m.give(everythingGoogle)
			return slices.Concat(m.checkReferences(schema), m.checkAdded(cloud), m.checkWildcards(wildcards(t, cloud), true), checkGoogle(m, perms, reads[cloud]))
		}
		m.give(everythingAWS)
		return slices.Concat(m.checkReferences(schema), m.checkAdded(cloud), m.checkWildcards(wildcards(t, cloud), true), checkAWS(m, perms, reads[cloud]))
	}
	clean := map[string]int{}
	for _, cloud := range clouds {
		root := t.TempDir()
		copyInfra(t, root)
		clean[cloud] = len(check(t, root, cloud))
	}
	for _, tt := range []struct{ name, file, old, new, want string }{
		{"a route", "aws/api.tf", `["GET", "HEAD"]`, `["GET"]`, "routes: HEAD /t/{tenant}/jwks is missing"},
		{"another route", "aws/api.tf", "routes = merge([for", "routes = merge({ \"ANY /{all+}\" = \"admin\" }, [for", "routes: ANY /{all+} is too many"},
		{"a function", "functions.json", `"jwks": {`, `"jwkz": {`, "aws_lambda_function: jwks is missing"},
		{"a variable", "aws/functions.tf", "      FLEETPASS_TABLE     = aws_dynamodb_table.store.name\n", "", "the environment variable FLEETPASS_TABLE, which the code reads, is missing"},
		{"one variable more", "aws/functions.tf", "FLEETPASS_TABLE ", "FLEETPASS_TABEL ", "the environment variable FLEETPASS_TABEL is read by nothing there"},
		{"a route with a slash", "aws/api.tf", `if !endswith(pattern, "{$}")`, "", "/t/{tenant}/{$} is too many"},
		{"the welcome for everybody", "aws/functions.tf", `each.value.trigger == "schedule" ? local.welcome : {}`, "local.welcome", "FLEETPASS_WELCOME_SHA256 is read by nothing there"},
		{"the welcome for nobody", "aws/functions.tf", `each.value.trigger == "schedule" ? local.welcome : {}`, "{}", "FLEETPASS_WELCOME_SHA256, which the code reads, is missing: maintain"},
		{"minutes that are kept", "aws/roles.tf", `if f.trigger == "stream"],` + "\n    [for resource", `if contains(["stream", "schedule"], f.trigger)],` + "\n    [for resource", "role maintain: Undelivered is too many"},
		{"another principal of the key", "aws/store.tf", "Principal = { AWS = roles }", `Principal = { AWS = roles, Service = "ec2.amazonaws.com" }`, "the key's policy, UnwrapSigning"},
		{"another who signs", "permissions.json", `"unwrap": ["mac", "sso"]`, `"unwrap": ["mac", "signing", "sso"]`, "KeysUnwrap"},
		{"another who opens secrets", "permissions.json", `"unwrap": []`, `"unwrap": ["sso"]`, "role dispatch: KeysUnwrap is too many"},
		{"another who makes sealing keys", "permissions.json", `"wrap": []`, `"wrap": ["sso"]`, "role dispatch: KeysWrap is too many"},
		{"a network for everybody", "aws/functions.tf", `f.trigger == "schedule" || contains(try(local.permissions[name].unwrap, []), "sso") ? var.provider_network : null`, "var.provider_network", "role jwks: Network is too many"},
		{"a way in of SAML", "functions.json", `      "POST /t/{tenant}/saml/{alias}/acs",` + "\n", "", "routes: POST /t/{tenant}/saml/{alias}/acs is missing"},
		{"a way in of OpenID", "functions.json", "/oidc/{alias}/callback", "/oidc/{alias}/callbacks", "routes: GET /t/{tenant}/oidc/{alias}/callback is missing"},
		{"everybody, unlisted", "aws/roles.tf", `{ Service = "lambda.amazonaws.com" }`, `{ AWS = "*" }`, `principal: the wildcard "*" is not listed`},
		{"one more policy", "aws/roles.tf", "data \"aws_partition\"", "resource \"aws_iam_role_policy_attachment\" \"more\" {}\n\ndata \"aws_partition\"", "what grants something: aws_iam_role_policy_attachment.more is too many"},
		{"one more permission", "aws/api.tf", "resource \"aws_apigatewayv2_stage\"", "resource \"aws_lambda_permission\" \"more\" {}\n\nresource \"aws_apigatewayv2_stage\"", "what grants something: aws_lambda_permission.more is too many"},
		{"a function's own address", "aws/api.tf", "resource \"aws_apigatewayv2_stage\"", "resource \"aws_lambda_function_url\" \"more\" {}\n\nresource \"aws_apigatewayv2_stage\"", "what grants something: aws_lambda_function_url.more is too many"},
		{"a grant", "aws/store.tf", "resource \"aws_kms_alias\"", "resource \"aws_kms_grant\" \"more\" {}\n\nresource \"aws_kms_alias\"", "what grants something: aws_kms_grant.more is too many"},
		{"a policy by the way", "aws/roles.tf", "  name        = \"${var.name}-${each.key}\"\n", "  name        = \"${var.name}-${each.key}\"\n  managed_policy_arns = [\"arn:aws:iam::aws:policy/AdministratorAccess\"]\n", "managed_policy_arns grants something beside the roles"},
		{"a permission", "aws/roles.tf", `    delete = "dynamodb:DeleteItem"` + "\n", "", "role admin: StoreDelete is missing"},
		{"another permission", "aws/roles.tf", `"sqs:GetQueueAttributes"]`, `"sqs:GetQueueAttributes", "sqs:PurgeQueue"]`, "sqs:PurgeQueue"},
		{"a kind more", "aws/roles.tf", `"${kind}#*"]`, `"${kind}*"]`, "differs from infra/permissions.json"},
		{"a permission in the data", "permissions.json", `"send": true`, `"send": false`, "Send is missing"},
		{"no guard against vacuous truth", "aws/roles.tf", `"Null"                    = { "dynamodb:LeadingKeys" = "false" }`, "", "StorePut differs"},
		{"unwrapping by another", "aws/store.tf", "arn if contains(", "arn if name == \"jwks\" || contains(", "the key's policy, UnwrapSigning: aws_iam_role.function[jwks].arn is too many"},
		{"a wildcard action", "aws/roles.tf", `"sqs:ReceiveMessage"`, `"sqs:*"`, `the action "sqs:*" is a wildcard`},
		{"a wildcard resource", "aws/roles.tf", "Resource = stream\n", `Resource = "*"` + "\n", `aws_iam_role_policy.function ReadStream: the wildcard "*" is not listed`},
		{"a wildcard that is gone", "aws/roles.tf", `[name].arn}:*"`, `[name].arn}"`, "aws_iam_role_policy.function Log is listed in infra/wildcards.json, and there is no such wildcard"},
		{"no filter", "aws/triggers.tf", `prefix = "outbox#"`, `prefix = "out"`, "the stream's trigger of dispatch has not the filter on the outbox"},
		{"no filter at all", "aws/triggers.tf", `        eventName = ["INSERT"]` + "\n", "", "the stream's trigger of dispatch has not the filter on the outbox"},
		{"another key attribute", "aws/store.tf", `hash_key                    = "p"`, `hash_key                    = "k"`, "the table's hash_key is k, want p"},
		{"no recovery", "aws/store.tf", "  point_in_time_recovery {\n    enabled = true\n  }\n", "", "point_in_time_recovery.0.enabled"},
		{"a slip", "aws/outputs.tf", "aws_sqs_queue.dead.url", "aws_sqs_queue.deed.url", "aws_sqs_queue.deed, which is not declared"},
		{"another slip", "aws/outputs.tf", "aws_sqs_queue.dead.url", "aws_sqs_queue.dead.uri", "aws_sqs_queue.dead has no attribute uri"},
		{"an argument that is none", "aws/triggers.tf", "batch_size              = 1", "batch_sizes             = 1", "no argument batch_sizes is known"},
		{"a variable for nothing", "aws/variables.tf", `variable "xray"`, "variable \"zray\" {\n  description = \"x\"\n  type = bool\n}\nvariable \"xray\"", "var.zray is declared and not used"},

		{"Google: a route", "gcp/front.tf", `"{$1=*}"`, `"{$1=**}"`, "routes: GET /t/{tenant}/jwks goes to"},
		{"Google: a way in of SAML", "gcp/front.tf", "for name, f in local.http : [for pattern in f.paths", "for name, f in local.http : [for pattern in name == \"samlacs\" ? [] : f.paths", "routes: POST /t/{tenant}/saml/{alias}/acs goes to"},
		{"Google: a variable", "gcp/functions.tf", "      FLEETPASS_QUEUE           = google_cloud_tasks_queue.sync.id\n", "", "the environment variable FLEETPASS_QUEUE, which the code reads, is missing"},
		{"Google: hops", "gcp/functions.tf", `FLEETPASS_TRUSTED_HOPS    = "2"`, `FLEETPASS_TRUSTED_HOPS    = "1"`, "FLEETPASS_TRUSTED_HOPS is 1, want 2"},
		{"Google: a permission", "gcp/accounts.tf", "try(local.permissions[name].send, false)", "f.trigger != \"\"", "senders: jwks is too many"},
		{"Google: a key", "gcp/accounts.tf", `    unwrap = "roles/cloudkms.cryptoKeyDecrypter"`, `    unwrap = "roles/cloudkms.cryptoKeyEncrypterDecrypter"`, "roles for keys: token roles/cloudkms.cryptoKeyDecrypter signing is missing"},
		{"Google: everything writes", "gcp/accounts.tf", `"roles/datastore.viewer"`, `"roles/datastore.user"`, "jwks has roles/datastore.user in the store, want roles/datastore.viewer"},
		{"Google: everything may do everything", "gcp/accounts.tf", `"roles/datastore.viewer"`, `"roles/editor"`, "the role roles/editor is as good as a wildcard"},
		{"Google: everybody", "gcp/accounts.tf", "member             = google_service_account.function[each.key].member\n}\n", "member = \"allAuthenticatedUsers\"\n}\n", `google_service_account_iam_member.sender: the wildcard "allAuthenticatedUsers" is not listed`},
		{"Google: no filter", "gcp/functions.tf", "/{partition}/items/{item}", "/{all=**}", "the stream's trigger of dispatch has not the filter on the outbox"},
		{"Google: public functions", "gcp/functions.tf", `"ALLOW_INTERNAL_ONLY"`, `"ALLOW_ALL"`, "service_config.0.ingress_settings is ALLOW_ALL"},
		{"Google: the welcome for everybody", "gcp/functions.tf", `each.value.trigger == "schedule" ? local.welcome : {}`, "local.welcome", "FLEETPASS_WELCOME_SHA256 is read by nothing there"},
		{"Google: another time", "gcp/functions.tf", "tostring(local.sizes[each.key].timeout)", `"60"`, "function jwks is granted 30 s a call, and told 60"},
		{"Google: one more role", "gcp/accounts.tf", "locals {", "resource \"google_project_iam_binding\" \"more\" {}\n\nlocals {", "what grants something: google_project_iam_binding.more is too many"},
		{"Google: one more account", "gcp/accounts.tf", "locals {", "resource \"google_service_account_key\" \"more\" {}\n\nlocals {", "what grants something: google_service_account_key.more is too many"},
		{"Google: a block that must be", "gcp/front.tf", "      rate_limit_threshold {\n        count        = var.rate_limit\n        interval_sec = 60\n      }\n", "      rate_limit_threshold {\n        count = var.rate_limit\n      }\n", "the argument interval_sec is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			copyInfra(t, root)
			plant(t, root, tt.file, tt.old, tt.new)
			cloud, _, in := strings.Cut(tt.file, "/")
			if !in {
				cloud = "aws"
			}
			found := check(t, root, cloud)
			if len(found) <= clean[cloud] || !strings.Contains(strings.Join(found, "\n"), tt.want) {
				t.Errorf("want a message with %q, got\n%s", tt.want, strings.Join(found, "\n"))
			}
		})
	}
}
