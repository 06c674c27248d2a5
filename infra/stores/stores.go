// Package stores opens any store, and any key service, by an address on a command line: what a tool needs that moves a tenant
// from one to another. It is a composition root, and names adapters; the functions have roots of their own, which know one
// cloud each.
//
//	bolt:PATH                              a file of the embedded store
//	dynamodb:TABLE[?region=R][&endpoint=U] a table; the region is AWS_REGION's otherwise
//	firestore:PROJECT[/DATABASE]           a database; without its name the project's default one
//
//	file:PATH                              a file of master keys
//	awskms:ARN[?endpoint=U]                a key of AWS KMS
//	gcpkms:SIGNING_KEY,MAC_KEY,SSO_KEY     three keys of Google's KMS, by their resource names
//
// Credentials come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN for AWS (there are
// no profiles here: `aws configure export-credentials --format env` prints them), application default credentials for Google.
// FIRESTORE_EMULATOR_HOST and FLEETPASS_KMS_EMULATOR_HOST name emulators.
package stores

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/fleetpass/fleetpass/adapters/awskms"
	"github.com/fleetpass/fleetpass/adapters/bolt"
	"github.com/fleetpass/fleetpass/adapters/dynamodb"
	"github.com/fleetpass/fleetpass/adapters/firestore"
	"github.com/fleetpass/fleetpass/adapters/gcpkms"
	"github.com/fleetpass/fleetpass/adapters/localkeys"
	"github.com/fleetpass/fleetpass/core"
	"github.com/fleetpass/fleetpass/core/keys"
	"github.com/fleetpass/fleetpass/core/store"
)

// Options are the settings of Open and Keys. The zero value is right for a command.
type Options struct {
	Getenv func(string) string // default os.Getenv
	Now    func() time.Time    // by which items expire; default time.Now
	Create bool                // a bolt file that is not there is made; tables and databases are infrastructure's to make
}

func (o Options) getenv(name string) string {
	if o.Getenv == nil {
		return os.Getenv(name)
	}
	return o.Getenv(name)
}

// Store is an open store.
type Store struct {
	store.DB
	Name  string // the address in one spelling, the same for the same store; it holds no secret
	Close func() error
}

// The forms of addresses, for messages.
const (
	storeForms = "bolt:PATH, dynamodb:TABLE?region=REGION or firestore:PROJECT/DATABASE"
	keyForms   = "file:PATH, awskms:ARN or gcpkms:SIGNING_KEY,MAC_KEY,SSO_KEY"
)

// Open opens the store of an address. A wrong address, and missing credentials of AWS, are core.Invalid and say what is
// right. Only for bolt does it look whether the store is there.
func Open(ctx context.Context, address string, o Options) (*Store, error) {
	scheme, rest, _ := strings.Cut(address, ":")
	switch {
	case rest == "":
	case scheme == "bolt":
		return openBolt(rest, o)
	case scheme == "dynamodb":
		return openDynamoDB(rest, o)
	case scheme == "firestore":
		return openFirestore(ctx, rest, o)
	}
	return nil, fmt.Errorf("%q is no store: want %s: %w", address, storeForms, core.Invalid)
}

func openBolt(path string, o Options) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !o.Create {
		return nil, fmt.Errorf("there is no file %s: %w", path, core.NotFound)
	}
	db, err := bolt.Open(path, bolt.Options{Now: o.Now})
	if err != nil {
		return nil, err
	}
	return &Store{DB: db, Name: "bolt:" + path, Close: db.Close}, nil
}

// query splits an address from its parameters and refuses those it does not know.
func query(rest string, known ...string) (name string, q url.Values, err error) {
	name, raw, _ := strings.Cut(rest, "?")
	if q, err = url.ParseQuery(raw); err != nil {
		return "", nil, fmt.Errorf("the parameters behind ? do not read: %w", core.Invalid)
	}
	for p, values := range q {
		ok := false
		for _, k := range known {
			ok = ok || k == p
		}
		if !ok || len(values) != 1 || values[0] == "" {
			return "", nil, fmt.Errorf("parameter %q: want one each of %s: %w", p, strings.Join(known, ", "), core.Invalid)
		}
	}
	return name, q, nil
}

