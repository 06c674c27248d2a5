package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// folder is where tokens are kept: 0700, of regular files 0600, written by rename, and read only if nobody else can read
// or replace them. It is os.UserConfigDir's fleetpass, or $FLEETPASS_CONFIG_DIR.
//
//	current                  the server of the last sign-in
//	HOST-TENANT-HASH/        one folder per server
//	    server.json          its URL and certificate authority
//	    session.json         tokens; absent when signed out
//	    lock                 held while tokens are renewed
type folder string

// maxFile bounds what is read of one file, in bytes.
const maxFile = 1 << 20

func openFolder() (folder, error) {
	dir := os.Getenv("FLEETPASS_CONFIG_DIR")
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("no place to keep tokens: %w; set FLEETPASS_CONFIG_DIR", err)
		}
		dir = filepath.Join(base, "fleetpass")
	}
	return folder(dir).make("")
}

// make makes a subfolder, or for "" the folder itself, and checks that it is private.
func (f folder) make(name string) (folder, error) {
	dir := filepath.Join(string(f), name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is no folder; tokens are not kept behind a link", dir)
	}
	if err := private(info); err != nil {
		return "", fmt.Errorf("%s, which holds tokens, %w: run `chmod 700` on it", dir, err)
	}
	return folder(dir), nil
}

// read returns a file's content; fs.ErrNotExist if there is none. A link, or a file that others can read or write, is
// refused: somebody else may have put it there, or may have read it.
func (f folder) read(name string) ([]byte, error) {
	file, err := os.OpenFile(filepath.Join(string(f), name), os.O_RDONLY|noFollow, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", file.Name())
	}
	if err := private(info); err != nil {
		return nil, fmt.Errorf("%s %w: if it was so for long, sign out and in again; then run `chmod 600` on it", file.Name(), err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is over %d bytes", file.Name(), maxFile)
	}
	return data, err
}

// write replaces a file in one step, so that nobody ever reads half of it, and a link in its place is replaced, not
// followed.
func (f folder) write(name string, data []byte) error {
	return writeFile(filepath.Join(string(f), name), data)
}

func writeFile(name string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

func (f folder) remove(name string) error {
	err := os.Remove(filepath.Join(string(f), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lock takes the folder's lock, which ends with the process at the latest. It waits until the context ends; waiting is
// called if another process has it.
func (f folder) lock(ctx context.Context) (unlock func(), err error) {
	type result struct {
		unlock func()
		err    error
	}
	got := make(chan result, 1)
	go func() { // the operating system's call cannot be given a deadline
		unlock, err := lockedfile.MutexAt(filepath.Join(string(f), "lock")).Lock()
		got <- result{unlock, err}
	}()
	select {
	case r := <-got:
		return r.unlock, r.err
	case <-ctx.Done():
		go func() {
			if r := <-got; r.err == nil {
				r.unlock()
			}
		}()
		return nil, fmt.Errorf("another fleetpass is busy signing in or renewing tokens: %w", ctx.Err())
	}
}

// slug names the folder of a server: readable, and distinct by a hash of the whole URL.
func slug(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		u = &url.URL{Host: "server"}
	}
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' {
			return r
		}
		return '-'
	}, u.Host+"-"+path.Base(u.Path))
	sum := sha256.Sum256([]byte(server))
	return fmt.Sprintf("%.60s-%x", readable, sum[:4])
}
