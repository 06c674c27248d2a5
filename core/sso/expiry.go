package sso

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fleetpass/fleetpass/core/audit"
	"github.com/fleetpass/fleetpass/core/store"
	"github.com/fleetpass/fleetpass/events"
)

// ahead is how many days before its end a certificate is spoken of, once each; 0: when it has ended.
var ahead = []int{0, 1, 7, 30}

// Whose certificate it is.
const (
	ofProvider = "provider"
	ofOurs     = "own"
)

// certificate is one whose end would end sign-ins.
type certificate struct {
	of    string
	print string // what tells it from its successor
	ends  time.Time
}

// expiring are the certificates that sign-ins depend on: of the provider's, any of which may sign, the one that ends last;
// of ours, the one that signs.
func (c Connection) expiring() (out []certificate) {
	add := func(of string, all ...[]byte) {
		var last certificate
		for _, der := range all {
			parsed, err := x509.ParseCertificate(der)
			if err == nil && parsed.NotAfter.After(last.ends) {
				sum := sha256.Sum256(der)
				last = certificate{of, hex.EncodeToString(sum[:8]), parsed.NotAfter.UTC()}
			}
		}
		if last.of != "" {
			out = append(out, last)
		}
	}
	switch {
	case c.SAML != nil:
		add(ofProvider, c.SAML.IdP.Certificates...)
		if len(c.SAML.Keys) > 0 {
			add(ofOurs, c.SAML.Keys[0].Certificate)
		}
	case c.OIDC != nil && c.OIDC.Key != nil:
		add(ofOurs, c.OIDC.Key.Certificate)
	}
	return out
}

// Expiry is when the provider's last signing certificate ends; zero: it has none.
func (c Connection) Expiry() time.Time {
	for _, e := range c.expiring() {
		if e.of == ofProvider {
			return e.ends
		}
	}
	return time.Time{}
}

// announce tells of certificates that end soon, in the commit that remembers that it did. What was announced is kept as
// "WHOSE=FINGERPRINT/DAYS", separated by spaces.
func (w *reread) announce() {
	told := map[string]string{}
	for entry := range strings.FieldsSeq(w.c.Refresh.Announced) {
		of, what, _ := strings.Cut(entry, "=")
		told[of] = what
	}
	var announced []string
	for _, e := range w.c.expiring() {
		last := told[e.of]
		for _, days := range ahead {
			if w.now.Before(e.ends.AddDate(0, 0, -days)) {
				continue
			}
			if was, stage, _ := strings.Cut(last, "/"); was != e.print || later(stage, days) {
				w.tellExpiry(e, days)
				last = e.print + "/" + strconv.Itoa(days)
			}
			break // the nearest says it all
		}
		if strings.HasPrefix(last, e.print+"/") {
			announced = append(announced, e.of+"="+last)
		}
	}
	w.c.Refresh.Announced = strings.Join(announced, " ")
}

// later says whether there are fewer days left than were announced.
func later(announced string, days int) bool {
	n, err := strconv.Atoi(announced)
	return err != nil || days < n
}

func (w *reread) tellExpiry(e certificate, days int) {
	whose, fix := "the provider's signing certificate", "have the provider publish its successor"
	if w.c.SAML != nil && w.c.SAML.MetadataURL == "" {
		fix = "upload the provider's new metadata"
	}
	if e.of == ofOurs {
		whose, fix = "our certificate towards the provider", "rotate the keys of the connection"
	}
	when := fmt.Sprintf("ends within %d days, at %s", days, e.ends.Format(time.RFC3339))
	if days == 0 {
		when = "ended at " + e.ends.Format(time.RFC3339)
	}
	w.record(audit.Succeeded, fmt.Sprintf("%s %s: %s", whose, when, fix))
	w.add(store.Emit(w.t, w.now, w.actor, events.CertificateExpiring{Connection: w.c.ID, Subject: e.of, NotAfter: e.ends, Days: days}))
}
