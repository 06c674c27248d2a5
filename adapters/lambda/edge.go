package lambda

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/fleetpass/fleetpass/core"
)

// edgeHeader carries the secret that a distribution in front adds to each request (infra/aws/edge.tf).
const edgeHeader = "X-Fleetpass-Edge"

// Behind lets through only what came by way of the CloudFront distribution in front, and takes the client's address from it:
// the API behind is reachable by itself, where a web ACL would see nothing, and sees the distribution's addresses alone, so
// that all of its clients would be one place. secretSHA256 is the hash, in hexadecimal, of the secret that the distribution
// adds to each request; empty: there is none in front, and h is returned. The error is core.Invalid.
func Behind(secretSHA256 string, h http.Handler) (http.Handler, error) {
	if secretSHA256 == "" {
		return h, nil
	}
	want, err := hex.DecodeString(secretSHA256)
	if err != nil || len(want) != sha256.Size {
		return nil, core.BadField("FLEETPASS_EDGE_SHA256", "must be 64 hexadecimal digits")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get(edgeHeader)))
		if subtle.ConstantTimeCompare(got[:], want) != 1 {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, `{"code":403,"message":"This is not the way in."}`)
			return
		}
		r = r.Clone(r.Context())
		r.Header.Del(edgeHeader)
		if address, ok := viewer(r.Header.Get("CloudFront-Viewer-Address")); ok {
			r.RemoteAddr = address
		}
		h.ServeHTTP(w, r)
	}), nil
}

// viewer reads CloudFront-Viewer-Address, "ADDRESS:PORT" without brackets around an IPv6 address, which CloudFront writes over
// whatever a client sent:
// https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/adding-cloudfront-headers.html
func viewer(header string) (string, bool) {
	i := strings.LastIndexByte(header, ':')
	if i < 0 {
		return "", false
	}
	address := strings.Trim(header[:i], "[]")
	if net.ParseIP(address) == nil {
		return "", false
	}
	return net.JoinHostPort(address, header[i+1:]), true
}
