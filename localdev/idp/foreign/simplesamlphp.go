package foreign

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/fleetpass/fleetpass/localdev/parts"
)

// simpleSAMLphp is where Debian's package simplesamlphp keeps the program. Its configuration in /etc is not read.
const simpleSAMLphp = "/usr/share/simplesamlphp"

//go:embed simplesamlphp
var simpleSAMLphpFiles embed.FS

// simpleSettings is what the PHP files in simplesamlphp read.
type simpleSettings struct {
	Program string   `json:"program"`
	Base    string   `json:"base"`
	Salt    string   `json:"salt"`
	People  []Person `json:"people"`
	Encrypt bool     `json:"encrypt"`
	Sign    bool     `json:"signResponse"`
}

// SimpleSAMLphp starts Debian's SimpleSAMLphp 1.19 under PHP's own server, as an identity provider that asks for a password.
// The error is ErrMissing where it is not installed.
func SimpleSAMLphp(ctx context.Context, c SAMLConfig) (_ *SAML, err error) {
	php, err := exec.LookPath("php")
	if err != nil {
		return nil, fmt.Errorf("php (package php-cli): %w; on Debian run .ci/deps as root", ErrMissing)
	}
	if err := installed("Debian's simplesamlphp", simpleSAMLphp+"/www/module.php"); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, php, "-r", `foreach (["dom", "mbstring", "curl"] as $e) extension_loaded($e) || print("php-$e ");`).Output(); err != nil || len(out) > 0 {
		return nil, fmt.Errorf("PHP without %s: %w; on Debian run .ci/deps as root", out, ErrMissing)
	}
	f, err := newFront("simplesamlphp")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := f.unpack(simpleSAMLphpFiles, "simplesamlphp"); err != nil {
		return nil, err
	}
	settings, err := json.Marshal(simpleSettings{simpleSAMLphp, f.Base + "/", rand.Text(), c.People, c.Encrypt != NotEncrypted, c.SignResponse})
	if err != nil {
		return nil, err
	}
	key, cert, err := signingPair("SimpleSAMLphp of a test")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"settings.json": settings, "cert/idp.key": key, "cert/idp.crt": cert}
	if c.Encrypt == AES128GCM {
		if files["EncryptedAssertion.php"], err = encryptWithGCM(); err != nil {
			return nil, err
		}
	}
	if err := f.write(files); err != nil {
		return nil, err
	}
	for _, dir := range []string{"sp", "data", "log", "tmp", "sessions"} {
		if err := os.MkdirAll(f.path(dir), 0o700); err != nil {
			return nil, err
		}
	}
	// One process that works on one request at a time: with PHP_CLI_SERVER_WORKERS there would be some that outlive us if we
	// are killed.
	cmd := exec.Command(php, "-d", "session.save_path="+f.path("sessions"), "-d", "opcache.enable_cli=0", "-d", "error_log=", "-d", "log_errors=1", "-d", "display_errors=0",
		"-S", f.behind, "-t", simpleSAMLphp+"/www", f.path("router.php"))
	cmd.Dir = f.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.dir, "SIMPLESAMLPHP_CONFIG_DIR=" + f.path("config")}
	s := &SAML{front: f, MetadataURL: f.Base + "/saml2/idp/metadata.php", login: "username"}
	s.EntityID = s.MetadataURL
	s.trust = func(_ context.Context, metadata []byte) error {
		// config.php reads what is in this folder at each request.
		name := fmt.Sprintf("sp/%x", sha256.Sum256(metadata))
		if err := f.write(map[string][]byte{name: metadata}); err != nil {
			return err
		}
		return os.Rename(f.path(name), f.path(name+".xml"))
	}
	if f.stop, err = parts.Serve(ctx, "SimpleSAMLphp", cmd, "http://"+f.behind+"/saml2/idp/metadata.php", isOK); err != nil {
		return nil, err
	}
	return s, nil
}

// encryptWithGCM is SimpleSAMLphp's class that encrypts an assertion, with AES-GCM in place of the AES-CBC that this version
// cannot be configured out of: sharedkey_algorithm is read only for a key that both sides share beforehand. Version 2 says
// GCM in that place.
func encryptWithGCM() ([]byte, error) {
	file := filepath.Join(simpleSAMLphp, "vendor/simplesamlphp/saml2/src/SAML2/EncryptedAssertion.php")
	source, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	const cbc = "new XMLSecurityKey(XMLSecurityKey::AES128_CBC)"
	if n := strings.Count(string(source), cbc); n != 1 {
		return nil, fmt.Errorf("%s says %q %d times, want once: another version", file, cbc, n)
	}
	return []byte(strings.Replace(string(source), cbc, "new XMLSecurityKey(XMLSecurityKey::AES128_GCM)", 1)), nil
}

// NeedSimpleSAMLphp starts SimpleSAMLphp for a test, which is skipped or fails where it cannot be had (see need).
func NeedSimpleSAMLphp(t TB, c SAMLConfig) *SAML {
	t.Helper()
	s, err := SimpleSAMLphp(t.Context(), c)
	need(t, "SimpleSAMLphp", err)
	t.Cleanup(s.Close)
	return s
}
