package foreign

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/fleetpass/fleetpass/localdev/parts"
)

// lemonLDAP is where Debian's LemonLDAP::NG keeps its pages. Its configuration in /etc is not read.
const lemonLDAP = "/usr/share/lemonldap-ng"

//go:embed lemonldap
var lemonLDAPFiles embed.FS

// LemonLDAP starts Debian's LemonLDAP::NG 2.16 under plackup, as an identity provider that asks for a password. The error is
// ErrMissing where it is not installed.
func LemonLDAP(ctx context.Context, c SAMLConfig) (_ *SAML, err error) {
	plackup, err := exec.LookPath("plackup")
	if err != nil {
		return nil, fmt.Errorf("plackup (package libplack-perl): %w; on Debian run .ci/deps as root", ErrMissing)
	}
	if err := installed("Debian's liblemonldap-ng-portal-perl", lemonLDAP+"/portal/templates/bootstrap/login.tpl"); err != nil {
		return nil, err
	}
	// What SAML needs beside, its package only suggests, or not even that.
	for module, brings := range map[string]string{"Lasso": "liblasso-perl", "XML::Simple": "libxml-simple-perl", "IO::String": "libio-string-perl", "Crypt::OpenSSL::X509": "libcrypt-openssl-x509-perl"} {
		if err := exec.CommandContext(ctx, "perl", "-M"+module, "-e", "1").Run(); err != nil {
			return nil, fmt.Errorf("perl's %s (package %s): %w; on Debian run .ci/deps as root", module, brings, ErrMissing)
		}
	}
	f, err := newFront("lemonldap")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := f.unpack(lemonLDAPFiles, "lemonldap"); err != nil {
		return nil, err
	}
	for _, dir := range []string{"conf", "sessions/lock", "psessions/lock", "cache"} {
		if err := os.MkdirAll(f.path(dir), 0o700); err != nil {
			return nil, err
		}
	}
	people, err := json.Marshal(c.People)
	if err != nil {
		return nil, err
	}
	ini := fmt.Sprintf("[all]\nlogLevel = warn\n[configuration]\ntype = File\ndirName = %s\n[portal]\nstaticPrefix = /static\ntemplateDir = %s/portal/templates\nlanguages = en\n", f.path("conf"), lemonLDAP)
	if err := f.write(map[string][]byte{"people.json": people, "lemonldap-ng.ini": []byte(ini)}); err != nil {
		return nil, err
	}
	key, cert, err := signingPair("LemonLDAP::NG of a test")
	if err != nil {
		return nil, err
	}
	conf := lemonConfiguration(f, key, cert)
	// It reads its configuration when it starts, so it starts anew for every service provider that it is to know.
	start := func(ctx context.Context) error {
		if f.stop != nil {
			f.stop()
			f.stop = nil
		}
		data, err := json.Marshal(conf)
		if err != nil {
			return err
		}
		if err := f.write(map[string][]byte{"conf/lmConf-1.json": data}); err != nil {
			return err
		}
		cmd := exec.Command(plackup, "--env", "deployment", "--host", "127.0.0.1", "--port", f.port(), f.path("portal.psgi"))
		cmd.Dir = f.dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.dir, "TMPDIR=" + f.dir, "FOREIGN_DIR=" + f.dir, "LLNG_DEFAULTCONFFILE=" + f.path("lemonldap-ng.ini")}
		f.stop, err = parts.Serve(ctx, "LemonLDAP::NG", cmd, "http://"+f.behind+"/saml/metadata", isOK)
		return err
	}
	s := &SAML{front: f, EntityID: f.Base + "/saml/metadata", MetadataURL: f.Base + "/saml/metadata", login: "user"}
	s.trust = func(ctx context.Context, metadata []byte) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		conf.trust(metadata)
		return start(ctx)
	}
	return s, start(ctx)
}

// lemonAttributes are what is asserted, each under its name in the session.
var lemonAttributes = []string{"uid", "email", "firstName", "lastName", "GROUPS", "UID", "GID", "SUPPLEMENTARYGROUPS"}

