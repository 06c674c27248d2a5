package cluster_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetpass/fleetpass/localdev/cluster"
)

// With this variable set, the test binary is a parent that starts a cluster, prints its URL and waits to be killed.
const orphanParent = "FLEETPASS_TEST_CLUSTER_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(orphanParent); dir != "" {
		c, err := cluster.Start(context.Background(), cluster.Options{Dir: dir})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(c.URL())
		select {}
	}
	os.Exit(m.Run())
}

func TestChildrenDieWithAParentThatIsKilled(t *testing.T) {
	t.Parallel()
	cluster.Need(t)
	dir := t.TempDir()
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), orphanParent+"="+dir)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Wait()
	defer parent.Process.Kill()
	url, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(url), "https://")
	if err != nil || !ok {
		t.Fatalf("the parent says %q (%v)", url, err)
	}
	alive := func() bool {
		api, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) // only whether somebody answers
		if err == nil {
			api.Close()
			return true
		}
		// The socket's own path may be too long to dial, so it is reached through a short link.
		link := filepath.Join(os.TempDir(), fmt.Sprintf("fp-%d", os.Getpid()))
		_ = os.Symlink(dir, link)
		defer os.Remove(link)
		etcd, err := net.Dial("unix", filepath.Join(link, "etcd.sock:0"))
		if err == nil {
			etcd.Close()
		}
		return err == nil
	}
	if !alive() {
		t.Fatal("the cluster does not answer while its parent lives")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); alive(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the API server or etcd outlives its killed parent")
		}
	}
}
