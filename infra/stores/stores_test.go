package stores_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/infra/stores"
)

// environment is a command's, without the machine's.
func environment(vars ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(vars); i += 2 {
			if vars[i] == name {
				return vars[i+1]
			}
		}
		return ""
	}
}

const secret = "s3cr3t-access-key"

var inAWS = environment("AWS_REGION", "eu-north-1", "AWS_ACCESS_KEY_ID", "id", "AWS_SECRET_ACCESS_KEY", secret)

func TestOpen(t *testing.T) {
	t.Setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1") // nothing is asked of it
	dir := t.TempDir()
	file := filepath.Join(dir, "store.db")
	link := filepath.Join(dir, "link.db")
	for _, tt := range []struct {
		address string
		o       stores.Options
		want    string // the name, or with ! a part of the error
	}{
		{"bolt:" + file, stores.Options{}, "!there is no file"},
		{"bolt:" + file, stores.Options{Create: true}, "bolt:" + file},
		{"bolt:" + dir + "/../" + filepath.Base(dir) + "/store.db", stores.Options{}, "bolt:" + file},
		{"bolt:" + link, stores.Options{}, "bolt:" + file},
		{"dynamodb:fleetpass", stores.Options{Getenv: inAWS}, "dynamodb:fleetpass?region=eu-north-1"},
		{"dynamodb:fleetpass?region=eu-west-1", stores.Options{Getenv: inAWS}, "dynamodb:fleetpass?region=eu-west-1"},
		{"dynamodb:fleetpass?endpoint=http://127.0.0.1:1", stores.Options{Getenv: inAWS}, "dynamodb:fleetpass?region=eu-north-1&endpoint=http%3A%2F%2F127.0.0.1%3A1"},
		{"dynamodb:fleetpass", stores.Options{Getenv: environment()}, "!AWS_REGION"},
		{"dynamodb:fleetpass?region=eu-west-1", stores.Options{Getenv: environment()}, "!AWS_ACCESS_KEY_ID"},
		{"dynamodb:fleetpass?region=", stores.Options{Getenv: inAWS}, `!"region"`},
		{"dynamodb:fleetpass?region=a&region=b", stores.Options{Getenv: inAWS}, `!"region"`},
		{"dynamodb:fleetpass?regoin=a", stores.Options{Getenv: inAWS}, `!"regoin"`},
		{"dynamodb:fleetpass?%", stores.Options{Getenv: inAWS}, "!do not read"},
		{"dynamodb:t?endpoint=http://me:" + secret + "@127.0.0.1:1", stores.Options{Getenv: inAWS}, "!endpoint: must be"},
		{"dynamodb:t?endpoint=http://me@127.0.0.1:1", stores.Options{Getenv: inAWS}, "!endpoint: must be"},
		{"dynamodb:t?endpoint=http://127.0.0.1:1/%3Ftoken=" + secret, stores.Options{Getenv: inAWS}, "!endpoint: must be"},
		{"dynamodb:t?endpoint=http://127.0.0.1:1/%23" + secret, stores.Options{Getenv: inAWS}, "!endpoint: must be"},
		{"dynamodb:t?endpoint=http://" + secret + ":port", stores.Options{Getenv: inAWS}, "!endpoint: must be"},
		{"dynamodb:t?endpoint=127.0.0.1:1", stores.Options{Getenv: inAWS}, "!endpoint: must be"},
		{"dynamodb:t?endpoint=ftp://127.0.0.1", stores.Options{Getenv: inAWS}, "!endpoint: must be"},
		{"dynamodb:t?region=x", stores.Options{Getenv: environment("AWS_ACCESS_KEY_ID", "id", "AWS_SECRET_ACCESS_KEY", secret,
			"AWS_ENDPOINT_URL_DYNAMODB", "http://me:"+secret+"@127.0.0.1")}, "!AWS_ENDPOINT_URL_DYNAMODB: must be"},
		{"dynamodb:?region=eu-west-1", stores.Options{Getenv: inAWS}, "!no table"},
		{"firestore:project", stores.Options{}, "firestore:project/(default)"},
		{"firestore:project/other", stores.Options{}, "firestore:project/other"},
		{"firestore:a/b/c", stores.Options{}, "!project"},
		{"firestore:/b", stores.Options{}, "!project"},
		{"", stores.Options{}, "!bolt:PATH"},
		{"bolt", stores.Options{}, "!bolt:PATH"},
		{"bolt:", stores.Options{}, "!bolt:PATH"},
		{file, stores.Options{}, "!bolt:PATH"},
		{"postgres://x", stores.Options{}, "!bolt:PATH"},
	} {
		s, err := stores.Open(t.Context(), tt.address, tt.o)
		if part, bad := strings.CutPrefix(tt.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), part) || !errors.Is(err, core.Invalid) && !errors.Is(err, core.NotFound) || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: error %v, want one that says %q", tt.address, err, part)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.address, err)
			continue
		}
		if s.Name != tt.want || strings.Contains(s.Name, secret) {
			t.Errorf("%s: is named %s, want %s", tt.address, s.Name, tt.want)
		}
		if strings.HasPrefix(tt.want, "bolt:") {
			if _, err := s.Get(t.Context(), store.Meta("acme")); err != nil {
				t.Error(err)
			}
			if err := os.Symlink(file, link); err != nil && !errors.Is(err, os.ErrExist) {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestKeys(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/0"
	const ring = "projects/p/locations/l/keyRings/r/cryptoKeys/"
	file := filepath.Join(t.TempDir(), "master.key")
	local := environment("FLEETPASS_KMS_EMULATOR_HOST", "127.0.0.1:1", "AWS_ACCESS_KEY_ID", "id", "AWS_SECRET_ACCESS_KEY", secret)
	if _, err := stores.Keys(t.Context(), "file:"+file, stores.Options{}); err == nil {
		t.Error("a master key was made up")
	}
	if _, err := localkeys.Open(file, true); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ address, want string }{
		{"file:" + file, "file:" + file},
		{"awskms:" + arn, "awskms:" + arn}, // in the key's own region
		{"awskms:" + arn + "?endpoint=http://127.0.0.1:1", "awskms:" + arn + "?endpoint=http%3A%2F%2F127.0.0.1%3A1"},
		{"awskms:" + arn + "?endpoint=http://me:" + secret + "@127.0.0.1:1", "!endpoint: must be"},
		{"gcpkms:" + ring + "a," + ring + "b," + ring + "c", "gcpkms:" + ring + "a," + ring + "b," + ring + "c"},
		{"awskms:arn:aws:kms:eu-central-1:111122223333:alias/x", "!ARN"},
		{"awskms:0", "!awskms:arn:"},
		{"gcpkms:" + ring + "a", "!must be projects/"},
		{"gcpkms:" + ring + "a," + ring + "b", "!FLEETPASS_KMS_SSO_KEY: must be projects/"},
		{"gcpkms:" + ring + "a," + ring + "b," + ring + "c,d", "!must be projects/"},
		{"gcpkms:a,b,c", "!must be projects/"},
		{"file:", "!file:PATH"},
		{"vault:x", "!file:PATH"},
	} {
		w, err := stores.Keys(t.Context(), tt.address, stores.Options{Getenv: local})
		if part, bad := strings.CutPrefix(tt.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), part) || !errors.Is(err, core.Invalid) || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: error %v, want one that says %q", tt.address, err, part)
			}
			continue
		}
		if err != nil || w.Name != tt.want {
			t.Errorf("%s: %+v, %v, want the name %s", tt.address, w, err, tt.want)
			continue
		}
		if strings.HasPrefix(tt.want, "file:") {
			if _, err := w.Wrap(t.Context(), keys.PurposeMAC, "acme", []byte("x")); err != nil {
				t.Error(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}