// awsConfig takes region and credentials from the environment.
func (o Options) awsConfig(region string) (aws.Config, error) {
	if region == "" {
		region = o.getenv("AWS_REGION")
	}
	id, secret := o.getenv("AWS_ACCESS_KEY_ID"), o.getenv("AWS_SECRET_ACCESS_KEY")
	switch {
	case region == "":
		return aws.Config{}, core.BadField("AWS_REGION", "is not set; set it, or give ?region=REGION")
	case id == "" || secret == "":
		return aws.Config{}, core.BadField("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "are not set; profiles are not read here, so print them with `aws configure export-credentials --format env`")
	}
	return aws.Config{Region: region, Credentials: credentials.NewStaticCredentialsProvider(id, secret, o.getenv("AWS_SESSION_TOKEN"))}, nil
}

// endpoint is where a service is asked, if the address or the environment says so. It becomes part of names, which people
// and other stores get to see: so it holds nothing but a scheme, a host and a path, and what is wrong is not quoted.
func (o Options) endpoint(q url.Values, env string) (string, error) {
	field, e := "endpoint", q.Get("endpoint")
	if e == "" {
		field, e = env, o.getenv(env)
	}
	if e == "" {
		return "", nil
	}
	u, err := url.Parse(e)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(e, "?#") {
		return "", core.BadField(field, "must be http://HOST or https://HOST, without user, password, query or fragment")
	}
	return e, nil
}

func openDynamoDB(rest string, o Options) (*Store, error) {
	table, q, err := query(rest, "region", "endpoint")
	if err != nil {
		return nil, err
	}
	if table == "" {
		return nil, fmt.Errorf("dynamodb:TABLE names no table: %w", core.Invalid)
	}
	c, err := o.awsConfig(q.Get("region"))
	if err != nil {
		return nil, err
	}
	endpoint, err := o.endpoint(q, "AWS_ENDPOINT_URL_DYNAMODB")
	if err != nil {
		return nil, err
	}
	client := dynamodb.NewClient(dynamodb.Config{Region: c.Region, Endpoint: endpoint, Credentials: c.Credentials})
	name := "dynamodb:" + table + "?region=" + c.Region
	if endpoint != "" {
		name += "&endpoint=" + url.QueryEscape(endpoint)
	}
	return &Store{DB: dynamodb.New(client, table, dynamodb.Options{Now: o.Now}), Name: name, Close: func() error { return nil }}, nil
}

func openFirestore(ctx context.Context, rest string, o Options) (*Store, error) {
	project, database, _ := strings.Cut(rest, "/")
	if database == "" {
		database = firestore.DefaultDatabase
	}
	db, err := firestore.Dial(ctx, project, database, firestore.Options{Now: o.Now})
	if err != nil {
		return nil, err
	}
	return &Store{DB: db, Name: "firestore:" + project + "/" + database, Close: db.Close}, nil
}

// Wrapper is an open key service.
type Wrapper struct {
	keys.Wrapper
	Name  string // the address in one spelling, another for another key; it holds no secret
	Close func() error
}

// Keys opens the key service of an address. Nothing is made, and nothing is asked of it yet.
func Keys(ctx context.Context, address string, o Options) (*Wrapper, error) {
	scheme, rest, _ := strings.Cut(address, ":")
	none := func() error { return nil }
	switch {
	case rest == "":
	case scheme == "file":
		path, err := filepath.Abs(rest)
		if err != nil {
			return nil, err
		}
		w, err := localkeys.Open(path, false)
		if err != nil {
			return nil, err
		}
		return &Wrapper{w, "file:" + path, none}, nil
	case scheme == "awskms":
		arn, q, err := query(rest, "endpoint")
		if err != nil {
			return nil, err
		}
		parts := strings.SplitN(arn, ":", 6)
		if len(parts) != 6 {
			return nil, fmt.Errorf("%q is no key: want awskms:arn:aws:kms:REGION:ACCOUNT:key/ID: %w", address, core.Invalid)
		}
		c, err := o.awsConfig(parts[3])
		if err != nil {
			return nil, err
		}
		endpoint, err := o.endpoint(q, "AWS_ENDPOINT_URL_KMS")
		if err != nil {
			return nil, err
		}
		w, err := awskms.New(awskms.Client(c, endpoint), arn)
		if err != nil {
			return nil, err
		}
		name := "awskms:" + arn
		if endpoint != "" { // the same ARN is another key elsewhere
			name += "?endpoint=" + url.QueryEscape(endpoint)
		}
		return &Wrapper{w, name, none}, nil
	case scheme == "gcpkms":
		names := append(strings.SplitN(rest, ",", 3), "", "")
		client, err := gcpkms.Dial(ctx, o.getenv("FLEETPASS_KMS_EMULATOR_HOST"))
		if err != nil {
			return nil, err
		}
		w, err := gcpkms.New(client, gcpkms.Config{Signing: names[0], MAC: names[1], SSO: names[2]})
		if err != nil {
			return nil, errors.Join(err, client.Close())
		}
		return &Wrapper{w, "gcpkms:" + rest, client.Close}, nil
	}
	return nil, fmt.Errorf("%q is no key service: want %s: %w", address, keyForms, core.Invalid)
}
