package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fleetpass/fleetpass/localdev/e2e"
)

var addressOf = regexp.MustCompile(`https?://\S+/device\?user_code=\S+`)

// device-login EMAIL PASSWORD approve|refuse signs in on this machine with a browser on another one.
func deviceLogin(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fleetpass", "login", "--device", "--server", ts.Getenv("SERVER"), "--ca", ts.Getenv("CA"))
	cmd.Dir, cmd.Stdout = ts.MkAbs("."), os.Stderr
	for _, name := range []string{"PATH", "HOME", "FLEETPASS_CONFIG_DIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	said, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		address := addressOf.FindString(lines.Text())
		if address == "" {
			continue
		}
		b := e2e.NewBrowser(nil)
		_, err := b.Visit(ctx, address)
		ts.Check(err)
		_, err = b.Submit(ctx, map[string]string{"username": args[0], "password": args[1]})
		ts.Check(err)
		_, err = b.SubmitForm(ctx, "user_code", nil) // the link has filled it in
		ts.Check(err)
		_, err = b.SubmitForm(ctx, "answer", map[string]string{"answer": args[2]})
		ts.Check(err)
	}
	if err := cmd.Wait(); (err != nil) != neg {
		ts.Fatalf("login --device as %s: %v", args[0], err)
	}
}
