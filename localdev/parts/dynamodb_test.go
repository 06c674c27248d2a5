package parts_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/fleetpass/fleetpass/localdev/parts"
)

// speaksDynamoDB asks for the list of tables, as no other server would answer.
func speaksDynamoDB(t *testing.T, endpoint string) error {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810.ListTables")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.Header.Get("X-Amzn-Requestid") == "" {
		t.Errorf("%s answers %s: %.100q, which is no DynamoDB", endpoint, res.Status, body)
	}
	return err
}

// What is started answers, and is gone when it is stopped.
func TestDynamoDB(t *testing.T) {
	t.Setenv("FLEETPASS_TEST_DYNAMODB", "")
	parts.NeedDynamoDB(t) // skips where there is none
	endpoint, stop, err := parts.DynamoDB(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := speaksDynamoDB(t, endpoint); err != nil {
		t.Error(err)
	}
	stop()
	stop() // does nothing
	if err := speaksDynamoDB(t, endpoint); err == nil {
		t.Errorf("%s still answers", endpoint)
	}
}

func TestDynamoDBFromTheEnvironment(t *testing.T) {
	t.Setenv("FLEETPASS_TEST_DYNAMODB", "http://dynamodb.test:8000/")
	endpoint, stop, err := parts.DynamoDB(t.Context())
	if err != nil || endpoint != "http://dynamodb.test:8000" {
		t.Errorf("%q, %v", endpoint, err)
	}
	stop()
}

// Without Docker and Java the error says what to install.
func TestNoDynamoDB(t *testing.T) {
	t.Setenv("FLEETPASS_TEST_DYNAMODB", "")
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/none.sock")
	t.Setenv("PATH", t.TempDir())
	if _, _, err := parts.DynamoDB(t.Context()); !errors.Is(err, parts.ErrNoDynamoDB) {
		t.Errorf("error %v, want %v", err, parts.ErrNoDynamoDB)
	}
}
