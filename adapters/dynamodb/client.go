package dynamodb

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/fleetpass/fleetpass/core"
)

// Config says where the table is and who asks. It takes the place of the SDK's own config package, which looks in a dozen
// places that a function does not have, and whose weight every cold start would carry.
type Config struct {
	Region      string                  // "eu-central-1"
	Endpoint    string                  // a URL; "": the region's own
	Credentials aws.CredentialsProvider // who asks
	HTTP        aws.HTTPClient          // nil: one made for DynamoDB
}

// FromEnvironment reads the variables that Lambda sets (AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for the
// credentials of a role, AWS_SESSION_TOKEN) and AWS_ENDPOINT_URL_DYNAMODB, for a local one. The credentials hold for the life
// of the process: Lambda replaces the process before they end. A missing variable is core.Invalid and named.
func FromEnvironment(getenv func(string) string) (Config, error) {
	for _, name := range []string{"AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		if getenv(name) == "" {
			return Config{}, core.BadField(name, "set this environment variable; Lambda does it by itself")
		}
	}
	return Config{
		Region:      getenv("AWS_REGION"),
		Endpoint:    getenv("AWS_ENDPOINT_URL_DYNAMODB"),
		Credentials: credentials.NewStaticCredentialsProvider(getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY"), getenv("AWS_SESSION_TOKEN")),
	}, nil
}

// LocalConfig is for DynamoDB Local, which lets everybody in.
func LocalConfig(endpoint string) Config {
	return Config{Region: "us-east-1", Endpoint: endpoint, Credentials: credentials.NewStaticCredentialsProvider("local", "local", "")}
}

// NewClient makes a client. It connects when it is first used.
func NewClient(c Config) *sdk.Client {
	o := sdk.Options{Region: c.Region, Credentials: c.Credentials, HTTPClient: c.httpClient()}
	if c.Endpoint != "" {
		o.BaseEndpoint = &c.Endpoint
	}
	return sdk.New(o)
}

// httpClient is made for many small requests to one host, each answered in milliseconds: what takes seconds is lost, and a
// new try on another connection is the way out.
func (c Config) httpClient() aws.HTTPClient {
	if c.HTTP != nil {
		return checked{c.HTTP}
	}
	return checked{awshttp.NewBuildableClient().
		WithTimeout(5 * time.Second). // one try, its answer's body included; a full transaction is 3.5 MB
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = 2 * time.Second }).
		WithTransportOptions(func(t *http.Transport) {
			t.TLSHandshakeTimeout = 2 * time.Second
			t.MaxIdleConnsPerHost = 32
			// Shorter than the servers': a function that was frozen for longer finds no connection that looks alive and is
			// not, on which a write would be lost without anybody knowing where.
			t.IdleConnTimeout = 20 * time.Second
			if t.TLSClientConfig == nil {
				t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
			}
			t.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(8) // a new connection costs one round trip less
		})}
}

// checked holds answers to the checksum that DynamoDB sends with them. The SDK computes it as well, and when it does not match
// says so to nobody. What does not match is an answer that was lost.
type checked struct{ aws.HTTPClient }

var errChecksum = errors.New("the answer does not match its checksum")

func (c checked) Do(req *http.Request) (*http.Response, error) {
	res, err := c.HTTPClient.Do(req)
	if err != nil {
		return nil, err
	}
	want := res.Header.Get("X-Amz-Crc32")
	if want == "" {
		return res, nil
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	if strconv.FormatUint(uint64(crc32.ChecksumIEEE(body)), 10) != want {
		return nil, errChecksum
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// CreateTable makes a table as the adapter needs it, for the local system and for tests, and returns when it can be used.
// Terraform makes the real one, with the same keys, stream and TTL. A table that exists is left as it is.
func CreateTable(ctx context.Context, client *sdk.Client, table string) error {
	_, err := client.CreateTable(ctx, &sdk.CreateTableInput{
		TableName:   &table,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String(attrPartition), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String(attrSort), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String(attrPartition), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String(attrSort), KeyType: types.KeyTypeRange},
		},
		StreamSpecification: &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewImage},
	})
	if isCode(err, "ResourceInUseException") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("dynamodb: creating table %s: %w", table, err)
	}
	if err := sdk.NewTableExistsWaiter(client).Wait(ctx, &sdk.DescribeTableInput{TableName: &table}, time.Minute); err != nil {
		return fmt.Errorf("dynamodb: waiting for table %s: %w", table, err)
	}
	_, err = client.UpdateTimeToLive(ctx, &sdk.UpdateTimeToLiveInput{
		TableName:               &table,
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: aws.String(attrExpiry), Enabled: aws.Bool(true)},
	})
	if err != nil {
		return fmt.Errorf("dynamodb: expiry of table %s: %w", table, err)
	}
	return nil
}