// lemonConf is LemonLDAP::NG's configuration (its documentation, "parameterlist").
type lemonConf map[string]any

func lemonConfiguration(f *front, key, cert []byte) lemonConf {
	exported := map[string]string{}
	for _, name := range lemonAttributes {
		exported[name] = name
	}
	files := func(dir string) map[string]string {
		return map[string]string{"Directory": f.path(dir), "LockDirectory": f.path(dir, "lock"), "generateModule": "Lemonldap::NG::Common::Apache::Session::Generate::SHA256"}
	}
	return lemonConf{
		"cfgNum": 1, "cfgVersion": "2.16.1", "cfgAuthor": "a test", "cfgDate": "1",
		"portal": f.Base + "/", "domain": "127.0.0.1", "securedCookie": 1, "cookieName": "lemonldap", "httpOnly": 1,
		"authentication": "Demo", "userDB": "Same", "passwordDB": "Null", "registerDB": "Null",
		"exportedVars": map[string]string{}, "demoExportedVars": exported, "macros": map[string]string{}, "groups": map[string]string{},
		"multiValuesSeparator": "; ", "whatToTrace": "uid", "timeout": 7200, "locationRules": map[string]any{}, "exportedHeaders": map[string]any{}, "applicationList": map[string]any{},
		"globalStorage": "Apache::Session::File", "globalStorageOptions": files("sessions"),
		"persistentStorage": "Apache::Session::File", "persistentStorageOptions": files("psessions"),
		"localSessionStorage":        "Cache::FileCache",
		"localSessionStorageOptions": map[string]any{"cache_root": f.path("cache"), "cache_depth": 3, "default_expires_in": 600, "directory_umask": "077", "namespace": "sessions"},
		"notification":               0, "loginHistoryEnabled": 0, "portalSkin": "bootstrap",
		"portalDisplayRegister": 0, "portalDisplayResetPassword": 0, "captcha_login_enabled": 0, "captcha_mail_enabled": 0, "captcha_register_enabled": 0,
		"captcha":                "::UserDB::Null", // its own wants much more of Perl, and is loaded though no page asks for one
		"issuerDBSAMLActivation": 1, "samlServicePrivateKeySig": string(key), "samlServicePublicKeySig": string(cert),
		"samlServiceUseCertificateInResponse": 1, "samlServiceSignatureMethod": "RSA_SHA256", "samlNameIDFormatMapEmail": "email",
		"samlIDPSSODescriptorWantAuthnRequestsSigned": 0,
		"samlSPMetaDataXML":                           map[string]any{}, "samlSPMetaDataOptions": map[string]any{}, "samlSPMetaDataExportedAttributes": map[string]any{},
	}
}

// trust adds a service provider.
func (c lemonConf) trust(metadata []byte) {
	known := c["samlSPMetaDataXML"].(map[string]any)
	name := fmt.Sprintf("sp%d", len(known))
	known[name] = map[string]string{"samlSPMetaDataXML": string(metadata)}
	c["samlSPMetaDataOptions"].(map[string]any)[name] = map[string]any{
		"samlSPMetaDataOptionsSignSSOMessage": 1, "samlSPMetaDataOptionsCheckSSOMessageSignature": 0,
		"samlSPMetaDataOptionsNameIDFormat": "email", "samlSPMetaDataOptionsEncryptionMode": "none",
	}
	released := map[string]string{}
	for _, a := range lemonAttributes {
		released[a] = "0;" + a + ";urn:oasis:names:tc:SAML:2.0:attrname-format:basic;" // not mandatory; name; format; friendly name
	}
	c["samlSPMetaDataExportedAttributes"].(map[string]any)[name] = released
}

// NeedLemonLDAP starts LemonLDAP::NG for a test, which is skipped or fails where it cannot be had (see need).
func NeedLemonLDAP(t TB, c SAMLConfig) *SAML {
	t.Helper()
	s, err := LemonLDAP(t.Context(), c)
	need(t, "LemonLDAP::NG", err)
	t.Cleanup(s.Close)
	return s
}
